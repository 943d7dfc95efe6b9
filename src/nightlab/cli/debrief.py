"""What a person is told at the start of a session and at its end. Lines out."""

from __future__ import annotations

import shlex
import textwrap
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from nightlab import scope
from nightlab.budget import Bounds, left
from nightlab.cli import missing, words
from nightlab.engine import Engine
from nightlab.errors import NightlabError
from nightlab.history import History
from nightlab.lab import Opened
from nightlab.model import Outcome

if TYPE_CHECKING:
    from nightlab.report import Since

_KEEPS = 8  # as many kept changes as the short debrief lists
_LOG_LINES = 8
_INDENT = 12
_s = words.seconds


def opening(opened: Opened, researcher: str, bounds: Bounds, width: int) -> list[str]:
    """The first lines of ``nightlab run``: what will be done, where, by whom, until when."""
    engine = opened.engine
    study, history = engine.study, engine.history
    first = min(history.trees, default=history.next_number())
    resumed = f", resumed at experiment {first}" if opened.resumed else ""
    slots = ", ".join(s.name for s in engine.executor.slots)
    rows = [
        ("study", f"{study.tag}{resumed}"),
        ("branch", f"{study.branch}, from {history.base_commit[:7]}"),
        ("command", study.command),
        ("budget", f"{_s(study.budget_s)} a run, killed at {_s(study.deadline_s)}"),
        ("objective", f"{study.objective.metric}, {study.objective.better} is better"),
        *((("  =", study.objective.expression),) if study.objective.expression else ()),
        *(
            (("evaluate", f"{study.evaluate}  (sealed: only this counts)"),)
            if study.evaluate
            else ()
        ),
        *(("guard", f"{g.metric} {g.text}") for g in study.guards),
        *(("check", f"{name}: {command}") for name, command in study.checks.items()),
        ("sandbox", engine.sandbox.name),
        ("  covers", engine.sandbox.covers),
        ("  open", engine.sandbox.leaves_open),
        ("researcher", f"{researcher}, on {slots}"),
        ("left", words.left(bounds, left(bounds, history, engine.now()))),
        *(("note", told) for told in opened.told),
    ]
    return [line for name, text in rows for line in fold(text, f"{name:<{_INDENT}}", width)]


def fold(text: str, before: str, width: int) -> list[str]:
    """``text`` folded to the width, in a column of its own after ``before``."""
    room = max(width - len(before), 20)
    lines = textwrap.wrap(" ".join(text.split()), room, break_on_hyphens=False) or [""]
    return [(" " * len(before) if at else before) + line for at, line in enumerate(lines)]


def closing(
    history: History, *, locked: bool, now: float, width: int, since: Since | None = None
) -> list[str]:
    """The short debrief: from where to where, what it took, and the changes that were kept."""
    from nightlab import report  # noqa: PLC0415  loaded on use

    facts = report.facts(history, locked=locked, now=now, since=since)
    lines = report.short(history, locked=locked, now=now, since=since).splitlines()
    lines = [folded for line in lines for folded in fold(line, "", width)]
    lines += [folded for line in _proposed(history) for folded in fold(line, "", width)]
    for found in facts.discoveries[:_KEEPS]:
        effect = f"{found.effect:+.3g}" if found.effect is not None else ""
        text = f"{effect:<9} {found.description}"
        lines += fold(text, f"  ✓ exp {found.experiment:<5}", width)
    if len(facts.discoveries) > _KEEPS:
        lines.append(f"  and {len(facts.discoveries) - _KEEPS} more, in the report")
    return lines


def _proposed(history: History) -> list[str]:
    """Who proposed how much, where it was not one alone: a fallback took over, or two share."""
    by = Counter(e.claim.researcher for e in history.settled() if e.number > 1)
    if len(by) < 2:
        return []
    return ["proposed by " + ", ".join(f"{name} ({count})" for name, count in by.most_common())]


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
    said = "\n".join((failed.detail, failed.traceback, *tail))
    return tail, NightlabError(
        what,
        failed.detail or f"it took {words.seconds(failed.duration_s)}",
        missing.cure(said, engine)
        or _uncommitted(engine)
        or _reprinted(failed.detail, history.study.objective.metric)
        or "nightlab show 1 --log  (all that it printed)",
    )


def _reprinted(detail: str, metric: str) -> str:
    """What to print where the number was there, but not on a line of its own."""
    if " of its own (seen: " not in detail:
        return ""
    return (
        f"print it so, commit, then: nightlab run   (one line, nothing else on it: {metric}: 0.123)"
    )


def _uncommitted(engine: Engine) -> str:
    """What to run where files in scope have changed since the commit that ran."""
    try:
        changed = engine.repo.uncommitted()
    except NightlabError:
        return ""
    prefix = f"{engine.repo.prefix}/" if engine.repo.prefix else ""
    names = [n.removeprefix(prefix) for n in changed if n.startswith(prefix)]
    names = [n for n in names if scope.matches(n, engine.study.edit)]
    if not names:
        return ""
    paths = " ".join(shlex.quote(name) for name in names)
    return f"git commit -m 'start' {paths} && nightlab run  (what ran is the commit, without it)"


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
