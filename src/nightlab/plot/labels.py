"""Names beside the kept steps, placed so that none covers another."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from nightlab.plot.scene import Scene
from nightlab.report.words import clean

_LABELS = 14
_CHARS = 34
_INK, _SOFT, _PAPER = "#1f2430", "#5d6472", "#ffffff"

_Box = tuple[float, float, float, float]  # left, bottom, right, top in pixels


def name_steps(figure: Any, axes: Any, scene: Scene, arrow: Any) -> None:
    """Name the kept steps on the better, empty side of the line, the largest first.

    None may overlap another, nor may its hairline cross one; what finds no place has no label.
    """
    import numpy as np  # noqa: PLC0415
    from matplotlib.patheffects import withStroke  # noqa: PLC0415

    renderer, scale = figure.canvas.get_renderer(), figure.dpi / 72.0
    busy = axes.transData.transform(np.array(busy_of(scene), dtype=float))
    room = Room(
        frame=_box_of(axes.get_window_extent(renderer)),
        taken=[_box_of(arrow.get_window_extent(renderer))],
        busy=np.unique(np.round(busy / (2 * scale)), axis=0) * (2 * scale),
        scale=scale,
        up=scene.sign > 0,
    )
    for x, mean, words in steps(scene):
        text = axes.annotate(
            words,
            (x, mean),
            xytext=(0, 0),
            textcoords="offset points",
            fontsize=8.5,
            color=_INK,
            zorder=10,
            annotation_clip=False,
            path_effects=[withStroke(linewidth=2.2, foreground=_PAPER, alpha=0.85)],
        )
        size = text.get_window_extent(renderer)
        at = axes.transData.transform((x, mean))
        box = room.place(size.width, size.height, at)
        if box is None:
            text.remove()
            continue
        text.set_position(((box[0] - at[0]) / scale, (box[1] - at[1]) / scale))
        near = nearest(at, box)
        if math.dist(near, at) > 9 * scale:
            ends = axes.transData.inverted().transform([tuple(at), near])
            axes.plot(ends[:, 0], ends[:, 1], color=_SOFT, linewidth=0.6, alpha=0.7, zorder=4.5)


def steps(scene: Scene) -> list[tuple[int, float, str]]:
    """(x, level, words) of the keeps to name, the largest step first."""
    found = []
    for before, x, level, experiment in zip(
        scene.levels, scene.xs[1:], scene.levels[1:], scene.chain[1:], strict=False
    ):
        if level.mean is not None and scene.inside(level.mean):
            size = abs(level.mean - (before.mean or 0.0))
            words = clean(experiment.claim.description, _CHARS)
            found.append((size, (x, level.mean, words)))
    found.sort(key=lambda pair: -pair[0])
    return [step for _, step in found[:_LABELS]]


def busy_of(scene: Scene) -> list[tuple[float, float]]:
    """Places that a label should not cover: experiments, and the line of the incumbents."""
    spots = []
    for experiment, mean in scene.points:
        if mean is not None and scene.inside(mean):
            spots.append((float(experiment.number), mean))
    step = max(scene.last / 250.0, 0.25)
    previous = None
    for x, level, end in zip(scene.xs, scene.levels, [*scene.xs[1:], scene.last], strict=False):
        if level.mean is None:
            continue
        spots += [(x + k * step, level.mean) for k in range(int((end - x) / step) + 1)]
        if previous is not None:
            spots += [(x, previous + (level.mean - previous) * k / 12) for k in range(12)]
        previous = level.mean
    return spots or [(0.0, 0.0)]


@dataclass
class Room:
    """Where labels may go: pixels of the frame, boxes taken, points better left uncovered."""

    frame: _Box
    taken: list[_Box]
    busy: Any  # array of (x, y)
    scale: float  # pixels per point
    up: bool  # the side of the point on which labels stand

    def place(self, width: float, height: float, at: Any) -> _Box | None:
        """Take the cheapest free place for a label of the point ``at``; None if there is none.

        Near is cheap; covering points, and a hairline through the line's points, cost as
        much as a longer way.
        """
        found, least = None, math.inf
        for away in (7, 14, 24, 36, 50, 66, 84, 104, 126, 150):
            low = at[1] + away * self.scale if self.up else at[1] - away * self.scale - height
            for along in (-1.0, -0.8, -0.5, -0.2, 0.0):
                for shift in (-60, -30, -6, 6, 30, 60):
                    left = at[0] + along * width + shift * self.scale
                    box = (left, low, left + width, low + height)
                    cost = self._cost(box, at)
                    if cost < least:
                        found, least = box, cost
        if found is not None:
            self.taken.append(found)
            # Its hairline is taken too, as a chain of specks.
            self.taken += [(x, y, x, y) for x, y in _between(at, nearest(at, found))]
        return found

    def _cost(self, box: _Box, at: Any) -> float:
        gap, frame = 3 * self.scale, self.frame
        inside = box[0] >= frame[0] and box[2] <= frame[2]
        if not inside or box[1] < frame[1] or box[3] > frame[3]:
            return math.inf
        if any(_overlap(box, other, gap) for other in self.taken):
            return math.inf
        near = nearest(at, box)
        line = _between(at, near)
        if any(_overlap((x, y, x, y), other, 1.0) for x, y in line for other in self.taken):
            return math.inf
        xs, ys = self.busy[:, 0], self.busy[:, 1]
        wide = (xs > box[0] - gap) & (xs < box[2] + gap)
        covered = int((wide & (ys > box[1] - gap) & (ys < box[3] + gap)).sum())
        return math.dist(near, at) / self.scale + 12.0 * min(covered, 50)


def _box_of(extent: Any) -> _Box:
    return extent.x0, extent.y0, extent.x1, extent.y1


def nearest(at: Any, box: _Box) -> tuple[float, float]:
    """The place of a box that is nearest to a point."""
    return min(max(at[0], box[0]), box[2]), min(max(at[1], box[1]), box[3])


def _between(start: Any, end: tuple[float, float]) -> list[tuple[float, float]]:
    """Places along a hairline, close enough that no text fits between; not its first ones."""
    pieces = 2 + int(math.dist(start, end) / 10)
    shares = [k / pieces for k in range(2, pieces + 1)]
    return [
        (start[0] + (end[0] - start[0]) * s, start[1] + (end[1] - start[1]) * s) for s in shares
    ]


def _overlap(a: _Box, b: _Box, gap: float) -> bool:
    apart = a[2] + gap < b[0] or a[0] - gap > b[2] or a[3] + gap < b[1] or a[1] - gap > b[3]
    return not apart
