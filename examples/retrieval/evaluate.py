"""Ranks, from the embeddings that training left. Nobody edits this file.

Training writes ``val.npz`` and ``test.npz``, each with ``images`` (n, d) and ``captions`` (n, d),
in the order of ``prepare.load_queries``. Which caption belongs to which image is known here
only. Similarity is the cosine. The rank of a query's partner is its expected place among the n
candidates when equals are put in random order: 1 + (number above) + (number equal to it) / 2. So
embeddings that are all alike rank at chance, (n + 1) / 2, and count as no recall.
"""

import argparse
import os
import sys

import numpy as np
from prepare import artifact_folder, caption_of, fold_of

MOST_DIMS = 1024


def ranks(similarity, partner):
    """Expected rank, from 1, of column ``partner[i]`` in row i of ``similarity`` (n, m)."""
    own = similarity[np.arange(len(similarity)), partner][:, None]
    above = (similarity > own).sum(axis=1)
    equal = (similarity == own).sum(axis=1) - 1
    return 1 + above + equal / 2


def measure(images, captions, partner):
    """The metrics of embeddings (n, d) each; ``partner[i]`` is the caption row of image i.

    All are NaN where an embedding is not finite. Raises ValueError on arrays of another shape.
    """
    n = len(partner)
    for name, rows in (("images", images), ("captions", captions)):
        if rows.ndim != 2 or len(rows) != n or not 1 <= rows.shape[1] <= MOST_DIMS:
            raise ValueError(f"{name} are {rows.shape}, not ({n}, 1..{MOST_DIMS})")
    if images.shape != captions.shape:
        raise ValueError(f"images {images.shape} and captions {captions.shape} do not compare")
    # Rounded: products of equal rows must be equal, in whatever order they are summed.
    similarity = np.round(_unit(images) @ _unit(captions).T, 7)
    ways = {"i2t": (similarity, partner), "t2i": (similarity.T, np.argsort(partner))}
    found = {way: ranks(*those) for way, those in ways.items()}
    if not np.isfinite(similarity).all():
        found = {way: np.full(n, np.nan) for way in ways}
    both = np.concatenate(list(found.values()))
    metrics = {"mean_rank": both.mean(), "median_rank": np.median(both)}
    metrics |= {f"mean_rank_{way}": found[way].mean() for way in ways}
    metrics |= {f"recall_at_{k}": _recall(both, k) for k in (1, 5)}
    metrics |= {f"recall_at_{k}_{way}": _recall(found[way], k) for k in (1, 5) for way in ways}
    return {name: float(value) for name, value in metrics.items()}


def _unit(rows):
    rows = rows.astype(np.float64)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length > 0, length, 1)


def _recall(found, k):
    return np.nan if np.isnan(found).any() else (found <= k).mean()


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--split", choices=("val", "test"), default="val")
    split = parser.parse_args().split
    fold = fold_of(int(os.environ.get("NIGHTLAB_SEED", "0")))
    file = artifact_folder() / f"{split}.npz"
    try:
        with np.load(file, allow_pickle=False) as arrays:
            images, captions = arrays["images"], arrays["captions"]
        metrics = measure(images, captions, caption_of(split, fold))
    except (OSError, KeyError, ValueError) as error:
        sys.exit(f"{file.name}: {error}")
    print("---")
    for name, value in metrics.items():
        print(f"{name + ':':18s}{value:.6f}")
    print(f"{'fold:':18s}{fold}")


if __name__ == "__main__":
    main()
