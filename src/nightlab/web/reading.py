"""What the page can read of one study beside its rows and status. Nothing here writes."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import msgspec

from nightlab import contexts, costs, git, scratchpad, views
from nightlab.history import History
from nightlab.model import Experiment, Idea, IdeaState
from nightlab.process import clean
from nightlab.web.answers import Refused
from nightlab.web.following import Followed

MOST_LOG_BYTES = 262_144
LOG_BYTES = 65_536
_MOST_DIFF = 512 * 1024
_MOST_IDEAS = 500
_MOST_TOLD = 100


def experiment(study: Followed, number: int) -> dict[str, Any]:
    """One experiment in whole, with where it comes from and what was built on it."""
    with study.read() as history:
        found = _find(history, number)
        idea = history.backlog.ideas.get(found.claim.idea or 0)
        flying = [r for r in history.pending.values() if r.experiment == number]
        known = [run.id for run in (*found.runs, *found.checks)] + [r.run for r in flying]
        whole = views.whole(history, found, lambda run: str(study.paths.log(study.tag, run)))
        return {
            **whole,
            "id": study.id,
            "lineage": _lineage(history, found),
            "children": [
                _short(history, e)
                for e in history.experiments.values()
                if found.commit and e.parent == found.commit
            ],
            "idea": msgspec.to_builtins(idea),
            "expects": found.claim.expects,
            "certified": study.is_certified(number),
            "check_records": msgspec.to_builtins(found.checks),
            "pending": [msgspec.to_builtins(r) for r in flying],
            "run_ids": known,
        }


def _find(history: History, number: int) -> Experiment:
    found = history.experiments.get(number)
    if found is None:
        raise Refused(404, f"there is no experiment {number}", "", "nightlab status")
    return found


def _lineage(history: History, found: Experiment) -> list[dict[str, Any]]:
    chain: list[dict[str, Any]] = []
    number = history.kept.get(found.parent)
    while number is not None and len(chain) < len(history.experiments):
        parent = history.experiments[number]
        chain.append(_short(history, parent))
        number = history.kept.get(parent.parent)
    return chain[::-1]


def _short(history: History, e: Experiment) -> dict[str, Any]:
    metric = history.study.objective.metric
    return {
        "experiment": e.number,
        "description": e.claim.description,
        "value": views.spread(e.runs, metric)["mean"],
        "verdict": e.verdict.value if e.verdict else "open",
    }


def diff(study: Followed, number: int) -> dict[str, Any]:
    """The change as a patch, bounded; "" of the baseline, which changes nothing."""
    with study.read() as history:
        found = _find(history, number)
    text = ""
    if number > 1 and found.commit:
        text = git.discover(study.root).diff(found.parent, found.commit)
    elif number > 1:
        raise Refused(409, f"experiment {number} is not committed yet", "", "nightlab status")
    text = _visible(text)
    cut = text[:_MOST_DIFF]
    return {"experiment": number, "diff": cut, "truncated": len(cut) < len(text)}


def log(study: Followed, run: int, start: int | None, most: int) -> dict[str, Any]:
    """A piece of what a run printed: from byte ``start`` on, or its end."""
    with study.read() as history:
        pending = run in history.pending
        if not 0 < run <= history.last_run_id:
            raise Refused(404, f"there is no run {run}", "", "nightlab status")
    path = study.paths.log(study.tag, run)
    try:
        # What a run left in its own folder is not followed elsewhere, and not waited for.
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        why = "it was deleted, or the run never started"
        raise Refused(404, f"the log of run {run} is not there", why, "nightlab show") from error
    try:
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode):
            raise Refused(404, f"the log of run {run} is not a file", "", "nightlab show")
        most = max(1, min(most, MOST_LOG_BYTES))
        begin = max(0, about.st_size - most) if start is None else max(0, start)
        data = os.pread(fd, most, begin)
    finally:
        os.close(fd)
    return {
        "run": run,
        "size": about.st_size,
        "from": begin,
        "to": begin + len(data),
        "text": _visible(data.decode("utf-8", "replace").replace("\r\n", "\n")),
        "running": pending,
    }


def _visible(text: str) -> str:
    return clean(text.replace("\r", "\n"))


def backlog(study: Followed) -> dict[str, Any]:
    """Ideas, what people said, what waits for a lab, what went wrong."""
    waiting = study.waiting()
    with study.read() as history:
        ideas = history.backlog.open()
        others = [i for i in history.backlog if i.state is not IdeaState.OPEN]
        shown = [*ideas[:_MOST_IDEAS], *others[::-1][: max(0, _MOST_IDEAS - len(ideas))]]
        return {
            "id": study.id,
            "version": study.versions.get("backlog", ""),
            "open": len(ideas),
            "total": len(history.backlog),
            "ideas": [_idea(idea) for idea in shown],
            "notes": [
                {"at": n.at, "text": n.text, "author": n.author}
                for n in reversed(history.notes[-_MOST_TOLD:])
            ],
            "waiting": waiting[:_MOST_TOLD],
            "warnings": [{"at": w.at, "text": w.text} for w in reversed(history.warnings)],
        }


def _idea(idea: Idea) -> dict[str, Any]:
    return {
        "id": idea.id,
        "text": idea.text,
        "category": idea.category,
        "priority": idea.priority,
        "expects": idea.expects,
        "cost": idea.cost,
        "source": idea.source,
        "after": idea.after,
        "state": idea.state.value,
        "experiments": idea.experiments,
    }


def memory(study: Followed) -> dict[str, Any]:
    """The researcher's scratchpad."""
    path = study.paths.scratchpad(study.tag)
    return {"text": scratchpad.read(path), "modified_at": _modified(path)}


def program(study: Followed) -> dict[str, Any]:
    """What the person told the researcher in program.md."""
    path = study.root / "program.md"
    text = clean(contexts.program(study.root))
    return {"text": text, "path": str(path), "modified_at": _modified(path)}


def _modified(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def spent(study: Followed) -> dict[str, Any]:
    """The accounts: all of it, the dearest experiments, the last questions."""
    with study.read() as history:
        books = history.accounts.by_experiment
        each = [
            {
                "experiment": e.number,
                "description": e.claim.description,
                "verdict": e.verdict.value if e.verdict else "open",
                **costs.of_experiment(history, e.number),
            }
            for e in history.experiments.values()
            if e.number in books or e.runs
        ]
        each.sort(key=lambda c: (-(c["usd"] or 0.0), -c["tokens"], -c["device_seconds"]))
        return {
            "cost": costs.of_study(history),
            "dearest": each[:20],
            "recent": [
                {
                    "at": asked.at,
                    "task": asked.task,
                    "researcher": asked.researcher,
                    "answer": asked.answer.value,
                    "detail": asked.detail,
                    "number": asked.number,
                    "tokens": asked.usage.tokens,
                    "usd": asked.usage.usd,
                    "seconds": asked.usage.seconds,
                }
                for asked in reversed(history.accounts.recent)
            ],
        }
