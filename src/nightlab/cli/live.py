"""The live terminal view: what the lab does now, where it stands, what it decided last.

``snapshot`` takes what is needed out of the running loop, in the loop's own thread and in
constant time; ``Frame`` draws it elsewhere, to whatever size the terminal has then.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from nightlab import budget, pulse, views
from nightlab.budget import Bounds
from nightlab.cli import words
from nightlab.history import History
from nightlab.loop import Loop
from nightlab.model import Experiment, Purpose, Verdict
from nightlab.process import clean

VERDICTS = 8  # as many as are shown where the terminal is high enough
_STOPPING = " (Ctrl-C again: stop it now)"
_FIXED_LINES = 13  # of the frame, beside the verdicts and the runs
_RUN_LINES = 5  # of a run, beside its curves
_BLOCKS = "▁▂▃▄▅▆▇█"
_CELLS = 32


@dataclass(frozen=True)
class Drawn:
    """A curve as a line of blocks, on one scale with the other one; ``last`` is its last value."""

    name: str
    blocks: str
    last: str


@dataclass(frozen=True)
class Running:
    """A run in flight, in words and seconds."""

    title: str
    what: str
    elapsed_s: float
    last_line: str
    curves: tuple[Drawn, ...] = ()


@dataclass(frozen=True)
class Snapshot:
    """All that a frame shows. ``doing`` is what the lab does now, in one sentence."""

    title: str
    metric: str
    better: str
    doing: str
    alarm: bool
    runs: tuple[Running, ...]
    budget_s: float
    deadline_s: float
    baseline: dict[str, Any] | None
    incumbent: dict[str, Any] | None
    incumbent_number: int | None
    gain: str
    sigma: float | None
    counts: str
    verdicts: tuple[Experiment, ...]
    left: str
    session_s: float
    warning: str


def snapshot(loop: Loop, began: float) -> Snapshot:
    """The loop as it is. ``began`` is the session's start on the monotonic clock."""
    return of(
        loop.history,
        doing=f"{loop.doing}{_STOPPING if loop.stopping and loop.active else ''}",
        runs=[pulse.of(loop.engine, active) for active in loop.active],
        bounds=loop.bounds,
        now=loop.engine.now(),
        session_s=time.monotonic() - began,
    )


def of(
    history: History,
    *,
    doing: str,
    runs: Sequence[dict[str, Any]],
    bounds: Bounds,
    now: float,
    session_s: float,
) -> Snapshot:
    """A study as it is at ``now``; ``runs`` are those in flight as ``pulse`` tells them."""
    metric = history.study.objective.metric
    baseline, incumbent = history.baseline, history.incumbent
    return Snapshot(
        title=history.study.tag,
        metric=metric,
        better=history.study.objective.better.value,
        doing=doing,
        alarm=views.paused(history) is not None,
        runs=tuple(map(_running, runs)),
        budget_s=history.study.budget_s,
        deadline_s=history.study.deadline_s,
        baseline=views.spread(baseline.runs, metric) if baseline else None,
        incumbent=views.spread(incumbent.runs, metric) if incumbent else None,
        incumbent_number=incumbent.number if incumbent else None,
        gain=words.gain(history),
        sigma=history.noise.sigma,
        counts=words.counts(history),
        verdicts=tuple(_last(history, VERDICTS)),
        left=words.left(bounds, budget.left(bounds, history, now)),
        session_s=session_s,
        warning=history.warnings[-1].text if history.warnings else "",
    )


def _running(run: dict[str, Any]) -> Running:
    purpose = words.purpose(Purpose(run["purpose"]), run["check"] or "")
    return Running(
        title=f"exp {run['experiment']} · {purpose} · seed {run['seed']} · {run['device']}",
        what=run["description"],
        elapsed_s=run["elapsed_seconds"],
        last_line=run["tail"][-1] if run["tail"] else "",
        curves=tuple(_drawn(run["curve"], run["incumbent_curve"])),
    )


def _drawn(ours: dict[str, Any] | None, theirs: dict[str, Any] | None) -> Iterator[Drawn]:
    """The run's curve above its incumbent's: the same seconds and the same values on both."""
    if ours is None:
        return
    both = [curve["points"] for curve in (ours, theirs) if curve]
    end = max(points[-1][0] for points in both)
    values = [value for points in both for _, value in points]
    for name, curve in ((ours["name"], ours), ("incumbent", theirs)):
        if curve is not None:
            blocks = _blocks(curve["points"], end, min(values), max(values))
            yield Drawn(name, blocks, words.number(curve["points"][-1][1]))


