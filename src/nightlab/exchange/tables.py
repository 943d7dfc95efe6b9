"""Tables as text (TSV, CSV, Markdown) -> blocks of records, mended where that is certain. Pure."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Sequence

from nightlab.exchange import cells, roles
from nightlab.exchange.values import Block, Record, Repair
from nightlab.model import Better

_META = re.compile(r"^#\s*([A-Za-z][\w \-]{0,40}?)\s*[:=]\s*(.+)$")
_NOTE = re.compile(r"^\s*#(?!\d+[\t,|])")
_DIRECTION = re.compile(r"\b(lower|higher|min|max|minimi[sz]e|maximi[sz]e)", re.IGNORECASE)
_GLUED = re.compile(r"^(.*?)([0-9a-f]{7,40}|-)$", re.DOTALL)
_CELL_CHARS = 4000  # of a cell that are kept; nobody reads a megabyte
_QUOTED_LINES = 100
_MOST_COLUMNS = 1000
_OTHER_LAYOUT = 2  # rows of one other width that make a layout of their own

Split = Callable[[str], list[str]]


def better_said(text: str) -> Better | None:
    """The direction that a word of a file names: lower, higher_is_better, minimize…, if any."""
    found = _DIRECTION.search(text)
    if found is None:
        return None
    return Better.LOWER if found[1].lower()[:3] in ("low", "min") else Better.HIGHER


def parse(text: str) -> tuple[list[Block], list[Repair]]:
    """The table in a text. No block where there is none; never raises."""
    return _Table(text).read()


class _Table:
    """One pass over the lines. The first block has the header's columns."""

    def __init__(self, text: str) -> None:
        self.repairs: list[Repair] = []
        self.meta: dict[str, str] = {}
        self.lines = self._content(text)
        self.columns: tuple[str, ...] = ()
        self.main: list[Record] = []
        self.others: dict[int, list[tuple[int, list[str], str]]] = {}
        self.split: Split = _tabs

    def repair(self, line: int, what: str, shown: str = "") -> None:
        self.repairs.append(Repair(line, what, shown))

    def read(self) -> tuple[list[Block], list[Repair]]:
        if not self.lines:
            return [], self.repairs
        self.split = _splitter([line for _, line in self.lines[:50]])
        rows = self.lines
        if self.split is _csv and any('"' in line for _, line in rows):
            rows = _joined(rows)
        first = self.split(rows[0][1])
        if len(first) > _MOST_COLUMNS:
            return [], self.repairs
        if _is_header(first):
            self.columns = _unique(first)
            rows = rows[1:]
        else:
            width = Counter(len(self.split(line)) for _, line in rows).most_common(1)[0][0]
            if width < 2:
                return [], self.repairs
            self.columns = tuple(f"column {n + 1}" for n in range(width))
            self.repair(rows[0][0], "there is no header: columns have numbers for names")
        for line, raw in rows:
            self._take(line, raw)
        return self._blocks(), sorted(self.repairs, key=lambda r: r.line)

    # -- lines

    def _content(self, text: str) -> list[tuple[int, str]]:
        """The lines that may be rows; metadata and comments are taken out."""
        if "\r\n" in text:
            self.repair(0, "lines end as on Windows (CRLF)")
        found: list[tuple[int, str]] = []
        for at, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
            if not line.strip():
                continue
            if _NOTE.match(line) and not (not found and "\t" in line and _is_header(_tabs(line))):
                meta = _META.match(line.strip())
                if meta and len(meta[2]) <= 500:
                    self.meta.setdefault(roles.plain(meta[1]), meta[2].strip())
                elif len(line.strip()) > 1:
                    self.repair(at, "a comment, left out", line.strip()[:60])
            elif not re.fullmatch(r"[\s|:\-+=]+", line):  # the rule under a Markdown header
                found.append((at, line))
        return found

    def _take(self, line: int, raw: str) -> None:
        width = len(self.columns)
        row = self.split(raw)
        if len(row) == width:
            if _unique(row) == self.columns:
                self.repair(line, "the header again, left out")
            else:
                self._keep(line, row, raw)
            return
        if len(row) < width and "\\t" in raw:
            unescaped = self.split(raw.replace("\\t", "\t"))
            if len(unescaped) > len(row):
                self.repair(line, "\\t in letters read as a tab")
                row = unescaped
        if len(row) > width and not row[0].strip():
            stripped = list(row)
            while len(stripped) > width and not stripped[0].strip():
                stripped.pop(0)
            if stripped[0].strip():
                self.repair(line, "tabs before the row left out")
                row = stripped
        for piece, mended in self._unglued(line, row):
            self._place(line, piece, raw, mended=mended)

    def _unglued(self, line: int, row: list[str]) -> list[tuple[list[str], bool]]:
        """A row, or the rows that lost the line break between them."""
        width = len(self.columns)
        pieces: list[tuple[list[str], bool]] = []
        while len(row) >= 2 * width - 1 and width >= 3:
            last = _GLUED.match(row[width - 1])
            if len(row) >= 2 * width and self._fits(row[width : 2 * width]):
                head, row = row[:width], row[width:]
            elif last and last[1] and self._fits([last[2], *row[width : 2 * width - 1]]):
                head, row = [*row[: width - 1], last[1]], [last[2], *row[width:]]
            else:
                break
            self.repair(line, "two rows in one line taken apart")
            pieces.append((head, True))
        return [*pieces, (row, bool(pieces))]

    def _place(self, line: int, row: list[str], raw: str, *, mended: bool) -> None:
        width = len(self.columns)
        if len(row) == width:
            self._keep(line, row, raw)
        elif len(row) == 1:
            self._continue(line, raw)
        elif len(row) > width and self._fits(row[:width]) and not self._shifted(row):
            self.repair(line, "more cells than columns: joined to the last", str(len(row)))
            self._keep(line, [*row[: width - 1], " ".join(row[width - 1 :])], raw)
        elif width - 2 <= len(row) < width and self._fits([*row, *[""] * (width - len(row))]):
            self.repair(line, "cells missing at the end: taken as empty", str(len(row)))
            self._keep(line, [*row, *[""] * (width - len(row))], raw)
        elif mended or len(row) > _MOST_COLUMNS:
            self.repair(line, "the rest of the line does not fit the columns, left out")
        else:
            self.others.setdefault(len(row), []).append((line, row, raw))

    def _keep(self, line: int, row: Sequence[str], raw: str) -> None:
        kept = {c: v.strip()[:_CELL_CHARS] for c, v in zip(self.columns, row, strict=True)}
        if any(len(v) > _CELL_CHARS for v in row):
            self.repair(line, "a cell was cut", f"{max(map(len, row))} characters")
        self.main.append(Record(line, kept, raw[: 4 * _CELL_CHARS]))

    def _continue(self, line: int, raw: str) -> None:
        """Text without columns belongs to the row above, as far as anyone can tell."""
        self.repair(line, "text without columns, kept with the row above" if self.main else
                    "text without columns, left out")  # fmt: skip
        if self.main:
            last = self.main[-1]
            if len(last.raw) < 4 * _CELL_CHARS:
                self.main[-1] = Record(last.line, last.cells, f"{last.raw}\n{raw[:_CELL_CHARS]}")

    # -- what fits the columns

    def _fits(self, row: Sequence[str]) -> bool:
        """Whether cells stand where the header says: a verdict and numbers in their columns."""
        named = dict(zip(map(roles.plain, self.columns), row, strict=False))
        verdict = next(
            (named[w] for w in ("status", "decision", "verdict", "result") if w in named), None
        )
        if verdict is not None and cells.status(verdict) is None and verdict.strip():
            return False
        checked = [n for n in self._number_columns() if n < len(row)]
        good = sum(cells.is_nothing(row[n]) or cells.number(row[n])[0] is not None for n in checked)
        return good >= 0.7 * len(checked) and (verdict is not None or len(checked) > 1)

    def _number_columns(self) -> list[int]:
        rows = self.main[:20]
        return [
            at
            for at, c in enumerate(self.columns)
            if rows and sum(cells.number(r.cells[c])[0] is not None for r in rows) > len(rows) / 2
        ]

    def _shifted(self, row: Sequence[str]) -> bool:
        """Whether the verdict stands at the end of a longer row: it is of another layout."""
        return (
            cells.status(row[-1]) is not None and cells.status(row[len(self.columns) - 1]) is None
        )

    # -- blocks

    def _blocks(self) -> list[Block]:
        metric = self.meta.get("metric") or self.meta.get("metric_name")
        said = next((self.meta[k] for k in self.meta if "direction" in k or k == "better"), "")
        better = better_said(said)
        main = Block(
            records=self.main,
            columns=self.columns,
            metric=metric if metric in self.columns else None,
            better=better,
            better_from=f"the file says {said}" if better else "",
            kind="leo" if {"iteration", "guard"} <= set(map(roles.plain, self.columns)) else "",
        )
        blocks = [main] if self.main else []
        for width, rows in sorted(self.others.items(), key=lambda item: item[1][0][0]):
            if len(rows) < _OTHER_LAYOUT:
                for line, _row, _raw in rows:
                    self.repair(line, "does not fit the columns: left out", f"{width} cells")
                continue
            names = tuple(f"column {n + 1}" for n in range(width))
            self.repair(
                rows[0][0], "rows of another layout: a segment of their own", f"{len(rows)}"
            )
            records = [
                Record(
                    line,
                    dict(zip(names, (v.strip()[:_CELL_CHARS] for v in row), strict=True)),
                    raw[: 4 * _CELL_CHARS],
                )
                for line, row, raw in rows
            ]
            blocks.append(Block(records, names, name=f"another layout, from line {rows[0][0]}"))
        return blocks


