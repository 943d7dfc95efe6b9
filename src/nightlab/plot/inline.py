"""The progress plot inside a page: SVG that takes its colours from the page's style sheet.

The same scene as the image. Points that the page lists are links to their row, with what there
is to say about them in a ``title``; the others are dots of one path, so that a study of ten
thousand experiments stays a small file. Everything is escaped here: the text is safe markup.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

from nightlab.model import Better, Experiment, Purpose, Verdict
from nightlab.plot.labels import Room, busy_of, nearest, steps
from nightlab.plot.scene import Scene, half_width
from nightlab.report import claims
from nightlab.report.schema import LEVEL
from nightlab.report.words import clean, number

WIDTH, HEIGHT = 1000, 470
_LEFT, _RIGHT, _TOP, _BOTTOM = 74, 14, 26, 44
_LABEL_PX = 11.5
_CHAR_EM = 0.56  # an advance that no usual system font exceeds on average
_RUNS = 4000  # single runs that are drawn at most

Spot = tuple[float, float]


@dataclass(frozen=True)
class Drawing:
    """``svg`` is safe markup; ``legend`` names what is to be seen, as (class, words).

    ``told`` points say what they are when they are asked, ``silent`` ones are dots only.
    """

    svg: str
    legend: tuple[tuple[str, str], ...]
    told: int
    silent: int


@dataclass(frozen=True)
class Frame:
    """Where the plot's data lie on the page, in pixels of the view box."""

    x0: float
    x1: float
    low: float
    high: float

    def x(self, value: float) -> float:
        share = (value - self.x0) / ((self.x1 - self.x0) or 1.0)
        return _LEFT + share * (WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        share = (value - self.low) / ((self.high - self.low) or 1.0)
        return HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM)

    def at(self, spot: Spot) -> Spot:
        return self.x(spot[0]), self.y(spot[1])


def draw(scene: Scene, listed: Collection[int], mark: tuple[float, str] | None = None) -> Drawing:
    """The study's progress; the experiments of ``listed`` can be asked and lead to their row.

    ``mark`` is a moment: between which experiments it was, and its words.
    """
    frame = Frame(1 - scene.pad, scene.last + scene.pad, scene.low, scene.high)
    drawn: dict[str, str] = {}
    back = [*_floor(scene, frame, drawn), *_phases(scene, frame, drawn), *_moment(frame, mark)]
    lines = [*_runs(scene, frame, drawn), *_incumbents(scene, frame, drawn)]
    points, silent = _points(scene, frame, set(listed), drawn)
    lower = scene.history.study.objective.better is Better.LOWER
    parts = [
        *axes(frame, scene.last, "experiment", lower=lower),
        *back,
        *lines,
        *silent[0],
        '<g class="points">',
        *points,
        "</g>",
        *_names(scene, frame),
    ]
    title = f"Progress of {clean(scene.metric, 60)} over {scene.last} experiments"
    return Drawing(svg(title, parts), _legend(drawn), len(points), silent[1])


def svg(title: str, parts: Iterable[str]) -> str:
    """The picture with its name for those who do not see it."""
    head = f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="group" '
    return head + f'aria-label="{escape(title)}">' + "\n".join(parts) + "</svg>"


# --- the frame --------------------------------------------------------------------------------


def axes(frame: Frame, last: int, along: str, *, lower: bool) -> Iterator[str]:
    """Grid, ticks, and which way is better."""
    foot = HEIGHT - _BOTTOM
    for value, words in ticks(frame.low, frame.high, 7):
        y = _n(frame.y(value))
        yield f'<path class="grid" d="M{_LEFT} {y}H{WIDTH - _RIGHT}"/>'
        yield f'<text class="tick end" x="{_LEFT - 8}" y="{y}" dy=".32em">{words}</text>'
    yield f'<path class="axis" d="M{_LEFT} {foot}H{WIDTH - _RIGHT}"/>'
    for value, words in [(1.0, "1"), *ticks(1, last, 10)]:
        if value == int(value) and (value > 1 or words == "1") and value <= last:
            yield f'<text class="tick mid" x="{_n(frame.x(value))}" y="{foot + 17}">{words}</text>'
    yield f'<text class="tick mid" x="{(_LEFT + WIDTH) / 2:.0f}" y="{HEIGHT - 6}">{along}</text>'
    words = "↓ lower is better" if lower else "↑ higher is better"
    place = f'x="{_LEFT + 6}" y="{foot - 8 if lower else _TOP + 14}"'
    yield f'<text class="way" {place}>{words}</text>'


