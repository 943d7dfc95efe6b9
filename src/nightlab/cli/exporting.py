"""Every experiment as text: tab-separated, JSON lines, one JSON array, and others' formats."""

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


def pieces(history: History, format_: str, *, runs: bool = False) -> Iterator[str]:
    """The text, piece by piece, each with its newline. A tsv cell holds no tab or newline.

    ``runs``, of csv: a row per run instead of a row per experiment.
    """
    if format_ in ("karpathy", "pi", "csv"):
        from nightlab.exchange import exports  # noqa: PLC0415  loaded on use

        csv = exports.csv_runs if runs else exports.csv_experiments
        yield from {"karpathy": exports.karpathy, "pi": exports.pi, "csv": csv}[format_](history)
        return
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
