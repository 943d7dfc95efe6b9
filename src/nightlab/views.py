"""Read models of a History: what screens, reports and researchers are shown. Pure.

One read model serves the terminal, the report, ``--json`` and the researcher's context, so
that no screen has a truth of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from nightlab import certificates, costs, expression, front, phases, plateau
from nightlab.history import History
from nightlab.integrity import QUARANTINE
from nightlab.judge import estimate, fair
from nightlab.model import (
    Experiment,
    Outcome,
    Run,
    Verdict,
    values_of,
)
from nightlab.stats import group


def spread(runs: tuple[Run, ...], metric: str) -> dict[str, float | int | None]:
    """``{mean, sd, n}`` of a metric over the runs that the judge's de-biased mean is of.

    The screening run, which was the reason to look on, counts only where it is alone.
    """
    whole = group(values_of(fair(runs), metric) or values_of(runs, metric))
    return {"mean": estimate(runs, metric), "sd": whole.sd, "n": whole.n}


def state(history: History, *, locked: bool) -> str:
    """Say "running" while a lab holds the study, "finished" after a bound, else "stopped"."""
    if locked:
        return "running"
    return "finished" if history.ended and history.ended.reason == "bound" else "stopped"


def paused(history: History) -> str | None:
    """Why the lab waits, a person's wish before a storm; None while it works."""
    by = history.held or history.paused
    return by.reason if by else None


def status(history: History, *, locked: bool, now: float, program: str = "") -> dict[str, Any]:
    """The study in one JSON object; its keys are documented in docs/json.md and only ever grow.

    ``program`` is the text of program.md, for its phases.
    """
    study, metric = history.study, history.study.objective.metric
    baseline, incumbent = history.baseline, history.incumbent
    return {
        "tag": study.tag,
        "branch": study.branch,
        "state": state(history, locked=locked),
        "paused": paused(history),
        "objective": {
            "name": metric,
            "better": study.objective.better.value,
            "expression": study.objective.expression or None,
            "parts": parts(history),
        },
        "budget_seconds": study.budget_s,
        "baseline": None if baseline is None else _measured(baseline, metric),
        "incumbent": None if incumbent is None else _measured(incumbent, metric),
        "gain": gain(history),
        "pareto": front.front(history),
        "certificates": certificates.certificates(history),
        "experiments": _counts(history),
        "runs": searched(history)[0],
        "running": _running(history, now if locked else None),
        "noise": dict(zip(("sigma", "df"), noise(history), strict=True)),
        "early_stop": history.early.summary(),
        "researcher": history.session.researcher if history.session else None,
        "judge": history.session.judge if history.session else None,
        "sandbox": history.session.sandbox if history.session else None,
        "final": _final(history),
        "cost": costs.of_study(history),
        "started_at": history.started.at,
        "last_event_at": history.last_at,
        "ended": None
        if history.ended is None
        else {"reason": history.ended.reason, "detail": history.ended.detail},
        "quarantined": quarantined(history),
        "warnings": [w.text for w in history.warnings[-5:]],
        "phase": _phase(history, program, now if locked else history.last_at),
        "plateau": _plateau(history),
        "backlog": _backlog(history),
        "priors": [
            {"source": p.source, "form": p.form, "rows": p.rows, "ideas": len(p.ideas)}
            for p in history.priors.values()
        ],
    }


def quarantined(history: History) -> list[int]:
    """The experiments that were put aside for the person, oldest first."""
    return [
        e.number
        for e in history.settled()
        if e.decision is not None and e.decision.rule == QUARANTINE
    ]


def _counts(history: History) -> dict[str, int]:
    counts = history.counts
    return {
        "total": counts.total,
        "keep": counts.keep,
        "discard": counts.discard,
        "inconclusive": counts.inconclusive,
        "crash": counts.crash,
        "open": len(history.trees),
        "refused": history.refused,
    }


def _running(history: History, now: float | None) -> list[dict[str, Any]]:
    """Runs in flight; ``now`` is None where no lab works, and then nobody knows since when."""
    return [
        {
            "run": r.run,
            "experiment": r.occasion,
            "purpose": r.purpose.value,
            "check": r.check or None,
            "seed": r.seed,
            "device": r.device,
            "elapsed_seconds": None if now is None else max(0.0, now - r.at),
        }
        for r in history.pending.values()
    ]


def parts(history: History) -> dict[str, dict[str, float | None]]:
    """Of a composite objective each part's mean, ``{name: {baseline, incumbent}}``; else {}."""
    text = history.study.objective.expression
    two = {"baseline": history.baseline, "incumbent": history.incumbent}
    return {
        name: {which: estimate(e.runs, name) if e else None for which, e in two.items()}
        for name in (expression.parts(text) if text else ())
    }


def searched(history: History) -> tuple[int, int, float]:
    """(runs, lost ones of them, device seconds) of the search: finalizations tell their own."""
    final = [run for f in history.finals for run in f.runs]
    measured = [run for run in final if not run.check]
    lost = sum(run.outcome is Outcome.LOST for run in measured)
    return (
        history.runs - len(measured),
        history.runs_by_outcome.get(Outcome.LOST, 0) - lost,
        history.device_seconds - math.fsum(run.duration_s for run in final),
    )


