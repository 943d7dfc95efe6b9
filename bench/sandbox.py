"""What a sandbox costs: its start beside a bare subprocess, and training inside and outside.

    python -m bench.sandbox [--starts 30] [--repeats 7] [--image localhost/lab:1] [--json]

Everything is interleaved in one run, for the machine may be busy. A start is the wall time
from the call to the known end of ``/bin/sh -c true``, the proof that nothing is left
included; the bare one is ``subprocess.run``. Training is a numpy loop of fixed work on one
thread; what is compared is the CPU time that the loop itself used, in the same round.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from nightlab import process
from nightlab.errors import SandboxError
from nightlab.sandboxes import SANDBOXES, Cell, Options, Sandbox, open_sandbox
from nightlab.sandboxes.process import ProcessSandbox

TRAIN = """
import time
import numpy as np
rng = np.random.default_rng(0)
x, y = rng.normal(size=(512, 64)), rng.normal(size=(512, 1))
a, b = rng.normal(size=(64, 128)) * 0.1, rng.normal(size=(128, 1)) * 0.1
began = time.process_time()
for step in range(600):
    h = np.tanh(x @ a)
    error = h @ b - y
    b -= 0.01 * h.T @ error / 512
    a -= 0.01 * x.T @ ((error @ b.T) * (1 - h * h)) / 512
print(time.process_time() - began)
"""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def fresh(parent: Path) -> tuple[Path, Path]:
    """A project of one script, and a run folder."""
    folder = Path(tempfile.mkdtemp(dir=parent))
    tree, run_dir = folder / "tree", folder / "run"
    tree.mkdir()
    run_dir.mkdir()
    (tree / "train.py").write_text(TRAIN)
    return tree, run_dir


def run_boxed(sandbox: Sandbox, command: str, parent: Path) -> tuple[float, str]:
    """(wall seconds, what it printed)."""
    tree, run_dir = fresh(parent)
    began = time.perf_counter()
    launch = sandbox.launch(Cell(command, tree, tree, run_dir, env=ONE_THREAD))
    log = run_dir / "log"
    finished = process.start(
        launch.argv, env=launch.env, cwd=launch.cwd, wall_s=120, log=log, pass_fds=launch.pass_fds
    ).poll(130)
    launch.cleanup()
    wall_s = time.perf_counter() - began
    text = log.read_text()
    if finished is None or finished.exit_code != 0:
        raise SystemExit(f"{sandbox.name}: {command} ended as {finished}: {text}")
    return wall_s, text


def run_bare(command: str, parent: Path) -> tuple[float, str]:
    """The same without nightlab: wall seconds, what it printed."""
    tree, run_dir = fresh(parent)
    # The same variables as inside: some change which routines numpy's library takes.
    launch = ProcessSandbox().launch(Cell(command, tree, tree, run_dir, env=ONE_THREAD))
    began = time.perf_counter()
    done = subprocess.run(
        launch.argv, cwd=tree, check=True, capture_output=True, text=True, env=launch.env
    )
    return time.perf_counter() - began, done.stdout


def boxes(options: Options) -> tuple[dict[str, Sandbox], dict[str, str]]:
    """What works here, and why the rest does not."""
    works, refused = {}, {}
    for name in SANDBOXES:
        try:
            works[name] = open_sandbox(name, options)
        except SandboxError as error:
            refused[name] = f"{error.what}: {error.why}"
    return works, refused


def ms(values: list[float]) -> float:
    """The median of seconds, in milliseconds."""
    return round(1000 * statistics.median(values), 1)


def measure(starts: int, repeats: int, options: Options) -> dict[str, object]:
    """Everything, interleaved."""
    works, refused = boxes(options)
    started: dict[str, list[float]] = {name: [] for name in ("bare", *works)}
    trained: dict[str, list[float]] = {name: [] for name in ("bare", *works)}
    # A container's image need not have this interpreter: its training is not measured.
    trains = {name: box for name, box in works.items() if name != "container"}
    train = f"{sys.executable} train.py"
    with tempfile.TemporaryDirectory(prefix="nightlab-bench-") as folder:
        parent = Path(folder)
        for round_number in range(starts + 1):
            took = {"bare": run_bare("true", parent)[0]}
            took |= {name: run_boxed(box, "true", parent)[0] for name, box in works.items()}
            for name, wall_s in took.items():
                if round_number:  # the first warms caches
                    started[name].append(wall_s)
        for _ in range(repeats):
            trained["bare"].append(float(run_bare(train, parent)[1]))
            for name, box in trains.items():
                trained[name].append(float(run_boxed(box, train, parent)[1]))
    ratios = {
        name: [outside / inside for outside, inside in zip(trained["bare"], values, strict=True)]
        for name, values in trained.items()
        if values
    }
    return {
        "machine": f"{platform.platform()}, {os.cpu_count()} cores",
        "starts": starts,
        "repeats": repeats,
        "start_ms": {name: ms(values) for name, values in started.items()},
        "start_fastest_ms": {n: round(1000 * min(values), 1) for n, values in started.items()},
        "start_over_bare_ms": {
            name: round(ms(values) - ms(started["bare"]), 1) for name, values in started.items()
        },
        "train_cpu_s": {n: round(statistics.median(v), 3) for n, v in trained.items() if v},
        "throughput_inside_over_outside": {
            name: round(statistics.median(values), 3) for name, values in ratios.items()
        },
        "does_not_work_here": refused,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--starts", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--image")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found = measure(args.starts, args.repeats, Options(image=args.image))
    if args.json:
        print(json.dumps(found))
        return
    for key, value in found.items():
        if isinstance(value, dict):
            print(key)
            for name, one in value.items():
                print(f"  {name:<12} {one}")
        else:
            print(f"{key:<12} {value}")


if __name__ == "__main__":
    main()
