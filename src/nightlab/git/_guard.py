"""Whether git's own settings are what they were when nightlab first wrote a copy.

Writing a commit's files out runs the filters that the person configured (git-lfs, say), and it
should. What a run planted meanwhile, in a sandbox that lets it reach ``.git`` or the home
folder, must not run.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from nightlab.errors import SealError

# Programs that git would start, and what decides the bytes that it writes. The rest of the
# configuration (a remote, a name, an alias) is the person's to change while a study runs.
_WATCHED = re.compile(
    r"filter\..*|include\.path|includeif\..*|extensions\..*|protocol\..*"
    r"|remote\..*\.(?:promisor|uploadpack|receivepack|vcs)|credential\.(?:.*\.)?helper"
    r"|core\.(?:attributesfile|autocrlf|eol|safecrlf|symlinks|filemode|worktree|fsmonitor"
    r"|sshcommand|gitproxy|hookspath|alternaterefscommand)",
    re.DOTALL,
)

Stamp = tuple[int, int, int, int]  # inode, size, mtime, ctime; times in nanoseconds


class Guard:
    """Remembers git's settings at the first ``check`` and holds every later one to them.

    ``ask`` gives the output of ``git config --list -z --show-origin``; it is called again only
    when one of the files that it named, or could have named, has changed.
    """

    def __init__(self, git_dir: Path, head_dir: Path, ask: Callable[[], bytes]) -> None:
        self._git_dir = git_dir
        self._head_dir = head_dir
        self._ask = ask
        self._stamps: dict[Path, Stamp | None] = {}
        self._known: dict[str, tuple[str, ...]] | None = None

    def check(self) -> None:
        """Raises SealError when a setting that matters is not what it was."""
        before = {path: _stamp(path) for path in self._stamps}
        if self._known is not None and before == self._stamps:
            return
        entries = list(_parsed(self._ask()))
        attributes = list(self._attributes(entries))
        # The stamps from before the reading: a change in between is then seen the next time.
        files = [*self._usual(), *_files_in(entries), *attributes]
        stamps = {path: before.get(path) or _stamp(path) for path in files}
        now = _settings(entries) | {str(path): (_digest(path),) for path in attributes}
        if self._known is None:
            self._known = now
        changed = [n for n in {**self._known, **now} if self._known.get(n) != now.get(n)]
        if changed:
            raise SealError(
                f"git's {changed[0]} is not what it was when nightlab started",
                "git would obey it when it writes your files out, and a run may have set it",
                "git config --list --show-origin (undo what is not yours; then: nightlab run)",
            )
        self._stamps = stamps

    def _usual(self) -> Iterator[Path]:
        """Where settings could appear, though no file is there yet."""
        yield self._git_dir / "config"
        yield self._head_dir / "config.worktree"
        yield _path("~/.gitconfig")
        yield _personal("config")

    def _attributes(self, entries: list[tuple[str, str, str]]) -> Iterator[Path]:
        yield self._git_dir / "info" / "attributes"
        named = [value for _, key, value in entries if key == "core.attributesfile"]
        yield self._git_dir / _path(named[-1]) if named else _personal("attributes")


def _personal(name: str) -> Path:
    home = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return _path(home) / "git" / name


def _path(text: str) -> Path:
    return Path(os.path.expanduser(text))  # noqa: PTH111 - Path's raises where no home is known


def _parsed(listed: bytes) -> Iterator[tuple[str, str, str]]:
    """(origin, key, value) of each entry; a key without "=" has the value ""."""
    words = listed.decode("utf-8", "surrogateescape").split("\0")
    for origin, entry in zip(words[::2], words[1::2], strict=False):
        key, _, value = entry.partition("\n")
        yield origin, key, value


def _settings(entries: list[tuple[str, str, str]]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for origin, key, value in entries:
        if origin.startswith("file:") and _WATCHED.fullmatch(key):
            found[key] = (*found.get(key, ()), value)
    return found


def _files_in(entries: list[tuple[str, str, str]]) -> Iterator[Path]:
    for origin, key, value in entries:
        kind, _, name = origin.partition(":")
        if kind != "file":
            continue
        yield Path(name)
        if key == "include.path" or key.startswith("includeif."):
            yield Path(name).parent / _path(value)


def _stamp(path: Path) -> Stamp | None:
    try:
        s = path.stat()
    except (OSError, ValueError):
        return None
    return s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns


def _digest(path: Path) -> str:
    try:
        return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    except (OSError, ValueError):
        return ""