def _final(history: History) -> dict[str, Any] | None:
    f = history.final
    if f is None:
        return None
    return {
        "number": f.plan.number,
        "word": f.result.word.value if f.result else None,
        "branch": f.closed.branch or None if f.closed else None,
        "commit": f.closed.commit if f.closed else None,
        "stale": f.plan.final != history.tip,
        "runs": sum(not run.check for one in history.finals for run in one.runs),
    }


def _phase(history: History, program: str, now: float) -> dict[str, Any] | None:
    """The phase of program.md that the study is in; None where it has none."""
    read = phases.parse(program)
    current = phases.current(read.phases, history, now)
    if current is None:
        return None if not read.warnings else {"name": None, "warnings": list(read.warnings)}
    return {
        "name": current.phase.name,
        "number": current.phase.number,
        "of": current.of,
        "experiments": current.experiments,
        "seconds": round(current.seconds, 3),
        "since_keep": current.since_keep,
        "until": current.phase.until() or None,
        "rules": list(current.phase.rules()),
        "warnings": list(read.warnings),
    }


def _plateau(history: History) -> dict[str, Any]:
    at = plateau.stand(history)
    return {"stage": at.stage.name, "since_keep": at.since_keep, "next_after": at.next_after}


def _backlog(history: History) -> dict[str, Any]:
    """How many ideas wait, and the most urgent of them."""
    waiting = history.backlog.open()
    top = [
        {
            "idea": idea.id,
            "priority": idea.priority,
            "text": idea.text,
            "category": idea.category,
            "source": idea.source,
        }
        for idea in waiting[:5]
    ]
    return {"open": len(waiting), "top": top}


def _measured(experiment: Experiment, metric: str) -> dict[str, Any]:
    return {
        "experiment": experiment.number,
        "commit": experiment.commit,
        "description": experiment.claim.description,
        **spread(experiment.runs, metric),
    }


def noise(history: History) -> tuple[float | None, int]:
    """(sigma, df) of one run as the last decision used it; before the first, pooled plainly.

    Whether the machine drifts is the judge's question: its F test would load scipy here.
    """
    return history.judged_noise or history.noise.overall


def gain(history: History) -> float | None:
    """Baseline to incumbent in the objective's unit, positive is better; None before both exist."""
    metric, better = history.study.objective.metric, history.study.objective.better
    if history.baseline is None or history.incumbent is None:
        return None
    start = estimate(history.baseline.runs, metric)
    end = estimate(history.incumbent.runs, metric)
    return None if start is None or end is None else better.sign * (end - start)


def row(experiment: Experiment, metric: str) -> dict[str, Any]:
    """One experiment for tables, exports and ``show --json``."""
    decision = experiment.decision
    return {
        "experiment": experiment.number,
        "commit": experiment.commit,
        "parent": experiment.parent,
        "verdict": experiment.verdict.value if experiment.verdict else None,
        "value": estimate(experiment.runs, metric),
        "metrics": mean_metrics(experiment.runs),
        "runs": len(experiment.runs),
        "seeds": [r.seed for r in experiment.runs],
        "checks": {r.check: r.outcome.value for r in experiment.checks},
        "durations_seconds": [round(r.duration_s, 3) for r in experiment.runs],
        "peak_memory_bytes": [r.peak_memory_bytes for r in experiment.runs],
        "peak_gpu_bytes": [r.peak_gpu_bytes for r in experiment.runs],
        "outcomes": [r.outcome.value for r in experiment.runs],
        "description": experiment.claim.description,
        "hypothesis": experiment.claim.hypothesis,
        "category": experiment.claim.category,
        "researcher": experiment.claim.researcher,
        "reason": decision.reason if decision else "",
        "rule": decision.rule if decision else "",
        "e_value": decision.evidence.e_value if decision else None,
        "lines_added": experiment.claim.lines_added,
        "lines_removed": experiment.claim.lines_removed,
        "nodes": experiment.claim.nodes,
        "started_at": experiment.started_at,
        "settled_at": experiment.settled_at,
    }


def whole(history: History, experiment: Experiment, log: Callable[[int], str]) -> dict[str, Any]:
    """One experiment with its runs in full and the decision; ``log`` names a run's log."""
    return {
        **row(experiment, history.study.objective.metric),
        "cost": costs.of_experiment(history, experiment.number),
        "run_records": [
            {**msgspec.to_builtins(run), "log": log(run.id)} for run in experiment.runs
        ],
        "decision": msgspec.to_builtins(experiment.decision),
        "changes": msgspec.to_builtins(experiment.claim.changes),
        "ref": f"refs/nightlab/{history.study.tag}/{experiment.number}",
    }


def rows(history: History) -> Iterator[dict[str, Any]]:
    """Every experiment, settled or open, in order."""
    metric = history.study.objective.metric
    return (row(e, metric) for e in history.experiments.values())


def mean_metrics(runs: tuple[Run, ...]) -> dict[str, float]:
    """Each metric's mean over the runs that measured it."""
    names = dict.fromkeys(name for run in runs for name in run.metrics)
    return {name: sum(v) / len(v) for name in names if (v := values_of(runs, name))}


def keeps(history: History) -> list[Experiment]:
    """The kept experiments after the baseline, in order."""
    return [e for e in history.settled() if e.verdict is Verdict.KEEP and e.number > 1]
