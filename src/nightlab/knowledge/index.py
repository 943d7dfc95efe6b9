"""The child that reads documents into the index: ``python -m nightlab.knowledge.index ROOT DB``.

Each document is marked before it is read: one that took this process down, or hung until it
was killed, is known as such. It gets a second chance (the lab may have been stopped just then),
and is left alone after that until it changes.
"""

from __future__ import annotations

import re
import sqlite3
import sys
from pathlib import Path

from nightlab.knowledge.files import CJK, documents
from nightlab.knowledge.pages import Report, passages

_SCHEMA = """
CREATE TABLE IF NOT EXISTS files(
    path TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER, detail TEXT, first INTEGER, last INTEGER
);
CREATE VIRTUAL TABLE IF NOT EXISTS passages USING fts5(
    text, path UNINDEXED, place UNINDEXED, shown UNINDEXED,
    tokenize = 'porter unicode61 remove_diacritics 2'
);
"""
_SIGN = re.compile(f"[{CJK}]")  # each is a word of its own to the index
_TRYING = -1  # the size of a document on its first attempt: it differs from every real one
_READING = "it could not be read to its end: reading it took too long, or too much memory"


def main(root: Path, index: Path) -> None:
    """Bring the index up to date with the documents below ``root``."""
    database = _open(index)
    known = {
        path: (size, mtime)
        for path, size, mtime in database.execute("SELECT path, size, mtime_ns FROM files")
    }
    here = {name: (path, size, mtime) for name, path, size, mtime in documents(root)}
    for name in known.keys() - here.keys():
        with database:
            _forget(database, name)
    for name, (path, size, mtime) in here.items():
        if known.get(name) == (size, mtime):
            continue
        with database:
            _forget(database, name)
            mark = size if known.get(name) == (_TRYING, mtime) else _TRYING
            database.execute(
                "INSERT INTO files VALUES (?, ?, ?, ?, 0, -1)", (name, mark, mtime, _READING)
            )
        report = Report()
        found = list(passages(path, report))  # all of it first: writing is short, readers wait
        with database:
            _store(database, name, size, found, report)
    database.close()


def _open(index: Path) -> sqlite3.Connection:
    """The index, made anew when it is damaged."""
    try:
        database = sqlite3.connect(index, timeout=30.0)
        database.executescript(_SCHEMA)
        database.execute("SELECT count(*) FROM passages").fetchone()
    except sqlite3.DatabaseError as error:
        if "fts5" in str(error) or isinstance(error, sqlite3.OperationalError):
            raise
        index.unlink(missing_ok=True)
        database = sqlite3.connect(index, timeout=30.0)
        database.executescript(_SCHEMA)
    return database


def _forget(database: sqlite3.Connection, name: str) -> None:
    row = database.execute("SELECT first, last FROM files WHERE path = ?", (name,)).fetchone()
    if row:
        database.execute("DELETE FROM passages WHERE rowid BETWEEN ? AND ?", row)
        database.execute("DELETE FROM files WHERE path = ?", (name,))


def _store(
    database: sqlite3.Connection,
    name: str,
    size: int,
    found: list[tuple[str, str]],
    report: Report,
) -> None:
    # Another lab of the project may have read it meanwhile.
    row = database.execute("SELECT first, last FROM files WHERE path = ?", (name,)).fetchone()
    database.execute("DELETE FROM passages WHERE rowid BETWEEN ? AND ?", row or (0, -1))
    highest = database.execute("SELECT max(last) FROM files").fetchone()[0]
    first = max(0, highest or 0) + 1
    database.executemany(
        "INSERT INTO passages(rowid, text, path, place, shown) VALUES (?, ?, ?, ?, ?)",
        (
            (at, spaced, name, place, text if spaced != text else None)
            for at, (place, text) in enumerate(found, start=first)
            for spaced in [_SIGN.sub(r" \g<0> ", text)]
        ),
    )
    database.execute(
        "UPDATE files SET size = ?, detail = ?, first = ?, last = ? WHERE path = ?",
        (size, "; ".join(report.problems)[:300], first, first + len(found) - 1, name),
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
