"""What tools answer: facts for programs, and the same in few words. Log text stands in fences."""

from __future__ import annotations

from typing import Any

import msgspec

from nightlab import brief, contexts, views
from nightlab.brief.pieces import fence, number, span, tail
from nightlab.errors import NightlabError, UsageError
from nightlab.mcp.session import Session
from nightlab.model import Experiment
from nightlab.process import clean
from nightlab.researchers import Context, Task
from nightlab.thinking import fixes

MOST_BYTES = 60_000  # of one answer
_TAIL_LINES = 8

ANSWER = """\
# Your answer

Do not edit files in the checkout: that changes nothing here. Call `begin_experiment` with
search/replace `edits` of the files in scope, a one-line `description`, the `hypothesis`, a
`category` and what you expect; then `await_experiment` until there is a verdict. `read_file`
shows a file that was too long to stand here."""


def context(session: Session, tokens: int) -> str:
    """The brief for the next proposal, or for the fix that is waited for. In the loop's thread."""
    engine, fixing = session.engine, session.client.fixing
    tip = session.history.incumbent
    session.shown = tip.commit if tip else ""
    made: Context = contexts.build(
        engine.history,
        fixing.files if fixing else engine.files_in_scope(),
        engine.paths.root,
        task=Task.FIX if fixing else Task.PROPOSE,
        failure=fixing.failure if fixing else None,
        words=session.words(tokens),
    )
    text = made.brief.removesuffix(brief.words.answer(made)).rstrip()
    number_ = fixing.failure.number if fixing and fixing.failure else None
    last = ANSWER if number_ is None else f"{ANSWER}\n\nThis is a fix: say `fixes = {number_}`."
    return f"{text}\n\n{last}"


def text_of(session: Session, path: str, first: int, lines: int) -> str:
    """Lines of a file in scope, as the next proposal finds it. Raises UsageError for another."""
    fixing = session.client.fixing
    files = fixing.files if fixing else session.engine.files_in_scope()
    if path not in files:
        raise UsageError(
            f"{path} is not in scope", f"the files are {', '.join(files)}", "read_file"
        )
    whole = files[path].splitlines()
    part = "\n".join(whole[first - 1 : first - 1 + lines])
    shown = brief.pieces.head(part, MOST_BYTES)
    return f"{path}, from line {first}, {len(whole)} lines in all\n{fence(shown, '')}"


def standing(session: Session) -> dict[str, Any]:
    """The study and the session."""
    engine = session.engine
    found = views.status(
        session.history,
        locked=not session.over.is_set(),
        now=engine.now(),
        program=contexts.program(engine.paths.root),
    )
    return {"session": _session(session), **found}


def _session(session: Session) -> dict[str, Any]:
    ending = session.ending
    waiting = session.client.waiting
    return {
        "state": "over" if session.over.is_set() else "stopping" if session.stopping else "open",
        "ended": {"reason": ending.reason, "detail": ending.detail} if ending else None,
        "bounds": session.loop.bounds.describe(),
        "queued": waiting.proposal.description if waiting else None,
        "needs_fix": _needs_fix(session),
        **session.debriefed,
    }


def _needs_fix(session: Session) -> int | None:
    fixing = session.client.fixing
    return fixing.failure.number if fixing and fixing.failure else None


def standing_words(facts: dict[str, Any]) -> str:
    """The same for reading."""
    session, counts, objective = facts["session"], facts["experiments"], facts["objective"]
    lines = [
        f"study {facts['tag']} on branch {facts['branch']}: session {session['state']}"
        + (
            f" ({session['ended']['reason']}: {session['ended']['detail']})"
            if session["ended"]
            else ""
        ),
        f"objective {objective['name']}, {objective['better']} is better",
        f"bounds: {session['bounds']}",
    ]
    for name in ("baseline", "incumbent"):
        if (found := facts[name]) is not None:
            mean = number(found["mean"])
            lines.append(f"{name}: exp {found['experiment']}, {mean} over {found['n']} runs")
    lines.append(
        f"{counts['total']} experiments settled: {counts['keep']} kept, "
        f"{counts['discard']} discarded, {counts['inconclusive']} inconclusive, "
        f"{counts['crash']} crashed; {counts['open']} open"
    )
    if facts["paused"]:
        lines.append(f"paused: {facts['paused']}")
    lines += [f"{key}: {session[key]}" for key in ("report", "plot") if session.get(key)]
    lines.append(f"next: {following(session)}")
    return "\n".join(lines)


def following(session: dict[str, Any]) -> str:
    """What to call next."""
    if session["state"] == "over":
        return "tell the person what was found; start_study goes on"
    if session["state"] == "stopping":
        return "await_experiment until the session is over"
    if session["needs_fix"] is not None:
        return f"begin_experiment with fixes = {session['needs_fix']} (see get_context)"
    if session["queued"]:
        return "await_experiment"
    return "get_context, then begin_experiment"


# -- one experiment


def find(session: Session, which: int | None) -> Experiment | None:
    """The experiment; of None the last one. Raises UsageError for one that there is not."""
    known = session.history.experiments
    if which is None:
        return known[len(known)] if known else None
    if which not in known:
        there = f"they go from 1 to {len(known)}" if known else "it has none yet"
        raise UsageError(f"there is no experiment {which}", there, "status")
    return known[which]


