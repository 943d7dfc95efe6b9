"""The first thing that is said: what happened, in a few sentences. Pure.

The sentences are plain text: nobody else's words are in them but ``ended``'s detail and
``lines``, which clean them.
"""

from __future__ import annotations

from nightlab.report.schema import Estimate, Facts, Gain
from nightlab.report.words import clean, count, duration, number, percent, signed

PROVISIONAL = "provisional: not yet confirmed on fresh seeds"


def claim(f: Facts) -> str:
    """From baseline to incumbent, with the interval and what it is built on."""
    start, end, sigma = f.start, f.incumbent, f.noise.sigma
    if start is None or end is None:
        if f.ending.state == "running":
            return "The baseline is not measured yet."
        return (
            "There is no baseline: the untouched code was never measured, so nothing was compared."
        )
    if f.gain is None:
        return (
            f"Nothing was kept: the {begin(f)}'s {f.metric} of {_valued(start, f)} "
            f"({count(start.n, 'run')}) stands."
        )
    runs = "" if not f.gain.fresh else " other than the one that selected it"
    if f.noise.deterministic:
        runs = ""
    return (
        f"{f.metric} went from {number(start.mean, sigma)} ({begin(f)}, {count(start.n, 'run')}) "
        f"to {number(end.mean, sigma)} (experiment {end.experiment}, {count(end.n, 'run')}{runs}): "
        f"{gained(f)}."
    )


def begin(f: Facts) -> str:
    """What the gain is counted from: "baseline", or the incumbent of that moment."""
    if f.start is None or f.start.experiment == 1:
        return "baseline"
    return f"incumbent of then, experiment {f.start.experiment}"


def title(f: Facts) -> str:
    """What the debrief is of; plain text with somebody's tag in it."""
    return f"Debrief of {f.tag}" + (f" since {f.since.words}" if f.since else "")


def gained(f: Facts) -> str:
    """Such as "a gain of 0.022 (2.2 %), 90 % interval 0.015 to 0.029; provisional …"."""
    whole = f.gain
    if whole is None:
        return "no gain"
    sigma = f.noise.sigma
    word = "a gain" if whole.effect >= 0 else "a loss"
    size = number(abs(whole.effect), sigma)
    relative = "" if whole.relative is None else f" ({percent(abs(whole.relative))})"
    standing = _standing(whole)
    if f.finalized and begin(f) == "baseline":
        standing = f"of the night's own runs; finalized on fresh seeds since: {f.finalized}"
    elif f.finalized:  # a part of what was finalized
        standing += f"; the whole gain since the baseline is finalized: {f.finalized}"
    return f"{word} of {size}{relative}, {_bounds(whole, f)}; {standing}"


def _bounds(whole: Gain, f: Facts) -> str:
    if f.noise.deterministic:
        return "exact as far as seen (equal runs gave equal numbers)"
    if whole.low is None or whole.high is None:
        return "with no interval, for no code was run twice and the noise is unknown"
    sigma = f.noise.sigma
    sign = 1 if whole.effect >= 0 else -1
    low, high = sorted((sign * whole.low, sign * whole.high))
    return (
        f"{whole.level * 100:.0f} % interval {number(low, sigma)} to {number(high, sigma)} "
        f"from the noise of {count(f.noise.df + 1, 'run')}"
        if f.noise.df < 4
        else f"{whole.level * 100:.0f} % interval {number(low, sigma)} to {number(high, sigma)}"
    )


def _standing(whole: Gain) -> str:
    if not whole.fresh:
        return f"{PROVISIONAL}, and measured by the very run that selected it, which flatters"
    if whole.low is not None and whole.low <= 0.0 <= (whole.high or 0.0):
        return f"{PROVISIONAL}, and the interval holds nil"
    return PROVISIONAL


def parts(f: Facts) -> str:
    """What a composite objective is made of; "" for one metric."""
    if not f.declared.expression:
        return ""
    sigma = None  # each part has a noise of its own
    moved = (
        f"{p.metric} {number(p.baseline, sigma)} → {number(p.incumbent, sigma)}"
        for p in f.declared.parts
    )
    return f"{f.metric} = {f.declared.expression}: {', '.join(moved)}, baseline to incumbent."


