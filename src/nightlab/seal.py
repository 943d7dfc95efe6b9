"""The seal on the ruler: digests of what must not change, taken before a run and checked after.

Sealed are all committed files that are not in scope (in the run's own copy) and the untracked
files that ``[study] protect`` names (in the person's folder). Content is what counts; a file
whose inode, size and times are as they were is not read again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

_CHUNK_BYTES = 1 << 20
# Above this much a copy's files are compared by inode, size and times only: reading a large
# repository before and after every run would cost more than the run.
_READ_MOST_BYTES = 64 << 20

Stamp = tuple[int, int, int, int, int]  # inode, mode, size, mtime, ctime; times in nanoseconds


class Seal:
    """Digests of files below ``folder``, the ones in ``except_for`` left out.

    ``except_for`` are paths relative to ``folder``. Links are sealed as links.
    """

    def __init__(self, folder: Path, except_for: Collection[str] = ()) -> None:
        self._folder = folder
        self._except = frozenset(os.path.normpath(p) for p in except_for)
        self._stamps = dict(self._look())
        total = sum(stamp[2] for stamp in self._stamps.values())
        self._digests: dict[str, bytes] = {}
        if total <= _READ_MOST_BYTES:
            self._digests = {p: _digest(os.path.join(folder, p)) for p in self._stamps}

    def broken(self) -> list[str]:
        """The sealed files that changed or are gone, sorted; new files are nobody's ruler."""
        now = dict(self._look())
        found = []
        for path, stamp in self._stamps.items():
            if now.get(path) == stamp:
                continue
            if path in now and path in self._digests:
                whole = os.path.join(self._folder, path)
                same_mode = now[path][1] == stamp[1]
                if same_mode and _digest(whole) == self._digests[path]:
                    continue
            found.append(path)
        return sorted(found)

    def _look(self) -> Iterator[tuple[str, Stamp]]:
        yield from _stamps(str(self._folder), self._except)


def _stamps(folder: str, skip: Collection[str]) -> Iterator[tuple[str, Stamp]]:
    waiting = [folder]
    while waiting:  # not os.walk, which recurses: a run may leave folders a thousand deep
        try:
            entries = list(os.scandir(waiting.pop()))
        except OSError:
            continue
        for entry in entries:
            # A link to a folder is never entered: it is sealed as a link.
            if entry.is_dir(follow_symlinks=False):
                waiting.append(entry.path)
                continue
            path = os.path.relpath(entry.path, folder)
            if path not in skip:
                with suppress(OSError):
                    yield path, _stamp(entry.path)


def _stamp(path: str) -> Stamp:
    s = os.lstat(path)
    return s.st_ino, s.st_mode, s.st_size, s.st_mtime_ns, s.st_ctime_ns


def _digest(path: str) -> bytes:
    """BLAKE2b of a file's bytes, or of where a link points; b"" when it cannot be read."""
    hasher = hashlib.blake2b(digest_size=20)
    try:
        if os.path.islink(path):
            hasher.update(b"link " + os.fsencode(os.readlink(path)))
            return hasher.digest()
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(fd, "rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                hasher.update(chunk)
    except OSError:
        return b""
    return hasher.digest()


class Protected:
    """The untracked files that a study protects, checked against digests from its beginning.

    ``known`` maps each path (relative to ``root``) to its digest in hex. Reading is done
    once a file, and again only when its inode, size or times have changed.
    """

    def __init__(self, root: Path, known: Mapping[str, str]) -> None:
        self._root = root
        self._known = dict(known)
        self._seen: dict[str, tuple[Stamp, str]] = {}

    def broken(self) -> list[str]:
        """The paths whose content is not what it was when the study began, sorted."""
        return sorted(p for p, digest in self._known.items() if self._now(p) != digest)

    def _now(self, path: str) -> str:
        whole = os.path.realpath(os.path.join(self._root, path))
        try:
            stamp = _stamp(whole)
        except OSError:
            return ""
        seen = self._seen.get(path)
        if seen is None or seen[0] != stamp:
            seen = (stamp, _digest(whole).hex())
            self._seen[path] = seen
        return seen[1]


def digests(root: Path, names: Collection[str]) -> dict[str, str]:
    """The digest of every file that ``names`` (files or folders, relative to ``root``) hold."""
    found: dict[str, str] = {}
    for name in names:
        # Through links: what counts is what a run reads.
        whole = (root / name).resolve()
        inside = [name]
        if whole.is_dir():
            inside = [os.path.join(name, path) for path, _ in _stamps(str(whole), ())]
        for path in inside:
            found[path] = _digest(os.path.realpath(os.path.join(root, path))).hex()
    return found
