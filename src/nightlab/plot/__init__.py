"""The progress plot: every experiment, and how the incumbent moved, with its uncertainty.

Drawn from the History through the report's own estimates, so that plot and text agree. The
same history gives the same bytes. matplotlib is loaded on use and its global state is left
alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nightlab import views
from nightlab.history import History
from nightlab.model import Better, Purpose, Verdict
from nightlab.plot import inline
from nightlab.plot.labels import name_steps
from nightlab.plot.scene import Scene, half_width, scene_of
from nightlab.report import claims
from nightlab.report.build import finalized
from nightlab.report.lessons import tried
from nightlab.report.schema import LEVEL, Facts, Stretch
from nightlab.report.words import clean, count, duration, number

# Okabe & Ito's palette: told apart by people with any common colour vision; shapes differ too.
_INK, _SOFT, _RULE, _PAPER = "#1f2430", "#5d6472", "#d9dce3", "#ffffff"
_KEEP, _LINE, _BAND = "#009e73", "#0072b2", "#56b4e9"
_FLOOR = "#e8eaef"
_DISCARD, _OPEN, _CRASH = "#9aa1ad", "#e69f00", "#d55e00"
_DRIFT = "#b0308c"

# matplotlib's own font has no Chinese, Japanese or Korean: these are asked next, where installed.
_WIDER = (
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "PingFang SC",
    "Hiragino Sans GB",
    "Microsoft YaHei",
    "WenQuanYi Micro Hei",
)

_INCHES, _DPI = (10.0, 5.6), 200
_MANY = 1500  # runs beyond which points are drawn smaller, and as pixels in an SVG
_ACROSS = 125  # characters of a small label that fit across the frame
_CROWD = 80  # keeps, and crashes, beyond which their marks are drawn smaller


def inside(history: History, facts: Facts) -> inline.Drawing:
    """The progress inside a page that lists the rows of ``facts``; a part of a study is marked."""
    listed = {row.experiment for row in facts.rows}
    mark = None
    if facts.since is not None:
        known = {e.number for e in history.settled()} - {r.experiment for r in facts.rows}
        early = [n for n in known if n < min(listed, default=len(history.experiments) + 1)]
        mark = max(early, default=0) + 0.5, facts.since.words
    return inline.draw(scene_of(history, facts.phases), listed, mark)


def draw(history: History, path: Path, phases: Sequence[Stretch] = ()) -> Path:
    """Draw the progress of a study; the suffix of ``path``, .png or .svg, decides the format.

    ``phases`` of program.md are named where they began.
    Raises ValueError for another suffix, OSError when the file cannot be written.
    """
    kind = path.suffix.lower().lstrip(".")
    if kind not in {"png", "svg"}:
        raise ValueError(f"a plot is .png or .svg, not {path.name!r}")
    import matplotlib as mpl  # noqa: PLC0415  heavy, loaded on use
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415
    from matplotlib.font_manager import fontManager  # noqa: PLC0415

    installed = {font.name for font in fontManager.ttflist}
    style: dict[Any, Any] = {
        "font.family": ["DejaVu Sans", *(name for name in _WIDER if name in installed)],
        "font.size": 10.0,
        "svg.hashsalt": "nightlab",
        "axes.unicode_minus": False,
        "text.parse_math": False,  # a description with two dollar signs is no formula
        "path.simplify": True,
    }
    metadata: dict[str, Any] = {"Date": None} if kind == "svg" else {"Software": None}
    # A researcher may write in a script that the font lacks: a box is drawn, without a warning.
    with mpl.rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = Figure(figsize=_INCHES, dpi=_DPI, facecolor=_PAPER)
        FigureCanvasAgg(figure)
        _compose(figure, scene_of(history, phases))
        figure.savefig(path, format=kind, metadata=metadata, facecolor=_PAPER)
    return path


# --- drawing ----------------------------------------------------------------------------------


def _compose(figure: Any, scene: Scene) -> None:
    axes = figure.add_axes((0.085, 0.105, 0.895, 0.70))
    axes.set_facecolor(_PAPER)
    axes.set_ylim(scene.low, scene.high)
    axes.set_xlim(1 - scene.pad, scene.last + scene.pad)
    arrow = _frame(axes, scene)
    drawn = {
        *_floor(axes, scene),
        *_points(axes, scene),
        *_edge(axes, scene),
        *_incumbents(axes, scene),
        *_drift(axes, scene),
    }
    _phases(axes, scene)
    _headline(figure, scene)
    name_steps(figure, axes, scene, arrow)
    _legend(figure, drawn)


def _frame(axes: Any, scene: Scene) -> Any:
    """Grid, ticks and the arrow that says which way is better; returns the arrow's text."""
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415

    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_RULE)
    axes.grid(axis="y", color=_RULE, linewidth=0.6, zorder=0)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_SOFT, length=0, labelsize=9.5)
    numbers = MaxNLocator(integer=True, nbins=10, min_n_ticks=1).tick_values(1, scene.last)
    axes.set_xticks(sorted({1, *(int(t) for t in numbers if 1 < t <= scene.last)}))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=7))
    axes.set_xlabel("experiment", color=_SOFT, fontsize=10)
    lower = scene.history.study.objective.better is Better.LOWER
    arrow = "↓ lower is better" if lower else "↑ higher is better"
    place = (0.008, 0.02, "bottom") if lower else (0.008, 0.98, "top")
    return axes.text(
        *place[:2],
        arrow,
        transform=axes.transAxes,
        va=place[2],
        color=_SOFT,
        fontsize=9.5,
        fontweight="bold",
        zorder=9,
    )