def progress(session: Session, which: int | None) -> dict[str, Any]:
    """How far an experiment has come: running, waiting, needs_fix, settled; or queued, none."""
    waiting = session.client.waiting
    if which is None and waiting is not None and waiting.fixes is None:
        calibrating = session.history.incumbent is None
        why = "the baseline is measured first" if calibrating else "it begins when a slot is free"
        queued = {"experiment": None, "state": "queued", "why": why, "session": _session(session)}
        return queued | _running(session, None)
    experiment = find(session, which)
    if experiment is None:
        return {"experiment": None, "state": "none", "session": _session(session)}
    found: dict[str, Any] = {
        "experiment": experiment.number,
        "description": experiment.claim.description,
        "runs_done": len(experiment.runs),
        "session": _session(session),
    }
    if experiment.verdict is not None:
        return found | {"state": "settled"} | verdict(session, experiment)
    if _needs_fix(session) == experiment.number:
        return found | {"state": "needs_fix", **_failure(session)}
    found |= _running(session, experiment.number)
    state = "running" if "run" in found else "waiting"
    if waits := views.paused(session.history):
        found["paused"] = waits
    return found | {"state": state}


def _running(session: Session, which: int | None) -> dict[str, Any]:
    for active in session.loop.active:
        if which in (None, active.started.occasion):
            return {
                "run": {
                    "id": active.started.run,
                    "purpose": active.started.purpose.value,
                    "seed": active.started.seed,
                    "elapsed_seconds": round(active.job.elapsed_s(), 1),
                    "budget_seconds": session.engine.study.budget_s,
                    "killed_at_seconds": session.engine.study.deadline_s,
                },
                "log_tail": fence(clean("\n".join(active.job.tail(_TAIL_LINES))), "data"),
            }
    return {}


def _failure(session: Session) -> dict[str, Any]:
    fixing = session.client.fixing
    failure = fixing.failure if fixing else None
    if failure is None:
        return {}
    said = failure.traceback or "\n".join(failure.log_tail[-_TAIL_LINES:])
    return {
        "outcome": failure.outcome.value,
        "detail": failure.detail,
        "attempt": failure.attempt,
        "attempts": failure.most,
        "traceback": fence(tail(said, 4000), "data"),
    }


def verdict(session: Session, experiment: Experiment) -> dict[str, Any]:
    """What was measured and decided. Made by the judge; nothing here can be set."""
    row = views.row(experiment, session.history.study.objective.metric)
    decision = experiment.decision
    found = {
        **row,
        "incumbent": session.history.incumbent_number,
        "evidence": msgspec.to_builtins(decision.evidence) if decision else None,
        "details": [run.detail for run in experiment.runs if run.detail],
    }
    if row["verdict"] == "crash" and experiment.runs:
        found["log_tail"] = log(session, experiment, None, _TAIL_LINES)
    return found


def log(session: Session, experiment: Experiment, run: int | None, lines: int) -> str:
    """The end of what a run printed, in a fence. Raises UsageError without such a run."""
    known = [r.id for r in experiment.runs]
    known += [r.run for r in session.history.pending.values() if r.experiment == experiment.number]
    if not known or (run is not None and run not in known):
        told = ", ".join(map(str, known)) or "none yet"
        raise UsageError(
            f"experiment {experiment.number} has no such run", f"its runs: {told}", "get_verdict"
        )
    path = session.engine.paths.log(session.tag, run or known[-1])
    text = "\n".join(fixes.log_tail(path, lines))
    return fence(tail(text, MOST_BYTES // 2), "data")


def patch(session: Session, experiment: Experiment) -> str:
    """What it changed, in a fence. Raises NightlabError for the baseline."""
    if experiment.number == 1:
        raise NightlabError(
            "experiment 1 is the untouched code", "it changes nothing", "get_context"
        )
    return fence(brief.pieces.head(session.diff(experiment), MOST_BYTES), "diff")


def progress_words(facts: dict[str, Any]) -> str:
    """The same for reading."""
    state, which = facts["state"], facts["experiment"]
    lines = [f"exp {which}: {state}" if which else f"{state}: {facts.get('why', 'nothing yet')}"]
    if state == "settled":
        lines = [f"exp {which}: {str(facts['verdict']).upper()}: {facts['reason']}"]
        lines.append(
            f"value {number(facts['value'])} over {facts['runs']} runs; incumbent: exp "
            f"{facts['incumbent']}"
        )
        lines += [f"detail: {detail}" for detail in facts["details"][-3:]]
    if run := facts.get("run"):
        lines.append(
            f"run {run['id']} ({run['purpose']}, seed {run['seed']}): "
            f"{span(run['elapsed_seconds'])} of {span(run['budget_seconds'])}; "
            f"{facts.get('runs_done', 0)} runs done"
        )
    if state == "needs_fix":
        lines.append(
            f"{facts['outcome']}: {facts['detail']} (attempt {facts['attempt']} of "
            f"{facts['attempts']})"
        )
    lines += [facts[key] for key in ("traceback", "log_tail") if facts.get(key)]
    session = facts["session"]
    again = state in ("running", "waiting", "queued") and session["state"] != "over"
    lines.append(f"next: {'await_experiment' if again else following(session)}")
    return "\n".join(lines)
