"""The pieces of a brief: sizes, cuts, and fences that what stands in them cannot close."""

from __future__ import annotations

import re
from collections.abc import Iterable

from nightlab.process import clean

BYTES_PER_TOKEN = 4  # of UTF-8: about right for English and code, and too many for Chinese
_CUT = "… (cut)"
_RUN = re.compile(r"`{3,}")


def size(text: str) -> int:
    """Bytes of UTF-8."""
    return len(text.encode("utf-8", "replace"))


def head(text: str, room: int) -> str:
    """The beginning of a text, at most ``room`` bytes; that something is missing is said."""
    if size(text) <= room:
        return text
    left = room - size(_CUT) - 1
    if left <= 0:
        return ""
    cut = text.encode("utf-8", "replace")[:left].decode("utf-8", "ignore")
    return f"{cut.rstrip()}\n{_CUT}"


def tail(text: str, room: int) -> str:
    """The end of a text, at most ``room`` bytes; that something is missing is said."""
    if size(text) <= room:
        return text
    left = room - size(_CUT) - 1
    if left <= 0:
        return ""
    cut = text.encode("utf-8", "replace")[-left:].decode("utf-8", "ignore")
    return f"{_CUT}\n{cut.lstrip()}"


def one_line(text: str, chars: int = 240) -> str:
    """A stranger's words as one clean line that opens and closes no fence."""
    return _RUN.sub("``", " ".join(clean(text).split()))[:chars]


def fence(text: str, label: str) -> str:
    """``text`` between two fences longer than any in it: nothing that it says can close them."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    marks = "`" * max(3, longest + 1)
    return f"{marks}{label}\n{text}\n{marks}"


def fence_cost(text: str, label: str) -> int:
    """What a fence of that label adds to a text, in bytes."""
    return size(fence(text, label)) - size(text)


def fenced(title: str, text: str, label: str, room: int, *, end: bool = False) -> str:
    """A section of one fenced text, cut to ``room`` (its end is kept with ``end``); "" for none."""
    text = clean(text).strip("\n")
    if not text.strip():
        return ""
    cut = tail if end else head
    left = room - size(title) - 1 - fence_cost(text, label)
    kept = cut(text, left)
    whole = f"{title}\n{fence(kept, label)}"
    return whole if kept and size(whole) <= room else ""


def listed(
    title: str, lines: Iterable[str], room: int, *, label: str = "data", more: str = ""
) -> str:
    """A section of lines in a fence, the first of them that fit; ``more`` stands for the rest.

    Lines are one-liners already. "" where none fits.
    """
    left = room - size(title) - size(label) - 12 - (size(more) + 1 if more else 0)
    kept, missing = [], False
    for line in lines:
        if size(line) + 1 > left:
            missing = True
            break
        left -= size(line) + 1
        kept.append(line)
    if not kept:
        return ""
    if missing and more:
        kept.append(more)
    return f"{title}\n{fence(chr(10).join(kept), label)}"


def number(value: float | None) -> str:
    """A number as it is read: four digits that mean something."""
    return "unknown" if value is None else f"{value:.4g}"


def signed(value: float) -> str:
    """An effect, with its sign."""
    return f"{value:+.3g}"


def span(seconds: float) -> str:
    """A time in words: "4.2 s", "5.1 min", "2 h"."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"