def _floor(axes: Any, scene: Scene) -> set[str]:
    """The baseline, and one standard deviation of one run about it."""
    if not scene.levels or scene.levels[0].mean is None:
        return set()
    mean, sigma = scene.levels[0].mean, scene.noise.sigma
    axes.axhline(mean, color=_SOFT, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    if not sigma:
        return set()
    axes.axhspan(mean - sigma, mean + sigma, color=_FLOOR, linewidth=0, zorder=0.5)
    return {"floor"}


def _points(axes: Any, scene: Scene) -> set[str]:
    """Experiments by verdict; the single runs behind them fainter; incumbents' re-runs."""
    metric = scene.metric
    runs: list[tuple[float, float]] = []
    again: list[tuple[float, float]] = []
    shown: dict[Verdict, list[tuple[float, float]]] = {v: [] for v in Verdict}
    for experiment, mean in scene.points:
        every = claims.measured(experiment.runs, metric)
        own = [r for r in every if r.purpose is not Purpose.INCUMBENT]
        again += [(r.occasion, r.metrics[metric]) for r in every if r.purpose is Purpose.INCUMBENT]
        if len(own) > 1:
            runs += [(experiment.number, r.metrics[metric]) for r in own]
        if mean is not None and experiment.verdict is not None:
            shown[experiment.verdict].append((experiment.number, mean))
    many = scene.history.runs > _MANY
    size, faint = (9.0, 0.5) if many else (26.0, 0.85)
    solid: dict[str, Any] = {"linewidths": 0, "rasterized": many}
    hollow: dict[str, Any] = {"facecolors": "none", "edgecolors": _LINE, "rasterized": many}
    crowd = len(shown[Verdict.KEEP]) > _CROWD
    rim: dict[str, Any] = {"edgecolors": _PAPER, "linewidths": 0.3 if crowd else 1.2}
    layers: tuple[tuple[str, list[tuple[float, float]], dict[str, Any]], ...] = (
        ("runs", runs, {"s": size * 0.4, "c": _SOFT, "alpha": 0.35, "zorder": 2, **solid}),
        ("again", again, {"s": size * 0.7, "lw": 0.7, "alpha": 0.55, "zorder": 2.5, **hollow}),
        (
            "discard",
            shown[Verdict.DISCARD],
            {"s": size, "c": _DISCARD, "alpha": faint, "zorder": 3, **solid},
        ),
        (
            "inconclusive",
            shown[Verdict.INCONCLUSIVE],
            {"s": size * 1.2, "c": _OPEN, "marker": "D", "zorder": 4, **solid},
        ),
        ("keep", shown[Verdict.KEEP], {"s": 16 if crowd else 62, "c": _KEEP, "zorder": 7, **rim}),
    )
    drawn = set()
    for name, points, style in layers:
        seen = [p for p in points if scene.inside(p[1])]
        if seen:
            axes.scatter([x for x, _ in seen], [y for _, y in seen], **style)
            drawn.add(name)
    return drawn


def _edge(axes: Any, scene: Scene) -> set[str]:
    """What lies beyond the axis, and what has no value at all, marked where it was tried."""
    beyond: dict[bool, list[int]] = {True: [], False: []}  # below the axis, or above it
    crashed = []
    for experiment, mean in scene.points:
        if experiment.verdict is Verdict.CRASH:
            crashed.append(experiment.number)
        elif mean is not None and not scene.inside(mean):
            beyond[mean < scene.low].append(experiment.number)
    span = scene.high - scene.low
    grey: dict[str, Any] = {"s": 22, "c": _DISCARD, "linewidths": 0, "alpha": 0.9, "zorder": 3}
    for below, numbers in beyond.items():
        if numbers:
            edge, inward = (scene.low, 1) if below else (scene.high, -1)
            at = edge + inward * (0.045 if edge == scene.worse else 0.015) * span
            axes.scatter(numbers, [at] * len(numbers), marker="v" if below else "^", **grey)
    if crashed:
        at = scene.worse + (1 if scene.worse == scene.low else -1) * 0.013 * span
        crowd = len(crashed) > _CROWD
        red: dict[str, Any] = {"s": 24, "c": _CRASH, "linewidths": 1.4, "zorder": 4}
        if crowd:
            red |= {"linewidths": 0.4, "alpha": 0.5}
        axes.scatter(crashed, [at] * len(crashed), marker="|" if crowd else "x", **red)
    return ({"crash"} if crashed else set()) | ({"beyond"} if any(beyond.values()) else set())


def _incumbents(axes: Any, scene: Scene) -> set[str]:
    """The incumbent's level as a step line, and the interval of each level."""
    known = [(x, e) for x, e in zip(scene.xs, scene.levels, strict=True) if e.mean is not None]
    if not known:
        return set()
    ends = [*(x for x, _ in known[1:]), scene.last + 0.7 * scene.pad]
    xs = [x for (start, _), end in zip(known, ends, strict=True) for x in (start, end)]
    means = [e.mean or 0.0 for _, e in known for _ in range(2)]
    halves = [half_width(e, scene.noise) for _, e in known for _ in range(2)]
    axes.plot(xs, means, color=_LINE, linewidth=2.0, solid_joinstyle="miter", zorder=5)
    if not any(halves):
        return {"incumbent"}
    low = [m - h for m, h in zip(means, halves, strict=True)]
    high = [m + h for m, h in zip(means, halves, strict=True)]
    axes.fill_between(xs, low, high, color=_BAND, alpha=0.30, linewidth=0, zorder=1.5)
    return {"incumbent", "band"}


def _drift(axes: Any, scene: Scene) -> set[str]:
    """The line that each incumbent's re-runs follow."""
    for line in scene.drift:
        xs, ys = zip(*line, strict=True)
        axes.plot(xs, ys, color=_DRIFT, linewidth=1.3, linestyle=(0, (2, 2)), zorder=5.5)
    return {"drift"} if scene.drift else set()


def _phases(axes: Any, scene: Scene) -> None:
    """Where each phase began, and its name above the frame as far as there is room."""
    left, right = axes.get_xlim()
    for place, phase in enumerate(scene.phases):
        begin = phase.first - 0.5 if place else left  # the first began with the study
        if begin > scene.last + 0.5:
            continue
        end = min(right, (scene.last if phase.last is None else phase.last) + 0.5)
        if begin > left:
            style: dict[str, Any] = {"color": _SOFT, "linewidth": 0.8, "alpha": 0.6}
            axes.axvline(begin, linestyle=(0, (2, 3)), zorder=1, **style)
        room = int((end - max(begin, left)) / (right - left) * _ACROSS)
        if room >= 4:
            axes.text(
                max(begin, left) + 0.004 * (right - left), 1.004, clean(phase.name, min(room, 60)),
                transform=axes.get_xaxis_transform(), va="bottom", fontsize=8.5, style="italic",
                color=_SOFT,
            )  # fmt: skip


def _headline(figure: Any, scene: Scene) -> None:
    history, sigma = scene.history, scene.noise.sigma
    title = f"{clean(history.study.tag, 40)}  ·  {clean(scene.metric, 40)}"
    whole = claims.gain(history, scene.chain, scene.noise)
    first = scene.levels[0].mean if scene.levels else None
    if whole is not None:
        title += f"  {number(first, sigma)} → {number(scene.levels[-1].mean, sigma)}"
        under = f"gain {number(whole.effect, sigma)}"
        if whole.low is not None and not scene.noise.deterministic:
            under += f" ({whole.level * 100:.0f} %: {number(whole.low, sigma)}"
            under += f" to {number(whole.high, sigma)})"
            word = finalized(history)
            under += f", finalized: {word}" if word else ", provisional"
    else:
        title += f"  {number(first, sigma)}" if first is not None else "  not measured yet"
        under = "nothing kept yet" if tried(history) else "the baseline alone"
    done = len(history.settled())
    counts = history.counts
    kept = max(0, len(scene.chain) - 1)
    runs, _, device_s = views.searched(history)
    under += (
        f"  ·  {count(done, 'experiment')}, {kept} kept, {counts.inconclusive} inconclusive, "
        f"{counts.crash} crashed  ·  {count(runs, 'run')}, "
        f"{duration(device_s)}"
    )
    _fitted(figure, 0.955, title, color=_INK, fontsize=15, fontweight="bold")
    _fitted(figure, 0.905, under, color=_SOFT, fontsize=10)


def _fitted(figure: Any, y: float, words: str, **style: Any) -> None:
    """A line of text across the figure, smaller where it would not fit."""
    text = figure.text(0.02, y, words, va="center", **style)
    width = text.get_window_extent(figure.canvas.get_renderer()).width
    room = 0.96 * figure.bbox.width
    if width > room:
        text.set_fontsize(style["fontsize"] * room / width)


def _legend(figure: Any, drawn: set[str]) -> None:
    """A line of what is to be seen, and nothing else."""
    from matplotlib.lines import Line2D  # noqa: PLC0415
    from matplotlib.patches import Patch  # noqa: PLC0415

    def mark(label: str, marker: str, colour: str, size: float, **style: Any) -> Any:
        return Line2D([], [], marker=marker, color=colour, ls="", ms=size, label=label, **style)

    handles = {
        "keep": mark("keep", "o", _KEEP, 7.5, mec=_PAPER),
        "discard": mark("discard", "o", _DISCARD, 5, mew=0),
        "inconclusive": mark("inconclusive", "D", _OPEN, 5, mew=0),
        "crash": mark("crash", "x", _CRASH, 5),
        "beyond": mark("off the scale", "^", _DISCARD, 5, mew=0),
        "runs": mark("single runs", "o", _SOFT, 3, mew=0, alpha=0.5),
        "incumbent": Line2D([], [], color=_LINE, lw=2, label="incumbent"),
        "band": Patch(color=_BAND, alpha=0.3, lw=0, label=f"its {LEVEL * 100:.0f} % interval"),
        "again": mark("its re-runs", "o", _LINE, 4.5, mfc="none", alpha=0.7),
        "drift": Line2D([], [], color=_DRIFT, lw=1.3, ls=(0, (2, 2)), label="their drift"),
        "floor": Patch(color=_FLOOR, lw=0, label="baseline ± sd"),
    }
    shown = figure.legend(
        handles=[handle for name, handle in handles.items() if name in drawn],
        loc="center left",
        bbox_to_anchor=(0.012, 0.852),
        ncols=len(handles),
        frameon=False,
        fontsize=8.5,
        labelcolor=_SOFT,
        handlelength=1.2,
        handletextpad=0.4,
        columnspacing=1.1,
        borderpad=0,
    )
    width = shown.get_window_extent(figure.canvas.get_renderer()).width
    room = 0.975 * figure.bbox.width
    if width > room:
        for text in shown.get_texts():
            text.set_fontsize(8.5 * room / width * 0.97)