def ticks(low: float, high: float, most: int) -> list[tuple[float, str]]:
    """Round numbers within the limits, at most about ``most``, each with its words."""
    span = high - low
    if not math.isfinite(span) or span <= 0:
        return [(low, f"{low:.6g}")]
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(s * power for s in (1, 2, 5, 10) if span / (s * power) <= most)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    found = [k * step for k in range(first, last + 1)]
    return [(v, f"{v:.{decimals}f}" if 1e-6 <= step < 1e9 else f"{v:.6g}") for v in found]


def _floor(scene: Scene, frame: Frame, drawn: dict[str, str]) -> Iterator[str]:
    if not scene.levels or scene.levels[0].mean is None:
        return
    mean, sigma = scene.levels[0].mean, scene.noise.sigma
    if sigma:
        top, foot = frame.y(min(mean + sigma, scene.high)), frame.y(max(mean - sigma, scene.low))
        wide = WIDTH - _LEFT - _RIGHT
        box = f'x="{_LEFT}" y="{_n(top)}" width="{wide}" height="{_n(max(foot - top, 1.0))}"'
        yield f'<rect class="floor" {box}/>'
        drawn["floor"] = "noise floor: baseline ± sd of one run"
    if scene.inside(mean):
        yield f'<path class="base" d="M{_LEFT} {_n(frame.y(mean))}H{WIDTH - _RIGHT}"/>'


def _phases(scene: Scene, frame: Frame, drawn: dict[str, str]) -> Iterator[str]:
    for place, phase in enumerate(scene.phases):
        # The first began with the study.
        left = max(frame.x(phase.first - 0.5), _LEFT) if place else _LEFT
        right = frame.x((scene.last if phase.last is None else phase.last) + 0.5)
        if phase.first > scene.last + 1:
            continue
        if left > _LEFT + 1:
            yield f'<path class="phase" d="M{_n(left)} {_TOP - 14}V{HEIGHT - _BOTTOM}"/>'
        room = int((min(right, WIDTH) - left - 8) / (_LABEL_PX * _CHAR_EM))
        if room >= 4:
            words = escape(clean(phase.name, min(room, 60)))
            yield f'<text class="name" x="{_n(left + 5)}" y="{_TOP - 8}">{words}</text>'
        drawn["phase"] = "phases of program.md"


def _moment(frame: Frame, mark: tuple[float, str] | None) -> Iterator[str]:
    if mark is not None:
        x = max(frame.x(mark[0]), _LEFT)
        yield f'<path class="moment" d="M{_n(x)} {_TOP}V{HEIGHT - _BOTTOM}"/>'
        side, at = ("end", x - 5) if x > WIDTH / 2 else ("", x + 5)
        words = escape(f"since {clean(mark[1], 40)}")
        yield f'<text class="way {side}" x="{_n(at)}" y="{HEIGHT - _BOTTOM - 8}">{words}</text>'


# --- what was measured ------------------------------------------------------------------------


