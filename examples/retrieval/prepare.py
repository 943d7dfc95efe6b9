"""The fixed half of the study: scenes, captions, boxes, folds. Nobody edits this file.

The data are made, not collected, so that they are small, free, and hard in a known way. A scene
shows two shapes that its caption speaks of, one or two that it does not, on an uneven ground.
An expert has drawn a box around each shape that the caption means: the boxes are what a
radiologist's gaze or a labeller's attention would be. Scenes come in groups of four whose captions
differ in one thing only (who stands where, who has which colour, one size or shape); a group is
never split between folds, so whoever is measured has to tell its four apart.

    data/pool.npz           10,000 pairs in five folds: four to learn from, one to be measured on
    data/test_queries.npz   2,000 images, 2,000 captions, in an order that does not tell the pairs
    heldout/answers.npz     which caption belongs to which test image

``python prepare.py`` writes them: some five seconds, the same on every call.
"""

import os
from pathlib import Path

import numpy as np

STEPS = int(os.environ.get("STEPS", "800"))  # of training, for every experiment alike
FOLDS = 5
SIDE = 32  # pixels; an image is (SIDE, SIDE, 3), uint8
CAPTION_LENGTH = 14  # tokens; 0 fills up
GROUP = 4
POOL_GROUPS = 2500
TEST_GROUPS = 500

HERE = Path(__file__).resolve().parent
DATA, HELD_OUT = HERE / "data", HERE / "heldout"

COLOURS = {
    "red": (205, 45, 45),
    "orange": (225, 125, 40),
    "yellow": (215, 200, 60),
    "green": (60, 165, 70),
    "cyan": (60, 170, 185),
    "blue": (55, 85, 200),
    "purple": (130, 60, 175),
    "pink": (215, 85, 155),
}
SHAPES = ("circle", "ring", "square", "diamond", "triangle", "cross")
SIZES = {"small": (("small", "little", "tiny"), 2.9), "large": (("large", "big"), 4.4)}
# A relation and its inverse; the first of each is how a scene is stored.
SIDES = {"beside": ("left of", "right of"), "over": ("above", "below")}
_WORDS = (
    *("a", "the", "is", "there", "to", "of", "left", "right", "above", "below"),
    *("small", "little", "tiny", "large", "big", *COLOURS, *SHAPES),
)
VOCABULARY = ("", *_WORDS)  # a token is a place in it
_GRID = np.arange(SIDE) + 0.5  # the middle of each pixel
_TOKEN = {word: at for at, word in enumerate(VOCABULARY)}


# ------------------------------------------------------------------- scenes and captions


def scene_groups(rng, count, taken):
    """``count`` groups of four scenes, no two with one meaning; ``taken`` grows by them.

    A scene is (how, first, second): ``how`` a key of SIDES, the others (size, colour, shape).
    """
    groups = []
    while len(groups) < count:
        how = _one_of(SIDES, rng)
        first, second = (_thing(rng) for _ in range(2))
        if first[1] == second[1]:
            continue
        (s1, c1, h1), (s2, c2, h2) = first, second
        if rng.random() < 0.5:
            changed = ("large" if s1 == "small" else "small", c1, h1)
        else:
            changed = (s1, c1, _one_of([h for h in SHAPES if h != h1], rng))
        group = [
            (how, first, second),
            (how, second, first),
            (how, (s1, c2, h1), (s2, c1, h2)),
            (how, changed, second),
        ]
        if len({*group}) < GROUP or taken & {*group}:
            continue
        taken |= {*group}
        groups.append(group)
    return groups


def _thing(rng):
    return tuple(_one_of(kind, rng) for kind in (SIZES, COLOURS, SHAPES))


def _one_of(kinds, rng):
    return list(kinds)[rng.integers(len(kinds))]


