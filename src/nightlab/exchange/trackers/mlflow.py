"""MLflow: an experiment becomes a parent run, its runs are nested in it."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

# Nothing but the tracking server that the person named is to hear of a study.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")

from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient

from nightlab import views
from nightlab.exchange.exports import figures
from nightlab.history import History
from nightlab.model import Experiment, Outcome, Run
from nightlab.process import clean

# A new store tells each step of its making, in the middle of whatever is on the screen.
logging.getLogger("mlflow").setLevel(logging.WARNING)
logging.getLogger("alembic").setLevel(logging.WARNING)

_KEY = "nightlab.key"
_PARENT, _NAME = "mlflow.parentRunId", "mlflow.runName"
_MOST = 900  # metrics of one batch; the server takes a thousand


def export(history: History, to: str) -> int:
    """Add the settled experiments that the store at the tracking URI ``to`` does not have."""
    client = MlflowClient(tracking_uri=to)
    name = f"nightlab/{history.study.tag}"
    found = client.get_experiment_by_name(name)
    home = found.experiment_id if found else client.create_experiment(name)
    there = set(_there(client, home))
    fresh = [e for e in history.settled() if _key(history, e) not in there]
    for experiment in fresh:
        _add(client, home, history, experiment)
    return len(fresh)


def _key(history: History, experiment: Experiment) -> str:
    return f"{history.study.tag}/{experiment.number}/{experiment.commit[:12]}"


def _there(client: Any, home: str) -> Iterator[str]:
    token = None
    while True:
        some = client.search_runs([home], max_results=1000, page_token=token)
        # A parent is whole once it is finished: one cut short is written again.
        yield from (r.data.tags.get(_KEY, "") for r in some if r.info.status != "RUNNING")
        token = some.token
        if not token:
            return


def _add(client: Any, home: str, history: History, experiment: Experiment) -> None:
    row = views.row(experiment, history.study.objective.metric)
    start = _ms(experiment.started_at)
    parent = client.create_run(
        home,
        start_time=start,
        tags={
            _NAME: f"exp {experiment.number}",
            _KEY: _key(history, experiment),
            "mlflow.source.git.commit": experiment.commit,
            "mlflow.note.content": _text(experiment.claim.description, 5000),
            "nightlab.verdict": row["verdict"] or "",
            "nightlab.reason": _text(row["reason"], 5000),
            "nightlab.researcher": _text(row["researcher"], 500),
            "nightlab.category": _text(row["category"], 500),
        },
    ).info.run_id
    for run in experiment.runs:
        _add_run(client, home, parent, run, start)
    metrics = figures(history, row)
    params = {c.name: "" if c.new is None else str(c.new) for c in experiment.claim.changes}
    _log(client, parent, metrics, experiment.number, start, params)
    end = _ms(experiment.settled_at or experiment.started_at)
    crashed = row["verdict"] == "crash"
    client.set_terminated(parent, "FAILED" if crashed else "FINISHED", end_time=end)


def _add_run(client: Any, home: str, parent: str, run: Run, start: int) -> None:
    tags = {
        _PARENT: parent,
        _NAME: f"run {run.id}",
        "nightlab.outcome": run.outcome.value,
        "nightlab.purpose": run.purpose.value,
        "nightlab.device": run.device,
    }
    child = client.create_run(home, start_time=start, tags=tags).info.run_id
    metrics = dict(run.metrics) | {"duration_seconds": run.duration_s}
    _log(client, child, metrics, 0, start, {"seed": str(run.seed)})
    ok = run.outcome is Outcome.OK
    end = start + round(run.duration_s * 1000)
    client.set_terminated(child, "FINISHED" if ok else "FAILED", end_time=end)


def _log(
    client: Any,
    run: str,
    metrics: Mapping[str, float],
    step: int,
    at: int,
    params: Mapping[str, str],
) -> None:
    kept = [Metric(_name(k), v, at, step) for k, v in metrics.items()][:_MOST]
    named = [Param(_name(k), _text(v, 500)) for k, v in params.items()][:90]
    client.log_batch(run, metrics=kept, params=named, tags=[RunTag("nightlab", "1")])


def _name(text: str) -> str:
    """A key as MLflow takes it: letters, digits and a few signs."""
    return re.sub(r"[^\w\-. /]", "_", text, flags=re.ASCII)[:200].strip("/. ") or "_"


def _text(text: str, most: int) -> str:
    return clean(text)[:most]


def _ms(at: float) -> int:
    return round(at * 1000)
