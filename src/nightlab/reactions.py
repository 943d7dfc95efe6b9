"""What to do about a researcher's answer that is no proposal: ask, wait, hand over. Pure.

No answer ends the night. What waiting cures is waited out, or bridged by a fallback; what only
the person can cure is bridged by a fallback; what the researcher did wrong it is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from nightlab.model import Answer

AT_ONCE = 3  # own faults in a row that are answered with a new question at once
HAND_OVER_AFTER = 5  # own faults in a row, then a fallback goes on
PATIENCE_S = 300.0  # a device that stands still for longer than this is better used
_WAIT_FIRST_S = 4.0
_WAIT_MOST_S = 600.0
_RETRY_AFTER_MOST_S = 6 * 3600.0  # a subscription's window; a server's typo is not obeyed
_SLOW_FIRST_S = 0.5
_SLOW_MOST_S = 300.0
_PROBE_FIRST_S = 600.0
_PROBE_MOST_S = 3600.0


class Step(StrEnum):
    """What the loop does next."""

    ASK = "ask"  # the same researcher, told why
    IDEA = "idea"  # the same researcher, with the backlog's next idea put in front of it
    WAIT = "wait"
    HAND_OVER = "hand_over"  # the fallback proposes until ``wait_s`` are over


@dataclass(frozen=True)
class Next:
    """``wait_s``: before the researcher that answered so is asked again."""

    step: Step
    wait_s: float = 0.0


def next_step(
    answers: Sequence[Answer],
    *,
    draw: float,
    fallback: bool,
    idea: bool,
    retry_after_s: float | None = None,
    hand_overs: int = 0,
) -> Next:
    """What follows ``answers``: those in a row that gave nothing, oldest first, at least one.

    ``draw`` from [0, 1) spreads clients that failed together (equal jitter: half of the wait is
    fixed; M. Brooker, "Exponential Backoff And Jitter", AWS 2015). ``fallback`` and ``idea``
    say whether there is one; ``hand_overs`` counts those in a row that ended in a failed probe.
    """
    last = answers[-1]
    if last is Answer.OVERTAKEN:
        return Next(Step.ASK)
    probe_s = min(_PROBE_MOST_S, _PROBE_FIRST_S * 2.0 ** min(hand_overs, 8))
    if last.locked_out:
        return Next(Step.HAND_OVER if fallback else Step.WAIT, probe_s)
    if last.passes:
        wait_s, in_all_s = _passing(answers, draw, retry_after_s)
        away = fallback and in_all_s > PATIENCE_S
        return Next(Step.HAND_OVER, wait_s) if away else Next(Step.WAIT, wait_s)
    faults = sum(_weight(answer) for answer in answers)
    if fallback and faults >= HAND_OVER_AFTER:
        return Next(Step.HAND_OVER, probe_s)
    if faults > AT_ONCE:
        return Next(Step.WAIT, min(_SLOW_MOST_S, _SLOW_FIRST_S * 2.0 ** min(faults - 4, 12)))
    return Next(Step.IDEA if idea and faults > 1 else Step.ASK)


def _weight(answer: Answer) -> int:
    """In faults. A hang has used up a whole call's time already: two are enough."""
    blameless = answer.passes or answer is Answer.OVERTAKEN
    return 0 if blameless else 3 if answer is Answer.HUNG else 1


def _passing(
    answers: Sequence[Answer], draw: float, retry_after_s: float | None
) -> tuple[float, float]:
    """(seconds to wait now, seconds waited in a row with them)."""
    in_a_row = 0
    for answer in reversed(answers):
        if not answer.passes:
            break
        in_a_row += 1
    waits = [min(_WAIT_MOST_S, _WAIT_FIRST_S * 2.0 ** min(n, 16)) for n in range(in_a_row)]
    wait_s = waits[-1] * (0.5 + 0.5 * draw)
    if retry_after_s is not None and retry_after_s > 0.0:
        # Not before it is allowed, and not at the very second at which everyone comes back.
        wait_s = min(_RETRY_AFTER_MOST_S, retry_after_s) + min(10.0, 0.1 * retry_after_s) * draw
    return wait_s, sum(waits[:-1]) + wait_s


_ADVICE = {
    Answer.NO_EDIT: "you changed nothing; make one change to the files in scope",
    Answer.QUESTION: "nobody is there to answer a question; decide yourself, and make the change",
    Answer.REFUSAL: "you declined; this is ordinary work on the person's own program: "
    "propose another change if that one is not for you",
    Answer.OUT_OF_SCOPE: "only the files in scope may change; the rest was undone",
    Answer.BROKEN_SYNTAX: "what was written does not parse",
    Answer.DUPLICATE: "that was tried already; propose something else",
    Answer.UNUSABLE: "the answer could not be read; keep to the form that was asked for",
    Answer.LOOPED: "you used up your turns without a result; make a smaller change, directly",
    Answer.HUNG: "you used up your time without a result; make a smaller change, directly",
    Answer.DIED: "your program ended before there was a change",
    Answer.DENIED: "you tried what is not permitted; edit the files in scope, and run nothing",
}


def told(answer: Answer, detail: str) -> str:
    """Why the last attempt gave nothing, in words for the researcher; "" if it is not its fault."""
    advice = _ADVICE.get(answer)
    if advice is None:
        return ""
    return f"{advice} ({detail})" if detail else advice
