"""scratchpad.md: what a researcher wants to remember, bounded, never seen half written."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from nightlab.process import clean

MOST_BYTES = 8192
_TRIMMED = "(older lines were trimmed: the scratchpad holds 8 kB)\n"


def read(path: Path) -> str:
    """The text; "" where there is none or it cannot be read. A person may have written into it."""
    try:
        with path.open("rb") as file:
            text = file.read(16 * MOST_BYTES).decode("utf-8", errors="replace")
    except OSError:
        return ""
    return bounded(text)


def write(path: Path, text: str) -> str:
    """Put ``text`` in its place, atomically, and return what was kept of it. Raises OSError."""
    kept = bounded(text)
    draft = path.with_suffix(".draft")
    try:
        with draft.open("wb") as file:
            file.write(kept.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise
    return kept


def bounded(text: str) -> str:
    """The text, clean and at most ``MOST_BYTES`` long: the oldest lines go, and that is said."""
    raw = clean(text).encode("utf-8", "replace")
    if len(raw) <= MOST_BYTES:
        return raw.decode("utf-8")
    room = MOST_BYTES - len(_TRIMMED.encode())
    tail = raw[-room:].decode("utf-8", errors="ignore")
    line = tail.find("\n")
    # The newest stands at the end; a first line that is cut says less than none.
    return _TRIMMED + (tail[line + 1 :] if 0 <= line < len(tail) - 1 else tail)
