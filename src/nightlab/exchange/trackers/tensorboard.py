"""TensorBoard: every metric over the experiments' numbers, and the incumbent's level."""

from __future__ import annotations

from pathlib import Path

from tensorboardX import SummaryWriter

from nightlab import views
from nightlab.exchange.exports import figures
from nightlab.exchange.trackers import _marks
from nightlab.history import History
from nightlab.model import Verdict
from nightlab.report.words import escape


def export(history: History, to: str) -> int:
    """Write event files of the settled experiments below the folder ``to``; what is new of them."""
    folder = Path(to).expanduser() / history.study.tag
    mark = folder / "nightlab.json"
    done = _marks.read(mark)
    metric = history.study.objective.metric
    fresh = [e for e in history.settled() if e.number not in done]
    if not fresh:
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    with SummaryWriter(str(folder), filename_suffix=f".{fresh[0].number}") as writer:
        for experiment in fresh:
            row = views.row(experiment, metric)
            at = experiment.settled_at or experiment.started_at
            number, verdict = experiment.number, row["verdict"]
            for name, value in figures(history, row).items():
                writer.add_scalar(f"experiments/{name}", value, number, at)
            if experiment.verdict is Verdict.KEEP and row["value"] is not None:
                writer.add_scalar(f"incumbent/{metric}", row["value"], number, at)
            words = escape(row["description"], 1000)
            writer.add_text("experiment", f"**{verdict}** {words}", number, at)
    _marks.write(mark, {*done, *(e.number for e in fresh)})
    return len(fresh)
