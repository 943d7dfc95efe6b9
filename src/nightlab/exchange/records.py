"""JSON lines and JSON documents -> blocks of records, each known shape by its keys. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from nightlab.exchange.tables import better_said
from nightlab.exchange.values import Block, Record, Repair
from nightlab.model import Better

_RAW_CHARS = 16_000
_SETTINGS = ("config", "params", "hyperparameters", "hparams", "args", "settings")
_LISTS = ("experiments", "results", "trials", "runs", "iterations", "attempts", "history", "rows")
_DEEP = 3
_MOST_COLUMNS = 300  # what stands beyond them is in the raw text

Parsed = tuple[int, dict[str, Any], str]  # line, object, its text


def parse_lines(text: str) -> tuple[str, list[Block], list[Repair]]:
    """(form, blocks, repairs) of JSON lines. Lines that are no JSON object are reported."""
    repairs: list[Repair] = []
    found: list[Parsed] = []
    for at, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        value = loads(line)
        if isinstance(value, dict):
            found.append((at, value, line[:_RAW_CHARS]))
        else:
            repairs.append(Repair(at, "not a JSON object, left out"))
    form, blocks = of_objects(found, repairs)
    return form, blocks, repairs


def parse_document(value: Any) -> tuple[str, list[Block], list[Repair]]:
    """(form, blocks, repairs) of one JSON document: a list, a graph, one attempt or outcome.

    Its rows have no lines of their own: ``line`` counts the objects.
    """
    repairs: list[Repair] = []
    objects: list[Any] = [value]
    if isinstance(value, list):
        objects = value
    elif isinstance(value, dict):
        inner = value.get("nodes")
        if isinstance(inner, dict):
            objects = [{"id": k, **v} for k, v in inner.items() if isinstance(v, dict)]
        elif isinstance(inner, list):
            objects = inner
        else:
            lists = (value[k] for k in _LISTS if isinstance(value.get(k), list))
            objects = next((found for found in lists if found), [value])
    kept = [
        (at, v, json.dumps(v, ensure_ascii=False)[:_RAW_CHARS])
        for at, v in enumerate(objects, 1)
        if isinstance(v, dict)
    ]
    form, blocks = of_objects(kept, repairs)
    return form, blocks, repairs


def loads(text: str) -> Any:
    """The JSON value of a text, None where it is none, too deep, or holds absurd numbers."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def of_objects(found: list[Parsed], repairs: list[Repair]) -> tuple[str, list[Block]]:
    """(form, blocks) of objects in the order of the file; the shape is told by their keys."""
    shapes: tuple[tuple[str, Callable[[dict[str, Any]], bool], _Reader], ...] = (
        ("pi", _is_pi, _pi),
        ("CORAL attempts", lambda o: {"commit_hash", "score", "status"} <= set(o), _coral),
        ("evo graph", lambda o: {"hypothesis", "score", "status", "parent"} <= set(o), _evo),
        ("evo outcome", lambda o: {"experiment_id", "outcome", "score"} <= set(o), _outcome),
        ("autoloop", lambda o: isinstance(o.get("metric"), dict) and "status" in o, _autoloop),
        ("goal-md", lambda o: {"before", "after", "action"} <= set(o), _goal),
        ("observations", lambda o: {"instrument", "value", "measured_at"} <= set(o), _observed),
        ("weco", lambda o: {"step", "output_file"} <= set(o), _plain),
        ("leo", lambda o: {"iteration", "metric", "guard", "status"} <= set(o), _leo),
    )
    for form, is_it, read in shapes:
        if sum(is_it(o) for _, o, _ in found) > 0.3 * len(found):
            return form, [b for b in read(found, repairs) if b.records]
    return "JSON records", [b for b in _plain(found, repairs) if b.records]


_Reader = Callable[[list[Parsed], list[Repair]], Iterable[Block]]


def _block(records: list[Record], **known: Any) -> Block:
    every = dict.fromkeys(name for record in records for name in record.cells)
    named = known.get("metric")  # counts, however many others stand before it
    columns = [name for name in every if name != named][:_MOST_COLUMNS]
    if named in every:
        columns.append(named)
    return Block(records, tuple(columns), **known)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


# -- pi and its forks


def _is_pi(value: dict[str, Any]) -> bool:
    return (_is_number(value.get("run")) and "type" not in value and "metric" in value) or (
        value.get("type") == "config" and "metricName" in value
    )


