"""The sandbox seam: how a run is confined.

A sandbox turns a ``Cell`` (what the run needs and what it may touch) into a ``Launch`` (what
to really start). It starts nothing itself: ``nightlab.process`` starts, watches and kills, in
every sandbox alike. One file per implementation; ``SANDBOXES`` lists them, strongest first.
"""

from __future__ import annotations

import ipaddress
import os
import shlex
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from nightlab.errors import ConfigError, SandboxError
from nightlab.process import Finished

_DISK_BYTES = 20 << 30


@dataclass(frozen=True)
class Endpoint:
    """One address that an agent may reach, such as its model's.

    A host on this machine's loopback is reached in the box under the same address and port; any
    other by its name, through a proxy that the box's environment names.
    """

    host: str
    port: int

    @classmethod
    def of_url(cls, url: str) -> Endpoint:
        """The host and port of an http or https URL. Raises ConfigError for anything else."""
        try:
            parts = urlsplit(url)
            port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        except (ValueError, KeyError):
            port = 0
        if not port or not parts.hostname:
            raise ConfigError(
                f"{url!r} is no address of a model", "it must be like https://host:port/path",
                "write it out, with http:// or https://",
            )  # fmt: skip
        return cls(parts.hostname, port)

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine's loopback."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost" or self.host.endswith(".localhost")


