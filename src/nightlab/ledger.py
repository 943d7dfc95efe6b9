"""results.tsv, in the reference's five columns: an export for people and tools that expect it.

The journal is the truth; this file is appended to as experiments settle and rewritten whole
when a study is opened, so it may be deleted at any time.
"""

from __future__ import annotations

import os
from pathlib import Path

from nightlab.expression import parts
from nightlab.history import History
from nightlab.model import Experiment, Verdict, values_of

# The reference knows keep, discard and crash. Its readers would not know "inconclusive", which
# like a discard leaves the branch where it was.
_STATUS = {
    Verdict.KEEP: "keep",
    Verdict.DISCARD: "discard",
    Verdict.INCONCLUSIVE: "discard",
    Verdict.CRASH: "crash",
}


def header(history: History) -> str:
    """The first line: the reference's columns with the study's own metric."""
    return f"commit\t{history.study.objective.metric}\tmemory_gb\tstatus\tdescription\n"


def row(experiment: Experiment, composite: str = "") -> str:
    """One settled experiment; zeros for what a crash did not measure, as the reference has it.

    The parts of a ``composite`` objective stand behind the description: there is no sixth column.
    """
    verdict = experiment.verdict or Verdict.CRASH
    value = experiment.value or 0.0
    text = f"{value:.6f}" if value == 0.0 or 1e-3 <= abs(value) < 1e7 else f"{value:.6g}"
    description = " ".join(experiment.claim.description.split())
    if verdict is Verdict.INCONCLUSIVE:
        description += " (inconclusive)"
    measured = {p: values_of(experiment.runs, p) for p in parts(composite)} if composite else {}
    if any(measured.values()):
        shown = (f"{name} {sum(v) / len(v):.6g}" for name, v in measured.items() if v)
        description += f" ({', '.join(shown)})"
    cells = (experiment.commit[:7], text, f"{_memory_gb(experiment):.1f}", _STATUS[verdict])
    return "\t".join((*cells, description)) + "\n"


def _memory_gb(experiment: Experiment) -> float:
    """The script's own ``peak_vram_mb`` where it prints one, else the process tree's peak."""
    for run in reversed(experiment.runs):
        if "peak_vram_mb" in run.metrics:
            return run.metrics["peak_vram_mb"] / 1024
        if run.peak_memory_bytes:
            return run.peak_memory_bytes / 1024**3
    return 0.0


def append(path: Path, history: History, number: int) -> None:
    """Add the row of a settled experiment."""
    fresh = not path.exists()
    with path.open("a", encoding="utf-8") as file:
        if fresh:
            file.write(header(history))
        file.write(row(history.experiments[number], history.study.objective.expression))


def rewrite(path: Path, history: History) -> None:
    """Write the whole file anew, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    composite = history.study.objective.expression
    text = header(history) + "".join(row(e, composite) for e in history.settled())
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def publish(link: Path, target: Path) -> None:
    """Point the project's results.tsv at the study's; never over a file of the person's."""
    text = os.path.relpath(target, link.parent)
    if link.is_symlink() and Path(text).parts[0] == Path(os.readlink(link)).parts[0]:  # noqa: PTH115
        link.unlink()  # of an earlier study
    if not os.path.lexists(link):
        link.symlink_to(text)