def naive(f: Facts) -> str | None:
    """The luckiest run's claim, beside the honest one; None where there is none to mention."""
    if f.naive is None or f.noise.deterministic or f.totals.experiments < 2:
        return None
    if f.naive.gain <= 0:
        return "Naively, from the luckiest single run, there would be no gain to claim either."
    size = signed(f.naive.gain, f.noise.sigma)
    where = "the baseline" if f.naive.experiment == 1 else f"experiment {f.naive.experiment}"
    first = "baseline" if f.start is None or f.start.experiment == 1 else "incumbent of then"
    return (
        f"The naive gain would be {size}: the luckiest single run (of {where}) against the "
        f"first of the {first}."
    )


def effort(f: Facts) -> str:
    """Changes by verdict, runs, device time, sessions."""
    t = f.totals
    changes = changed(f)
    verdicts = [
        f"{n:,} {word}"
        for n, word in (
            (kept(f), "kept"),
            (t.discard, "discarded"),
            (t.inconclusive, "inconclusive"),
            (changes - kept(f) - t.discard - t.inconclusive, "crashed"),
            (t.open, "still open"),
        )
        if n
    ]
    inside = f" ({', '.join(verdicts)})" if verdicts else ""
    nights = f" in {t.sessions} sessions" if t.sessions > 1 else ""
    base = "the baseline and " if with_baseline(f) else ""
    parts = f", {base}{count(changes, 'change')}{inside}," if changes or t.open else ""
    return (
        f"{count(t.experiments + t.open, 'experiment')}{parts} took {count(t.runs, 'run')} and "
        f"{duration(t.device_s)} of device time over {duration(t.wall_s)}{nights}."
    )


def cost(f: Facts) -> str:
    """What asking researchers cost, in all and for each kept change; "" for nothing."""
    keeps = kept(f)
    if not f.totals.tokens:
        return ""
    each = f": {_priced(f, keeps)} for each kept change" if keeps else ""
    return f"Thinking cost {_priced(f)}{each}."


def answers(f: Facts) -> str:
    """What came of asking researchers that was no change to try; "" for nothing."""
    counts = sorted(f.totals.answers.items(), key=lambda pair: (-pair[1], pair[0]))
    if not counts:
        return ""
    kinds = ", ".join(f"{n:,} {kind.replace('_', ' ')}" for kind, n in counts)
    asked, none = count(f.totals.asked, "question"), sum(f.totals.answers.values())
    return f"Of {asked} to researchers {none:,} gave nothing to try: {kinds}."


def _priced(f: Facts, share: int = 1) -> str:
    t = f.totals
    tokens = f"{round(t.tokens / share):,} tokens"
    if t.usd is None:
        return f"{tokens} at a price that is not known"
    return f"{tokens} for {'at least ' if t.unpriced else ''}{t.usd / share:.2f} USD"


def keeps(f: Facts) -> list[str]:
    """What the keeps are worth together: which are claims, whose gain it is, what chance gives."""
    told = [_certified(f)]
    if f.top_share is not None and len(f.discoveries) > 3:
        if f.top_share <= 1:
            told.append(f"The top three carry {percent(f.top_share)} of the gain.")
        else:
            told.append("The top three carry all of the gain: the others add up to a loss.")
    told.append(f"{count(len(f.discoveries), 'change was', 'changes were')} kept.")
    return [s for s in (*told, chance(f)) if s]


def _certified(f: Facts) -> str:
    """Which keeps are claims, and what the others are."""
    c = f.certificates
    rate = f"at a false discovery rate of {percent(c.level)}"
    sure = [k for k in c.keeps if k.certified]
    if not sure:
        return (
            f"No keep is certified {rate}: they steered the search, and the claim is the study's "
            "whole gain on fresh runs."
        )
    named = ", ".join(f"exp {k.experiment} (e-value {k.e_value:.3g})" for k in sure)
    return f"Certified {rate}, of {count(c.tested, 'experiment')} tested in fresh pairs: {named}."


