"""Passages of the person's documents: an index of ``knowledge/``, and full-text search in it.

PDF, Markdown and text below ``knowledge/`` are cut into passages by a child process of its own
(``nightlab.knowledge.index``), with bounds on its time and memory: a broken PDF costs that PDF,
never the night. Nothing in a document is executed. The index is SQLite's FTS5.
"""

from __future__ import annotations

import re
import sqlite3
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from nightlab import process
from nightlab.errors import NightlabError
from nightlab.knowledge.files import CJK, documents

_INDEX_S = 900.0  # of one indexing; what it has not read then is read the next time
_MEMORY_BYTES = 2 * 1024**3
_LOOK_EVERY_S = 10.0
_WORDS = 48  # of a query
_WORD = re.compile(rf"[^\W_{CJK}]{{3,}}")
_SIGNS = re.compile(rf"[{CJK}]{{2,}}")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_COMMON = """
the and for with this that from into are was were not but can may has have had its then than
when what which who how why one two all any each more most only also use used using run runs
experiment experiments change changes try self def return import true false none float int
str let you your our they will would should could must does did done make made
"""
_STOP = frozenset(_COMMON.split())


@dataclass(frozen=True)
class Passage:
    """A piece of a document. ``cite`` is how to name it: ``[thesis.pdf p. 12]``."""

    cite: str
    text: str


class Library:
    """The documents of one project, for a reader in one thread.

    ``root`` is their folder, which need not exist; ``index`` the file of the index.
    """

    def __init__(self, root: Path, index: Path) -> None:
        self.root = root
        self._index = index
        self._child: process.Child | None = None
        self._looked_at = 0.0
        self._told: set[str] = set()
        self._begun_at: dict[str, tuple[int, int]] = {}
        self._broken = ""  # why there is no search in this session

    @property
    def there(self) -> bool:
        """Whether anything can be found."""
        return self._index.is_file()

    def refresh(self, wait_s: float = 0.0) -> bool:
        """Bring the index up to date, in the background; True when it is.

        Costs nothing where there are no documents; looks at them every ten seconds at most.
        Never raises: what goes wrong is in ``problems``.
        """
        ends = time.monotonic() + wait_s
        while True:
            if self._child is None:
                if not self._stale(look=wait_s > 0):
                    return not self._broken
                self._child = self._start()
                if self._child is None:
                    return False
            if not self._ended(max(0.0, ends - time.monotonic())):
                return False
            self._child = None
            self._looked_at = 0.0
            if self._begun_at == _known(self._index):  # it brought nothing: nor would another
                self._broken = "its index could not be written"
            if self._broken or time.monotonic() >= ends:
                return False

    def search(self, words: Iterable[str], limit: int = 8) -> list[Passage]:
        """The passages that fit the words best, at most ``limit``; empty without an index."""
        query = " OR ".join(f'"{word}"' for word in _terms(words))
        if not query or not self._index.is_file():
            return []
        try:
            with _reading(self._index) as database:
                rows = database.execute(
                    "SELECT path, place, coalesce(shown, text) FROM passages WHERE passages MATCH ?"
                    " ORDER BY bm25(passages) LIMIT ?",
                    (query, limit),
                ).fetchall()
        except sqlite3.Error:
            return []
        return [Passage(f"[{path} {place}]", text) for path, place, text in rows]

    def problems(self) -> list[str]:
        """What could not be read, and why, a line each."""
        if self._broken:
            return [f"knowledge/ is not searched: {self._broken}"]
        if not self._index.is_file():
            return []
        try:
            with _reading(self._index) as database:
                rows = database.execute(
                    "SELECT path, detail FROM files WHERE detail != '' AND size >= 0"
                    " ORDER BY path LIMIT 50"
                ).fetchall()
        except sqlite3.Error as error:
            return [f"the index of knowledge/ cannot be read: {error}"]
        return [f"knowledge/{path}: {detail}" for path, detail in rows]

    def news(self) -> list[str]:
        """The problems that were not told before."""
        fresh = [text for text in self.problems() if text not in self._told]
        self._told.update(fresh)
        return fresh

    def close(self) -> None:
        """End the indexing; what was read stays."""
        if self._child is not None:
            self._child.stop()
            self._child = None

    def _stale(self, *, look: bool) -> bool:
        """Whether documents differ from what the index knows of them."""
        if self._broken or (not look and time.monotonic() < self._looked_at):
            return False
        self._looked_at = time.monotonic() + _LOOK_EVERY_S
        here = {path: (size, mtime) for path, _, size, mtime in documents(self.root)}
        if not here and not self._index.is_file():
            return False
        return here != _known(self._index)

    def _start(self) -> process.Child | None:
        if not full_text():
            self._broken = "the SQLite of this Python has no full-text search (FTS5)"
            return None
        package = str(Path(__file__).resolve().parents[2])
        where = (str(self.root), str(self._index))
        self._begun_at = _known(self._index)
        try:
            self._index.parent.mkdir(parents=True, exist_ok=True)
            return process.start(
                [sys.executable, "-P", "-m", "nightlab.knowledge.index", *where],
                env={"PYTHONPATH": package, "PYTHONDONTWRITEBYTECODE": "1"},
                cwd=self._index.parent,
                wall_s=_INDEX_S,
                log=self._index.with_suffix(".log"),
                memory_bytes=_MEMORY_BYTES,
                log_bytes=64 * 1024,
            )
        except (OSError, NightlabError) as error:
            self._broken = f"its reader cannot be started: {error}"
            return None

    def _ended(self, wait_s: float) -> bool:
        try:
            return self._child is None or self._child.poll(wait_s) is not None
        except NightlabError:
            return True