def _incumbents(scene: Scene, frame: Frame, drawn: dict[str, str]) -> Iterator[str]:
    known = [(x, e) for x, e in zip(scene.xs, scene.levels, strict=True) if e.mean is not None]
    if not known:
        return
    ends = [*(x for x, _ in known[1:]), scene.last + 0.7 * scene.pad]
    path, above, below = [], [], []
    for (x, level), end in zip(known, ends, strict=True):
        mean, half = level.mean or 0.0, half_width(level, scene.noise)
        for at in (x, end):
            path.append(frame.at((at, mean)))
            above.append(frame.at((at, mean + half)))
            below.append(frame.at((at, mean - half)))
    if above != below:
        yield f'<path class="band" d="{path_of([*above, *reversed(below)])}Z"/>'
        drawn["band"] = f"its {LEVEL * 100:.0f} % interval"
    yield f'<path class="line" d="{path_of(path)}"/>'
    drawn["line"] = "incumbent"
    for line in scene.drift:
        yield f'<path class="drift" d="{path_of([frame.at(p) for p in line])}"/>'
    if scene.drift and scene.drifted is not None:
        clear = "significant" if scene.drifted.significant else "within noise"
        drawn["drift"] = f"their drift ({clear})"


def _runs(scene: Scene, frame: Frame, drawn: dict[str, str]) -> Iterator[str]:
    """Single runs behind their experiment's mean, and the incumbents' re-runs."""
    if scene.history.runs > _RUNS:
        return
    metric = scene.metric
    single: list[Spot] = []
    again: list[Spot] = []
    for experiment, _ in scene.points:
        every = claims.measured(experiment.runs, metric)
        own = [r for r in every if r.purpose is not Purpose.INCUMBENT]
        if len(own) > 1:
            single += [(experiment.number, r.metrics[metric]) for r in own]
        again += [(r.occasion, r.metrics[metric]) for r in every if r not in own]
    for name, spots, words in (
        ("runs", single, "single runs"),
        ("again", again, "its re-runs"),
    ):
        seen = [frame.at(s) for s in spots if scene.inside(s[1])]
        if seen:
            yield f'<path class="{name}" d="{dots(seen)}"/>'
            drawn[name] = words


def _points(
    scene: Scene, frame: Frame, listed: set[int], drawn: dict[str, str]
) -> tuple[list[str], tuple[list[str], int]]:
    """Links for what is listed; for the rest a path of dots a verdict, and how many they are."""
    told: list[str] = []
    silent: dict[str, list[Spot]] = {}
    words = {
        "keep": "keep",
        "discard": "discard",
        "inconclusive": "inconclusive",
        "crash": "crash",
        "beyond": "off the scale",
    }
    for experiment, mean in scene.points:
        mark, value = _mark(scene, experiment, mean)
        if mark is None:
            continue
        kind, at = mark
        drawn[kind] = words[kind]
        x, y = frame.at((experiment.number, at))
        if experiment.number not in listed:
            silent.setdefault(kind, []).append((x, y))
            continue
        up = at > (scene.low + scene.high) / 2
        words_of = _told(scene, experiment, value)
        told.append(link(kind, experiment.number, words_of, (x, y), up=up))
    paths = [f'<path class="dots {kind}" d="{dots(spots)}"/>' for kind, spots in silent.items()]
    return told, (paths, sum(map(len, silent.values())))


def _mark(
    scene: Scene, experiment: Experiment, mean: float | None
) -> tuple[tuple[str, float] | None, float | None]:
    """(kind of mark, its height) of an experiment, and its value."""
    span = scene.high - scene.low
    inward = 1 if scene.worse == scene.low else -1
    if experiment.verdict is Verdict.CRASH:
        return ("crash", scene.worse + inward * 0.015 * span), mean
    if mean is None or experiment.verdict is None:
        return None, mean
    if scene.inside(mean):
        return (experiment.verdict.value, mean), mean
    edge, way = (scene.low, 1) if mean < scene.low else (scene.high, -1)
    return ("beyond", edge + way * (0.05 if edge == scene.worse else 0.02) * span), mean


def link(kind: str, number: int, words: str, spot: Spot, *, up: bool = False) -> str:
    """A point that says what it is when it is asked, and leads to its row in the page."""
    shape = _shape(kind, *spot, up=up)
    return f'<a class="p {kind}" href="#e{number}"><title>{escape(words)}</title>{shape}</a>'