def _blocks(points: Sequence[Sequence[float]], end_s: float, low: float, high: float) -> str:
    """What was printed last at each of ``_CELLS`` times until ``end_s``, as the height of a block.

    Blank before the first value and after the last.
    """
    height = (high - low) or 1.0
    cells = []
    for cell in range(_CELLS):
        start = end_s * cell / _CELLS
        before = [value for at, value in points if at <= end_s * (cell + 1) / _CELLS]
        shown = before and start <= points[-1][0]
        level = (before[-1] - low) / height if shown else 0.0
        cells.append(_BLOCKS[round(level * (len(_BLOCKS) - 1))] if shown else " ")
    return "".join(cells)


def _last(history: History, most: int) -> Iterator[Experiment]:
    """The experiments settled last, newest first; looks at no more than it must."""
    for number in range(len(history.experiments), 0, -1):
        if most == 0:
            return
        experiment = history.experiments[number]
        if experiment.verdict is not None:
            most -= 1
            yield experiment


class Frame:
    """The view itself: a rich renderable that fits the console it meets."""

    def __init__(self, shown: Snapshot) -> None:
        self._shown = shown

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        shown = self._shown
        yield Text("")
        yield _ends(
            Text.assemble(
                ("nightlab", "bold"),
                f" · {_line(shown.title)} · {shown.metric}, {shown.better} is better",
            ),
            Text(words.seconds(shown.session_s), style="dim"),
        )
        yield _cut(_line(shown.doing), width, "bold red" if shown.alarm else "cyan")
        for run in shown.runs:
            yield from self._run(run, width)
        yield Text("")
        yield from self._standing(width)
        yield Text("")
        height = console.size.height
        runs = sum(_RUN_LINES + len(run.curves) for run in shown.runs)
        room = max(1, (height - _FIXED_LINES - runs) // 2)
        for experiment in reversed(shown.verdicts[: min(VERDICTS, room)]):
            yield from self._verdict(experiment, width)
        if shown.warning:
            yield _cut(f"! {_line(shown.warning)}", width, "magenta")

    def _run(self, run: Running, width: int) -> RenderResult:
        shown = self._shown
        yield Text("")
        yield _cut(run.title, width, "bold")
        yield _cut(f"  {_line(run.what)}", width)
        over = run.elapsed_s > shown.budget_s
        tail = (
            f" {words.seconds(run.elapsed_s)} of {words.seconds(shown.budget_s)}"
            f" · killed at {words.seconds(shown.deadline_s)}"
        )
        yield _bar(
            run.elapsed_s / shown.deadline_s,
            shown.budget_s / shown.deadline_s,
            max(10, width - len(tail) - 1),
            over=over,
        ).append(tail, "magenta" if over else "none")
        for number, curve in enumerate(run.curves):
            text = f"  {_line(curve.name)[:14]:<14} {curve.blocks} {curve.last}"
            yield _cut(text, width, "dim" if number else "cyan")
        yield _cut(f"  {_line(run.last_line)}", width, "dim")

    def _standing(self, width: int) -> RenderResult:
        shown = self._shown
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis")
        number = f" · exp {shown.incumbent_number}" if shown.incumbent_number else ""
        incumbent = Text(words.spread(shown.incumbent), style="bold") + Text(number)
        table.add_row("incumbent", incumbent)
        table.add_row("baseline", Text(words.spread(shown.baseline)))
        noise = (
            f"one run varies by ± {words.short(shown.sigma)}" if shown.sigma else "noise unknown"
        )
        table.add_row("gain", Text(f"{shown.gain} · {noise}"))
        yield table
        yield _cut(shown.counts, width)
        yield _cut(f"left: {shown.left}", width)

    def _verdict(self, experiment: Experiment, width: int) -> RenderResult:
        verdict = experiment.verdict or Verdict.CRASH
        mark = f"{words.MARKS[verdict]} {experiment.number:>4} {verdict.value:<12} "
        value = words.number(experiment.value)
        head = Text(mark, style=words.STYLES[verdict]).append(f"{value:>10}  ", "none")
        what = Text(_line(experiment.claim.description))
        yield _fit(head + what, width)
        reason = experiment.decision.reason if experiment.decision else ""
        yield _cut(f"       {_line(reason)}", width, "dim")


def _bar(share: float, mark: float, width: int, *, over: bool) -> Text:
    """A bar over the whole time until the kill, with a mark where the budget ends."""
    full = min(width, max(0, round(share * width)))
    at = min(width - 1, round(mark * width))
    bar = Text("━" * full, style="magenta" if over else "green") + Text(
        "─" * (width - full), style="dim"
    )
    if at > 0:
        bar = bar[:at] + Text("┃", style="bold") + bar[at + 1 :]
    return bar


def _ends(start: Text, end: Text) -> Table:
    table = Table.grid(expand=True)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column(justify="right", no_wrap=True)
    table.add_row(start, end)
    return table


def _cut(text: str, width: int, style: str = "none") -> Text:
    return _fit(Text(text, style=style), width)


def _fit(text: Text, width: int) -> Text:
    text.no_wrap = True
    text.truncate(width, overflow="ellipsis")
    return text


def _line(text: str) -> str:
    return " ".join(clean(text).split())
