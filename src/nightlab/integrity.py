"""Does a number look measured? Signs that a keep was forged or lucky in a way noise is not. Pure.

None of these proves anything. A keep with a sign is measured again on fresh seeds; one that
still shows it is put aside for the person (*quarantined*), not kept. A box and a sealed
evaluator stop forging; these signs are for studies that have neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from nightlab.judge import Case, Noise
from nightlab.judge.guards import veto
from nightlab.model import (
    Action,
    Arm,
    Better,
    Decision,
    Objective,
    Run,
    Want,
    values_of,
)

# A script that trains to its budget takes most of it; half of what the incumbent took means
# that it stopped training early or never did.
_SHORT = 0.5
_IDLE = 0.3  # of the incumbent's CPU time: a sleep in place of a training loop
_FULL = 0.8  # of the budget: below, the script is not bound by time and may be faster honestly
_MORE_WORK = 10.0  # times the incumbent's steps or tokens in the same time
_DIGITS = 7
_LEAP_SIGMA = 20.0
_LEAP_TIMES = 5.0
_CLOCK_SLACK_S = 2.0
_WORK_NAMES = ("num_steps", "steps", "total_steps", "total_tokens_M", "total_tokens", "tokens")
_TIME_NAMES = ("training_seconds", "total_seconds", "train_time", "training_time")
_MEASURED = 3  # runs of a candidate after which a sign that stays is not chance
_REPEATED = "more than once"


def review(
    decision: Decision, case: Case, *, budget_s: float, largest_gain: float | None
) -> Decision:
    """The decision, unless it is a keep that looks forged: then measure again, or quarantine."""
    if decision.action is not Action.KEEP or case.number == 1:
        return decision
    found = signs(
        candidate=case.candidate,
        incumbent=case.incumbent,
        objective=case.objective,
        noise=case.noise,
        budget_s=budget_s,
        largest_gain=largest_gain,
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
        rule="quarantine",
        reason=f"quarantined for you to look at, not kept: {why} ({decision.reason})",
        evidence=decision.evidence,
    )


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
) -> tuple[str, ...]:
    """Why a candidate's measurements look implausible, a clause each; () when they do not.

    Runs that counted, ok ones matter. ``largest_gain`` is the largest effect that any kept
    change of this study has shown, None before there was one.
    """
    ok = [r for r in candidate if objective.metric in r.metrics]
    others = [r for r in incumbent if objective.metric in r.metrics]
    if not ok or not others:
        return ()
    found = [
        _constant(ok, others, objective, noise),
        _short(ok, others, budget_s),
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


def _short(ok: list[Run], others: list[Run], budget_s: float) -> str:
    usual = median(r.duration_s for r in others)
    mine = median(r.duration_s for r in ok)
    if usual >= _FULL * budget_s and mine < _SHORT * usual:
        return f"it ran {mine:.3g} s where the incumbent trains for {usual:.3g} s"
    return ""


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
