"""The private index files of nightlab's git: the checkout's own index is never involved."""

from __future__ import annotations

import shutil
from pathlib import Path

_INDEX_FILES = 8


class Indexes:
    """A few private index files, each at a known tree: reading a tree anew costs a process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._tree_in: dict[Path, str] = {}  # the longest unused first

    def find(self, tree: str) -> Path | None:
        for index, held in self._tree_in.items():
            if held == tree and index.exists():
                self.holds(index, tree)
                return index
        return None

    def free(self) -> Path:
        """A file to read a tree into: a new one, or the longest unused."""
        if len(self._tree_in) >= _INDEX_FILES:
            index = next(iter(self._tree_in))
            del self._tree_in[index]
        else:
            self.folder.mkdir(parents=True, exist_ok=True)
            used = {p.name for p in self._tree_in}
            index = self.folder / next(n for n in map(str, range(_INDEX_FILES)) if n not in used)
        # A killed nightlab may have left either; what they hold is not known.
        index.unlink(missing_ok=True)
        index.with_name(index.name + ".lock").unlink(missing_ok=True)
        return index

    def copy_of(self, index: Path) -> Path:
        """A copy to change, while the original stays at its tree."""
        copy = self.free()
        shutil.copyfile(index, copy)
        return copy

    def holds(self, index: Path, tree: str) -> None:
        """Remember what a file holds, as the last used."""
        self._tree_in.pop(index, None)
        self._tree_in[index] = tree
