"""Does a number look measured? Signs that a keep was forged or lucky in a way noise is not. Pure.

None of these proves anything. A keep with a sign is measured again on fresh seeds; one that
still shows it is put aside for the person (*quarantined*), not kept. A box and a sealed
evaluator stop forging; these signs are for studies that have neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from nightlab.judge import Case, Noise
from nightlab.judge.guards import veto
from nightlab.model import (
    Action,
    Arm,
    Better,
    Decision,
    Experiment,
    Objective,
    Run,
    Want,
    values_of,
)

# A script that trains to its budget takes most of it; half of what the incumbent took means
# that it stopped training early or never did.
_SHORT = 0.5
QUARANTINE = "quarantine"  # the rule of what is put aside for the person
_IDLE = 0.3  # of the incumbent's CPU time: a sleep in place of a training loop
_FULL = 0.8  # of the budget: below, the script is not bound by time and may be faster honestly
# Times what the budget and the script's usual start and evaluation take together: beyond, the
# gain may be bought with time that no other change had.
_LONGER = 1.25
_MORE_WORK = 10.0  # times the incumbent's steps or tokens in the same time
_DIGITS = 7
_TELLING_DIGITS = 5  # a number with fewer is met again by chance
_LEAP_SIGMA = 20.0
_LEAP_TIMES = 5.0
_CLOCK_SLACK_S = 2.0
_WORK_NAMES = ("num_steps", "steps", "total_steps", "total_tokens_M", "total_tokens", "tokens")
_TIME_NAMES = ("training_seconds", "total_seconds", "train_time", "training_time")
_MEASURED = 3  # runs of a candidate after which a sign that stays is not chance
_REPEATED = "more than once"


def review(
    decision: Decision,
    case: Case,
    *,
    budget_s: float,
    largest_gain: float | None,
    experiments: Iterable[Experiment] = (),
) -> Decision:
    """The decision, unless it is a keep that looks forged: then measure again, or quarantine.

    ``experiments`` are the study's, for numbers that were printed before.
    """
    if decision.action is not Action.KEEP or case.number == 1:
        return decision
    found = signs(
        candidate=case.candidate,
        incumbent=case.incumbent,
        objective=case.objective,
        noise=case.noise,
        budget_s=budget_s,
        largest_gain=largest_gain,
        baseline=case.baseline,
        earlier=[r for e in experiments if _honest(e, case.number) for r in e.runs],
    )
    if not found:
        return decision
    why = "; ".join(found)
    if len(case.candidate) < _MEASURED:
        seed = 1 + max(r.seed for r in (*case.candidate, *case.incumbent))
        return Decision(
            action=Action.REPEAT,
            rule="suspicious",
            reason=f"would be kept, but {why}: measured again",
            evidence=decision.evidence,
            wants=(Want(arm=Arm.CANDIDATE, seed=seed),),
        )
    return Decision(
        action=Action.INCONCLUSIVE,
        rule=QUARANTINE,
        reason=f"quarantined for you to look at, not kept: {why} ({decision.reason})",
        evidence=decision.evidence,
    )


def _honest(experiment: Experiment, number: int) -> bool:
    """Another experiment than this, and not one that was put aside itself."""
    decision = experiment.decision
    return experiment.number != number and not (decision and decision.rule == QUARANTINE)


def about_baseline(case: Case) -> tuple[str, ...]:
    """What a person should know once the baseline is measured: sentences, () for nothing."""
    found = []
    if case.noise.deterministic:
        found.append(
            f"{case.objective.metric} was the same on every seed: either nothing is random, or "
            "the script does not take its seed from NIGHTLAB_SEED and its noise is not seen"
        )
    broken = veto(case)
    if broken:
        found.append(f"the baseline itself breaks a guard ({broken}): nothing is kept until met")
    return tuple(found)


def signs(
    *,
    candidate: Sequence[Run],
    incumbent: Sequence[Run],
    objective: Objective,
    noise: Noise,
    budget_s: float,
    largest_gain: float | None,
    baseline: Sequence[Run] = (),
    earlier: Sequence[Run] = (),
) -> tuple[str, ...]:
    """Why a candidate's measurements look implausible, a clause each; () when they do not.

    Runs that counted, ok ones matter. ``largest_gain`` is the largest effect that any kept
    change of this study has shown, None before there was one. ``earlier`` are the runs of all
    other experiments.
    """
    ok = [r for r in candidate if objective.metric in r.metrics]
    others = [r for r in incumbent if objective.metric in r.metrics]
    if not ok or not others:
        return ()
    found = [
        _constant(ok, others, objective, noise),
        _copied(ok, others, earlier, objective, noise),
        _short(ok, others, budget_s),
        _long(ok, others, baseline, budget_s),
        _idle(ok, others),
        _clock(ok),
        _work(ok, others),
        _contradicts_itself(ok, others),
        _leap(ok, others, objective, noise, largest_gain),
    ]
    tampered = [flag for run in candidate for flag in run.flags]
    return tuple(sign for sign in [*found, *dict.fromkeys(tampered)] if sign)


def _constant(ok: list[Run], others: list[Run], objective: Objective, noise: Noise) -> str:
    """The same number for different seeds, where the incumbent's differ."""
    if noise.sigma is None or noise.deterministic or len(ok) < 2:
        return ""
    mine = {_rounded(v) for v in values_of(ok, objective.metric)}
    theirs = {_rounded(v) for v in values_of(others, objective.metric)}
    if len({r.seed for r in ok}) > 1 and len(mine) == 1 and len(theirs) > 1:
        return f"it prints {objective.metric} {mine.pop()} whatever the seed"
    return ""


