"""The plot of an imported ledger: its rows as points, its keeps, the kept record as a line."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nightlab.model import Better
from nightlab.plot.inline import (
    Drawing,
    Frame,
    axes,
    dots,
    link,
    path_of,
    svg,
)
from nightlab.report.words import clean

_INK, _SOFT, _RULE, _PAPER = "#1f2430", "#5d6472", "#d9dce3", "#ffffff"
_COLOURS = {"keep": "#009e73", "discard": "#9aa1ad", "inconclusive": "#e69f00", "other": "#56b4e9"}
_LINE, _CRASH = "#0072b2", "#d55e00"

Point = tuple[int, float | None, str]  # number, value, status


def draw(points: Sequence[Point], metric: str, better: Better, title: str, path: Path) -> Path:
    """Draw rows by their number; .png or .svg by the suffix. Values far off lie at the edge."""
    import matplotlib as mpl  # noqa: PLC0415  heavy, loaded on use
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    style: dict[Any, Any] = {
        "font.family": "DejaVu Sans", "svg.hashsalt": "nightlab", "text.parse_math": False,
    }  # fmt: skip
    svg = path.suffix == ".svg"
    metadata: dict[str, Any] = {"Date": None} if svg else {"Software": None}
    # A stranger's metric may be in a script that the font lacks: a box is drawn.
    with mpl.rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = Figure(figsize=(10.0, 5.0), dpi=150, facecolor=_PAPER)
        FigureCanvasAgg(figure)
        axes = figure.add_axes((0.09, 0.11, 0.89, 0.74))
        _compose(axes, points, better)
        axes.set_ylabel(clean(metric, 60), color=_SOFT)
        axes.set_xlabel(f"row ({better.value} is better)", color=_SOFT)
        figure.text(0.02, 0.94, clean(title, 90), color=_INK, fontsize=13, fontweight="bold")
        figure.savefig(path, metadata=metadata, facecolor=_PAPER)
    return path


def inside(
    points: Sequence[Point], metric: str, better: Better, words: Mapping[int, str]
) -> Drawing:
    """The same inside a page; the rows of ``words`` can be asked and lead to their line there."""
    measured = [(n, v, s) for n, v, s in points if v is not None and s != "crash"]
    low, high = _limits([v for _, v, _ in measured], _kept(measured), better)
    last = max((n for n, _, _ in points), default=1)
    frame = Frame(1 - 0.02 * last, last + max(1.0, 0.02 * last), low, high)
    told: list[str] = []
    silent: dict[str, list[tuple[float, float]]] = {}
    drawn: dict[str, str] = {}
    worse = low if better is Better.HIGHER else high
    for number, value, status in points:
        crashed = value is None or status == "crash"
        kind = "crash" if crashed else status
        at = worse if value is None or crashed else min(max(value, low), high)
        spot = frame.at((number, at))
        drawn[kind] = "crash, or no value" if crashed else status
        if number in words:
            told.append(link(kind, number, words[number], spot))
        else:
            silent.setdefault(kind, []).append(spot)
    line = _record(measured, better)
    parts = [*axes(frame, last, "row", lower=better is Better.LOWER)]
    if line:
        steps = [frame.at(p) for p in _stairs(line, last)]
        parts.append(f'<path class="line" d="{path_of(steps)}"/>')
        drawn["line"] = "kept record"
    parts += [f'<path class="dots {kind}" d="{dots(s)}"/>' for kind, s in silent.items()]
    parts += ['<g class="points">', *told, "</g>"]
    title = f"{clean(metric, 60)} over {last} rows"
    return Drawing(svg(title, parts), tuple(drawn.items()), len(told), len(points) - len(told))


def _stairs(line: Sequence[tuple[int, float]], last: int) -> list[tuple[float, float]]:
    ends = [*(x for x, _ in line[1:]), last]
    return [(float(x), y) for (start, y), end in zip(line, ends, strict=True) for x in (start, end)]


def _kept(measured: Sequence[tuple[int, float, str]]) -> list[float]:
    return [v for _, v, status in measured if status == "keep"]


def _record(measured: Sequence[tuple[int, float, str]], better: Better) -> list[tuple[int, float]]:
    """Where a kept row beat all kept rows before it."""
    found: list[tuple[int, float]] = []
    for n, value, status in measured:
        if status == "keep" and (not found or better.sign * value > better.sign * found[-1][1]):
            found.append((n, value))
    return found


def _compose(axes: Any, points: Sequence[Point], better: Better) -> None:
    measured = [(n, v, s) for n, v, s in points if v is not None and s != "crash"]
    low, high = _limits([v for _, v, _ in measured], _kept(measured), better)
    axes.set_ylim(low, high)
    last = max((n for n, _, _ in points), default=1)
    axes.set_xlim(0, last + max(1.0, 0.02 * last))
    for status, colour in _COLOURS.items():
        some = [(n, min(max(v, low), high)) for n, v, s in measured if s == status]
        if some:
            size = 34 if status == "keep" else 14
            axes.scatter(*zip(*some, strict=True), s=size, c=colour, linewidths=0, label=status,
                         zorder=4 if status == "keep" else 3)  # fmt: skip
    crashed = [n for n, v, s in points if s == "crash" or v is None]
    if crashed:
        edge = low if better is Better.HIGHER else high
        axes.scatter(crashed, [edge] * len(crashed), s=18, c=_CRASH, marker="x", linewidths=0.8,
                     label="crash, or no value", zorder=2, clip_on=False)  # fmt: skip
    line = _record(measured, better)
    if line:
        xs, ys = [x for x, _ in line], [y for _, y in line]
        axes.step([*xs, last], [*ys, ys[-1]], where="post", color=_LINE, label="kept record")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(axis="y", color=_RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_SOFT)
    if measured or crashed:
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=6, frameon=False, fontsize=8)


def _limits(values: Sequence[float], kept: Sequence[float], better: Better) -> tuple[float, float]:
    """All of the better side and all that was kept, and else what 90 % of the rows reach."""
    if not values:
        return 0.0, 1.0
    ordered = sorted(better.sign * v for v in values)
    bottom = ordered[math.floor(0.1 * (len(ordered) - 1))]
    bottom, top = min([bottom, *(better.sign * v for v in kept)]), ordered[-1]
    span = (top - bottom) or abs(top) * 0.02 or 1.0
    bottom, top = bottom - 0.08 * span, top + 0.08 * span
    return (bottom, top) if better.sign > 0 else (-top, -bottom)
