"""What a person is told at the start of a session and at its end. Lines out."""

from __future__ import annotations

import textwrap
from pathlib import Path

from nightlab import views
from nightlab.budget import Bounds, left
from nightlab.cli import words
from nightlab.engine import Engine
from nightlab.errors import NightlabError
from nightlab.history import History
from nightlab.lab import Opened
from nightlab.model import Experiment, Outcome

_KEEPS = 12  # as many kept changes as the short debrief lists
_LOG_LINES = 8
_INDENT = 12
_s = words.seconds


def opening(opened: Opened, researcher: str, bounds: Bounds, width: int) -> list[str]:
    """The first lines of ``nightlab run``: what will be done, where, by whom, until when."""
    engine = opened.engine
    study, history = engine.study, engine.history
    resumed = f", resumed at experiment {history.next_number()}" if opened.resumed else ""
    slots = ", ".join(s.name for s in engine.executor.slots)
    rows = [
        ("study", f"{study.tag}{resumed}"),
        ("branch", f"{study.branch}, from {history.base_commit[:7]}"),
        ("command", study.command),
        ("budget", f"{_s(study.budget_s)} a run, killed at {_s(study.deadline_s)}"),
        ("objective", f"{study.objective.metric}, {study.objective.better} is better"),
        ("sandbox", engine.sandbox.name),
        ("  covers", engine.sandbox.covers),
        ("  open", engine.sandbox.leaves_open),
        ("researcher", f"{researcher}, on {slots}"),
        ("left", words.left(bounds, left(bounds, history, engine.now()))),
        *(("note", told) for told in opened.told),
    ]
    return [line for name, text in rows for line in row(name, text, width)]


def row(name: str, text: str, width: int) -> list[str]:
    """``name        text``, folded to the width with the text in its own column."""
    indent = " " * _INDENT
    folded = textwrap.wrap(" ".join(text.split()), max(width - _INDENT, 20), break_on_hyphens=False)
    return [(f"{name:<{_INDENT}}" if not at else indent) + t for at, t in enumerate(folded)]


def closing(history: History, reason: str, detail: str) -> list[str]:
    """The short debrief: what ended it, from where to where, and by which changes."""
    metric = history.study.objective.metric
    baseline, incumbent = history.baseline, history.incumbent
    lines = [f"ended: {reason}" + (f" ({detail})" if detail else "")]
    if baseline is None or incumbent is None:
        return [*lines, "the baseline is not settled yet"]
    start, end = (views.spread(e.runs, metric) for e in (baseline, incumbent))
    lines.append(words.counts(history))
    if incumbent.number == 1:
        lines.append(f"{metric}: {words.spread(start)}, the untouched code; nothing beat it")
        return lines
    lines += [
        f"{metric}: {words.spread(start)} → {words.spread(end)}",
        f"gain: {words.gain(history)}; one run varies by ± {words.short(history.noise.sigma)}",
    ]
    keeps = views.keeps(history)
    lines += [_keep(e) for e in keeps[-_KEEPS:]]
    if len(keeps) > _KEEPS:
        lines.append(f"  … and {len(keeps) - _KEEPS} earlier keeps")
    return lines


def _keep(experiment: Experiment) -> str:
    evidence = experiment.decision.evidence if experiment.decision else None
    effect = ""
    if evidence is not None and evidence.effect is not None:
        effect = f"  gained {words.short(evidence.effect)}"
        if evidence.low is not None and evidence.high is not None:
            interval = f"{words.short(evidence.low)} to {words.short(evidence.high)}"
            effect += f" ({100 * evidence.level:.0f} %: {interval})"
    return f"  ✓ exp {experiment.number}  {experiment.claim.description}{effect}"


def failed_baseline(engine: Engine) -> tuple[list[str], NightlabError]:
    """Why the untouched code did not run: the last lines of its log, and the error to end with."""
    history = engine.history
    baseline = history.baseline
    runs = baseline.runs if baseline else ()
    failed = next((r for r in reversed(runs) if r.outcome is not Outcome.OK), None)
    if failed is None:
        reason = baseline.decision.reason if baseline and baseline.decision else ""
        return [], NightlabError("the baseline could not be measured", reason, "nightlab show 1")
    tail = log_tail(engine.paths.log(history.study.tag, failed.id), _LOG_LINES)
    what = f"the untouched code does not measure {history.study.objective.metric}: "
    what += failed.outcome.value.replace("_", " ")
    return tail, NightlabError(
        what,
        failed.detail or f"it took {words.seconds(failed.duration_s)}",
        "nightlab show 1 --log  (all that it printed)",
    )


def log_tail(path: Path, lines: int) -> list[str]:
    """The last lines of a log that hold anything; none when it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 65536))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-lines:]
