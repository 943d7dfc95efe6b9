"""A price on lines: what a change must gain for each line that it adds."""

from __future__ import annotations

from nightlab.judge.case import Case, Judge
from nightlab.model import Action, Decision


class PricedJudge:
    """Another judge's rule, with ``margin`` (objective units, above 0) per net added line.

    A keep whose measured effect is below ``margin * (added - removed)`` becomes a discard. A
    change that adds no net line has no price.
    """

    def __init__(self, judge: Judge, margin: float) -> None:
        self.name = judge.name
        self._judge = judge
        self._margin = margin

    def decide(self, case: Case) -> Decision:
        decision = self._judge.decide(case)
        net, effect = case.lines_added - case.lines_removed, decision.evidence.effect
        if decision.action is not Action.KEEP or net <= 0 or effect is None:
            return decision
        price = self._margin * net
        if effect >= price:
            return decision
        lines = f"{net} net line{'s' if net > 1 else ''}"
        return Decision(
            action=Action.DISCARD,
            rule="margin",
            reason=f"{decision.reason}; but {lines} would have to gain {price:.3g}, "
            f"and it gains {effect:.3g}",
            evidence=decision.evidence,
        )
