"""Facts from a History: the one place where the debrief's numbers come together. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from nightlab import certificates, front, views
from nightlab import phases as programs
from nightlab.history import History
from nightlab.judge import estimate
from nightlab.model import (
    Answer,
    Experiment,
    Verdict,
    values_of,
)
from nightlab.phases import Phase
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
    Span,
    Step,
    Stretch,
    Totals,
)
from nightlab.report.since import Since

ROWS = 200  # of the appendix: what a person scrolls through; an export holds the rest
_TALLIES = 40
_FRUITFUL = (Answer.PROPOSED, Answer.PLANNED, Answer.STOPPED)  # the lab's own end is no answer


def facts(
    history: History,
    *,
    locked: bool,
    now: float,
    constants: Sequence[str] = (),
    since: Since | None = None,
    phases: Sequence[Phase] = (),
    most_rows: int = ROWS,
) -> Facts:
    """Everything that the debrief says about a study, or about the part of it ``since`` a moment.

    ``locked``: a lab holds the study at Unix second ``now``. ``constants`` may be tuned: those
    that nobody touched are recommended. ``phases`` are program.md's; ``most_rows`` of appendix.
    """
    seen, chain = claims.noise(history), claims.lineage(history, since)
    whole = claims.gain(history, chain, seen)
    found = claims.discoveries(history, chain, seen, whole)
    ended = ending(history, locked=locked)
    metric = history.study.objective.metric
    listed, left_out = rows(history, since, most_rows)
    start = chain[0] if chain else history.baseline
    at = since.at if since else 0.0
    return Facts(
        tag=history.study.tag,
        metric=metric,
        better=history.study.objective.better.value,
        declared=declared(history, since),
        certificates=msgspec.convert(certificates.certificates(history), Certificates),
        started_at=history.started.at,
        ending=ended,
        totals=totals(history, since, locked=locked, now=now),
        early=early_stops(history, since),
        noise=seen,
        baseline=claims.estimated(history.baseline, metric) if history.baseline else None,
        incumbent=claims.estimated(history.incumbent, metric) if history.incumbent else None,
        start=claims.estimated(start, metric) if start else None,
        gain=whole,
        naive=claims.naive(history, since),
        discoveries=tuple(found),
        top_share=claims.top_share(found),
        chance_keeps=claims.chance_keeps(history, seen, since),
        categories=tuple(lessons.categories(history, since)[:_TALLIES]),
        moves=tuple(lessons.moves(history, since)[:_TALLIES]),
        losses=tuple(lessons.losses(history, since)),
        near_misses=tuple(lessons.near_misses(history, since)),
        crashes=tuple(lessons.crashes(history, since)),
        guards=tuple(lessons.guards(history, since)),
        trade_offs=tuple(lessons.trade_offs(history, start)),
        drift=claims.drift(history),
        steps=tuple(_steps(history, ended, constants)),
        rows=tuple(listed),
        rows_left_out=left_out,
        notes=tuple(n.text for n in history.notes if n.at >= at),
        warnings=tuple(w.text for w in history.warnings if w.at >= at),
        setting=setting(history),
        finalized=finalized(history),
        since=span(since),
        phases=tuple(stretches(history, phases, now)),
    )


def span(since: Since | None) -> Span | None:
    """The moment as a fact."""
    if since is None:
        return None
    return Span(at=since.at, words=since.words, whole=1 not in since.known)


def _steps(history: History, ended: Ending, constants: Sequence[str]) -> list[Step]:
    """The recommendations, from all of the study."""
    seen, chain = claims.noise(history), claims.lineage(history)
    whole = claims.gain(history, chain, seen)
    return advice.steps(
        history,
        ending=ended,
        seen=seen,
        whole=whole,
        found=claims.discoveries(history, chain, seen, whole),
        misses=lessons.near_misses(history),
        moved=claims.drift(history),
        constants=constants,
    )


def stretches(history: History, phases: Sequence[Phase], now: float) -> list[Stretch]:
    """The phases that began, by the experiments that were settled in them."""
    order, following = history.digest.order, history.next_number()
    return [
        Stretch(
            name=phase.name,
            first=order[place] if place < len(order) else following,
            last=None if end is None else order[end - 1],
        )
        for phase, place, end in programs.stretches(phases, history, now)
        if end is None or end > place  # one that was over before it began shows nothing
    ]


def declared(history: History, since: Since | None = None) -> Declared:
    """What the person declared beside a plain objective, and what came of it."""
    found = front.front(history) or {"front": ()}
    return Declared(
        expression=history.study.objective.expression,
        parts=tuple(Part(metric=m, **both) for m, both in views.parts(history).items()),
        checks=tuple(lessons.checks(history, since)),
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


def totals(history: History, since: Since | None, *, locked: bool, now: float) -> Totals:
    """Counts and times; those of a part are what was added."""
    began, before = (since.at, since.before) if since else (history.started.at, None)
    counts, spent = history.counts, history.accounts.spent
    runs, lost, device_s = views.searched(history)
    until = now if locked else max(_night_end(history), began)
    found = Totals(
        experiments=counts.total,
        keep=counts.keep,
        discard=counts.discard,
        inconclusive=counts.inconclusive,
        crash=counts.crash,
        open=len(history.trees),
        refused=history.refused,
        runs=runs,
        lost_runs=lost,
        device_s=device_s,
        wall_s=max(0.0, until - began),
        sessions=history.sessions,
        tokens=spent.tokens,
        usd=spent.usd,
        unpriced=history.accounts.silent_usd,
        asked=history.accounts.asked,
        answers={a.value: n for a, n in history.accounts.answers.items() if a not in _FRUITFUL},
    )
    if before is None:
        return found
    old = totals(before, None, locked=False, now=now)
    works = before.session is not None and before.ended is None
    less = {
        name: getattr(found, name) - getattr(old, name)
        for name in found.__struct_fields__
        if name not in ("open", "wall_s", "sessions", "usd", "answers")
    }
    answers = {a: n - old.answers.get(a, 0) for a, n in found.answers.items()}
    return msgspec.structs.replace(
        found,
        sessions=found.sessions - old.sessions + works,
        usd=None if found.usd is None else found.usd - (old.usd or 0.0),
        answers={a: n for a, n in answers.items() if n},
        **less,
    )


def _night_end(history: History) -> float:
    """When the search was last heard of; a finalization may follow days later."""
    if history.finals and history.ended is not None:
        return history.ended.at
    return history.last_at


def early_stops(history: History, since: Since | None = None) -> EarlyStops:
    """What early stop did."""
    found = history.early
    old = since.before.early if since else None
    return EarlyStops(
        stopped=found.stopped - (old.stopped if old else 0),
        saved_s=found.saved_s - (old.saved_s if old else 0.0),
        audited=found.audited - (old.audited if old else 0),
        wrong=found.wrong - (old.wrong if old else 0),
    )


def rows(history: History, since: Since | None = None, most: int = ROWS) -> tuple[list[Row], int]:
    """The experiments of the appendix in order, and how many were left out.

    Where they are too many: the keeps, latest first, then the latest of the others.
    """
    every = [
        e for e in history.experiments.values() if since is None or e.number not in since.known
    ]
    chosen = _chosen([(e.number, e.verdict is Verdict.KEEP) for e in every], most)
    metric = history.study.objective.metric
    listed = [row(e, metric) for e in every if e.number in chosen]
    return listed, len(every) - len(listed)


def fewer_rows(f: Facts, most: int = ROWS) -> Facts:
    """The same facts with a shorter appendix."""
    chosen = _chosen([(r.experiment, r.verdict == Verdict.KEEP.value) for r in f.rows], most)
    kept = tuple(r for r in f.rows if r.experiment in chosen)
    left_out = f.rows_left_out + len(f.rows) - len(kept)
    return msgspec.structs.replace(f, rows=kept, rows_left_out=left_out)


def _chosen(every: Sequence[tuple[int, bool]], most: int) -> set[int]:
    """Of (number, kept) pairs in order: at most ``most`` numbers."""
    if len(every) <= most:
        return {n for n, _ in every}
    kept = [n for n, keep in every if keep][-most:]
    others = [n for n, keep in every if not keep]
    rest = most - len(kept)
    return {*kept, *(others[-rest:] if rest else ())}


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
        hypothesis=experiment.claim.hypothesis,
        category=experiment.claim.category,
        commit=experiment.commit,
        seconds=sum(run.duration_s for run in experiment.runs),
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
