"""A path -> Ledger: files and folders of known loops, recognised by what is in them.

Nothing in them is run, followed or believed; sizes are bounded.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from nightlab.errors import NightlabError
from nightlab.exchange import records, rows, tables
from nightlab.exchange.values import Block, Ledger, Repair
from nightlab.model import Better

MOST_BYTES = 256 * 1024**2
_MOST_FILES = 50_000
_KNOWN = (  # where loops keep their ledger, below the folder that a person names
    ".auto/log.jsonl",
    "autoresearch.jsonl",
    "results.tsv",
    "autoresearch-results.tsv",
    "experiments.jsonl",
    "iterations.jsonl",
    ".autoloop/experiments.jsonl",
)


class ImportFailed(NightlabError):  # noqa: N818  as Exhausted: said of what happened
    """A ledger that cannot be read at all."""


def read(path: Path, *, metric: str | None = None) -> Ledger:
    """The ledger at ``path``: a file, or the folder of a loop.

    ``metric`` names the column that counts, for files that do not tell. Raises ImportFailed
    when there is none, it is too large, or it holds no rows.
    """
    if path.is_dir():
        form, blocks, repairs, data = _folder(path)
    elif path.is_file():
        data = _bytes(path)
        form, blocks, repairs = _recognise(data)
        blocks = _with_state(path, blocks)
    else:
        raise ImportFailed(f"there is nothing at {path}", "a ledger's file or folder", "ls")
    found, more = rows.segments(blocks, metric=metric)
    every_row = (row for segment in found for row in segment.rows)
    if not any(r.value is not None or r.word or r.commit or r.label for r in every_row):
        raise ImportFailed(
            f"no rows of experiments in {path}",
            f"read as {form}",
            "nightlab import FILE  (tab-separated, CSV, or JSON lines; docs/ledgers.md)",
        )
    every = sorted({*repairs, *more}, key=lambda r: (r.line, r.what))
    digest = hashlib.sha256(data).hexdigest()
    return Ledger(str(path), form, tuple(found), tuple(every), digest)


def _bytes(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise ImportFailed(
                f"{path} has {size} bytes", f"at most {MOST_BYTES} are read", f"head {path}"
            )
        return path.read_bytes()
    except OSError as error:
        raise ImportFailed(f"{path} cannot be read", str(error), f"ls -l {path}") from error


def _recognise(data: bytes) -> tuple[str, list[Block], list[Repair]]:
    """(form, blocks, repairs) of a file's bytes. Raises ImportFailed for what is no text."""
    text, repairs = _decoded(data)
    start = text.lstrip()[:1]
    if start in ("{", "["):
        document = records.loads(text)
        if document is not None and not (isinstance(document, dict) and "run" in document):
            form, blocks, more = records.parse_document(document)
        else:
            form, blocks, more = records.parse_lines(text)
        return form, blocks, [*repairs, *more]
    blocks, more = tables.parse(text)
    return _table_form(blocks), blocks, [*repairs, *more]


def _decoded(data: bytes) -> tuple[str, list[Repair]]:
    repairs: list[Repair] = []
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        repairs.append(Repair(0, "UTF-16, as Windows writes it"))
        return data.decode("utf-16", "replace").lstrip("\ufeff"), repairs
    head = data[: 1 << 20]
    odd = sum(head.count(bytes([c])) for c in range(32) if c not in (9, 10, 13, 27))
    if odd > 0.1 * len(head):
        raise ImportFailed(
            "the file is binary, no ledger",
            f"{odd} control characters among its first {len(head)} bytes",
            "nightlab import FILE  (tab-separated, CSV, or JSON lines)",
        )
    if b"\0" in data:
        for at, line in enumerate(data.split(b"\n"), 1):
            if b"\0" in line:
                repairs.append(Repair(at, "NUL characters left out"))
        data = data.replace(b"\0", b"")
    try:
        return data.decode("utf-8-sig"), repairs
    except UnicodeDecodeError as error:
        at = data[: error.start].count(b"\n") + 1
        repairs.append(Repair(at, "not UTF-8: what cannot be read was replaced"))
        return data.decode("utf-8-sig", "replace"), repairs


