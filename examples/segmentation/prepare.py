"""The fixed half of the study: the layers, their splits and the evaluation. Nobody edits this file.

A layer is one slice of a 3-D print, 48 x 48 pixels of 0.4 mm (the width of one extruded line):

    nominal  what should be there: the part's mask, as the slicer drew it
    printed  what the camera saw: displaced, turned, scaled, a little warped, unevenly lit, noisy
    part     the mask of the nominal part in the camera's frame, as a person would outline it
    defect   gaps, blobs, scars and strings in the camera's frame: what is to be found

Everything is generated, each layer from a seed of its own, so it belongs to one split for ever:

    train   320   what ``train.py`` learns from
    val     160   what every experiment is measured on
    test    320   images in data/, truth in hidden/: read once, by ``evaluate.py``, at the end

``python prepare.py`` writes data/ and hidden/ (a few seconds, once). ``STEPS`` bounds a run, so
that its result depends on the code and the seed, not on what else the machine does; TIME_BUDGET
is a limit beyond that.
"""

import math
import os
from pathlib import Path

import numpy as np

SIDE = 48  # pixels; an image is (SIDE, SIDE)
STEPS = 300  # optimizer steps of one run
BATCH = 16  # layers a step
TOLERANCE_PX = 1.0  # of PBQC: one pixel is one extruded line
TIME_BUDGET = float(os.environ.get("TIME_BUDGET", "120"))  # seconds; a limit, see above
SIZES = {"train": 320, "val": 160, "test": 320}

_HERE = Path(__file__).resolve().parent
_FIRST = {"train": 100_000, "val": 200_000, "test": 300_000}  # seed of a split's first layer
_INPUTS = ("nominal", "printed")
_TRUTH = ("grid", "contour", "defect")  # what ``score`` needs
_FILES = {
    "train": {"data": (*_INPUTS, "part", "defect")},
    "val": {"data": (*_INPUTS, *_TRUTH)},
    "test": {"data": _INPUTS, "hidden": _TRUTH},
}


# ------------------------------------------------------------------- what a run uses


def load(split):
    """The arrays of a split, by name.

    Images are (n, 48, 48) float32 in 0..1: ``nominal`` and ``printed`` always, ``part`` and
    ``defect`` for training. ``test`` has no more than the images: its truth is elsewhere.
    """
    arrays = dict(np.load(_file("data", split)))
    if split == "val":
        arrays = {name: arrays[name] for name in _INPUTS}
    return {name: a.astype(np.float32) / 255 for name, a in arrays.items()}


def evaluate(predict):
    """The study's metrics on the 160 layers of val; see ``score``.

    ``predict`` maps ``nominal`` and ``printed``, (n, 48, 48) float32 each, to ``grid``
    (n, 48, 48, 2) and ``defect`` (n, 48, 48): where in the nominal image each camera pixel
    comes from, as (x, y) with -1 and 1 at the image's borders, and the probability that it is
    defective.
    """
    arrays = dict(np.load(_file("data", "val")))
    inputs = [arrays[name].astype(np.float32) / 255 for name in _INPUTS]
    return score(arrays, *predict(*inputs))


def score(truth, grid, defect):
    """``pbqc``, ``dice`` and two metrics to look at, for predictions on a split.

    ``pbqc``, alignment: the mean over layers of the mean over the pixels c of the true contour of

        exp(-d(c)^2 / (2 * TOLERANCE_PX^2)),   d(c) = |grid(c) - true grid(c)| in pixels:

    1 for perfect alignment, 0.61 for a line's width beside it everywhere, 0.01 for three.
    ``dice``: 2 * both / (predicted + true) over all pixels of all layers at a threshold of 0.5.
    ``contour_px`` is the mean of d, ``false_alarms`` the share of sound pixels called defective.
    All are NaN where a prediction is not finite. Raises ValueError on one of another shape.
    """
    count = len(truth["defect"])
    shapes = {"grid": (count, SIDE, SIDE, 2), "defect": (count, SIDE, SIDE)}
    given = {"grid": np.asarray(grid, float), "defect": np.asarray(defect, float)}
    for name, shape in shapes.items():
        if given[name].shape != shape:
            raise ValueError(f"{name} has shape {given[name].shape}, not {shape}")
    if not all(np.isfinite(values).all() for values in given.values()):
        return dict.fromkeys(("pbqc", "dice", "contour_px", "false_alarms"), math.nan)
    away = np.linalg.norm(given["grid"] - truth["grid"], axis=-1) * SIDE / 2
    contour = truth["contour"] > 0
    near = np.exp(-(away**2) / (2 * TOLERANCE_PX**2))
    said, real = given["defect"] > 0.5, truth["defect"] > 0
    return {
        "pbqc": _mean_over_layers(near, contour),
        "dice": float(2 * (said & real).sum() / (said.sum() + real.sum())),
        "contour_px": _mean_over_layers(away, contour),
        "false_alarms": float((said & ~real).sum() / (~real).sum()),
    }


