"""Which of a copied project's files a run may not change, as few mounts as it takes."""

from __future__ import annotations

import os
from pathlib import Path

# Every mount costs some 30 us of the start; beyond this many, whole folders are sealed.
MOST = 256


def sealed(tree: Path, writable: tuple[str, ...], most: int = MOST) -> list[Path]:
    """The regular files below ``tree`` that are not in ``writable``, parents before children.

    Only files are sealed, so that a program may still write beside them (``logs/.gitkeep``);
    in a project of more than ``most`` such files the largest folders that hold nothing
    writable are sealed whole. Links are left out: a mount would follow them.
    """
    keep = {os.path.normpath(name) for name in writable}
    found: dict[str, list[str]] = {}  # folder -> its files, relative to the tree
    for folder, names, files in os.walk(tree):
        here = os.path.relpath(folder, tree)
        names[:] = [n for n in names if os.path.normpath(f"{here}/{n}") not in keep]
        paths = [os.path.normpath(f"{here}/{name}") for name in files]
        found[here] = [p for p in paths if p not in keep and not (tree / p).is_symlink()]
    total = sum(map(len, found.values()))
    whole: list[str] = []
    if total > most:
        counts = {
            top: sum(len(f) for d, f in found.items() if d == top or d.startswith(f"{top}/"))
            for top in found
            if top != "." and not any(k == top or k.startswith(f"{top}/") for k in keep)
        }
        for top in sorted(counts, key=lambda name: (-counts[name], name)):
            if total <= most:
                break
            if not any(top.startswith(f"{done}/") for done in whole):
                whole.append(top)
                total -= counts[top] - 1
    single = [
        path
        for folder, paths in found.items()
        if not any(folder == w or folder.startswith(f"{w}/") for w in whole)
        for path in paths
    ]
    return [tree / name for name in sorted([*whole, *single])]
