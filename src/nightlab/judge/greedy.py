"""The reference's rule, as a policy that a user may choose and the benchmark measures."""

from __future__ import annotations

from nightlab.judge.baseline import calibrate
from nightlab.judge.case import Case
from nightlab.judge.guards import veto
from nightlab.judge.sequential import beside, failure, lines, repeat, screen_seed, simpler
from nightlab.model import (
    Action,
    Arm,
    Decision,
    Evidence,
    Want,
    values_of,
)


class GreedyJudge:
    """One run; keep it if it beats the number the incumbent was kept with. Nothing is repeated."""

    name = "greedy"

    def decide(self, case: Case) -> Decision:
        if case.number == 1:
            return calibrate(case, 1)
        failed = failure(case)
        if failed:
            return failed
        metric, sign = case.objective.metric, case.objective.better.sign
        recorded = values_of(case.incumbent, metric)
        if not recorded and beside(case) >= 2:
            reason = "the incumbent has no value and fails again: look at the machine"
            return Decision(action=Action.INCONCLUSIVE, rule="incumbent", reason=reason)
        wants: tuple[Want, ...] = ()
        if not case.candidate:
            wants = (Want(arm=Arm.CANDIDATE, seed=screen_seed(case)),)
        if not recorded:
            wants = (Want(arm=Arm.INCUMBENT, seed=1), *wants)
        if wants:
            return repeat("screen", "one run", wants)
        value = values_of(case.candidate, metric)[0]
        gain = sign * (value - recorded[0])
        reason = f"{value:.6g} against the recorded {recorded[0]:.6g}, one run each"
        action, rule = Action.DISCARD, "greedy"
        if gain > 0:
            action = Action.KEEP
        elif gain == 0 and simpler(case):
            action, reason = Action.KEEP, f"{reason}, and {lines(case)}"
        vetoed = veto(case) if action is Action.KEEP else None
        if vetoed:
            action, rule, reason = Action.DISCARD, "guard", f"{reason}; but vetoed by {vetoed}"
        evidence = Evidence(effect=gain, n_candidate=1, n_incumbent=1)
        return Decision(action=action, rule=rule, reason=reason, evidence=evidence)