def _mean_over_layers(values, where):
    return float(((values * where).sum((1, 2)) / where.sum((1, 2))).mean())


def identity():
    """The grid (48, 48, 2) that displaces nothing: (x, y) of every pixel's centre."""
    line = (2 * np.arange(SIDE) + 1) / SIDE - 1
    return np.stack(np.meshgrid(line, line), axis=-1)


# ------------------------------------------------------------------- how layers are made


def layer(seed):
    """One layer, by name: its images and masks (48, 48), and the true ``grid`` (48, 48, 2)."""
    rng = np.random.default_rng(seed)
    design = _design(rng)
    grid = _displacement(rng)
    outside = _distance(design, grid)  # pixels, negative inside the part
    part = np.clip(0.5 - outside, 0, 1)
    gap, extra, scar = _defects(rng, outside)
    material = np.clip(part - gap, 0, 1)
    material = np.maximum(material, extra)
    return {
        "nominal": np.clip(0.5 - _distance(design, identity()), 0, 1),
        "printed": _photograph(rng, grid, material, outside, scar),
        "part": part,
        "defect": np.maximum.reduce([gap * (part > 0.5), extra * (part < 0.5), scar]) > 0.4,
        "contour": np.abs(outside) < 0.7,
        "grid": grid,
    }


def _design(rng):
    """Bodies and holes: (kind, centre, half sizes, angle) each, in the nominal frame."""
    bodies = [
        (
            rng.integers(2),
            rng.uniform(-0.3, 0.3, 2),
            rng.uniform(0.2, 0.5, 2),
            rng.uniform(0, np.pi),
        )
        for _ in range(rng.integers(1, 4))
    ]
    pins = [(0, rng.uniform(-0.6, 0.6, 2), np.full(2, rng.uniform(0.06, 0.12)), 0.0)]
    holes = [
        (0, rng.uniform(-0.35, 0.35, 2), np.full(2, rng.uniform(0.07, 0.16)), 0.0)
        for _ in range(rng.integers(1, 4))
    ]
    return bodies + pins[: rng.integers(2)], holes


def _distance(design, grid):
    """About the signed distance to the part's contour in pixels at the places ``grid``."""
    bodies, holes = ([_one(shape, grid) for shape in some] for some in design)
    outside = np.minimum.reduce(bodies)
    return np.maximum.reduce([outside, *(-hole for hole in holes)]) * SIDE / 2


def _one(shape, grid):
    kind, centre, half, angle = shape
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    p = np.abs((grid - centre) @ turn)
    if kind == 0:  # an ellipse
        reach = np.linalg.norm(p / half, axis=-1)
        return (reach - 1) * half.min()
    beyond = p - half  # a box
    return np.linalg.norm(np.maximum(beyond, 0), axis=-1) + np.minimum(beyond.max(-1), 0)


def _displacement(rng):
    """Camera frame to nominal frame: up to 5 pixels, 9 degrees, 7 %, and a smooth warp of up to
    0.8 pixels, as a part has that cools unevenly."""
    shift, turn = rng.uniform(-5, 5, 2) * 2 / SIDE, np.deg2rad(rng.uniform(-9, 9))
    scale = np.exp(rng.uniform(-0.07, 0.07))
    linear = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    points = identity()
    waves = rng.uniform(1.0, 2.2, (2, 2)), rng.uniform(0, 2 * np.pi, 2)
    warp = np.sin(points @ waves[0] + waves[1]) * rng.uniform(-0.8, 0.8, 2) * 2 / SIDE
    return points @ linear.T + shift + warp