def full_text() -> bool:
    """Whether this Python's SQLite can search full text at all."""
    try:
        with _Closing(":memory:") as database:
            database.execute("CREATE VIRTUAL TABLE t USING fts5(x)")
    except sqlite3.Error:
        return False
    return True


def terms_of_code(text: str) -> set[str]:
    """The words that a program's identifiers are made of: MATRIX_LR → matrix; useRope → rope."""
    names = re.findall(r"[A-Za-z_][A-Za-z_0-9]{2,}", text)
    return {
        part.lower()
        for name in names
        for chunk in name.split("_")
        for part in _CAMEL.split(chunk)
        if len(part) > 2 and part.isalpha()
    }


def _terms(words: Iterable[str]) -> list[str]:
    """The words of a query, each once, the first of them; nothing in them is an operator."""
    found = (w for text in words for w in (*_WORD.findall(text.lower()), *_pairs(text)))
    return list(dict.fromkeys(w for w in found if w not in _STOP))[:_WORDS]


def _pairs(text: str) -> Iterator[str]:
    """Chinese, Japanese and Korean stand without spaces: each two signs side by side."""
    for run in _SIGNS.findall(text):
        yield from (f"{a} {b}" for a, b in pairwise(run))


def _known(index: Path) -> dict[str, tuple[int, int]]:
    if not index.is_file():
        return {}
    try:
        with _reading(index) as database:
            rows = database.execute("SELECT path, size, mtime_ns FROM files").fetchall()
    except sqlite3.Error:
        return {}
    return {path: (size, mtime) for path, size, mtime in rows}


class _Closing:
    """A connection that is closed at the end; sqlite3's own context manager only commits."""

    def __init__(self, where: str, *, uri: bool = False) -> None:
        self._connection = sqlite3.connect(where, uri=uri, timeout=0.2)

    def __enter__(self) -> sqlite3.Connection:
        return self._connection

    def __exit__(self, *_: object) -> None:
        self._connection.close()


def _reading(index: Path) -> _Closing:
    return _Closing(f"{index.resolve().as_uri()}?mode=ro", uri=True)
