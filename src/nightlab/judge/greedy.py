"""The reference's rule, as a policy that a user may choose and the benchmark measures."""

from __future__ import annotations

from nightlab.judge.baseline import calibrate
from nightlab.judge.case import Case
from nightlab.judge.evidence import look, say
from nightlab.judge.guards import values_of, veto
from nightlab.judge.sequential import beside, end, failure, repeat, screen_seed, simpler
from nightlab.model import Action, Arm, Decision, Want


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
        wants: tuple[Want, ...] = ()
        if not case.candidate:
            wants = (Want(arm=Arm.CANDIDATE, seed=screen_seed(case)),)
        if not recorded and beside(case) >= 2:
            reason = "the incumbent has no value and fails again: look at the machine"
            return Decision(action=Action.INCONCLUSIVE, rule="incumbent", reason=reason)
        if not recorded:
            wants = (Want(arm=Arm.INCUMBENT, seed=1), *wants)
        if wants:
            return repeat("screen", "one run", wants)
        seen = look(case)
        if seen is None:  # impossible: recorded is not empty
            raise AssertionError(case)
        gain = sign * (values_of(case.candidate, metric)[0] - recorded[0])
        if gain > 0 or (gain == 0 and simpler(case)):
            vetoed = veto(case)
            if vetoed:
                return end(Action.DISCARD, "guard", f"vetoed by {vetoed}", seen)
            return end(Action.KEEP, "greedy", say(seen), seen)
        return end(Action.DISCARD, "greedy", say(seen), seen)