def _table_form(blocks: list[Block]) -> str:
    """What a table is called, by its columns."""
    names = set(blocks[0].columns) if blocks else set()
    if {"commit", "memory_gb", "status", "description"} <= names and len(names) == 5:
        return "karpathy table"
    for form, telling in (
        ("uditgoenka table", {"iteration", "delta", "guard", "guard-metric"}),
        ("leo table", {"iteration", "commit", "metric", "delta", "guard"}),
        ("PaperFarm table", {"primary_metric", "metric_value", "secondary_metrics"}),
        ("polyresearch table", {"thesis", "attempt", "metric", "baseline", "summary"}),
        ("autokernel table", {"kernel_type", "throughput_tflops"}),
        ("SkyPilot table", {"experiment_id", "status", "val_bpb"}),
    ):
        if telling <= names:
            return form
    return "table"


def _with_state(path: Path, blocks: list[Block]) -> list[Block]:
    """The direction that a state.json beside a table names (leo's loop keeps one)."""
    for name in ("autoresearch-state.json", "state.json"):
        state = path.with_name(name)
        if not state.is_file() or state == path or state.stat().st_size > 10_000_000:
            continue
        value = records.loads(state.read_text(encoding="utf-8", errors="replace"))
        config = value.get("config") if isinstance(value, dict) else None
        said = config.get("direction") if isinstance(config, dict) else None
        if said in ("lower", "higher"):
            for block in blocks:
                if block.better is None:
                    block.better, block.better_from = Better(said), f"{name} says {said}"
    return blocks


def _folder(path: Path) -> tuple[str, list[Block], list[Repair], bytes]:
    """The ledger of a loop in a folder: CORAL's attempts, evo's runs, or a known file."""
    for folder in (path, path / "attempts", path / ".coral/public/attempts"):
        found = _attempts(folder)
        if found is not None:
            return found
    graphs = [
        p for p in (path / "graph.json", *sorted(path.glob(".evo/run_*/graph.json"))) if p.is_file()
    ]
    if graphs:
        graph = graphs[-1]
        data = _bytes(graph)
        form, blocks, repairs = _recognise(data)
        better = _evo_direction(graph.parent)
        for block in blocks:
            if better is not None:
                block.better, block.better_from = better, "outcome.json says so"
        if len(graphs) > 1:
            repairs.append(
                Repair(0, f"{len(graphs)} runs: the last one, {graph.parent.name}, read")
            )
        return form, blocks, repairs, data
    for name in _KNOWN:
        if (path / name).is_file():
            data = _bytes(path / name)
            form, blocks, repairs = _recognise(data)
            return form, _with_state(path / name, blocks), repairs, data
    raise ImportFailed(
        f"no ledger in the folder {path}",
        f"looked for CORAL attempts, an evo graph, {', '.join(_KNOWN)}",
        "nightlab import FILE",
    )


def _attempts(folder: Path) -> tuple[str, list[Block], list[Repair], bytes] | None:
    """A folder of JSON files, one attempt or outcome each."""
    if not folder.is_dir():
        return None
    files = sorted(folder.glob("*.json")) or sorted(folder.glob("*/outcome.json"))
    repairs: list[Repair] = []
    objects: list[records.Parsed] = []
    whole: list[bytes] = []
    for at, file in enumerate(files[:_MOST_FILES], 1):
        if file.is_symlink() or file.stat().st_size > 10_000_000:
            repairs.append(Repair(at, f"{file.name[:60]}: a link or too large, left out"))
            continue
        data = file.read_bytes()
        value = records.loads(data.decode("utf-8", "replace"))
        telling = {"commit_hash", "experiment_id", "instrument"}
        if isinstance(value, dict) and telling & set(value):
            objects.append((at, value, data.decode("utf-8", "replace")[:16_000]))
            whole.append(data)
        else:
            repairs.append(Repair(at, f"{file.name[:60]}: no attempt, left out"))
    if not objects:
        return None
    form, blocks = records.of_objects(objects, repairs)
    task = next(
        (p for p in (folder / "../../../task.yaml", folder / "task.yaml") if p.is_file()), None
    )
    if task is not None:
        for line in task.read_text(encoding="utf-8", errors="replace").splitlines()[:2000]:
            better = tables.better_said(line) if "direction" in line.lower() else None
            for block in blocks if better else ():
                block.better, block.better_from = better, f"task.yaml says {line.strip()[:60]}"
    return form, blocks, repairs, b"\0".join(whole)


def _evo_direction(folder: Path) -> Better | None:
    for outcome in sorted(folder.glob("experiments/*/attempts/*/outcome.json"))[:50]:
        value = records.loads(outcome.read_text(encoding="utf-8", errors="replace")[:1_000_000])
        said = value.get("metric") if isinstance(value, dict) else None
        if said in ("max", "min"):
            return tables.better_said(said)
    return None
