"""What was tried, for a researcher: kept, near misses, failures by category, the last runs.

Costs the same however long the study: sums come from ``history.digest``, and only as many
experiments are looked at as are shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from nightlab.brief.pieces import listed, number, one_line, signed, span
from nightlab.history import History, digest
from nightlab.history.digest import Tally
from nightlab.model import Experiment, Run, Verdict

_KEPT = 60
_RUNS = 3  # of one experiment
_METRICS = 8  # of one run
_POINTS = 8  # of one curve


def kept(history: History, room: int) -> str:
    """Every change that is in the incumbent, the newest first."""
    numbers = history.digest.kept()
    total = len(numbers)
    title = f"# Kept: {total} change{'' if total == 1 else 's'}, all in the code as it is now"
    lines = (line(history.experiments[n]) for n in reversed(numbers[-_KEPT:]))
    return listed(title, lines, room, more="and older ones")


def near(history: History, room: int) -> str:
    """What measured better than the incumbent of its time, but not surely."""
    numbers = history.digest.near()
    title = (
        "# Near misses: measured better, but within the noise or vetoed. Combine them, enlarge "
        "them, or test one again where another keep may interact"
    )
    lines = (line(history.experiments[n]) for n in numbers)
    return listed(title, lines, room, more="and smaller ones")


def failed(history: History, room: int) -> str:
    """A line of sums for every category, and the newest failures in full."""
    tallies = sorted(history.digest.categories.items(), key=lambda item: -item[1].total)
    sums = listed(
        "# Tried, by category of change",
        (_sums(name, tally) for name, tally in tallies),
        room,
        more="and rarer ones",
    )
    if not sums:
        return ""
    newest = sorted((n for _, t in tallies for n in t.last), reverse=True)
    by_category = sorted(newest[:80], key=lambda n: digest.category(history.experiments[n]))
    details = listed(
        "Those that did not help, the newest of each category:",
        (line(history.experiments[n]) for n in _fair(history, by_category)),
        room - len(sums.encode()) - 1,
        more="and older ones",
    )
    return f"{sums}\n{details}" if details else sums


def _fair(history: History, numbers: list[int]) -> list[int]:
    """Newest first, one of each category in turn: no category crowds out the others."""
    shelves: dict[str, list[int]] = {}
    for n in sorted(numbers, reverse=True):
        shelves.setdefault(digest.category(history.experiments[n]), []).append(n)
    longest = max(map(len, shelves.values()), default=0)
    return [s[i] for i in range(longest) for s in shelves.values() if i < len(s)]


def last_runs(history: History, room: int) -> str:
    """How the last runs went: time, memory, what else was printed; the incumbent's to compare."""
    return listed("# The last runs, the incumbent's first", _runs(history), room)


def _runs(history: History) -> Iterator[str]:
    metric = history.study.objective.metric
    incumbent = history.incumbent
    if incumbent is not None:
        for run in incumbent.runs[-_RUNS:]:
            yield f"incumbent (exp {incumbent.number}): {_run(run, metric)}"
            yield from _curve(run)
    numbers = range(len(history.experiments), 1, -1)
    others = (history.experiments[n] for n in numbers if n != history.incumbent_number)
    for experiment in islice((e for e in others if e.runs), 12):
        for run in experiment.runs[-_RUNS:]:
            yield f"exp {experiment.number}: {_run(run, metric)}"
            yield from _curve(run)


def _run(run: Run, metric: str) -> str:
    words = [f"seed {run.seed}", run.outcome.value, span(run.duration_s)]
    if metric in run.metrics:
        words.append(f"{metric} {run.metrics[metric]:.6g}")
    if run.peak_memory_bytes is not None:
        words.append(f"peak memory {run.peak_memory_bytes / 2**30:.2f} GiB")
    others = [(n, v) for n, v in run.metrics.items() if n != metric]
    words += [f"{one_line(n, 40)} {v:.5g}" for n, v in others[:_METRICS]]
    return one_line(", ".join(words + ([run.detail] if run.detail else [])), 400)


def _curve(run: Run) -> Iterator[str]:
    """What a run printed on the way, where that is on record."""
    if run.curve is None or not run.curve.points:
        return
    points = run.curve.points
    step = max(1, (len(points) - 1) // (_POINTS - 1))
    shown = [*points[:-1:step], points[-1]]
    told = ", ".join(f"{value:.5g} at {span(at)}" for at, value in shown)
    yield f"  its {one_line(run.curve.name, 40)}: {told}"


def _sums(name: str, tally: Tally) -> str:
    parts = [
        f"{getattr(tally, verdict.value)} {verdict.value}"
        for verdict in Verdict
        if getattr(tally, verdict.value)
    ]
    effect = f"; largest effect {signed(tally.effect)}" if tally.effect is not None else ""
    return f"{one_line(name, 40)}: {tally.total} tried: {', '.join(parts)}{effect}"


def line(experiment: Experiment) -> str:
    """One experiment in one line."""
    claim, verdict = experiment.claim, experiment.verdict
    words = f"exp {experiment.number} {verdict.value if verdict else 'open'}"
    decision = experiment.decision
    if decision is not None and decision.evidence.effect is not None:
        seen = decision.evidence
        words += f" {signed(seen.effect or 0.0)}"
        if seen.low is not None and seen.high is not None:
            words += f" [{number(seen.low)}, {number(seen.high)}]"
    elif verdict is Verdict.CRASH:
        detail = next((r.detail for r in experiment.runs if r.detail), "")
        ways = "/".join(o.value for o in digest.outcomes(experiment))
        words += f" ({one_line(f'{ways}: {detail}' if detail else ways, 100)})"
    described = one_line(claim.description, 160)
    return f"{words} · {digest.category(experiment)}: {described}"
