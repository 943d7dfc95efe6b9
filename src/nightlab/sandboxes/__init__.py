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
    enforced. ``env`` is what nightlab hands over and what the person passes on by name;
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
    memory_bytes: int | None = None
    gpus: tuple[int, ...] = ()


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
    "process": "nightlab.sandboxes.process:ProcessSandbox",
}


def open_sandbox(name: str) -> Sandbox:
    """Make the named sandbox, or for "auto" the first that passes its own check.

    Raises ConfigError for an unknown name, SandboxError when the named one cannot work here.
    """
    if name == "auto":
        refusals = []
        for candidate in SANDBOXES:
            try:
                return open_sandbox(candidate)
            except SandboxError as error:
                refusals.append(f"{candidate}: {error.what} ({error.why})")
        raise SandboxError("no sandbox works on this machine", "; ".join(refusals))
    where = SANDBOXES.get(name)
    if where is None:
        raise ConfigError(
            f"no sandbox is called {name!r}",
            f"nightlab knows auto, {', '.join(SANDBOXES)}",
            'set [sandbox] use = "auto" in nightlab.toml',
        )
    module, _, attribute = where.partition(":")
    maker: Callable[[], Sandbox] = getattr(import_module(module), attribute)
    sandbox = maker()
    sandbox.check()
    return sandbox