def chance(f: Facts) -> str:
    """How many keeps a plain loop would have made of nothing; "" where there is no noise."""
    if not f.chance_keeps:
        return ""
    looked = kept(f) + f.totals.discard + f.totals.inconclusive
    return (
        f"For scale: a loop that keeps whatever beats the recorded number would have kept about "
        f"{f.chance_keeps:.1f} of {count(looked, 'change that does', 'changes that do')} nothing."
    )


def stopped(f: Facts) -> str | None:
    """What early stop saved, and what its audit found; None where it stopped nothing."""
    found = f.early
    if not found.stopped:
        return None
    said = (
        f"{count(found.stopped, 'hopeless run')} stopped early gave back "
        f"{duration(found.saved_s)} of device time; "
    )
    if not found.audited:
        return said + "none was let run on yet to see how often that is wrong."
    return said + (
        f"of {count(found.audited, 'such run')} let run on to see, {found.wrong} became a keep."
    )


def with_baseline(f: Facts) -> bool:
    """Whether the baseline is among the experiments that are told of."""
    return f.since is None or f.since.whole


def changed(f: Facts) -> int:
    """Settled experiments after the baseline."""
    return max(0, f.totals.experiments - with_baseline(f))


def kept(f: Facts) -> int:
    """Kept experiments after the baseline."""
    return len(f.discoveries)


def ended(f: Facts) -> str:
    """Why it ended, or that it has not."""
    detail = clean(f.ending.detail)
    if f.ending.state == "running":
        if f.ending.paused:
            return f"It is paused: {clean(f.ending.paused)}."
        return "It is still running: the numbers will move."
    words = {
        "bound": f"It ended because {detail or 'a bound was reached'}.",
        "stopped": f"It was stopped, {detail}." if detail else "It was stopped.",
        "interrupted": f"It was interrupted{f' ({detail})' if detail else ''}.",
        "exhausted": f"It ended because the researcher has nothing left to propose: {detail}.",
        "baseline": f"It ended at once, because the baseline failed: {detail}.",
        "error": f"It ended by an error: {detail}.",
    }
    if f.ending.reason is None:
        return "It ended without a word: the lab was killed, or the machine went down."
    return words.get(f.ending.reason, f"It ended: {clean(f.ending.reason)} {detail}.")


def lines(f: Facts) -> tuple[str, str, str]:
    """Three lines of plain text without control characters."""
    sigma, t = f.noise.sigma, f.totals
    first = f"{clean(f.tag)}{f' since {clean(f.since.words)}' if f.since else ''}: "
    if f.gain and f.start and f.incumbent:
        start, end = number(f.start.mean, sigma), number(f.incumbent.mean, sigma)
        bounds = ""
        if f.gain.low is not None and not f.noise.deterministic:
            low, high = number(f.gain.low, sigma), number(f.gain.high, sigma)
            bounds = f" ({f.gain.level * 100:.0f} %: {low} to {high})"
        first += f"{f.metric} {start} → {end}, gain {number(f.gain.effect, sigma)}{bounds}, "
        own = f.finalized if begin(f) == "baseline" else None  # a part of it has no claim
        first += f"finalized: {own}" if own else "provisional"
    else:
        first += claim(f)
    second = (
        f"{count(t.experiments, 'experiment')}: {kept(f)} kept, {t.discard} discarded, "
        f"{t.inconclusive} inconclusive, {t.crash} crashed; {count(t.runs, 'run')}, "
        f"{duration(t.device_s)} of device time" + (f"; {_priced(f)}" if t.tokens else "")
    )
    third = ended(f)
    top = f.discoveries[0] if f.discoveries else None
    if top is not None and top.effect is not None and top.effect > 0:
        third += f" Largest effect: {clean(top.description, 60)} ({signed(top.effect, sigma)})."
    return first, second, third


def _valued(one: Estimate, f: Facts) -> str:
    text = number(one.mean, f.noise.sigma)
    if f.noise.sigma:
        text += f" ± {f.noise.sigma:.2g}"
    return text