@dataclass(frozen=True)
class Cell:
    """One run's needs and rights.

    ``tree`` is a fresh copy of the experiment's commit with no ``.git``; ``cwd`` lies in it.
    ``writable`` are the files in scope, relative to ``tree``; a sandbox that can makes the
    rest of the committed files read-only. ``run_dir`` is the run's own folder (result file,
    temporary files). ``data`` are declared untracked paths, read-only where that can be
    enforced; ``hidden`` are paths that may lie in those and that the run must not see.
    ``env`` is what nightlab hands over and what the person passes on by name;
    the sandbox adds the rest of a minimal environment. ``memory_bytes`` bounds the tree of
    processes; None: no bound.

    The rest is for a coding agent; ``agent_cell`` fills it in. ``endpoints`` are all that can be
    reached (see ``Sandbox.confines_network``). ``read`` are files and folders of the agent's
    own (its installation), ``write`` folders (its scratch). ``home`` is a folder that it finds
    as its home, under its own path, and may write to. ``programs`` are the words to look
    programs up by, in place of those of ``command`` (which may hold text of a model).
    """

    command: str
    tree: Path
    cwd: Path
    run_dir: Path
    env: dict[str, str] = field(default_factory=dict)
    writable: tuple[str, ...] = ()
    data: tuple[Path, ...] = ()
    hidden: tuple[Path, ...] = ()
    memory_bytes: int | None = None
    gpus: tuple[int, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    read: tuple[Path, ...] = ()
    write: tuple[Path, ...] = ()
    home: Path | None = None
    programs: tuple[str, ...] = ()

    @property
    def own(self) -> tuple[Path, ...]:
        """Every folder that it may write to."""
        return (self.run_dir, self.tree, *self.write, *((self.home,) if self.home else ()))

    def covered(self, shown: Iterable[Path]) -> tuple[Path, ...]:
        """Where what is hidden would be seen below ``shown``, whatever links lead there."""
        shown, found = tuple(shown), dict[Path, None]()
        hidden = {path.resolve() for path in self.hidden}
        for real in sorted(hidden):
            if any(outer in hidden for outer in real.parents):
                continue
            for place in shown:
                there = place.resolve()
                if real.is_relative_to(there):
                    found[place / real.relative_to(there)] = None
        return tuple(found)


def agent_cell(
    argv: Sequence[str],
    *,
    tree: Path,
    cwd: Path,
    run_dir: Path,
    home: Path,
    writable: tuple[str, ...],
    env: dict[str, str],
    endpoints: tuple[Endpoint, ...],
    read: tuple[Path, ...] = (),
    write: tuple[Path, ...] = (),
    stdin: Path | None = None,
    memory_bytes: int | None = None,
) -> Cell:
    """A cell for a coding agent: a run's box, with a home and a way to its model.

    ``tree`` is a copy of the project without ``.git``, thrown away afterwards: the box makes
    what is not in ``writable`` read-only where it can, and whoever started the agent takes the
    files in ``writable`` from it, never following a link, and never runs git in it. ``env`` is
    everything of a person's secrets that the agent gets: its key, and nothing else. Its program
    and what that needs is found by ``argv[0]``; ``read`` is for what is not (certificates, a
    settings file), and must hold no secret. ``stdin`` is a file to read its input from;
    without one it reads nothing. All these folders exist, and are this agent's alone.
    """
    command = shlex.join(argv) + (f" < {shlex.quote(str(stdin))}" if stdin else "")
    return Cell(
        command,
        tree,
        cwd,
        run_dir,
        env=env,
        writable=writable,
        memory_bytes=memory_bytes,
        endpoints=endpoints,
        read=(*read, *((stdin,) if stdin else ())),
        write=write,
        home=home,
        programs=(argv[0],),
    )


@dataclass(frozen=True)
class Options:
    """What the person set for every box of a study; None: what the sandbox finds sensible.

    ``image`` is for containers. ``processes`` bounds processes and threads of one run.
    ``disk_bytes`` bounds each file that a run writes, and all that lies in its folders.
    """

    image: str | None = None
    processes: int | None = None
    disk_bytes: int | None = None

    def all_bytes(self, cell: Cell) -> int:
        """What a cell's folders may hold: by default 20 GiB, or nine tenths of what is free."""
        if self.disk_bytes is not None:
            return self.disk_bytes
        return min(_DISK_BYTES, shutil.disk_usage(cell.run_dir).free * 9 // 10)

    @property
    def most_processes(self) -> int:
        """Processes and threads of one run."""
        return self.processes or 64 + 16 * (os.cpu_count() or 1)


def _nothing() -> None:
    return None


def _nobody() -> dict[str, int]:
    return {}


@dataclass(frozen=True)
class Launch:
    """What ``process.start`` is given.

    ``cleanup`` is called once after the end, whatever it was. ``refused`` says what an agent
    asked its proxy for and may not reach: ``host:port`` -> how often; after the end, too.
    """

    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: Path
    memory_bytes: int | None = None
    fsize_bytes: int | None = None  # of each file; None where the box itself sees to it
    folders: tuple[Path, ...] = ()  # all that it may write to,
    disk_bytes: int | None = None  # and what may lie there in all
    processes: int | None = None  # where the kernel can hold them for a group
    grouped: bool = True  # whether what runs is a child of what is started
    pass_fds: tuple[int, ...] = ()
    cleanup: Callable[[], None] = _nothing
    refused: Callable[[], dict[str, int]] = _nobody


class Sandbox(Protocol):
    """A way to confine a run."""

    name: str
    covers: str  # one line: what it keeps in
    leaves_open: str  # one line: what it does not, shown at every start
    # Whether an agent can reach its cell's endpoints and nothing else; if not, it can reach all.
    confines_network: bool

    def check(self) -> None:
        """Try the real thing once (start a program under the exact flags).

        Raises SandboxError with the cure in its hint when the sandbox cannot work here.
        """
        ...

    def launch(self, cell: Cell) -> Launch:
        """Say what to start for this cell. Raises SandboxError when the box cannot be built."""
        ...

    def broke(self, launch: Launch, finished: Finished) -> str | None:
        """Why the box itself failed (then the run is lost, not crashed), or None if it held."""
        ...


# name -> where it lives; loaded on use, strongest first. "auto" tries them in this order.
SANDBOXES: dict[str, str] = {
    "bubblewrap": "nightlab.sandboxes.bubblewrap:BubblewrapSandbox",
    "container": "nightlab.sandboxes.container:ContainerSandbox",
    "landlock": "nightlab.sandboxes.landlock:LandlockSandbox",
    "process": "nightlab.sandboxes.process:ProcessSandbox",
}


def open_sandbox(name: str, options: Options | None = None) -> Sandbox:
    """Make the named sandbox, or for "auto" the first that passes its own check.

    Raises ConfigError for an unknown name, SandboxError when the named one cannot work here.
    """
    if name == "auto":
        sandbox, passed_over = pick(options)
        if passed_over:
            sandbox.leaves_open += f". Stronger ones do not work here: {'; '.join(passed_over)}"
        return sandbox
    where = SANDBOXES.get(name)
    if where is None:
        raise ConfigError(
            f"no sandbox is called {name!r}",
            f"nightlab knows auto, {', '.join(SANDBOXES)}",
            'set [sandbox] use = "auto" in nightlab.toml',
        )
    module, _, attribute = where.partition(":")
    maker: Callable[[Options], Sandbox] = getattr(import_module(module), attribute)
    sandbox = maker(options or Options())
    sandbox.check()
    return sandbox


def pick(options: Options | None = None) -> tuple[Sandbox, tuple[str, ...]]:
    """The strongest sandbox that works here, and why each stronger one does not.

    Raises SandboxError when none does.
    """
    refusals: list[str] = []
    for name in SANDBOXES:
        try:
            return open_sandbox(name, options), tuple(refusals)
        except SandboxError as error:
            refusals.append(f"{name}: {error.what} ({error.why}; try: {error.hint})")
    raise SandboxError("no sandbox works on this machine", "; ".join(refusals))