def _shape(kind: str, x: float, y: float, *, up: bool) -> str:
    if kind == "inconclusive":
        return f'<path d="M{_n(x)} {_n(y - 5)}l5 5-5 5-5-5z"/>'
    if kind == "crash":
        return f'<path d="M{_n(x - 3.5)} {_n(y - 3.5)}l7 7m0-7l-7 7"/>'
    if kind == "beyond":
        turn = "l4.5 8h-9z" if up else "l4.5-8h-9z"
        return f'<path d="M{_n(x)} {_n(y - 4 if up else y + 4)}{turn}"/>'
    return f'<circle cx="{_n(x)}" cy="{_n(y)}" r="{6 if kind == "keep" else 3.4}"/>'


def _told(scene: Scene, experiment: Experiment, value: float | None) -> str:
    """What a point says: number, verdict, value; what was claimed; what was decided."""
    claim, decision = experiment.claim, experiment.decision
    verdict = experiment.verdict.value if experiment.verdict else "open"
    first = f"exp {experiment.number} · {verdict}"
    if value is not None:
        first += f" · {clean(scene.metric, 40)} {number(value, scene.noise.sigma)}"
    lines = [first, clean(claim.description, 140)]
    if claim.hypothesis and clean(claim.hypothesis) != lines[1]:
        lines.append(clean(claim.hypothesis, 240))
    if decision is not None and decision.reason:
        lines.append(f"→ {clean(decision.reason, 200)}")
    return "\n".join(lines)


def _names(scene: Scene, frame: Frame) -> Iterator[str]:
    """Names beside the kept steps, where there is room."""
    import numpy as np  # noqa: PLC0415  loaded on use

    # The room counts upwards, the page downwards.
    busy = np.array([frame.at(spot) for spot in busy_of(scene)], dtype=float)
    busy[:, 1] = HEIGHT - busy[:, 1]
    lower = scene.sign < 0
    arrow = (_LEFT + 2, _BOTTOM, _LEFT + 130, _BOTTOM + 22)
    if not lower:
        arrow = (_LEFT + 2, HEIGHT - _TOP - 22, _LEFT + 130, HEIGHT - _TOP)
    room = Room(
        frame=(_LEFT, _BOTTOM, WIDTH - _RIGHT, HEIGHT - _TOP),
        taken=[arrow],
        busy=np.unique(np.round(busy / 2), axis=0) * 2,
        scale=1.0,
        up=not lower,
    )
    for x, mean, words in steps(scene):
        px, py = frame.at((x, mean))
        at = (px, HEIGHT - py)
        box = room.place(wide(words), _LABEL_PX * 1.25, at)
        if box is None:
            continue
        near = nearest(at, box)
        if math.dist(near, at) > 12:
            line = f"M{_n(px)} {_n(py)}L{_n(near[0])} {_n(HEIGHT - near[1])}"
            yield f'<path class="hair" d="{line}"/>'
        foot = _n(HEIGHT - box[1] - 3)
        yield f'<text class="step" x="{_n(box[0])}" y="{foot}">{escape(words)}</text>'


def wide(words: str) -> float:
    """How wide a label may be, in pixels."""
    ems = sum(1.0 if unicodedata.east_asian_width(c) in "WF" else _CHAR_EM for c in words)
    return ems * _LABEL_PX


def _legend(drawn: dict[str, str]) -> tuple[tuple[str, str], ...]:
    order = [
        "keep",
        "discard",
        "inconclusive",
        "crash",
        "beyond",
        "runs",
        "line",
        "band",
        "again",
        "drift",
        "floor",
        "phase",
    ]
    return tuple((name, drawn[name]) for name in order if name in drawn)


# --- paths ------------------------------------------------------------------------------------


def dots(spots: Iterable[Spot]) -> str:
    """A path that, stroked with round ends, is a dot at each place."""
    return "".join(f"M{_n(x)} {_n(y)}h0" for x, y in spots)


def path_of(spots: Sequence[Spot]) -> str:
    """A path from place to place."""
    return "M" + "L".join(f"{_n(x)} {_n(y)}" for x, y in spots)


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
