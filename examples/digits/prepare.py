"""The fixed half of the study: the data and the evaluation. Nobody edits this file.

The data are real: 1,797 scanned handwritten digits of 8 x 8 pixels, ten classes
(README.md names the source and the licence). Each image belongs to one split for ever:

    train   500   what ``train.py`` learns from; few on purpose, so that overfitting is real
    val     600   what every experiment is measured on
    test    697   read once at the very end, when ``NIGHTLAB_SPLIT=test`` asks for it

``python prepare.py`` checks the file and prints the splits.
"""

import hashlib
import os
from pathlib import Path

import numpy as np

TIME_BUDGET = float(os.environ.get("TIME_BUDGET", "2.5"))  # seconds of training
NUM_CLASSES = 10
SIDE = 8  # pixels; an image is (SIDE, SIDE)

_FILE = Path(__file__).resolve().parent / "digits.csv.gz"
_SIZES = {"train": 500, "val": 600, "test": 697}


def splits():
    """Row numbers of each split: disjoint, covering, and the same on every machine.

    Rows are ordered by a hash of their content, so the split depends on nothing but the
    images themselves: no random generator, no order of the file.
    """
    keys = [hashlib.sha256(row.tobytes()).digest() for row in _rows()]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    cuts = np.cumsum(list(_SIZES.values()))
    return dict(zip(_SIZES, np.split(np.array(order), cuts[:-1]), strict=True))


def load(split):
    """Images (n, 8, 8) as float32 in 0..1 and labels (n,) as int64."""
    rows = _rows()[splits()[split]]
    images = rows[:, :-1].reshape(-1, SIDE, SIDE).astype(np.float32) / 16
    return images, rows[:, -1].astype(np.int64)


def evaluate(predict):
    """The study's metrics: mean cross-entropy in nats, and accuracy, on held-out images.

    ``predict`` maps images (n, 8, 8), float32 in 0..1, to logits (n, 10). Returns
    ``val_loss`` and ``val_accuracy``; with ``NIGHTLAB_SPLIT=test`` in the environment also
    ``test_loss`` and ``test_accuracy``. Raises ValueError on logits of another shape.
    """
    metrics = _measure("val", predict)
    if os.environ.get("NIGHTLAB_SPLIT") == "test":
        metrics |= _measure("test", predict)
    return metrics


def _measure(split, predict):
    images, labels = load(split)
    logits = np.asarray(predict(images), dtype=np.float64)
    if logits.shape != (len(images), NUM_CLASSES):
        raise ValueError(f"predict gave {logits.shape}, not {(len(images), NUM_CLASSES)}")
    logits = logits - logits.max(axis=1, keepdims=True)
    log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return {
        f"{split}_loss": float(-log_probs[np.arange(len(labels)), labels].mean()),
        f"{split}_accuracy": float((log_probs.argmax(axis=1) == labels).mean()),
    }


def _rows():
    """The file: one image per row, 64 pixels of 0..16, then the label."""
    return np.loadtxt(_FILE, delimiter=",", dtype=np.uint8)


if __name__ == "__main__":
    for name, rows in splits().items():
        counts = np.bincount(load(name)[1], minlength=NUM_CLASSES)
        print(f"{name:6s}{len(rows):5d} images, per class {counts.tolist()}")
