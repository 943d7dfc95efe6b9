"""How numbers and states read on a screen. Pure: strings out."""

from __future__ import annotations

import time
from typing import Any

from nightlab import views
from nightlab.budget import Bounds, Left
from nightlab.history import History
from nightlab.model import Outcome, Purpose, Verdict

MARKS = {
    Verdict.KEEP: "✓",
    Verdict.DISCARD: "·",
    Verdict.INCONCLUSIVE: "?",
    Verdict.CRASH: "✗",
}
# Names from the terminal's own palette: they suit its background, whichever it is.
STYLES = {
    Verdict.KEEP: "bold green",
    Verdict.DISCARD: "none",
    Verdict.INCONCLUSIVE: "magenta",
    Verdict.CRASH: "red",
}
_PURPOSES = {
    Purpose.BASELINE: "baseline",
    Purpose.SCREEN: "first look",
    Purpose.CONFIRM: "another look",
    Purpose.INCUMBENT: "the incumbent again",
    Purpose.CHECK: "check",
    Purpose.FINAL: "finalization",
}


def number(value: float | None) -> str:
    """Six significant digits; a dash for what is not known."""
    return "-" if value is None else f"{value:.6g}"


def short(value: float | None) -> str:
    """Three significant digits, for spreads and effects."""
    return "-" if value is None else f"{value:.3g}"


def constant(value: float | bool | str | None) -> str:
    """A constant's value as its source has it; the journal keeps whole numbers as floats."""
    return repr(int(value)) if isinstance(value, float) and value.is_integer() else repr(value)


def spread(values: dict[str, Any] | None) -> str:
    """``0.1423 ± 0.0041 (n = 5)``; the sd is of one run."""
    if values is None or values.get("mean") is None:
        return "not measured yet"
    sd = values.get("sd")
    between = f" ± {short(sd)}" if sd is not None else ""
    return f"{number(values['mean'])}{between} (n = {values['n']})"


def seconds(value: float) -> str:
    """``2.5 s``, ``1:35 min``, ``7 h 05 min``, ``3 d 4 h``."""
    if value < 60:
        return f"{value:.1f} s" if value < 20 else f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    return f"{hours // 24} d {hours % 24} h"


def size(value: int) -> str:
    """``312 MiB``, ``1.4 GiB``."""
    mib = value / 1024**2
    return f"{mib:.0f} MiB" if mib < 1000 else f"{mib / 1024:.1f} GiB"


def clock(at: float) -> str:
    """The time of day, 24 hours, local."""
    return time.strftime("%H:%M:%S", time.localtime(at))


def purpose(value: Purpose, check: str = "") -> str:
    """Why a run is made, in a person's words; of a check its name too."""
    return f"{_PURPOSES[value]} {check}".rstrip()


def check(outcome: Outcome) -> str:
    """How a check ended: a program that says no has not crashed."""
    return "failed" if outcome is Outcome.CRASHED else outcome.value


def gain(history: History) -> str:
    """What the study gained so far, in the objective's unit and in percent of the baseline."""
    value = views.gain(history)
    if value is None or history.baseline is None or history.incumbent_number == 1:
        return "none yet"
    start = views.spread(history.baseline.runs, history.study.objective.metric)["mean"]
    share = f" ({100 * value / abs(start):.1f} %)" if start else ""
    return f"{short(value)}{share}"


def counts(history: History) -> str:
    """``12 experiments: 3 kept, 7 discarded, 1 inconclusive, 1 crashed``; no baseline in them."""
    found = history.counts
    baseline = history.baseline
    kept, crashed, total = found.keep, found.crash, found.total
    if baseline is not None and baseline.verdict is Verdict.KEEP:
        kept, total = kept - 1, total - 1
    elif baseline is not None and baseline.verdict is Verdict.CRASH:
        crashed, total = crashed - 1, total - 1
    parts = [f"{kept} kept", f"{found.discard} discarded"]
    if found.inconclusive:
        parts.append(f"{found.inconclusive} inconclusive")
    if crashed:
        parts.append(f"{crashed} crashed")
    return f"{total} experiment{'' if total == 1 else 's'}: " + ", ".join(parts)


def count(number: int, of: str) -> str:
    """``1 idea``, ``2 ideas``."""
    return f"{number} {of}{'' if number == 1 else 's'}"


def cost(found: dict[str, Any]) -> str:
    """``0.42 USD; 125000 tokens (98000 cached); 3:10 min of thinking; 2 h 05 min of device time``.

    Only what there was of it; device time always.
    """
    parts = []
    if found["tokens"]:
        parts.append("price not known" if found["usd"] is None else f"{found['usd']:.2f} USD")
        cached = found.get("tokens_cached")
        parts.append(f"{found['tokens']:.0f} tokens" + (f" ({cached} cached)" if cached else ""))
    if found["thinking_seconds"]:
        parts.append(f"{seconds(found['thinking_seconds'])} of thinking")
    parts.append(f"{seconds(found['device_seconds'])} of device time")
    return "; ".join(parts)


def left(bounds: Bounds, rest: Left) -> str:
    """What is left of the bounds, in words."""
    parts = []
    if rest.experiments is not None:
        parts.append(f"{rest.experiments} of {bounds.max_experiments} experiments")
    if rest.seconds is not None and bounds.until is not None:
        until = time.strftime("%H:%M", time.localtime(bounds.until))
        parts.append(f"{seconds(rest.seconds)} until {until}")
    if rest.usd is not None:
        parts.append(f"{rest.usd:.2f} of {bounds.max_usd:g} USD")
    if rest.tokens is not None:
        parts.append(f"{rest.tokens} of {bounds.max_tokens} tokens")
    if rest.device_seconds is not None:
        parts.append(f"{seconds(rest.device_seconds)} of device time")
    return " and ".join(parts) or "no bound: it runs until you stop it"
