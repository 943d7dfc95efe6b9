"""What does not work, what nearly did, what failed, and what the gain cost elsewhere. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from statistics import median

from nightlab.history import History
from nightlab.integrity import QUARANTINE
from nightlab.model import (
    Change,
    Experiment,
    Guard,
    Outcome,
    Verdict,
    values_of,
)
from nightlab.report.schema import Attempt, Crashes, GuardFacts, Tally, TradeOff
from nightlab.report.since import Since, settled
from nightlab.report.words import clean
from nightlab.stats import Pool, t_quantile

_NAMED = 6  # experiments named beside a count
_FEW = 2  # runs: with more, "no better" is an answer
_SURE = 0.9
_DIGITS = re.compile(r"0x[0-9a-f]+|\d+(?:\.\d+)?")


def tried(history: History, since: Since | None = None) -> list[Experiment]:
    """The settled experiments after the baseline, in order of number."""
    return [e for e in settled(history, since) if e.number > 1]


def categories(history: History, since: Since | None = None) -> list[Tally]:
    """Experiments by the researcher's category, the most tried first."""
    return _tallies(tried(history, since), lambda e: [e.claim.category or "(no category)"])


def moves(history: History, since: Since | None = None) -> list[Tally]:
    """Experiments by constant and direction ("LR up", "ACT → gelu"), the most tried first.

    An experiment that changed three constants counts under three moves with its one effect.
    """
    return _tallies(tried(history, since), lambda e: dict.fromkeys(map(move, e.claim.changes)))


def move(change: Change) -> str:
    """A change without its size."""
    old, new = change.old, change.new
    if isinstance(new, bool):
        return f"{change.name} {'on' if new else 'off'}"
    if isinstance(old, (int, float)) and isinstance(new, (int, float)):
        return f"{change.name} {'up' if new > old else 'down'}"
    return f"{change.name} → {new}"


def _tallies(
    experiments: Iterable[Experiment], names: Callable[[Experiment], Iterable[str]]
) -> list[Tally]:
    groups: dict[str, list[Experiment]] = {}
    for experiment in experiments:
        for name in names(experiment):
            groups.setdefault(name, []).append(experiment)
    found = [_tally(name, group) for name, group in groups.items()]
    return sorted(found, key=lambda t: (-t.tried, t.name))


def _tally(name: str, group: list[Experiment]) -> Tally:
    effects = [x for e in group if (x := effect_of(e)) is not None]
    verdicts = [e.verdict for e in group]
    return Tally(
        name=name,
        tried=len(group),
        keep=verdicts.count(Verdict.KEEP),
        discard=verdicts.count(Verdict.DISCARD),
        inconclusive=verdicts.count(Verdict.INCONCLUSIVE),
        crash=verdicts.count(Verdict.CRASH),
        alone=sum(len(e.claim.changes) <= 1 for e in group),
        median=median(effects) if effects else None,
        largest=max(effects) if effects else None,
    )


def effect_of(experiment: Experiment) -> float | None:
    """The effect that the judge measured against the incumbent of its time; positive is better."""
    decision = experiment.decision
    return None if decision is None else decision.evidence.effect


def attempt(experiment: Experiment, metric: str) -> Attempt:
    """An experiment with its judge's numbers."""
    decision = experiment.decision
    seen = decision.evidence if decision else None
    return Attempt(
        experiment=experiment.number,
        verdict=experiment.verdict.value if experiment.verdict else "open",
        description=experiment.claim.description,
        effect=seen.effect if seen else None,
        low=seen.low if seen else None,
        high=seen.high if seen else None,
        runs=len(values_of(experiment.runs, metric)),
        reason=decision.reason if decision else "",
    )


def losses(history: History, since: Since | None = None, most: int = 5) -> list[Attempt]:
    """The discarded changes that hurt most clearly: their interval lies below nil."""
    hurt = [
        a
        for e in tried(history, since)
        if e.verdict is Verdict.DISCARD
        for a in [attempt(e, history.study.objective.metric)]
        if a.effect is not None and a.effect < 0 and a.high is not None and a.high < 0
    ]
    return sorted(hurt, key=lambda a: (a.effect or 0.0, a.experiment))[:most]


