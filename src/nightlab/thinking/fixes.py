"""Easy crashes: which experiment may go back to its researcher, and what it is told of it."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from nightlab import early, process, scope
from nightlab.engine import Engine
from nightlab.model import Experiment, Outcome, Run
from nightlab.researchers import Failure

_EARLY = 0.5  # of the budget: what crashes later was no slip
_LOG_LINES = 40
_LINE_CHARS = 300
_LOG_BYTES = 65536
_TRACEBACK_CHARS = 8000
_FRAME = re.compile(r'^\s*File "([^"\n]+)", line \d+', re.MULTILINE)
_LIBRARY = re.compile(r"/(?:site|dist)-packages/|/lib/python3|^<")


def failure(engine: Engine, number: int, *, most: int) -> Failure | None:
    """How an open experiment failed, if that is an easy crash; None if it is not.

    Easy is: its one counting run ended out of memory; or it crashed within the first half of
    the budget, after the time to start that the baseline takes beyond it, with a traceback
    whose innermost frame in the project lies in the files in scope. A change of constants
    alone is no slip to mend. After ``most`` fixes it is a crash.
    """
    history, study = engine.history, engine.study
    experiment = history.experiments[number]
    attempt = history.fixes.get(number, 0) + 1
    if number == 1 or attempt > most or experiment.claim.changes:
        return None
    run = _crashed_run(experiment)
    if run is None:
        return None
    baseline = history.baseline.runs if history.baseline else ()
    usual_s = max(study.budget_s, early.usual_s(baseline))
    late = run.duration_s > usual_s - _EARLY * study.budget_s
    if run.outcome is Outcome.CRASHED and (late or not _is_own(engine, experiment, run)):
        return None
    return Failure(
        number=number,
        description=experiment.claim.description,
        outcome=run.outcome,
        detail=run.detail,
        traceback=process.clean(run.traceback)[-_TRACEBACK_CHARS:],
        log_tail=log_tail(engine.paths.log(study.tag, run.id)),
        peak_memory_bytes=run.peak_memory_bytes,
        attempt=attempt,
        most=most,
    )


def _crashed_run(experiment: Experiment) -> Run | None:
    counting = [run for run in experiment.runs if run.outcome.counts]
    if len(counting) != 1 or counting[0].outcome not in (Outcome.CRASHED, Outcome.OOM):
        return None
    return counting[0]


def _is_own(engine: Engine, experiment: Experiment, run: Run) -> bool:
    """Whether the innermost frame of the project's own code lies in a file in scope."""
    prefix = engine.study.in_repo("")
    tracked = engine.repo.files(experiment.commit)
    project_files = {path[len(prefix) :] for path in tracked if path.startswith(prefix)}
    for path in reversed(_FRAME.findall(run.traceback)):
        own = _project_file(path, project_files)
        if own is not None:
            return scope.matches(own, engine.study.edit)
    return False


def _project_file(path: str, project_files: Collection[str]) -> str | None:
    """The project's file that a frame names, whatever folder the box showed it in."""
    if _LIBRARY.search(path):
        return None
    parts = path.split("/")
    for start in range(len(parts)):  # the longest match: a/train.py is not train.py
        tail = "/".join(parts[start:])
        if tail in project_files:
            return tail
    return None


def log_tail(log: Path, most: int = _LOG_LINES) -> tuple[str, ...]:
    """The last lines of a log, cleaned and bounded; none when it cannot be read."""
    try:
        with log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _LOG_BYTES))
            text = process.clean(file.read().decode("utf-8", "replace"))
    except OSError:
        return ()
    lines: Sequence[str] = [line[:_LINE_CHARS] for line in text.splitlines() if line.strip()]
    return tuple(lines[-most:])
