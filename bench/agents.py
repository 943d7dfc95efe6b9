"""Time that the driver of agents adds around a program that does nothing, beside that program.

    python -m bench.agents [--calls 40] [--files 20] [--json]

Each call lays a fresh copy of a project out, writes the brief, starts the program in the
sandbox, waits until its whole tree is gone, reads back what changed, and tells that nothing
did. The bare run starts the same program by ``/bin/sh -c`` in the same folder and waits for
it. Overhead is the difference of the medians.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from nightlab.errors import ResearcherError
from nightlab.model import Answer, Better, Objective
from nightlab.researchers import Context, Desk, Settings, open_researcher
from nightlab.sandboxes import open_sandbox

PROGRAM = "true"
_LINES = 200


def _context(folder: Path, sandbox: str, files: int) -> Context:
    texts = {f"lib/part{i}.py": f"X = {i}\n" * _LINES for i in range(files)}
    texts["train.py"] = "LR = 0.1\n" * _LINES

    def checkout(tree: Path) -> None:
        (tree / "lib").mkdir()
        for name, text in texts.items():
            (tree / name).write_text(text)

    return Context(
        tag="bench",
        number=2,
        objective=Objective("loss", Better.LOWER),
        files={"train.py": texts["train.py"]},
        edit=("train.py",),
        brief="word " * 20_000,
        desk=Desk(folder, checkout, open_sandbox(sandbox)),
    )


def _timed(act: Callable[[], None], calls: int) -> list[float]:
    act()  # the first one loads modules
    taken = []
    for _ in range(calls):
        began = time.perf_counter()
        act()
        taken.append((time.perf_counter() - began) * 1000)
    return taken


def measure(folder: Path, sandbox: str, calls: int, files: int) -> dict[str, float | str]:
    """Milliseconds of one call under a sandbox and of a bare run; medians and the 95th of 100."""
    researcher = open_researcher(Settings(use="command", command=PROGRAM))
    context = _context(folder / "desk", sandbox, files)

    def ask() -> None:
        try:
            researcher.propose(context)
        except ResearcherError as error:
            if error.answer != Answer.NO_EDIT:
                raise

    def bare() -> None:
        subprocess.run(["/bin/sh", "-c", PROGRAM], cwd=folder, check=True)

    asked, plain = _timed(ask, calls), _timed(bare, calls)
    return {
        "sandbox": sandbox,
        "call_ms": statistics.median(asked),
        "call_p95_ms": statistics.quantiles(asked, n=20)[-1],
        "bare_ms": statistics.median(plain),
        "overhead_ms": statistics.median(asked) - statistics.median(plain),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=40)
    parser.add_argument("--files", type=int, default=20)
    parser.add_argument("--sandbox", action="append", help="default: process and auto")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = []
    for name in options.sandbox or ("process", open_sandbox("auto").name):
        with tempfile.TemporaryDirectory(prefix="nightlab-bench-") as folder:
            rows.append(measure(Path(folder), name, options.calls, options.files))
    if options.json:
        machine = f"{platform.system()} {platform.release()} {platform.machine()}"
        print(json.dumps({"calls": options.calls, "machine": machine, "rows": rows}, indent=2))
        return
    print(f"{'sandbox':<12}{'bare':>9}{'call':>9}{'p95':>9}{'overhead':>11}   (ms)")
    for row in rows:
        figures = "".join(f"{row[k]:>9.1f}" for k in ("bare_ms", "call_ms", "call_p95_ms"))
        print(f"{row['sandbox']:<12}{figures}{row['overhead_ms']:>11.1f}")


if __name__ == "__main__":
    main()
