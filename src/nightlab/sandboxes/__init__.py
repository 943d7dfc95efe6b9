"""The sandbox seam: how a run is confined.

A sandbox turns a ``Cell`` (what the run needs and what it may touch) into a ``Launch`` (what
to really start). It starts nothing itself: ``nightlab.process`` starts, watches and kills, in
every sandbox alike. One file per implementation; ``SANDBOXES`` lists them, strongest first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Protocol

from nightlab.errors import ConfigError, SandboxError
from nightlab.process import Finished


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


@dataclass(frozen=True)
class Options:
    """What the person set for every box of a study; None: what the sandbox finds sensible.

    ``image`` is for containers. ``processes`` bounds processes and threads of one run.
    ``disk_bytes`` bounds each file that a run writes.
    """

    image: str | None = None
    processes: int | None = None
    disk_bytes: int | None = None


def _nothing() -> None:
    return None


@dataclass(frozen=True)
class Launch:
    """What ``process.start`` is given.

    ``cleanup`` is called once after the end, whatever it was.
    """

    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: Path
    memory_bytes: int | None = None
    fsize_bytes: int | None = None  # of each file; None where the box itself sees to it
    pass_fds: tuple[int, ...] = ()
    cleanup: Callable[[], None] = _nothing


class Sandbox(Protocol):
    """A way to confine a run."""

    name: str
    covers: str  # one line: what it keeps in
    leaves_open: str  # one line: what it does not, shown at every start

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