def _rounded(value: float) -> str:
    return f"{value:.{_DIGITS}g}"


def _copied(
    ok: list[Run],
    others: list[Run],
    earlier: Sequence[Run],
    objective: Objective,
    noise: Noise,
) -> str:
    """A number that other code printed to the last digit: a copy, or the same change once more.

    On another seed than its own a noisy program does not meet it again, unless the metric is
    coarse (so many correct of a hundred): then other experiments have met each other's, too.
    One such number is measured again; a candidate of nothing but such numbers is a forgery.
    """
    if noise.deterministic:
        return ""
    seeds: dict[str, dict[int, int]] = {}  # number printed -> seed -> the experiment that did
    for run in (r for r in earlier if r.outcome.counts and objective.metric in r.metrics):
        text = _rounded(run.metrics[objective.metric])
        seeds.setdefault(text, {}).setdefault(run.seed, run.experiment)
    standing = {r.experiment for r in others}
    for known in seeds.values():
        who = set(known.values())
        if len(known) > 1 and (len(who) > 1 or who <= standing):
            return ""
    copies: list[tuple[str, int]] = []
    for run in ok:
        text = _rounded(run.metrics[objective.metric])
        known = seeds.get(text, {})
        # Removing what never ran leaves the incumbent's own numbers on the incumbent's seeds.
        alike = [n for s, n in known.items() if s != run.seed or n not in standing]
        telling = len(text.lstrip("-0.").replace(".", "").partition("e")[0]) >= _TELLING_DIGITS
        if alike and telling and (len(ok) == 1 or run.seed not in known):
            copies.append((text, alike[0]))
    if len(copies) < len(ok):
        return ""
    text, number = copies[0]
    return f"it prints {objective.metric} {text}, which experiment {number} printed already"


def _short(ok: list[Run], others: list[Run], budget_s: float) -> str:
    usual = median(r.duration_s for r in others)
    mine = median(r.duration_s for r in ok)
    if usual >= _FULL * budget_s and mine < _SHORT * usual:
        return f"it ran {mine:.3g} s where the incumbent trains for {usual:.3g} s"
    return ""


