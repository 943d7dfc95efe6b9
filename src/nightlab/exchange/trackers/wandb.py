"""Weights & Biases, offline: files for ``wandb sync``. One W&B run per experiment."""

from __future__ import annotations

from pathlib import Path

import wandb

from nightlab import views
from nightlab.exchange.exports import figures
from nightlab.exchange.trackers import _marks
from nightlab.history import History
from nightlab.model import Experiment
from nightlab.process import clean


def export(history: History, to: str) -> int:
    """Write the settled experiments that are not in the folder ``to`` yet.

    Nothing is sent: ``wandb sync`` does that when the person says so. The runs of an experiment
    are the steps of its W&B run.
    """
    folder = Path(to).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / f"nightlab-{history.study.tag}.json"
    done = _marks.read(mark)
    fresh = [e for e in history.settled() if e.number not in done]
    for experiment in fresh:
        _add(history, experiment, folder)
        done.add(experiment.number)
        _marks.write(mark, done)
    return len(fresh)


def _add(history: History, experiment: Experiment, folder: Path) -> None:
    row = views.row(experiment, history.study.objective.metric)
    config = {c.name: c.new for c in experiment.claim.changes}
    config |= {"nightlab_commit": experiment.commit, "nightlab_parent": experiment.parent}
    tags = [row["verdict"] or "open"]
    with wandb.init(
        project="nightlab",
        group=history.study.tag,
        name=f"{history.study.tag} exp {experiment.number}",
        notes=clean(experiment.claim.description)[:2000],
        config=config,
        tags=tags,
        dir=str(folder),
        mode="offline",
        reinit="create_new",
        settings=wandb.Settings(
            console="off", silent=True, disable_git=True, save_code=False, x_disable_stats=True,
            x_disable_machine_info=True,
        ),
    ) as tracked:  # fmt: skip
        for step, run in enumerate(experiment.runs):
            tracked.log({**run.metrics, "seed": run.seed}, step=step)
        tracked.summary.update(figures(history, row))
        tracked.summary["verdict"] = row["verdict"]
        tracked.summary["reason"] = clean(row["reason"])[:2000]
