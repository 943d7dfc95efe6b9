"""The one form that every imported ledger has in the end. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from nightlab.model import Better


class Status(StrEnum):
    """What a ledger says became of an experiment; ``Row.word`` is the word it used."""

    KEEP = "keep"
    DISCARD = "discard"
    CRASH = "crash"
    INCONCLUSIVE = "inconclusive"
    OTHER = "other"  # measured, checked, planned: nothing was decided


@dataclass(frozen=True)
class Repair:
    """What was mended or left out, and the line (from 1) where; 0: of the file as a whole.

    ``shown`` is the cell that it is about, where that helps.
    """

    line: int
    what: str
    shown: str = ""


@dataclass(frozen=True)
class Record:
    """One row as it stands in the file: named cells, its text, and the line it begins on."""

    line: int
    cells: Mapping[str, object]
    raw: str


@dataclass
class Block:
    """Records of one layout and one ruler, with what the file itself says of the ruler."""

    records: list[Record] = field(default_factory=list)
    columns: tuple[str, ...] = ()
    name: str = ""
    metric: str | None = None
    better: Better | None = None
    better_from: str = ""
    unit: str = ""
    kind: str = ""  # "pi", "leo": what a commit of theirs means


@dataclass(frozen=True)
class Row:
    """One experiment of a segment; ``number`` counts from 1 in order of time.

    ``value`` is of the segment's metric, None where nothing was measured, with the ``unit``
    that stood beside it. ``label`` is the file's own id, ``word`` its own verdict. ``commit``
    is None where the cell held no commit id, or another experiment's. ``at`` is Unix seconds.
    ``same_as`` is the line of a row that says the same; such a row counts for nothing.
    """

    number: int
    line: int
    status: Status
    word: str = ""
    label: str = ""
    commit: str | None = None
    value: float | None = None
    unit: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    description: str = ""
    hypothesis: str = ""
    category: str = ""
    at: float | None = None
    same_as: int | None = None
    extra: Mapping[str, str] = field(default_factory=dict)
    raw: str = ""


@dataclass(frozen=True)
class Segment:
    """Rows that compare: one metric, one direction, one layout.

    ``metric`` is None where the file does not tell it from the ``candidates``; ``better`` is
    None where the direction is unknown, else ``better_from`` says how it is known.
    """

    number: int
    name: str
    metric: str | None
    candidates: tuple[str, ...]
    better: Better | None
    better_from: str
    unit: str
    rows: tuple[Row, ...]

    def counting(self) -> tuple[Row, ...]:
        """The rows that are no repetition of another."""
        return tuple(row for row in self.rows if row.same_as is None)


@dataclass(frozen=True)
class Ledger:
    """A ledger read: where from, in which ``form``, and everything that was mended."""

    source: str
    form: str
    segments: tuple[Segment, ...]
    repairs: tuple[Repair, ...]
    digest: str = ""  # sha256 of the bytes read
