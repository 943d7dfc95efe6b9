"""Files of an agent's: written and read so that no link of its making leads anywhere."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from nightlab._removal import remove_tree
from nightlab.scope import matches

FILE_BYTES = 4 * 1024**2
_LITTER = ("__pycache__", ".aider", ".git", ".claude", ".codex", ".gemini", ".opencode", ".pi")
_Seen = dict[str, tuple[int, int, int]]


@dataclass(frozen=True)
class Changes:
    """``files``: what changed in scope, path -> whole text, None where removed.

    ``outside``: what else is not as it was. ``odd``: in scope, but no plain text of sane size.
    """

    files: dict[str, str | None]
    outside: tuple[str, ...]
    odd: tuple[str, ...]


def text_of(path: Path, most: int = FILE_BYTES) -> str | None:
    """The text of a plain file under exactly this name; None for anything else.

    Links (of the file or of a folder above it), other kinds of file, names that share a file,
    and what is longer than ``most`` bytes or no UTF-8 are not read.
    """
    if os.path.realpath(path) != str(path):
        return None
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1 or status.st_size > most:
            return None
        try:
            return file.read(most + 1).decode("utf-8")
        except (OSError, UnicodeDecodeError):
            return None


def tail_of(path: Path, most: int) -> str:
    """The last bytes of a plain file as text; "" for anything else."""
    if os.path.realpath(path) != str(path) or not path.is_file():
        return ""
    with suppress(OSError), path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - most))
        return file.read(most).decode("utf-8", "replace")
    return ""


def place(folder: Path, name: str, text: str, *, mode: int = 0o600) -> Path:
    """Write a file below a folder that an agent has had to itself; whatever is in the way goes."""
    path = folder
    *parents, last = name.split("/")
    for part in parents:
        path /= part
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            path.unlink()
        path.mkdir(mode=0o755, exist_ok=True)
    path /= last
    remove_tree(path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, mode), "w", encoding="utf-8") as file:
        file.write(text)
    return path


def fresh(folder: Path) -> Path:
    """An empty folder in place of whatever was there."""
    remove_tree(folder)
    folder.mkdir(parents=True)
    return folder


def scan(tree: Path) -> _Seen:
    """Every file below, relative, with what tells that it was written to."""
    return dict(_walk(str(tree), ""))


def _walk(top: str, below: str) -> Iterator[tuple[str, tuple[int, int, int]]]:
    try:
        entries = list(os.scandir(f"{top}/{below}"))
    except OSError:
        return
    for entry in entries:
        path = f"{below}/{entry.name}" if below else entry.name
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(top, path)
        else:
            found = entry.stat(follow_symlinks=False)
            yield path, (stat.S_IFMT(found.st_mode), found.st_size, found.st_mtime_ns)


def changes(
    tree: Path,
    before: _Seen,
    texts: Mapping[str, str],
    patterns: Sequence[str],
    aside: Sequence[str],
) -> Changes:
    """What an agent did to its copy of the project.

    ``before`` is ``scan`` of the fresh copy, ``texts`` the files in scope as they were,
    ``aside`` paths of nightlab's own that it may write.
    """
    after = scan(tree)
    files: dict[str, str | None] = {}
    outside, odd = [], []
    for path in sorted(before.keys() | after.keys() | texts.keys()):
        if path in aside:
            continue
        touched = before.get(path) != after.get(path)
        if not matches(path, patterns):
            if touched and not any(p.startswith(_LITTER) for p in path.split("/")):
                outside.append(path)
        elif path not in after:
            if path in before:
                files[path] = None
        elif touched or path in texts:
            text = text_of(tree / path)
            if text is None:
                odd += [path] if touched else []
            elif text != texts.get(path):
                files[path] = text
    return Changes(files, tuple(outside), tuple(odd))