def near_misses(history: History, since: Since | None = None, most: int = 8) -> list[Attempt]:
    """Inconclusive ones and discards of few runs that were measured better, none of them surely.

    The likeliest gain stands first.
    """
    metric = history.study.objective.metric
    found = []
    for experiment in tried(history, since):
        decision = experiment.decision
        z = decision.evidence.z if decision else None
        if decision is not None and decision.rule == QUARANTINE:
            continue  # its numbers are not believed
        effect = effect_of(experiment)
        if effect is not None and effect <= 0.0:
            continue  # level or worse: a miss, and not a near one
        if experiment.verdict is Verdict.INCONCLUSIVE:
            found.append((z if z is not None else math.inf, experiment))
        elif (
            experiment.verdict is Verdict.DISCARD
            and decision is not None
            and decision.rule not in ("guard", "check")
            and z is not None
            and decision.evidence.n_candidate <= _FEW
        ):
            found.append((z, experiment))
    found.sort(key=lambda pair: (pair[1].verdict is Verdict.DISCARD, -pair[0], pair[1].number))
    return [attempt(e, metric) for _, e in found[:most]]


def crashes(history: History, since: Since | None = None) -> list[Crashes]:
    """Failed experiments by how they failed; numbers in a message do not tell causes apart."""
    metric = history.study.objective.metric
    groups: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for experiment in settled(history, since):
        if experiment.verdict is not Verdict.CRASH:
            continue
        failed = [
            r
            for r in experiment.runs
            if r.outcome.counts and (r.outcome is not Outcome.OK or metric not in r.metrics)
        ]
        outcome = failed[0].outcome if failed else Outcome.CRASHED
        if outcome is Outcome.OK:
            outcome = Outcome.NO_METRIC
        detail = clean(failed[0].detail if failed else "", 160)
        key = outcome.value, _DIGITS.sub("N", detail.lower())
        groups.setdefault(key, []).append((experiment.number, detail))
    found = [
        Crashes(
            outcome=outcome,
            cause=members[0][1],
            count=len(members),
            experiments=tuple(n for n, _ in members[:_NAMED]),
        )
        for (outcome, _), members in groups.items()
    ]
    return sorted(found, key=lambda c: (-c.count, c.experiments))


def guards(history: History, since: Since | None = None) -> list[GuardFacts]:
    """Every guard, and what it vetoed."""
    vetoed = [e for e in tried(history, since) if e.decision and e.decision.rule == "guard"]
    found = []
    for guard in history.study.guards:
        mine = [e.number for e in vetoed if _named(guard, e)]
        found.append(
            GuardFacts(
                metric=guard.metric,
                text=guard.text,
                vetoed=len(mine),
                experiments=tuple(mine[:_NAMED]),
            )
        )
    return found


def checks(history: History, since: Since | None = None) -> list[GuardFacts]:
    """Every check by exit code, and what it refused."""
    refused = [e for e in tried(history, since) if e.decision and e.decision.rule == "check"]
    found = []
    for name, command in history.study.checks.items():
        # The last that ran is the one that failed.
        mine = [e.number for e in refused if e.checks and e.checks[-1].check == name]
        facts = GuardFacts(
            metric=name, text=command, vetoed=len(mine), experiments=tuple(mine[:_NAMED])
        )
        found.append(facts)
    return found


def _named(guard: Guard, experiment: Experiment) -> bool:
    reason = experiment.decision.reason if experiment.decision else ""
    return f"guard {guard.metric} {guard.text}:" in reason


def trade_offs(history: History, start: Experiment | None) -> list[TradeOff]:
    """Each other metric that both ``start`` (the baseline) and the incumbent printed."""
    end = history.incumbent
    if start is None or end is None or start.number == end.number:
        return []
    objective = history.study.objective.metric
    names = dict.fromkeys(name for run in end.runs for name in run.metrics if name != objective)
    found = []
    for name in names:
        before, after = values_of(start.runs, name), values_of(end.runs, name)
        if not before or not after:
            continue
        old, new = math.fsum(before) / len(before), math.fsum(after) / len(after)
        pool = Pool()
        for key, values in enumerate((before, after)):
            for value in values:
                pool.add(key, value)
        clear = None
        if pool.sigma is not None:
            error = pool.sigma * math.sqrt(1 / len(before) + 1 / len(after))
            clear = abs(new - old) > t_quantile(0.5 + _SURE / 2, pool.df) * error
        found.append(
            TradeOff(
                metric=name,
                baseline=old,
                incumbent=new,
                relative=(new - old) / abs(old) if old else None,
                clear=clear,
                sigma=pool.sigma,
            )
        )
    return found
