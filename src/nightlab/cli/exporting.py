"""Every experiment as text: tab-separated, JSON lines, or one JSON array."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from nightlab import views
from nightlab.history import History
from nightlab.process import clean

COLUMNS = (
    "experiment",
    "commit",
    "parent",
    "verdict",
    "value",
    "runs",
    "seeds",
    "durations_seconds",
    "outcomes",
    "metrics",
    "description",
    "reason",
)


def pieces(history: History, format_: str) -> Iterator[str]:
    """The text, piece by piece, each with its newline. A tsv cell holds no tab or newline."""
    rows = views.rows(history)
    if format_ == "tsv":
        yield "\t".join(COLUMNS) + "\n"
        for row in rows:
            yield "\t".join(_cell(row[name]) for name in COLUMNS) + "\n"
    elif format_ == "jsonl":
        for row in rows:
            yield json.dumps(row, allow_nan=False) + "\n"
    else:
        yield json.dumps(list(rows), allow_nan=False, indent=1) + "\n"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return " ".join(map(_cell, value))
    if isinstance(value, dict):
        return " ".join(f"{name}={number!r}" for name, number in value.items())
    if isinstance(value, float):
        return repr(value)
    return " ".join(clean(str(value)).split())


def to_stdout(texts: Iterable[str]) -> None:
    """Print; raises BrokenPipeError when the reader went away."""
    sys.stdout.writelines(texts)
    sys.stdout.flush()
