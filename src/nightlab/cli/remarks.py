"""What ``init`` and ``doctor`` say of a project beyond what they were asked."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from nightlab import scope
from nightlab.project import Found

TURNS = ("optuna", "hybrid")  # the researchers that look for constants
NO_CONSTANT = (
    "it turns ALL_CAPS numbers at the top of a Python file, dataclass fields and argparse "
    "defaults; see docs/your-script.md"
)
_MOST_BYTES = 2_000_000


def constants(root: Path, files: Iterable[str]) -> tuple[str, ...]:
    """The names of the constants in these files that the embedded researcher would turn.

    Raises NightlabError for a ``# nightlab:`` comment that cannot be understood.
    """
    from nightlab.researchers.constants import find  # noqa: PLC0415  it loads libcst

    texts = {}
    for name in files:
        path = root / name
        if path.suffix == ".py" and path.is_file() and path.stat().st_size <= _MOST_BYTES:
            texts[name] = path.read_text(encoding="utf-8", errors="replace")
    return tuple(constant.name for constant in find(texts))


def in_scope(found: Found, edit: tuple[str, ...]) -> tuple[str, ...]:
    """The files of the last commit that may change, and those named that are not in it yet."""
    named = [name for name in edit if not any(c in name for c in "*?")]
    return tuple(
        dict.fromkeys((*(p for p in sorted(found.tracked) if scope.matches(p, edit)), *named))
    )


def of(root: Path, found: Found, command: str, edit: tuple[str, ...], *, said: bool) -> list[str]:
    """A sentence each; ``said``: the person named the files in scope."""
    told = []
    if not said and len(edit) == 1 and edit[0].endswith(".sh"):
        told.append(
            f"{edit[0]} itself is what may change: if it starts a program that should change "
            "instead, name that: nightlab init --force --edit FILE"
        )
    if found.seed_flag and not found.reads_seed and "NIGHTLAB_SEED" not in command:
        told.append(
            f"the script takes {found.seed_flag}, and the command does not set it: "
            f'command = "{command} {found.seed_flag} $NIGHTLAB_SEED" gives each run its seed'
        )
    for path in found.beside[:1]:
        whole = os.path.normpath(root / path)
        folder = whole if Path(whole).is_dir() else str(Path(whole).parent)
        told.append(
            f"the script names {path}, and a run stands in a copy of the project that has nothing "
            f'beside it: give the script the full path, and write  read = ["{folder}"]  under '
            "[sandbox]"
        )
    return told