def _pi(found: list[Parsed], repairs: list[Repair]) -> Iterator[Block]:
    """Every config line after a run begins a segment, which may change metric and direction."""
    config: dict[str, Any] = {}
    records: list[Record] = []

    def made() -> Block:
        said = str(config.get("bestDirection", ""))
        # The format's own rule: whatever is not "higher" reads as lower.
        better = Better.HIGHER if said == "higher" else Better.LOWER
        return _block(
            records,
            name=str(config.get("name") or "")[:200],
            metric=str(config.get("metricName") or "metric")[:100],
            better=better if config else None,
            better_from=f"the config line says {said or 'nothing: lower'}" if config else "",
            unit=str(config.get("metricUnit") or "")[:20],
            kind="pi",
        )

    for line, value, raw in found:
        if value.get("type") == "config":
            if records:
                yield made()
                records = []
            config = value
        elif _is_number(value.get("run")) and "type" not in value:
            if value.get("metric") == 0 and value.get("status") == "crash":
                value = value | {"metric": None}  # noqa: PLW2901  what the format means by it
                repairs.append(Repair(line, "0 of a crash read as no value"))
            records.append(Record(line, _pi_cells(value, config), raw))
        else:
            kind = str(value.get("type", "?"))[:40]
            repairs.append(Repair(line, f"a line of type {kind!r}, left out"))
    if records:
        yield made()


def _pi_cells(value: dict[str, Any], config: dict[str, Any]) -> dict[str, object]:
    metrics, said = value.get("metrics"), value.get("asi")
    about = said if isinstance(said, dict) else {}
    cells: dict[str, object] = {
        str(name)[:100]: number
        for name, number in (metrics.items() if isinstance(metrics, dict) else ())
        if _is_number(number)
    }
    cells |= {k: value.get(k) for k in ("run", "commit", "status", "description", "timestamp")}
    cells |= {
        "hypothesis": about.get("hypothesis"),
        "category": about.get("lane") or about.get("family"),
    }
    rest = {k: v for k, v in about.items() if k not in ("hypothesis", "lane", "family")}
    if rest:
        cells["asi"] = json.dumps(rest, ensure_ascii=False)[:4000]
    return cells | {str(config.get("metricName") or "metric")[:100]: value.get("metric")}


# -- the others


def _coral(found: list[Parsed], _: list[Repair]) -> Iterator[Block]:
    order = sorted(found, key=lambda one: str(one[1].get("timestamp", "")))
    yield _block(
        [
            Record(
                line,
                {
                    "commit": o.get("commit_hash"),
                    "score": o.get("score"),
                    "status": o.get("status"),
                    "description": o.get("title"),
                    "feedback": str(o.get("feedback") or "")[:4000],
                    "timestamp": o.get("timestamp"),
                    "agent": o.get("agent_id"),
                    "parent": o.get("parent_hash"),
                },
                raw,
            )
            for line, o, raw in order
        ],
        metric="score",
    )


def _evo(found: list[Parsed], _: list[Repair]) -> Iterator[Block]:
    """Nodes of the graph; scores of another epoch of the evaluator do not compare."""
    epochs: dict[object, list[Record]] = {}
    for line, o, raw in found:
        if o.get("status") == "root" and o.get("score") is None:
            continue
        cells = {
            "id": o.get("id"),
            "commit": o.get("commit"),
            "score": o.get("score"),
            "status": {"committed": "keep"}.get(str(o.get("status")), o.get("status")),
            "description": o.get("hypothesis"),
            "parent": o.get("parent"),
            "timestamp": o.get("updated_at") or o.get("created_at"),
            "reason": o.get("pruned_reason"),
        }
        epochs.setdefault(str(o.get("eval_epoch") or 0), []).append(Record(line, cells, raw))
    for epoch, records in epochs.items():
        name = f"evaluation epoch {epoch}" if len(epochs) > 1 else ""
        yield _block(records, metric="score", name=name)


def _outcome(found: list[Parsed], _: list[Repair]) -> Iterator[Block]:
    said = {str(o.get("metric")) for _, o, _ in found} & {"max", "min"}
    better = better_said(next(iter(said))) if len(said) == 1 else None
    records = [
        Record(
            line,
            {
                "id": o.get("experiment_id"),
                "commit": o.get("commit"),
                "score": o.get("score"),
                "status": o.get("outcome"),
                "description": o.get("hypothesis"),
                "timestamp": o.get("finished_at") or o.get("started_at"),
                "error": o.get("error"),
            },
            raw,
        )
        for line, o, raw in found
    ]
    yield _block(
        records,
        metric="score",
        better=better,
        better_from=f"the file says {next(iter(said))}" if better else "",
    )


