"""What was tried, in brief: running sums over settled experiments. Pure.

A study of ten thousand experiments is summed up as fast as one of ten: each settled
experiment is taken in once, and only what a reader is shown is looked up again. The baseline
is not among them.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from dataclasses import dataclass, field

from nightlab.model import Experiment, Outcome, Verdict

_NEAR = 40  # near misses that are remembered
_LAST = 12  # experiments that did not help, remembered in each category
_CATEGORIES = 60  # told apart; what is named later counts as "other"


@dataclass
class Tally:
    """One category of change: how its experiments ended; ``last`` holds the newest of the failed.

    ``effect`` is the largest measured effect of any of them, positive is better.
    """

    keep: int = 0
    discard: int = 0
    inconclusive: int = 0
    crash: int = 0
    effect: float | None = None
    last: deque[int] = field(default_factory=lambda: deque(maxlen=_LAST))

    @property
    def total(self) -> int:
        return self.keep + self.discard + self.inconclusive + self.crash


class Digest:
    """Only ``take`` changes it.

    ``order`` holds the numbers of the settled experiments as they were settled, ``seconds`` how
    long labs had worked on the study by then, ``keeps`` the places in ``order`` of those kept.
    """

    def __init__(self) -> None:
        self.order: list[int] = []
        self.seconds: list[float] = []
        self.keeps: list[int] = []
        self.categories: dict[str, Tally] = {}
        self._near: list[tuple[float, int]] = []  # the smallest effect first

    def take(self, experiment: Experiment, seconds: float) -> None:
        """Take a settled experiment in."""
        verdict = experiment.verdict
        if verdict is None or experiment.number == 1:
            return
        if verdict is Verdict.KEEP:
            self.keeps.append(len(self.order))
        self.order.append(experiment.number)
        self.seconds.append(seconds)
        tally = self._tally(category(experiment))
        setattr(tally, verdict.value, getattr(tally, verdict.value) + 1)
        effect = effect_of(experiment)
        if effect is not None and (tally.effect is None or effect > tally.effect):
            tally.effect = effect
        if verdict is Verdict.KEEP:
            return
        if effect is not None and effect > 0:
            insort(self._near, (effect, experiment.number))
            del self._near[:-_NEAR]
        else:
            tally.last.append(experiment.number)

    @property
    def since_keep(self) -> int:
        """Experiments settled since the last one that was kept (or since the baseline)."""
        return len(self.order) - (self.keeps[-1] + 1 if self.keeps else 0)

    def kept(self) -> list[int]:
        """The numbers of the kept experiments, in the order of settling."""
        return [self.order[place] for place in self.keeps]

    def near(self) -> list[int]:
        """Those not kept that measured better than their incumbent, the largest effect first."""
        return [number for _, number in reversed(self._near)]

    def _tally(self, name: str) -> Tally:
        if name not in self.categories and len(self.categories) >= _CATEGORIES:
            name = "other"
        return self.categories.setdefault(name, Tally())


def category(experiment: Experiment) -> str:
    """An experiment's category as categories are compared; "other" where none was named."""
    return " ".join(experiment.claim.category.lower().split())[:40] or "other"


def effect_of(experiment: Experiment) -> float | None:
    """The measured effect against the incumbent it stood on, positive is better."""
    return experiment.decision.evidence.effect if experiment.decision else None


def outcomes(experiment: Experiment) -> list[Outcome]:
    """How its runs ended, each way once, in order."""
    return list(dict.fromkeys(run.outcome for run in experiment.runs))
