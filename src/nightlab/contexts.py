"""What a researcher is given for one question: built from views, bounded however long the study."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nightlab.history import History
from nightlab.model import Experiment
from nightlab.researchers import Context, Desk, Failure, Task

RECENT = 30  # settled experiments that a researcher is shown in full
_PROGRAM_CHARS = 50_000


def build(
    history: History,
    files: Mapping[str, str],
    root: Path,
    *,
    task: Task = Task.PROPOSE,
    failure: Failure | None = None,
    desk: Desk | None = None,
    told: tuple[str, ...] = (),
) -> Context:
    """The context of one question, for the incumbent of now (or the failed experiment's files).

    ``told`` are reasons besides the refusals on record why earlier attempts gave nothing.
    ``root`` is the project's folder, where program.md and knowledge/ lie. Quick: it is called
    in the loop's own thread. Never raises for a file of the person's that cannot be read.
    """
    return Context(
        tag=history.study.tag,
        number=history.next_number(),
        objective=history.study.objective,
        files=files,
        incumbent=history.incumbent,
        recent=_recent(history),
        notes=tuple(n.text for n in history.notes[-20:]),
        refused=(*(r.reason for r in history.refusals), *told),
        program=_program(root),
        sigma=history.noise.sigma,
        task=task,
        edit=history.study.edit,
        failure=failure,
        desk=desk,
    )


def _recent(history: History) -> tuple[Experiment, ...]:
    """The last settled experiments, newest last; costs the same however long the study."""
    settled: list[Experiment] = []
    for number in range(len(history.experiments), 0, -1):
        experiment = history.experiments[number]
        if experiment.verdict is not None:
            settled.append(experiment)
        if len(settled) == RECENT:
            break
    return tuple(reversed(settled))


def _program(root: Path) -> str:
    try:
        text = (root / "program.md").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return text[:_PROGRAM_CHARS]
