"""Which documents there are below knowledge/. Looks at names and sizes only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

TEXT = (".md", ".markdown", ".txt", ".rst", ".text", ".org", ".tex")
CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"  # signs without spaces between
KINDS = (".pdf", *TEXT)
_MOST_FILES = 1000
_MOST_DEEP = 12


def documents(root: Path) -> Iterator[tuple[str, Path, int, int]]:
    """(name below ``root``, path, bytes, mtime in ns) of each document; hidden ones are left out.

    Plain files only: a link to a folder is not followed, a pipe never opened.
    """
    found = 0
    for path in _walk(root, 0):
        try:
            if not path.is_file():
                continue
            stat = path.stat()
        except OSError:
            continue
        found += 1
        if found > _MOST_FILES:
            return
        name = os.fsencode(path.relative_to(root)).decode("utf-8", "replace")
        yield name, path, stat.st_size, stat.st_mtime_ns


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            inside = sorted(entries, key=lambda e: e.name)
    except OSError:
        return
    for entry in inside:
        if entry.name.startswith("."):
            continue
        try:
            deeper = entry.is_dir(follow_symlinks=False)
        except OSError:
            continue
        if deeper:
            if depth < _MOST_DEEP:
                yield from _walk(Path(entry.path), depth + 1)
        elif entry.name.lower().endswith(KINDS):
            yield Path(entry.path)
