"""The dashboard's server on a long study: how soon, how much, and what a change costs.

    python -m bench.ui [--experiments 20000] [--json]

A journal of so many synthetic experiments is written, `nightlab ui` started on it as a process,
and asked over real HTTP: what a browser waits for before it can paint, the whole table, and how
long after a line is appended the page is told of it.
"""

from __future__ import annotations

import argparse
import gzip
import http.client
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from bench.context import Maker
from nightlab.events import AnyEvent

_TOML = """\
[study]
command = "python train.py"
edit = ["train.py"]
budget = "5m"
[objective]
metric = "val_bpb"
better = "lower"
"""


class Writer(Maker):
    """Makes a study and its journal, line by line."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._encoder = msgspec.json.Encoder()
        super().__init__()

    def take(self, event: AnyEvent) -> None:
        """Fold it and append its line."""
        if not self._file.tell():
            self._file.write(self._encoder.encode(self.history.started) + b"\n")
        stamp = {f: getattr(event, f) for f in event.__struct_fields__}
        stamp |= {"seq": self.history.last_seq + 1, "at": self._at}
        made = type(event)(**stamp)
        self.history.apply(made)
        self._file.write(self._encoder.encode(made) + b"\n")


def project(folder: Path, experiments: int) -> tuple[Writer, BinaryIO]:
    """A project with the journal of such a study, and what can make more of it."""
    home = folder / ".nightlab" / "bench"
    home.mkdir(parents=True)
    (folder / "nightlab.toml").write_text(_TOML)
    file = (home / "journal.jsonl").open("ab")
    writer = Writer(file)
    writer.grow(experiments)
    file.flush()
    return writer, file


@contextmanager
def served(*roots: Path) -> Iterator[tuple[dict[str, Any], subprocess.Popen[str]]]:
    """`nightlab ui` on these projects, and what it printed."""
    words = [sys.executable, "-m", "nightlab", "ui", *map(str, roots), "--json", "--port", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield json.loads(server.stdout.readline()), server
        finally:
            server.terminate()


def ask(told: dict[str, Any], path: str) -> tuple[float, bytes, int]:
    """(seconds, the body unpacked, bytes on the wire) of one request."""
    link = http.client.HTTPConnection("127.0.0.1", told["port"], timeout=60)
    keys = {"Authorization": f"Bearer {told['token']}", "Accept-Encoding": "gzip"}
    began = time.perf_counter()
    link.request("GET", path, headers=keys)
    answer = link.getresponse()
    body = answer.read()
    took = time.perf_counter() - began
    link.close()
    packed = answer.getheader("content-encoding") == "gzip"
    return took, gzip.decompress(body) if packed else body, len(body)


def delays(told: dict[str, Any], writer: Writer, file: BinaryIO) -> dict[str, float]:
    """From a line in the journal to the event on the wire, and how large that is."""
    status = json.loads(ask(told, "/api/studies/0/bench/status")[1])
    where = f"0/bench@{status['epoch']}.{status['seq']}"
    link = http.client.HTTPConnection("127.0.0.1", told["port"], timeout=60)
    keys = {"Authorization": f"Bearer {told['token']}"}
    link.request("GET", f"/api/stream?study={where}", headers=keys)
    stream, took, sizes = link.getresponse(), [], []
    for _ in range(10):
        time.sleep(1.3)
        writer.grow(len(writer.history.experiments) + 1)
        began = time.perf_counter()
        file.flush()
        while stream.readline() != b"event: rows\n":
            pass
        sizes.append(len(stream.readline()))
        took.append(time.perf_counter() - began)
    link.close()
    return {
        "append_to_event_median_s": statistics.median(took),
        "append_to_event_max_s": max(took),
        "event_median_bytes": statistics.median(sizes),
    }


def measure(experiments: int) -> dict[str, float]:
    """All of it, for one length of study."""
    with tempfile.TemporaryDirectory() as name:
        writer, file = project(Path(name), experiments)
        began = time.perf_counter()
        with served(Path(name)) as (told, server):
            found: dict[str, float] = {"listening_s": time.perf_counter() - began}
            rows = {"total": 0}
            while rows["total"] == 0:
                rows = json.loads(ask(told, "/api/studies/0/bench/rows")[1] or b"{}") | {}
                rows.setdefault("total", 0)
            found["first_rows_s"] = time.perf_counter() - began
            found["first_rows"] = rows["total"]
            while json.loads(ask(told, "/api/studies/0/bench/status")[1])["loading"]:
                time.sleep(0.05)
            found["all_read_s"] = time.perf_counter() - began
            asked = [ask(told, "/api/studies/0/bench/rows") for _ in range(7)]
            found["rows_median_s"] = statistics.median(a[0] for a in asked)
            found |= {"rows_bytes": len(asked[0][1]), "rows_wire_bytes": asked[0][2]}
            for what in ("status", "backlog", "costs", "experiments/7", "live"):
                times = [ask(told, f"/api/studies/0/bench/{what}")[0] for _ in range(7)]
                found[f"{what}_median_s"] = statistics.median(times)
            found |= delays(told, writer, file)
            before = sum(_cpu(server.pid))
            time.sleep(5)
            found["idle_cpu_share"] = (sum(_cpu(server.pid)) - before) / 5
            pages = int(Path(f"/proc/{server.pid}/statm").read_text().split()[1])
            found["rss_mb"] = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
        file.close()
    return found


def _cpu(pid: int) -> tuple[float, float]:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    tick = os.sysconf("SC_CLK_TCK")
    return int(fields[11]) / tick, int(fields[12]) / tick


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="the dashboard's server on a long study")
    parser.add_argument("--experiments", type=int, default=20_000)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    found = measure(asked.experiments)
    machine = f"{platform.machine()}, {platform.system()} {platform.release()}"
    machine += f", {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    if asked.json:
        print(json.dumps({"machine": machine, "experiments": asked.experiments, **found}))
        return
    print(f"{machine}; {asked.experiments:,} experiments")
    for name, value in found.items():
        print(f"{name:28}{value:>14,.4g}" if value < 1e5 else f"{name:28}{value:>14,.0f}")


if __name__ == "__main__":
    main()
