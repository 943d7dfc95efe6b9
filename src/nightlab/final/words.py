"""What was found, in words. Pure."""

from __future__ import annotations

import math

from nightlab.final.values import Contest, Plan, Side

_HALF = 0.5


def amount(value: float | None, spread: float | None) -> str:
    """A number with the digits that the spread leaves; six where there is none."""
    if value is None:
        return "?"
    if not spread or not math.isfinite(spread):
        return f"{value:.6g}"
    decimals = 1 - math.floor(math.log10(spread))
    if not 0 <= decimals <= 12:
        return f"{value:.6g}"
    return f"{round(value, decimals) + 0.0:.{decimals}f}"  # no -0.00


def _probability(p: float | None) -> str:
    return "" if p is None else f"{p:.2g}"


def side(one: Side, spread: float | None) -> str:
    """``1.1203 ± 0.0021 (n = 5)``."""
    if one.mean is None:
        return "not measured"
    sd = f" ± {one.sd:.2g}" if one.sd is not None else ""
    return f"{amount(one.mean, spread)}{sd} (n = {one.n})"


def spread_of(plan: Plan, found: Contest) -> float | None:
    """The noise that says how many digits to show."""
    known = [s for s in (found.mine.sd, found.against.sd, plan.sigma) if s]
    return min(known) if known else None


def interval(found: Contest, spread: float | None) -> str:
    """``95 % interval 0.0481 to 0.0537, p = 2e-06, Wilcoxon p = 0.062``."""
    if not found.n:
        return "no pair to compare"
    if found.low is None or found.high is None:
        return "no interval from one pair"
    if found.low == found.high:
        return "the same in every pair"
    text = f"{found.level * 100:.0f} % interval {amount(found.low, spread)} to "
    text += amount(found.high, spread)
    if found.p is not None:
        text += f", p = {_probability(found.p)}"
    if found.p_wilcoxon is not None:
        text += f", Wilcoxon p = {_probability(found.p_wilcoxon)}"
    return text


def sentence(plan: Plan, found: Contest) -> str:
    """A comparison in one sentence, with what keeps it from being a win."""
    spread = spread_of(plan, found)
    metric = plan.objective.metric
    if found.effect is None:
        return f"{metric} could not be compared: {_missing(found)}"
    text = f"{metric} {side(found.against, spread)} → {side(found.mine, spread)}: "
    direction = "better" if found.effect > 0 else "worse" if found.effect < 0 else "no different"
    by = f" by {amount(abs(found.effect), spread)}" if found.effect else ""
    pairs = f"{found.n} fresh pair{'' if found.n == 1 else 's'}"
    text += f"{direction}{by} over {pairs} ({interval(found, spread)})"
    if not found.is_complete:
        text += f"; {_missing(found)}"
    elif found.low is not None and found.high is not None and found.low <= 0.0 <= found.high:
        text += "; the interval holds 0"
    return text


def _missing(found: Contest) -> str:
    failed = found.mine.failed + found.against.failed
    if failed:
        who = "the baseline" if not found.mine.failed else f"the {found.arm} code"
        return f"{failed} run{'' if failed == 1 else 's'} failed, of {who} first of all"
    return f"{found.n} of {found.planned} planned pairs were measured: the device time was spent"


def full_length(plan: Plan, claim: Contest, full: Contest) -> str:
    """Whether the gain of short runs is there after full-length training."""
    spread = spread_of(plan, full)
    if full.effect is None:
        return f"full-length training could not be compared: {_missing(full)}"
    seeds = f"{full.n} seed{'' if full.n == 1 else 's'}"
    said = f"{amount(full.effect, spread)} over {seeds}"
    if claim.effect is None or claim.effect <= 0.0:
        return f"full-length training: {said}"
    if full.effect <= 0.0:
        return f"the gain exists in short runs only: at full length it is {said}"
    if full.effect < _HALF * claim.effect:
        return f"the gain shrinks at full length: {said}, {amount(claim.effect, spread)} before"
    return f"the gain is there at full length, too: {said}"