def caption(scene, rng):
    """One of the ways to say a scene."""
    how, first, second = scene
    relation, inverse = SIDES[how]
    if rng.random() < 0.5:
        first, second, relation = second, first, inverse
    if relation.endswith("of") and rng.random() < 0.5:
        relation = f"to the {relation}"
    a, b = (f"a {_one_of(SIZES[s][0], rng)} {c} {h}" for s, c, h in (first, second))
    return f"there is {a} {relation} {b}" if rng.random() < 0.3 else f"{a} {relation} {b}"


def encode(text):
    """Tokens (CAPTION_LENGTH,) of a caption, uint8. Raises KeyError for an unknown word."""
    tokens = [_TOKEN[word] for word in text.split()]
    return np.array(tokens + [0] * (CAPTION_LENGTH - len(tokens)), dtype=np.uint8)


def decode(tokens):
    return " ".join(VOCABULARY[t] for t in tokens if t)


# ------------------------------------------------------------------- rendering


def render(scene, rng):
    """Image (SIDE, SIDE, 3) and the expert's boxes (2, 4), x0 y0 x1 y1 in pixels, both uint8."""
    how, first, second = scene
    x, y = _GRID, _GRID[:, None]
    shades = rng.uniform(50, 190, 3)
    ground = shades[0] + (shades[1] - shades[0]) * x / SIDE + (shades[2] - shades[0]) * y / SIDE
    image = np.repeat(ground[..., None], 3, axis=2) + rng.uniform(-20, 20, 3)
    cells = _cells(how, rng)
    extras = [_thing(rng) for _ in range(rng.integers(1, 3))]
    boxes = np.zeros((2, 4))
    order = [(thing, i) for i, thing in enumerate((first, second, *extras))]
    for thing, i in reversed(order):  # what the caption means lies in front
        size, colour, shape = thing
        cx, cy = (np.array(cells[i][::-1]) + 0.5) * SIDE / 3 + rng.uniform(-1.6, 1.6, 2)
        radius = SIZES[size][1] * rng.uniform(0.88, 1.12)
        cover = np.clip(0.5 - _outside(shape, x - cx, y - cy, radius), 0, 1)[..., None]
        paint = np.array(COLOURS[colour]) * rng.uniform(0.75, 1.2) + rng.uniform(-18, 18, 3)
        image = image * (1 - cover) + paint * cover
        if i < 2:
            boxes[i] = np.array([cx - radius, cy - radius, cx + radius, cy + radius])
    if rng.random() < 0.5:  # the expert does not say which is which
        boxes = boxes[::-1]
    boxes = np.rint(boxes + rng.normal(0, 0.7, boxes.shape))
    image = image + rng.normal(0, 14, image.shape)
    return (
        np.clip(np.rint(image), 0, 255).astype(np.uint8),
        np.clip(boxes, 0, SIDE).astype(np.uint8),
    )


def _cells(how, rng):
    """Places (row, column) on a 3 x 3 grid: the first two as the relation says, then the rest."""
    line = rng.integers(0, 3)
    near, far = ((0, 1), (0, 2), (1, 2))[rng.integers(3)]
    pair = [(line, near), (line, far)] if how == "beside" else [(near, line), (far, line)]
    rest = [(r, c) for r in range(3) for c in range(3) if (r, c) not in pair]
    return pair + [rest[i] for i in rng.permutation(len(rest))]


def _outside(shape, dx, dy, radius):
    """Distance in pixels to the outline of a shape, negative inside."""
    ax, ay = np.abs(dx), np.abs(dy)
    if shape == "circle":
        return np.hypot(dx, dy) - radius
    if shape == "ring":
        return np.abs(np.hypot(dx, dy) - 0.75 * radius) - 0.3 * radius
    if shape == "square":
        return np.maximum(ax, ay) - 0.85 * radius
    if shape == "diamond":
        return (ax + ay - 1.15 * radius) / np.sqrt(2)
    if shape == "triangle":
        return np.maximum(dy - 0.7 * radius, (2 * ax - dy - radius) / np.sqrt(5))
    bar = 0.34 * radius  # a cross
    return np.minimum(np.maximum(ax - bar, ay - radius), np.maximum(ay - bar, ax - radius))


# ------------------------------------------------------------------- files and folds


