"""What to do next, computed from the facts; each step says which fact it comes from. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from nightlab import plateau, views
from nightlab.history import History
from nightlab.model import Change, Outcome, Verdict
from nightlab.report import ahead
from nightlab.report.lessons import effect_of, move, tried
from nightlab.report.schema import Attempt, Discovery, Drift, Ending, Gain, Noise, Step
from nightlab.report.words import count, duration, number, percent, signed
from nightlab.stats import t_quantile

_PLATEAU = 20  # experiments without a keep, and a third of the night
_MANY_CRASHES = 0.25
_LOOKS = 5  # runs that the default judge spends on a candidate at most


def steps(
    history: History,
    *,
    ending: Ending,
    seen: Noise,
    whole: Gain | None,
    found: Sequence[Discovery],
    misses: Sequence[Attempt],
    moved: Drift | None,
    constants: Sequence[str],
) -> list[Step]:
    """The recommendations, most urgent first. ``constants`` are those that may be tuned."""
    if history.baseline is not None and history.baseline.verdict is Verdict.CRASH:
        return [
            Step(
                kind="baseline",
                do="Mend the untouched code first",
                why="it does not run, so nothing can be compared with it",
                command="nightlab show 1 --log",
            )
        ]
    stand = _values(history, found)
    misses = [m for m in misses if _still(history, m, stand)]
    return [
        *_trouble(history, ending),
        *_ruler(history, seen, moved),
        *_claim(history, whole),
        *_search(history, seen, found, misses, constants, stand),
        *ahead.steps(history, seen, found, misses),
    ]


def _trouble(history: History, ending: Ending) -> Iterator[Step]:
    if ending.state != "running" and ending.reason in (None, "error"):
        why = ending.detail or "the lab ended without saying why: killed, or the power went"
        yield Step(kind="resume", do="Resume: nothing is lost", why=why, command="nightlab run")
    aside = views.quarantined(history)
    if aside:
        named = ", ".join(map(str, aside[:5])) + (" …" if len(aside) > 5 else "")
        yield Step(
            kind="quarantine",
            do=f"Look at what was put aside as not believable: experiment {named}",
            why="its numbers look printed rather than measured, so it was not kept",
            command=f"nightlab show {aside[0]} --diff",
        )
    done = tried(history)
    crashed = [e for e in done if e.verdict is Verdict.CRASH]
    if len(done) >= 8 and len(crashed) > _MANY_CRASHES * len(done):
        yield Step(
            kind="crashes",
            do="Look at the crashes: a hint in program.md may save a part of the night",
            why=f"{len(crashed)} of {count(len(done), 'change')} failed",
            command=f"nightlab show {crashed[-1].number} --log",
        )
    late = history.runs_by_outcome.get(Outcome.TIMED_OUT, 0)
    if late >= 3 and late * 10 >= history.runs:
        yield Step(
            kind="timeouts",
            do="Have the script stop itself at TIME_BUDGET, or set a longer budget",
            why=f"{count(late, 'run')} had to be killed at {duration(history.study.deadline_s)}",
        )
    lost = history.runs_by_outcome.get(Outcome.LOST, 0)
    if lost:
        yield Step(
            kind="lost",
            do="Check the machine",
            why=f"{count(lost, 'run')} were lost to infrastructure (not judged)",
            command="nightlab doctor",
        )


def _ruler(history: History, seen: Noise, moved: Drift | None) -> Iterator[Step]:
    metric, baseline = history.study.objective.metric, history.baseline
    seeds = {r.seed for r in baseline.runs} if baseline else set()
    if seen.deterministic and len(seeds) > 1:
        yield Step(
            kind="seeds",
            do=f"Check that the script seeds itself from ${history.study.seed_env}",
            why=f"{len(seeds)} seeds gave exactly the same {metric}: either nothing in it is "
            "random, or the seed does not reach it and its real noise is hidden",
        )
    elif seen.sigma is None and history.counts.total:
        yield Step(
            kind="noise",
            do="Let the judge measure the noise: no interval can be given without it",
            why="no code was run twice",
        )
    if moved is not None and moved.significant:
        worse = "better" if moved.total > 0 else "worse"
        yield Step(
            kind="drift",
            do="Look for what else the machine did: heat, another job, a slower disk",
            why=f"re-runs of the same code became {worse} by "
            f"{number(abs(moved.total), seen.sigma)} over the study (t = {moved.t:.1f}); "
            "a gain of that size is not one",
        )
    effects = [abs(x) for e in tried(history) if (x := effect_of(e)) is not None]
    if seen.sigma and seen.df >= 1 and len(effects) >= 10:
        least = t_quantile(0.95, seen.df) * seen.sigma * math.sqrt(2.0 / _LOOKS)
        small = sum(x < least for x in effects)
        if 2 * small > len(effects):
            yield Step(
                kind="coarse",
                do="Make the metric quieter: a longer budget, a larger validation set, or bolder "
                "changes",
                why=f"{_LOOKS} runs see a gain of {number(least, seen.sigma)} or more; {small} of "
                f"{len(effects)} changes moved {metric} by less",
            )


def _claim(history: History, whole: Gain | None) -> Iterator[Step]:
    final = history.final
    done = final is not None and final.result is not None and final.plan.final == history.tip
    if whole is None or done:
        return
    if not whole.fresh:
        why = "the incumbent has only the run that selected it, which flatters"
    elif whole.low is not None and whole.low <= 0:
        why = "the interval of the gain holds nil"
    else:
        why = "the gain is provisional: the runs behind it also decided the keeps"
    yield Step(
        kind="confirm",
        do="Before you rely on it, run baseline and incumbent side by side on new seeds",
        why=why,
        command="nightlab finalize",
    )


def _search(
    history: History,
    seen: Noise,
    found: Sequence[Discovery],
    misses: Sequence[Attempt],
    constants: Sequence[str],
    stand: dict[str, object],
) -> Iterator[Step]:
    for miss in [m for m in misses if m.effect is not None and m.effect > 0][:3]:
        yield Step(
            kind="retest",
            do=f"Test experiment {miss.experiment} again with more runs, {miss.description}",
            why=f"{signed(miss.effect, seen.sigma)} over {count(miss.runs, 'run')}, {miss.verdict}",
            command=f"nightlab show {miss.experiment} --diff",
        )
    for discovery in found[:3]:
        claim = history.experiments[discovery.experiment].claim
        further = [
            c
            for c in claim.changes
            if _numeric(c) and stand[c.name] == c.new and not _went_on(history, c)
        ]
        if discovery.effect and discovery.effect > 0 and further:
            names = ", ".join(f"{move(c)} from {c.new:g}" for c in further)
            yield Step(
                kind="push",
                do=f"Go on in the same direction: {names}",
                why=f"experiment {discovery.experiment} gained "
                f"{number(discovery.effect, seen.sigma)} that way",
            )
    done = tried(history)
    times: dict[str, int] = {}
    for experiment in done:
        for change in experiment.claim.changes:
            times[change.name] = times.get(change.name, 0) + 1
    untouched = [name for name in constants if name not in times]
    if untouched:
        yield Step(
            kind="untouched",
            do=f"Try the constants that nobody has touched: {_listed(untouched)}",
            why=f"{len(untouched)} of {len(constants)} were never changed",
        )
    once = [name for name, n in times.items() if n == 1]
    if once and len(done) >= 3 * len(times):
        yield Step(
            kind="once",
            do=f"Look again at constants tried only once: {_listed(once)}",
            why=f"the {len(times)} constants got {count(sum(times.values()), 'move')}",
        )
    last = max((d.experiment for d in found), default=1)
    since = sum(e.number > last for e in done)
    if since >= _PLATEAU and 3 * since >= len(done):
        yield Step(
            kind="plateau",
            do="Change something larger: another phase, a longer budget, a hint",
            why=f"nothing was kept in the last {since} experiments "
            f"({percent(since / len(done))} of all); the search is at its stage "
            f"“{plateau.stand(history).stage.name}”",
            command='nightlab note "…"',
        )


def _values(history: History, found: Sequence[Discovery]) -> dict[str, object]:
    """Where the keeps have left the constants that they moved."""
    numbers = sorted(d.experiment for d in found)
    return {c.name: c.new for n in numbers for c in history.experiments[n].claim.changes}


def _still(history: History, miss: Attempt, stand: dict[str, object]) -> bool:
    """Whether no keep has moved since what the miss changed: else it cannot be tried as it was."""
    changes = history.experiments[miss.experiment].claim.changes
    return all(stand.get(c.name, c.old) == c.old for c in changes)


def _went_on(history: History, change: Change) -> bool:
    """Whether the next step in that direction was tried already, and lost."""
    return any(
        later.verdict in (Verdict.DISCARD, Verdict.CRASH)
        for later in tried(history)
        for c in later.claim.changes
        if c.name == change.name and c.old == change.new and move(c) == move(change)
    )


def _numeric(change: Change) -> bool:
    return not isinstance(change.new, (bool, str, type(None))) and change.old is not None


def _listed(names: Sequence[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
