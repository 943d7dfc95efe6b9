"""A finalization as far as the journal tells it."""

from __future__ import annotations

from nightlab.final.values import Cleaned, Closed, Plan, Result, Stage, Turn
from nightlab.model import Outcome, Run


class Finalization:
    """The fold of one finalization's events. Only ``take`` and the fields' owners change it.

    ``measured`` maps each turn to the run that counts for it: the first that was neither
    lost nor stopped.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.measured: dict[Turn, Run] = {}
        self.runs: list[Run] = []
        self.spent_s = 0.0
        self.cleaned: Cleaned | None = None
        self.result: Result | None = None
        self.closed: Closed | None = None

    def take(self, turn: Turn, run: Run) -> None:
        """A run has ended."""
        self.runs.append(run)
        self.spent_s += seconds_of(run)
        if run.outcome.counts:
            self.measured.setdefault(turn, run)

    def value(self, turn: Turn, metric: str) -> float | None:
        """What a turn measured of a metric; None where it did not."""
        run = self.measured.get(turn)
        if run is None or run.outcome is not Outcome.OK:
            return None
        return run.metrics.get(metric)

    def commit_of(self, arm: str) -> str:
        """The code of an arm. Raises KeyError for one that there is not."""
        known = {"baseline": self.plan.baseline, "final": self.plan.final}
        known |= {f"without {k.experiment}": k.without for k in self.plan.kept if k.without}
        if self.cleaned is not None and self.cleaned.commit:
            known["cleaned"] = self.cleaned.commit
        return known[arm]

    def run_s(self, stage: Stage) -> float:
        """What one run of a stage takes: the mean of those made, else the plan's estimate."""
        is_full = stage is Stage.FULL
        took = [
            seconds_of(run)
            for turn, run in self.measured.items()
            if (turn.stage is Stage.FULL) == is_full and turn.stage is not Stage.CHECK
        ]
        if took:
            return sum(took) / len(took)
        return self.plan.full_s if is_full else self.plan.run_s


def seconds_of(run: Run) -> float:
    """Device time of a run, its evaluation with it."""
    return run.duration_s + (run.evaluate_s or 0.0)
