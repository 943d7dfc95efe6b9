"""The plot of an imported ledger: its rows as points, its keeps, the kept record as a line."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nightlab.model import Better
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


def _compose(axes: Any, points: Sequence[Point], better: Better) -> None:
    measured = [(n, v, s) for n, v, s in points if v is not None and s != "crash"]
    kept = [v for _, v, status in measured if status == "keep"]
    low, high = _limits([v for _, v, _ in measured], kept, better)
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
    xs: list[int] = []
    ys: list[float] = []
    for n, value, status in measured:
        if status == "keep" and (not ys or better.sign * value > better.sign * ys[-1]):
            xs.append(n)
            ys.append(value)
    if xs:
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