def _autoloop(found: list[Parsed], _: list[Repair]) -> Iterator[Block]:
    groups: dict[str, list[Record]] = {}
    for line, o, raw in found:
        metric = o.get("metric")
        measured = metric if isinstance(metric, dict) else {}
        name = str(measured.get("name") or "metric")[:100]
        cells = {
            "id": o.get("id"),
            "commit": o.get("commit_hash"),
            name: measured.get("value"),
            "status": o.get("status"),
            "description": o.get("description"),
            "reason": o.get("reason"),
            "tags": json.dumps(o.get("tags") or [])[:500],
            "timestamp": o.get("timestamp"),
        }
        groups.setdefault(name, []).append(Record(line, cells, raw))
    for name, records in groups.items():
        yield _block(records, metric=name, name=name if len(groups) > 1 else "")


def _goal(found: list[Parsed], _: list[Repair]) -> Iterator[Block]:
    yield _block(
        [
            Record(
                line,
                {
                    "iteration": o.get("iteration"),
                    "score": o.get("after"),
                    "before": o.get("before"),
                    "status": o.get("result"),
                    "description": o.get("action"),
                    "note": o.get("note"),
                },
                raw,
            )
            for line, o, raw in found
        ],
        metric="score",
    )


def _observed(found: list[Parsed], _: list[Repair]) -> Iterator[Block]:
    """Measurements by an instrument; each instrument's are a segment."""
    groups: dict[str, list[Parsed]] = {}
    for one in found:
        groups.setdefault(str(one[1].get("instrument"))[:100], []).append(one)
    for name, some in groups.items():
        records = [
            Record(
                line,
                {
                    "id": o.get("id"),
                    "commit": o.get("candidate_sha"),
                    name: o.get("value"),
                    "status": "crash" if o.get("exit_code") not in (0, None) else "ok",
                    "description": o.get("experiment") or o.get("candidate_ref"),
                    "ci_low": o.get("ci_low"),
                    "ci_high": o.get("ci_high"),
                    "timestamp": o.get("measured_at"),
                },
                raw,
            )
            for line, o, raw in some
        ]
        unit = str(some[0][1].get("unit") or "")[:20]
        yield _block(records, metric=name, unit=unit, name=name if len(groups) > 1 else "")


def _leo(found: list[Parsed], repairs: list[Repair]) -> Iterator[Block]:
    rows = [one for one in found if "iteration" in one[1]]
    for line, o, _raw in found:
        if "iteration" not in o:
            repairs.append(Repair(line, "the summary line, left out"))
    yield _block(
        [Record(line, _flat(o), raw) for line, o, raw in rows], metric="metric", kind="leo"
    )


def _plain(found: list[Parsed], _: list[Repair]) -> Iterator[Block]:
    """Objects of no known shape, flattened: ``results.val_bpb`` is a column."""
    records = []
    for line, value, raw in found:
        cells = _flat(value)
        name, number = cells.get("metric"), cells.get("value")
        if isinstance(name, str) and "value" in cells:
            cells = {k: v for k, v in cells.items() if k not in ("metric", "value")}
            cells[name[:100]] = number
        if "status" not in cells:
            worked = cells.get("success", cells.get("results.success"))
            if isinstance(worked, bool):
                cells["status"] = "ok" if worked else "crash"
            elif "results.status" in cells:
                cells["status"] = cells["results.status"]
        records.append(Record(line, cells, raw))
    yield _block(records)


def _flat(value: Mapping[str, Any], prefix: str = "", deep: int = 0) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, inner in value.items():
        name = f"{prefix}{key}"[:100]
        if isinstance(inner, dict) and deep < _DEEP and key not in _SETTINGS:
            found |= _flat(inner, f"{name}.", deep + 1)
        elif isinstance(inner, (dict, list)):
            found[name] = _said(inner)
        else:
            found[name] = inner[:8000] if isinstance(inner, str) else inner
    return found


def _said(value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)[:2000]
    except (ValueError, RecursionError):
        return ""
