"""Checks by exit code: what the code of a keep must pass, asked for once it would be kept."""

from __future__ import annotations

from nightlab.judge.case import Case
from nightlab.model import Action, Arm, Decision, Outcome, Want


def review(decision: Decision, case: Case) -> Decision:
    """The decision, unless the candidate would be kept and its checks are not all passed yet.

    They are asked for one by one; the first that fails makes it a discard by the rule "check".
    The baseline is checked before its first run: code that fails there would make every keep
    fail, so the study ends at once and says why.
    """
    first = case.number == 1
    if decision.action is not Action.KEEP and not first:
        return decision
    done = {run.check: run for run in case.checked}
    for name in case.checks:
        run = done.get(name)
        if run is None:
            return Decision(
                action=Action.REPEAT,
                rule="checks",
                reason=f"check {name} first" if first else f"would be kept: check {name}",
                evidence=decision.evidence,
                wants=(Want(arm=Arm.CANDIDATE, seed=1, check=name),),
            )
        if run.outcome is not Outcome.OK:
            fails = f"check {name} fails: {run.detail}"
            kept = f"would be kept ({decision.reason}), but {fails}"
            return Decision(
                action=Action.CRASH if first else Action.DISCARD,
                rule="check",
                reason=f"the untouched code is refused: {fails}" if first else kept,
                evidence=decision.evidence,
            )
    return decision
