"""Numbers and other people's text, made fit to read. Pure."""

from __future__ import annotations

import math
import re
import unicodedata

NOTHING = "—"  # what stands where a number is not known
_DECIMALS_MOST = 8  # beyond it a number reads better with an exponent
_SPECIAL = re.compile(r"([\\`*\[\]|~$#])|(?<![^\W_])_|_(?![^\W_])")
_OPENS = re.compile(r"^(\d{0,9})([-+=.)](?=[\s=-]|$))")
_LINKS = re.compile(
    r"(?i)\b(https?|ftp|mailto|xmpp|www|[\w.+-]+)(:(?=//|\w+@)|\.(?<=www\.)|@(?=\w))"
)
_MINUTE_S, _HOUR_S, _DAY_S = 60.0, 3600.0, 86400.0


def number(value: float | None, sigma: float | None) -> str:
    """The value with as many digits as the noise leaves: two significant digits of ``sigma``.

    Six significant digits where the noise is unknown or nil.
    """
    if value is None or not math.isfinite(value):
        return NOTHING
    if not sigma or not math.isfinite(sigma):
        return f"{value:.6g}"
    decimals = 1 - math.floor(math.log10(sigma))
    if decimals > _DECIMALS_MOST and value:
        return f"{value:.{max(0, math.floor(math.log10(abs(value))) + decimals)}e}"
    rounded = round(value, decimals) + 0.0  # no "-0.00"
    return f"{rounded:.{max(0, min(decimals, 12))}f}"


def signed(value: float | None, sigma: float | None) -> str:
    """As ``number``, with its sign always shown."""
    text = number(value, sigma)
    return text if text == NOTHING or text.startswith("-") else f"+{text}"


def percent(share: float | None) -> str:
    """A share as a percentage with two digits that matter: 0.0223 is "2.2 %"."""
    if share is None or not math.isfinite(share):
        return NOTHING
    value = share * 100.0
    return f"{value:.0f} %" if abs(value) >= 10 else f"{value:.2g} %"


def duration(seconds: float) -> str:
    """Such as "45 s", "3.2 min", "12.3 h", "2.1 days"."""
    if seconds < _MINUTE_S:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    if seconds < _HOUR_S:
        return f"{seconds / _MINUTE_S:.1f} min"
    if seconds < 2 * _DAY_S:
        return f"{seconds / _HOUR_S:.1f} h"
    return f"{seconds / _DAY_S:.1f} days"


def count(n: int, one: str, many: str = "") -> str:
    """Such as "1 run", "3 runs"."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def clean(text: str, most: int = 200) -> str:
    """Anyone's text on one line, without control or invisible characters, at most ``most`` long."""
    # A line of megabytes is cut before it is looked at character by character.
    text = text[: 4 * most + 64]
    kept = (
        " " if unicodedata.category(c) in {"Cc", "Zl", "Zp"} else c
        for c in text
        if unicodedata.category(c) not in {"Cf", "Cs", "Co", "Cn"}
    )
    line = " ".join("".join(kept).split())
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"


def escape(text: str, most: int = 200) -> str:
    """Anyone's text as inert Markdown: it shows as it was typed, in a sentence or a table cell."""
    line = clean(text, most).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = _SPECIAL.sub(lambda found: "\\" + found[0], line)
    # What would open a list, a heading's underline or a rule, and what renderers link unasked.
    line = _OPENS.sub(lambda found: f"{found[1]}\\{found[2]}", line)
    return _LINKS.sub(lambda found: f"{found[1]}\\{found[2]}", line)


def code(text: str) -> str:
    """A command or a name between backticks that it cannot close."""
    line = clean(text, 300)
    ticks = "`"
    while ticks in line:
        ticks += "`"
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{ticks}{pad}{line}{pad}{ticks}"