def _defects(rng, outside):
    """Soft masks of missing material, extra material and scars, in the camera's frame."""
    gap, extra, scar = np.zeros((3, SIDE, SIDE))
    inner, outer = np.argwhere(outside < -1.5), np.argwhere((outside > 0.5) & (outside < 4))
    for kind in rng.choice(4, rng.integers(0, 6)):
        places = inner if kind in (0, 2) else outer
        if not len(places):
            continue
        y, x = places[rng.integers(len(places))]
        if kind == 0:
            gap = np.maximum(gap, _spot(rng, x, y, 1.6, 3.4))
        elif kind == 1:
            extra = np.maximum(extra, _spot(rng, x, y, 1.6, 3.4))
        elif kind == 2:
            scar = np.maximum(scar, _stroke(rng, x, y, 0.9) * (outside < -0.5))
        else:
            extra = np.maximum(extra, 0.8 * _stroke(rng, x, y, 0.8))
    return gap, extra * (outside > -0.5), scar


def _spot(rng, x, y, low, high):
    yy, xx = np.mgrid[:SIDE, :SIDE]
    a, b, turn = *rng.uniform(low, high, 2), rng.uniform(0, np.pi)
    u = (xx - x) * np.cos(turn) + (yy - y) * np.sin(turn)
    v = -(xx - x) * np.sin(turn) + (yy - y) * np.cos(turn)
    return np.clip(1.5 - np.hypot(u / a, v / b), 0, 1)


def _stroke(rng, x, y, half):
    yy, xx = np.mgrid[:SIDE, :SIDE]
    turn, length = rng.uniform(0, np.pi), rng.uniform(3, 8)
    along = (xx - x) * np.cos(turn) + (yy - y) * np.sin(turn)
    across = -(xx - x) * np.sin(turn) + (yy - y) * np.cos(turn)
    return np.clip(half + 0.5 - np.hypot(np.maximum(np.abs(along) - length, 0), across), 0, 1)


def _photograph(rng, grid, material, outside, scar):
    """Light, infill stripes, the brighter wall, reflections, blur by the pixel, noise."""
    yy, xx = identity()[..., 1], identity()[..., 0]
    period, turn = rng.uniform(0.14, 0.2), np.pi / 4 * rng.choice([1, 3])
    stripes = np.sin(2 * np.pi / period * (grid @ [np.cos(turn), np.sin(turn)]))
    wall = np.exp(-((outside + 1) ** 2))
    surface = 0.66 + 0.05 * stripes * (outside < -1.5) + 0.06 * wall - 0.16 * scar
    plate = 0.34 + 0.05 * np.sin(2 * np.pi * (xx * rng.uniform(1, 3) + rng.uniform(0, 1)))
    image = material * surface + (1 - material) * plate
    slope = rng.uniform(-0.12, 0.12, 2)
    image = image * rng.uniform(0.75, 1.25) + slope[0] * xx + slope[1] * yy
    for _ in range(rng.integers(0, 3)):
        x, y = rng.uniform(-1, 1, 2)
        image = image + rng.uniform(0.05, 0.2) * np.exp(-((xx - x) ** 2 + (yy - y) ** 2) / 0.02)
    return np.clip(image + rng.normal(0, 0.04, image.shape), 0, 1)


# ------------------------------------------------------------------- files


def _file(folder, split):
    path = _HERE / folder / f"{split}.npz"
    if not path.exists():
        raise SystemExit(f"{folder}/{split}.npz is missing: run `python prepare.py` first")
    return path


def _stored(names, layers):
    """Images as bytes, the grid as it is."""
    arrays = {name: np.stack([one[name] for one in layers]) for name in names}
    return {
        name: a.astype(np.float32) if name == "grid" else np.round(a * 255.0).astype(np.uint8)
        for name, a in arrays.items()
    }


def make(split):
    """Generate one split and write its files."""
    layers = [layer(_FIRST[split] + i) for i in range(SIZES[split])]
    for folder, names in _FILES[split].items():
        (_HERE / folder).mkdir(exist_ok=True)
        np.savez_compressed(_HERE / folder / f"{split}.npz", **_stored(names, layers))


if __name__ == "__main__":
    for name, count in SIZES.items():
        paths = [_HERE / folder / f"{name}.npz" for folder in _FILES[name]]
        if not all(path.exists() for path in paths):
            make(name)
        share = (np.load(paths[-1])["defect"] > 0).mean()
        print(f"{name:6s}{count:5d} layers, {share:.1%} of pixels defective")