def _tabs(line: str) -> list[str]:
    return line.split("\t")


def _csv(line: str) -> list[str]:
    return _delimited(line, ",")


def _semicolons(line: str) -> list[str]:
    return _delimited(line, ";")


def _delimited(line: str, by: str) -> list[str]:
    if '"' not in line:
        return line.split(by)
    try:
        return next(csv.reader(io.StringIO(line), delimiter=by), [])
    except csv.Error:  # a cell beyond the reader's limit
        return line.split(by)


def _pipes(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _unescaped(line: str) -> list[str]:
    return line.replace("\\t", "\t").split("\t")


def _splitter(lines: Sequence[str]) -> Split:
    """How these lines are cut: by tabs where there are any, else by what most of them have."""
    if any("\t" in line for line in lines):
        return _tabs
    if sum("\\t" in line for line in lines) > len(lines) / 2:
        return _unescaped
    if all(line.strip().startswith("|") for line in lines[:2]):
        return _pipes
    for by, split in ((",", _csv), (";", _semicolons)):
        if by in lines[0] and sum(by in line for line in lines) > len(lines) / 2:
            return split
    return _tabs


def _joined(rows: Sequence[tuple[int, str]]) -> list[tuple[int, str]]:
    """CSV rows whose quoted cells hold line breaks, each as one.

    A quote that is not closed within a hundred lines is no quote: those stay single lines.
    """
    found: list[tuple[int, str]] = []
    open_: list[tuple[int, str]] = []
    for row in rows:
        odd = row[1].count('"') % 2 == 1
        if open_:
            open_.append(row)
            if odd:
                found.append((open_[0][0], "\n".join(line for _, line in open_)))
                open_ = []
            elif len(open_) > _QUOTED_LINES:
                found += open_
                open_ = []
        elif odd:
            open_.append(row)
        else:
            found.append(row)
    return found + open_


def _is_header(row: Sequence[str]) -> bool:
    """Words only, none repeated much, at least one that heads a ledger's column."""
    named = [cell for cell in row if cell.strip()]
    words = [cells.number(cell)[0] is None and len(cell) < 60 for cell in named]
    return len(named) >= 2 and all(words) and any(roles.known(cell.lstrip("#")) for cell in named)


def _unique(row: Sequence[str]) -> tuple[str, ...]:
    """Column names, made distinct; an empty one has its place for a name."""
    names: list[str] = []
    for at, cell in enumerate(row):
        name = cell.strip().lstrip("#").strip()[:100] or f"column {at + 1}"
        names.append(name if name not in names else f"{name} (column {at + 1})")
    return tuple(names)