def _long(ok: list[Run], others: list[Run], baseline: Sequence[Run], budget_s: float) -> str:
    """Much longer than the budget, the untouched code and the incumbent: a slowed clock.

    Against the untouched code, so that many small steps do not add up to a longer budget. A
    run without a GPU that used no more processor time than that only waited for a busy machine.
    """
    usual = median(r.duration_s for r in (baseline or others))
    mine = median(r.duration_s for r in ok)
    allowed = _LONGER * max(budget_s, usual)
    if mine > max(allowed, *(r.duration_s for r in others)) and not _waited(ok, baseline or others):
        return (
            f"it ran {mine:.3g} s, where the budget is {budget_s:g} s and the untouched code "
            f"takes {usual:.3g} s"
        )
    return ""


def _waited(ok: list[Run], usual: Sequence[Run]) -> bool:
    """Whether runs that took longer used no more processor time, and there was no GPU to use."""
    mine = [r.cpu_s for r in ok if r.cpu_s is not None and not r.peak_gpu_bytes]
    theirs = [r.cpu_s for r in usual if r.cpu_s is not None]
    return len(mine) == len(ok) and bool(theirs) and max(mine) <= _LONGER * median(theirs)


def overrun(duration_s: float, budget_s: float) -> str:
    """What is noted of a run that took much more than its budget; "" for one that did not."""
    if duration_s <= _LONGER * budget_s:
        return ""
    return f"it ran {duration_s:.3g} s, its budget is {budget_s:g} s"


def _idle(ok: list[Run], others: list[Run]) -> str:
    mine = [r.cpu_s for r in ok if r.cpu_s is not None]
    theirs = [r.cpu_s for r in others if r.cpu_s is not None]
    if mine and theirs and median(theirs) > 1.0 and median(mine) < _IDLE * median(theirs):
        return (
            f"it used {median(mine):.3g} s of CPU where the incumbent uses {median(theirs):.3g} s"
        )
    return ""


def _clock(ok: list[Run]) -> str:
    """More training time printed than passed on nightlab's clock."""
    for run in ok:
        for name in _TIME_NAMES:
            if run.metrics.get(name, 0.0) > run.duration_s + _CLOCK_SLACK_S:
                said = run.metrics[name]
                return f"it prints {name} {said:.4g} but ran {run.duration_s:.4g} s"
    return ""


def _work(ok: list[Run], others: list[Run]) -> str:
    for name in _WORK_NAMES:
        mine = [r.metrics[name] for r in ok if name in r.metrics]
        theirs = [r.metrics[name] for r in others if name in r.metrics]
        if mine and theirs and 0 < _MORE_WORK * median(theirs) < median(mine):
            return f"it prints {name} {median(mine):.4g}, the incumbent {median(theirs):.4g}"
    return ""


def _contradicts_itself(ok: list[Run], others: list[Run]) -> str:
    """A metric printed twice with different values, which the incumbent does not do."""
    if any(_REPEATED in note for run in others for note in run.notes):
        return ""
    notes = [note for run in ok for note in run.notes if _REPEATED in note]
    return f"in its log {notes[0]}" if notes else ""


def _leap(
    ok: list[Run],
    others: list[Run],
    objective: Objective,
    noise: Noise,
    largest_gain: float | None,
) -> str:
    """A gain far beyond any before, or a value that no training reaches."""
    mine = values_of(ok, objective.metric)
    theirs = values_of(others, objective.metric)
    if objective.better is Better.LOWER and max(mine) <= 0.0 < min(theirs):
        return f"{objective.metric} {max(mine):g} is zero or less"
    if noise.sigma is None or largest_gain is None or largest_gain <= 0 or len(mine) > 1:
        return ""  # measured again and still there: a large true gain, a bug that was found
    gain = objective.better.sign * (mine[0] - sum(theirs) / len(theirs))
    if gain > _LEAP_SIGMA * noise.sigma and gain > _LEAP_TIMES * largest_gain:
        return f"its gain of {gain:.3g} is {gain / largest_gain:.0f} times the largest so far"
    return ""
