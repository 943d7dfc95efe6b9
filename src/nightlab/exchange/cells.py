"""What one cell means: a number with its unit, a verdict's word, a commit, a time. Pure."""

from __future__ import annotations

import math
import re
from datetime import datetime

from nightlab.exchange.values import Status

_NUMBER = re.compile(
    r"^([-+−]?(?:\d{1,3}(?:,\d{3}){2,}(?:\.\d+)?|\d+,\d{3}\.\d+|\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?)"
    r"\s*(\D.*)?$",
    re.DOTALL,
)
_HEX = re.compile(r"^[0-9a-f]{7,40}(?:-dirty)?$")
_LONGEST = 60  # characters of a number with its unit
_WORDS: dict[str, Status] = {
    word: status
    for status, words in {
        Status.KEEP: "keep kept keeps accept accepted baseline improved improvement best new_best "
        "champion committed merged true yes adopt adopted keep-candidate 保留 基线 突破性改进",
        Status.DISCARD: "discard discarded revert reverted reject rejected drop dropped regressed "
        "regression non_improvement no_improvement worse false no checks_failed size_violation "
        "rollback rolled_back pruned failed_guard 回滚 丢弃 放弃 均未超越基线",
        Status.CRASH: "crash crashed oom killed timeout timed_out error fail failed diverged nan "
        "metric-error metric_error build_failed 崩溃 失败",
        Status.INCONCLUSIVE: "inconclusive tentative support near_miss neutral tie uncertain "
        "within_noise contender",
        Status.OTHER: "ok success completed complete done run ran pending active evaluated "
        "no-op no_op noop blocked hook-blocked refine pivot search drift verify verified repair "
        "tournament ceiling no_result claim harness skipped root 已完成",
    }.items()
    for word in words.split()
}
_ABSENT = (
    "- -- — – n/a na none null nan inf -inf +inf infinity fail failed diverged pending tbd todo "
    "? skipped skip error crash crashed oom timeout unknown missing"
)
_NOTHING = frozenset(_ABSENT.split())


def number(cell: object) -> tuple[float | None, str]:
    """(value, unit) of a cell; (None, "") where it holds no finite number.

    ``1,234`` alone may be a thousand or a decimal comma: it is no number. "1223.2 tps" is
    1223.2 of "tps".
    """
    if isinstance(cell, bool) or cell is None:
        return None, ""
    if isinstance(cell, (int, float)):
        try:
            value = float(cell)
        except OverflowError:
            return None, ""
        return (value, "") if math.isfinite(value) else (None, "")
    text = str(cell)
    if len(text) > _LONGEST:
        return None, ""
    found = _NUMBER.match(text.strip().lstrip("~≈"))
    if found is None:
        return None, ""
    unit = (found[2] or "").strip()
    # A date, a version, a range, 1,234, a hash: digits that are no measurement.
    if unit[:1] in tuple(",:-/.−–_") or (unit and re.match(r"[0-9a-fA-FxX]*\d", unit)):
        return None, ""
    value = float(found[1].replace(",", "").replace("−", "-"))
    return (value, unit) if math.isfinite(value) else (None, "")


def is_nothing(cell: object) -> bool:
    """Whether a cell says in some way that there is no value."""
    if cell is None:
        return True
    if isinstance(cell, float):
        return not math.isfinite(cell)
    return str(cell).strip().lower() in _NOTHING or not str(cell).strip()


def status(cell: object) -> Status | None:
    """The verdict that a word stands for, None for a word that is not known.

    Qualified words count by their first part: ``KEEP:small_gain``, ``discard_iai``,
    ``REJECTED (noise)``, ``保留✔✔``.
    """
    if isinstance(cell, bool):
        return Status.KEEP if cell else Status.DISCARD
    if cell is None or len(str(cell)) > 200:
        return None
    text = str(cell).strip().lower().strip("*`✓✔✅❌ ")
    if text in _WORDS:
        return _WORDS[text]
    first = re.split(r"[:(（ ]", text, maxsplit=1)[0].strip("*`✓✔✅❌")
    if first in _WORDS:
        return _WORDS[first]
    stem = re.match(r"(keep|discard|reject|revert|crash|baseline)(?:ed)?[_\-]", first)
    if stem:
        return _WORDS[stem[1]]
    return next((_WORDS[w] for w in ("保留", "回滚", "基线", "崩溃") if text.startswith(w)), None)


def commit(cell: object) -> str | None:
    """A commit id of 7 to 40 hex digits, None for anything else that stands in its column."""
    text = str(cell or "").strip().strip("`").lower()
    return text if _HEX.match(text) else None


def when(cell: object) -> float | None:
    """Unix seconds of a time as ledgers write it: ISO 8601, seconds, or milliseconds.

    A time without a zone is taken as UTC, so that order and distance are right.
    """
    if isinstance(cell, bool) or cell is None:
        return None
    try:
        value = float(cell) if isinstance(cell, (int, float)) else float(str(cell)[:40])
    except (ValueError, OverflowError):
        text = str(cell).strip()[:40]
        try:
            parsed = datetime.fromisoformat(text)
            zoned = parsed if parsed.tzinfo else datetime.fromisoformat(text + "+00:00")
            return zoned.timestamp()
        except (ValueError, OverflowError):
            return None
    if 1e12 < value < 1e14:
        value /= 1000
    return value if 1e9 < value < 1e11 else None
