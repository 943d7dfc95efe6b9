"""A study as text for others: the reference's table, pi's JSON lines, CSV for pandas."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

from nightlab import ledger, views
from nightlab.history import History
from nightlab.model import Experiment, Verdict
from nightlab.process import clean

# pi knows no "inconclusive": like a discard, it leaves the branch where it was.
_PI_STATUS = {
    Verdict.KEEP: "keep",
    Verdict.DISCARD: "discard",
    Verdict.INCONCLUSIVE: "discard",
    Verdict.CRASH: "crash",
}


def karpathy(history: History) -> Iterator[str]:
    """The reference's five columns, settled experiments only; a crash has zeros, as there."""
    yield ledger.header(history)
    for experiment in history.settled():
        yield ledger.row(experiment, history.study.objective.expression)


def pi(history: History) -> Iterator[str]:
    """pi-autoresearch's log: a config line, then one line per settled experiment.

    A crash has metric 0 there. What pi has no field for stands in ``asi``.
    """
    objective = history.study.objective
    yield _line(
        {
            "type": "config",
            "name": history.study.tag,
            "metricName": objective.metric,
            "metricUnit": "",
            "bestDirection": objective.better.value,
        }
    )
    for experiment in history.settled():
        yield _line(_pi_run(history, experiment))


def _pi_run(history: History, experiment: Experiment) -> dict[str, Any]:
    row = views.row(experiment, history.study.objective.metric)
    verdict = experiment.verdict or Verdict.CRASH
    metrics = {k: v for k, v in row["metrics"].items() if k != history.study.objective.metric}
    value = row["value"]
    return {
        "run": experiment.number,
        "commit": experiment.commit[:7],
        "metric": 0 if value is None else value,
        "metrics": metrics,
        "status": "crash" if value is None else _PI_STATUS[verdict],
        "description": _text(experiment.claim.description),
        "timestamp": round((experiment.settled_at or experiment.started_at) * 1000),
        "segment": 0,
        "confidence": None,
        "asi": {
            "hypothesis": _text(experiment.claim.hypothesis),
            "family": _text(experiment.claim.category),
            "verdict": verdict.value,
            "reason": _text(row["reason"]),
            "runs": row["runs"],
            "seeds": row["seeds"],
        },
    }


def csv_experiments(history: History) -> Iterator[str]:
    """One row per experiment, one column per metric; an empty cell is a missing number."""
    metric = history.study.objective.metric
    rows = [views.row(e, metric) for e in history.experiments.values()]
    names = sorted({name for row in rows for name in row["metrics"]})
    fixed = ("experiment", "commit", "parent", "verdict", "value", "runs")
    words = ("category", "researcher", "description", "hypothesis", "reason", "rule")
    times = ("started_at", "settled_at")
    yield _csv([*fixed, "seconds", *times, *words, *(f"metric.{n}" for n in names)])
    for row in rows:
        cells = [row[name] for name in fixed]
        cells += [sum(row["durations_seconds"]), *(row[n] for n in times), *(row[n] for n in words)]
        yield _csv([*cells, *(row["metrics"].get(n) for n in names)])


def csv_runs(history: History) -> Iterator[str]:
    """One row per run of an experiment, as measured."""
    every = [(e, run) for e in history.experiments.values() for run in e.runs]
    names = sorted({name for _, run in every for name in run.metrics})
    head = ("experiment", "run", "purpose", "seed", "device", "outcome", "seconds")
    yield _csv([*head, "peak_memory_bytes", "verdict", *(f"metric.{n}" for n in names)])
    for experiment, run in every:
        verdict = experiment.verdict.value if experiment.verdict else None
        cells: list[object] = [experiment.number, run.id, run.purpose.value, run.seed, run.device]
        cells += [run.outcome.value, round(run.duration_s, 3), run.peak_memory_bytes, verdict]
        yield _csv([*cells, *(run.metrics.get(n) for n in names)])


def figures(history: History, row: dict[str, Any]) -> dict[str, float]:
    """Each metric's mean of a row of ``views``; the objective's is the judge's own estimate."""
    found: dict[str, float] = dict(row["metrics"])
    if row["value"] is not None:
        found[history.study.objective.metric] = row["value"]
    return found


def _line(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n"


def _text(text: str) -> str:
    return " ".join(clean(text).split())


def _csv(cells: list[Any]) -> str:
    """One line; words on one line each, and none that a spreadsheet would take for a formula."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow([_cell(c) for c in cells])
    return buffer.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, str):
        text = _text(value)
        return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text
    if isinstance(value, float):
        return repr(value)
    return "" if value is None else value