def make():
    """Everything, as arrays: (pool, test queries, answers)."""
    taken = set()
    # Drawn from one stream, so that no caption of the pool means what one of the test means.
    rng = np.random.default_rng(20260)
    pool = _drawn(scene_groups(rng, POOL_GROUPS, taken), rng)
    # A group belongs to one fold, whatever the order of the folds.
    pool["fold"] = np.repeat(rng.permutation(POOL_GROUPS) % FOLDS, GROUP).astype(np.uint8)
    test = _drawn(scene_groups(rng, TEST_GROUPS, taken), rng)
    images, captions = (rng.permutation(TEST_GROUPS * GROUP) for _ in range(2))
    queries = {
        "images": test["images"][images],
        "boxes": test["boxes"][images],
        "captions": test["captions"][captions],
    }
    return pool, queries, {"caption_of": np.argsort(captions)[images]}


def _drawn(groups, rng):
    scenes = [scene for group in groups for scene in group]
    pictures, boxes = zip(*(render(scene, rng) for scene in scenes), strict=True)
    captions = np.stack([encode(caption(scene, rng)) for scene in scenes])
    return {"images": np.stack(pictures), "boxes": np.stack(boxes), "captions": captions}


def prepare():
    """Write the files that are not there yet."""
    files = (DATA / "pool.npz", DATA / "test_queries.npz", HELD_OUT / "answers.npz")
    if all(file.is_file() for file in files):
        return
    for file, arrays in zip(files, make(), strict=True):
        file.parent.mkdir(exist_ok=True)
        draft = file.with_suffix(f".{os.getpid()}")
        with draft.open("wb") as stream:
            np.savez(stream, **arrays)
        draft.replace(file)


def fold_of(seed):
    """The fold that a run is measured on. It goes by the seed, so the folds take turns.

    ``RETRIEVAL_FOLD`` in the environment fixes it.
    """
    return int(os.environ.get("RETRIEVAL_FOLD", seed)) % FOLDS


def load_train(fold):
    """What a run may learn from: images, boxes, captions of the other four folds, row by row."""
    pool = _read(DATA / "pool.npz")
    rows = np.flatnonzero(pool["fold"] != fold)
    return {name: pool[name][rows] for name in ("images", "boxes", "captions")}


def load_queries(split, fold):
    """Images, boxes and captions to embed, ``split`` "val" or "test". Rows are no pairs."""
    if split == "test":
        return _read(DATA / "test_queries.npz")
    pool = _read(DATA / "pool.npz")
    images, captions = val_orders(pool["fold"], fold)
    return {
        "images": pool["images"][images],
        "boxes": pool["boxes"][images],
        "captions": pool["captions"][captions],
    }


def val_orders(folds, fold):
    """Rows of the pool in the order in which the fold's images are asked, and its captions."""
    rows = np.flatnonzero(folds == fold)
    rng = np.random.default_rng([20261, fold])
    return rng.permutation(rows), rng.permutation(rows)


def caption_of(split, fold):
    """For each image of ``load_queries`` the row of its caption: the evaluator's knowledge."""
    if split == "test":
        return _read(HELD_OUT / "answers.npz")["caption_of"]
    images, captions = val_orders(_read(DATA / "pool.npz")["fold"], fold)
    place = {row: at for at, row in enumerate(captions.tolist())}
    return np.array([place[row] for row in images.tolist()])


def artifact_folder():
    """Where training leaves its embeddings, and the evaluator finds them."""
    return Path(os.environ.get("NIGHTLAB_ARTIFACT", HERE / "out"))


def _read(file):
    if not file.is_file():
        raise FileNotFoundError(f"{file} is not there: run python prepare.py")
    with np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)


if __name__ == "__main__":
    prepare()
    pool = _read(DATA / "pool.npz")
    print(f"pool {len(pool['fold'])} pairs, by fold {np.bincount(pool['fold']).tolist()}")
    print(f"test {len(load_queries('test', 0)['images'])} pairs")
    for tokens in pool["captions"][:GROUP]:
        print(f"  {decode(tokens)}")
