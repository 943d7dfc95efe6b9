"""Facts from a History: the one place where the debrief's numbers come together. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from nightlab import certificates, front, views
from nightlab.history import History
from nightlab.judge import estimate
from nightlab.model import (
    Answer,
    Experiment,
    Outcome,
    Verdict,
    values_of,
)
from nightlab.report import advice, claims, lessons
from nightlab.report.schema import (
    Certificates,
    Declared,
    EarlyStops,
    Ending,
    Facts,
    FrontPoint,
    Part,
    Row,
    Setting,
    Totals,
)

ROWS = 200  # of the appendix: what a person scrolls through; an export holds the rest
_TALLIES = 40
_FRUITFUL = (Answer.PROPOSED, Answer.PLANNED, Answer.STOPPED)  # the lab's own end is no answer


def facts(history: History, *, locked: bool, now: float, constants: Sequence[str] = ()) -> Facts:
    """Everything that the debrief says about a study.

    ``locked`` says whether a lab holds the study at Unix second ``now``. ``constants`` are
    the names of the constants that may be tuned, where somebody has looked: untouched ones
    are then recommended.
    """
    seen, chain = claims.noise(history), claims.lineage(history)
    whole = claims.gain(history, chain, seen)
    found = claims.discoveries(history, chain, seen, whole)
    misses = lessons.near_misses(history)
    moved = claims.drift(history)
    ended = ending(history, locked=locked)
    metric = history.study.objective.metric
    listed, left_out = rows(history)
    return Facts(
        tag=history.study.tag,
        metric=metric,
        better=history.study.objective.better.value,
        declared=declared(history),
        certificates=msgspec.convert(certificates.certificates(history), Certificates),
        started_at=history.started.at,
        ending=ended,
        totals=totals(history, locked=locked, now=now),
        early=early_stops(history),
        noise=seen,
        baseline=claims.estimated(history.baseline, metric) if history.baseline else None,
        incumbent=claims.estimated(history.incumbent, metric) if history.incumbent else None,
        gain=whole,
        naive=claims.naive(history),
        discoveries=tuple(found),
        top_share=claims.top_share(found),
        chance_keeps=claims.chance_keeps(history, seen),
        categories=tuple(lessons.categories(history)[:_TALLIES]),
        moves=tuple(lessons.moves(history)[:_TALLIES]),
        losses=tuple(lessons.losses(history)),
        near_misses=tuple(misses),
        crashes=tuple(lessons.crashes(history)),
        guards=tuple(lessons.guards(history)),
        trade_offs=tuple(lessons.trade_offs(history)),
        drift=moved,
        steps=tuple(
            advice.steps(
                history,
                ending=ended,
                seen=seen,
                whole=whole,
                found=found,
                misses=misses,
                moved=moved,
                constants=constants,
            )
        ),
        rows=tuple(listed),
        rows_left_out=left_out,
        notes=tuple(n.text for n in history.notes),
        warnings=tuple(w.text for w in history.warnings),
        setting=setting(history),
        finalized=finalized(history),
    )


def declared(history: History) -> Declared:
    """What the person declared beside a plain objective, and what came of it."""
    found = front.front(history) or {"front": ()}
    return Declared(
        expression=history.study.objective.expression,
        parts=tuple(Part(metric=m, **both) for m, both in views.parts(history).items()),
        checks=tuple(lessons.checks(history)),
        pareto=msgspec.convert(found["front"], tuple[FrontPoint, ...]),
    )


def finalized(history: History) -> str | None:
    """The word of the finalization of what is the incumbent now; None without one."""
    f = history.final
    if f is None or f.result is None or f.plan.final != history.tip:
        return None
    return f.result.word.value


def ending(history: History, *, locked: bool) -> Ending:
    """Whether the study still runs, and if not why it ended."""
    ended = None if locked else history.ended
    return Ending(
        state=views.state(history, locked=locked),
        reason=ended.reason if ended else None,
        detail=ended.detail if ended else "",
        paused=views.paused(history) if locked else None,
    )


def totals(history: History, *, locked: bool, now: float) -> Totals:
    """Counts and times."""
    counts = history.counts
    until = now if locked else history.last_at
    return Totals(
        experiments=counts.total,
        keep=counts.keep,
        discard=counts.discard,
        inconclusive=counts.inconclusive,
        crash=counts.crash,
        open=len(history.trees),
        refused=history.refused,
        runs=history.runs,
        lost_runs=history.runs_by_outcome.get(Outcome.LOST, 0),
        device_s=history.device_seconds,
        wall_s=max(0.0, until - history.started.at),
        sessions=history.sessions,
        tokens=history.accounts.spent.tokens,
        usd=history.accounts.spent.usd,
        unpriced=history.accounts.silent_usd,
        asked=history.accounts.asked,
        answers={a.value: n for a, n in history.accounts.answers.items() if a not in _FRUITFUL},
    )


def early_stops(history: History) -> EarlyStops:
    """What early stop did."""
    found = history.early
    return EarlyStops(
        stopped=found.stopped, saved_s=found.saved_s, audited=found.audited, wrong=found.wrong
    )


def rows(history: History) -> tuple[list[Row], int]:
    """The experiments of the appendix in order, and how many were left out.

    Where they are too many: the keeps, latest first, then the latest of the others.
    """
    every = list(history.experiments.values())
    if len(every) > ROWS:
        kept = [e for e in every if e.verdict is Verdict.KEEP][-ROWS:]
        others = [e for e in every if e.verdict is not Verdict.KEEP]
        rest = ROWS - len(kept)
        chosen = sorted([*kept, *(others[-rest:] if rest else [])], key=lambda e: e.number)
    else:
        chosen = every
    metric = history.study.objective.metric
    return [row(e, metric) for e in chosen], len(every) - len(chosen)


def row(experiment: Experiment, metric: str) -> Row:
    """One line of the appendix."""
    return Row(
        experiment=experiment.number,
        verdict=experiment.verdict.value if experiment.verdict else "open",
        value=estimate(experiment.runs, metric),
        runs=len(values_of(experiment.runs, metric)),
        effect=lessons.effect_of(experiment),
        description=experiment.claim.description,
        reason=experiment.decision.reason if experiment.decision else "",
    )


def setting(history: History) -> Setting:
    """What reproducing needs."""
    study, session = history.study, history.session
    return Setting(
        command=study.command,
        prefix=study.prefix,
        edit=study.edit,
        budget_s=study.budget_s,
        kill_factor=study.kill_factor,
        seed_env=study.seed_env,
        guards=tuple(f"{g.metric} {g.text}" for g in study.guards),
        base_commit=history.base_commit,
        branch=study.branch,
        researcher=session.researcher if session else None,
        judge=session.judge if session else None,
        sandbox=session.sandbox if session else None,
        slots=session.slots if session else (),
        version=history.started.version,
        machine=dict(history.started.machine),
    )
