"""What every verb shares: where the project is, which study, how to speak."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nightlab import config
from nightlab.config import Paths
from nightlab.errors import ConfigError, NightlabError, UsageError
from nightlab.process import clean

if TYPE_CHECKING:
    from rich.console import Console

    from nightlab.events import AnyEvent
    from nightlab.history import History

NIGHT = "The night"
MORNING = "The morning"
MEANWHILE = "Meanwhile"
AGENTS = "For agents"
TROUBLE = "First steps, and when something is wrong"

Directory = Annotated[
    Path | None,
    typer.Option(
        "-C",
        "--project",
        metavar="DIR",
        help="Work on the project in DIR, not in this folder.",
        show_default=False,
    ),
]
Tag = Annotated[
    str | None,
    typer.Option(
        "--tag",
        metavar="TAG",
        help="Which study. Default: the one worked on last.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", metavar="", help="Print JSON, for programs.")]


@dataclass(frozen=True)
class Place:
    """A study that exists: its project's folder, its tag, and where its things lie."""

    root: Path
    tag: str

    @property
    def paths(self) -> Paths:
        return Paths(self.root)

    def events(self) -> list[AnyEvent]:
        """The journal, read beside a running lab. Raises JournalError."""
        from nightlab import journal  # noqa: PLC0415  loaded on use

        return list(journal.read(self.paths.journal(self.tag)))

    def history(self) -> History:
        """The journal's replay. Raises JournalError."""
        from nightlab.history import fold  # noqa: PLC0415  loaded on use

        return fold(self.events())

    def locked(self) -> bool:
        """Whether a lab works on it now."""
        from nightlab import journal  # noqa: PLC0415  loaded on use

        return journal.is_locked(self.paths.lock(self.tag))


def folder(directory: Path | None) -> Path:
    """The folder that the person means. Raises UsageError when it is not one."""
    try:
        found = (directory or Path.cwd()).resolve()
    except OSError as error:
        raise UsageError("this folder does not exist any more", str(error), "cd") from error
    if not found.is_dir():
        raise UsageError(f"{found} is not a folder", "-C names a project's folder", "ls")
    return found


def project(directory: Path | None) -> Path:
    """The folder of the nearest nightlab.toml. Raises ConfigError when there is none."""
    start = folder(directory)
    root = config.find_root(start)
    if root is None:
        raise ConfigError(
            f"there is no {config.CONFIG_NAME} in {start} or above",
            "it says which command to run and which metric counts",
            "nightlab init",
        )
    return root


def place(directory: Path | None, tag: str | None) -> Place:
    """The study to read. Raises ConfigError, or UsageError when there is no such study."""
    from nightlab import lab  # noqa: PLC0415  loaded on use

    root = project(directory)
    paths = Paths(root)
    chosen = tag or lab.current_tag(paths)
    if chosen is None:
        raise UsageError(f"there is no study in {root} yet", "no lab has run here", "nightlab run")
    if chosen not in paths.tags():
        known = ", ".join(paths.tags()) or "none"
        raise UsageError(
            f"there is no study {chosen!r} in {root}",
            f"studies here: {known}",
            f"nightlab run --tag {clean(chosen)}  (starts one)",
        )
    return Place(root, chosen)


# -- speaking


def console(*, stderr: bool = False) -> Console:
    """A console for a person: colours on a terminal only, and no markup in what is printed."""
    from rich.console import Console  # noqa: PLC0415  loaded on use

    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


def is_terminal() -> bool:
    """Whether a person sits at both ends and can be asked and shown a live view."""
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def width() -> int:
    """Columns of the terminal; as good as none to fold at where there is no terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 10_000


def say(*lines: str, stderr: bool = False) -> None:
    """Print lines as they are, without what a terminal would obey."""
    stream = sys.stderr if stderr else sys.stdout
    for line in lines:
        stream.write(clean(line) + "\n")
    stream.flush()


def emit(value: Any) -> None:
    """Print one JSON value on one line."""
    sys.stdout.write(json.dumps(value, ensure_ascii=not _unicode(), allow_nan=False) + "\n")
    sys.stdout.flush()


def emit_pretty(value: Any) -> None:
    """Print one JSON value, indented."""
    text = json.dumps(value, ensure_ascii=not _unicode(), allow_nan=False, indent=2)
    sys.stdout.write(text + "\n")


def _unicode() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"


def tell_error(error: NightlabError, *, as_json: bool) -> None:
    """An expected failure: three lines on stderr, or one JSON object on stdout."""
    what, why, hint = (" ".join(clean(line).split()) for line in error.lines())
    if as_json:
        emit({"error": {"what": what, "why": why, "hint": hint, "exit_code": error.exit_code}})
        return
    from rich.text import Text  # noqa: PLC0415  loaded on use

    err = console(stderr=True)
    err.print(Text.assemble(("error: ", "bold red"), what), soft_wrap=True)
    if why:
        err.print(Text(f"  why: {why}"), soft_wrap=True)
    if hint:
        err.print(Text.assemble("  try: ", (hint, "bold")), soft_wrap=True)
