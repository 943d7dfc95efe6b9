"""When nightlab itself is at fault: a file to send in, one line on the screen, exit 3."""

from __future__ import annotations

import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from nightlab import __version__, config
from nightlab.cli import base
from nightlab.errors import EXIT_BUG
from nightlab.process import clean


def tell(error: BaseException, words: Sequence[str], *, as_json: bool) -> int:
    """Write the log and say where it is. Never raises; returns the exit code."""
    what = " ".join(clean(f"{type(error).__name__}: {error}").split())[:200]
    try:
        path = str(_write(error, words))
    except Exception as second:  # noqa: BLE001 - a bug in telling of a bug must not hide the first
        path = f"(not written: {second})"
    if as_json:
        body = {"what": what, "why": "a bug in nightlab", "hint": path, "exit_code": EXIT_BUG}
        base.emit({"error": body})
    else:
        base.say(f"bug in nightlab: {what}; please report it with {path}", stderr=True)
    return EXIT_BUG


def _write(error: BaseException, words: Sequence[str]) -> Path:
    """All that a report of the bug needs, and no variable's value: it may be pasted as it is."""
    text = "\n".join(
        [
            f"nightlab {__version__}, Python {platform.python_version()}, {platform.platform()}",
            f"command: nightlab {' '.join(words)}",
            f"time: {time.strftime('%Y-%m-%d %H:%M:%S %z')}",
            "",
            *traceback.format_exception(error),
        ]
    )
    name = f"bug-{time.strftime('%Y%m%d-%H%M%S')}.txt"
    for folder in (_state(), Path(tempfile.gettempdir())):
        if folder is None:
            continue
        try:
            (folder / name).write_text(text, encoding="utf-8", errors="backslashreplace")
        except OSError:
            continue
        return folder / name
    sys.stderr.write(text)
    return Path("(no folder could be written; it stands above)")


def _state() -> Path | None:
    try:
        root = config.find_root(Path.cwd())
    except OSError:
        return None
    state = config.Paths(root).state if root else None
    return state if state is not None and state.is_dir() else None
