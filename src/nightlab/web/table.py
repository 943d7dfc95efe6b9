"""Every experiment as columns, and which rows changed since when. Pure.

20,000 rows as arrays are a third of what they are as objects, and a browser reads them faster.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nightlab.history import History
from nightlab.judge import estimate, fair
from nightlab.model import Evidence, Experiment, values_of
from nightlab.stats import group

MOST_CHARS = 300  # of a text in a row; the experiment's own page has all of it
_MOST_METRICS = 32
COLUMNS = (
    "n",
    "verdict",
    "value",
    "sd",
    "effect",
    "low",
    "high",
    "e_value",
    "certified",
    "runs",
    "seconds",
    "started",
    "settled",
    "parent",
    "category",
    "researcher",
    "outcome",
    "rule",
    "added",
    "removed",
    "description",
    "reason",
)
_METRICS = len(COLUMNS)  # the place of {name: mean} in a row, after all of these


class Table:
    """The rows of one study as they are now, each with the seq at which it changed last."""

    def __init__(self) -> None:
        self._rows: dict[int, tuple[Any, ...]] = {}
        self._changed: dict[int, int] = {}  # the row changed last stands last
        self._metrics: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, history: History, numbers: Iterable[int], certified: set[int]) -> bool:
        """Look at these experiments again; whether a row changed."""
        metric, any_changed = history.study.objective.metric, False
        for number in numbers:
            row = _row(history, history.experiments[number], metric, number in certified)
            if row == self._rows.get(number):
                continue
            self._rows[number] = row
            self._changed.pop(number, None)
            self._changed[number] = history.last_seq
            any_changed = True
            if len(self._metrics) < _MOST_METRICS:
                self._metrics.update(dict.fromkeys(row[_METRICS]))
        return any_changed

    def since(self, seq: int) -> list[int]:
        """The numbers of the rows that changed after ``seq``, in order."""
        found = []
        for number in reversed(self._changed):
            if self._changed[number] <= seq:
                break
            found.append(number)
        return sorted(found)

    def columns(self, numbers: Iterable[int] | None = None) -> dict[str, Any]:
        """These rows (all of them without ``numbers``) as ``{column: values}``."""
        picked = self._rows.values() if numbers is None else [self._rows[n] for n in numbers]
        turned = list(zip(*picked, strict=True)) or [()] * (_METRICS + 1)
        means = turned[_METRICS]
        columns: dict[str, Any] = dict(zip(COLUMNS, turned, strict=False))
        columns["metrics"] = {name: [m.get(name) for m in means] for name in self._metrics}
        return columns


def _row(history: History, experiment: Experiment, metric: str, certified: bool) -> tuple[Any, ...]:
    runs, claim, decision = experiment.runs, experiment.claim, experiment.decision
    evidence = decision.evidence if decision else Evidence()
    return (
        experiment.number,
        experiment.verdict.value if experiment.verdict else "open",
        _brief(estimate(runs, metric)),
        _brief(group(values_of(fair(runs), metric) or values_of(runs, metric)).sd),
        *map(_brief, (evidence.effect, evidence.low, evidence.high, evidence.e_value)),
        certified,
        len(runs),
        round(sum(run.duration_s + (run.evaluate_s or 0.0) for run in runs), 2),
        experiment.started_at,
        experiment.settled_at,
        history.kept.get(experiment.parent),
        claim.category[:MOST_CHARS],
        claim.researcher[:MOST_CHARS],
        runs[-1].outcome.value if runs else "",
        decision.rule if decision else "",
        claim.lines_added,
        claim.lines_removed,
        claim.description[:MOST_CHARS],
        decision.reason[:MOST_CHARS] if decision else "",
        _means(experiment),
    )


def _means(experiment: Experiment) -> dict[str, float | None]:
    names = dict.fromkeys(name for run in experiment.runs for name in run.metrics)
    found = ((n, values_of(experiment.runs, n)) for n in names)
    return {n: _brief(sum(v) / len(v)) for n, v in found if v}


def _brief(value: float | None) -> float | None:
    """Eight digits: as much as a screen shows, and half the bytes."""
    return None if value is None else float(f"{value:.8g}")
