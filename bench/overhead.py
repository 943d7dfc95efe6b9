"""Controller overhead per experiment, beside the bare shell loop on the same script.

    python -m bench.overhead [--experiments 40] [--journal 10000] [--sandbox process] [--json]

The script prints when it began and ended; the overhead of an experiment is the time from one
run's end to the next run's beginning, with a researcher that plays prepared texts. It is
measured on a fresh study and on one whose journal holds 10,000 experiments, and the same
script is driven by the loop of the reference in sh: edit, commit, run, grep, reset.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tests.support import git

from nightlab.budget import Bounds
from nightlab.engine import Engine
from nightlab.events import Committed, Judged, Proposed, RunFinished, RunStarted, Settled
from nightlab.judge import open_judge
from nightlab.lab import open_study
from nightlab.loop import Loop
from nightlab.model import (
    Action,
    Claim,
    Decision,
    Experiment,
    Outcome,
    Proposal,
    Purpose,
    Run,
    Verdict,
)
from nightlab.researchers import Context

SCRIPT = """\
LR=0.1
echo "began: $(date +%s.%N)"
echo "val_loss: $LR"
echo "ended: $(date +%s.%N)"
"""
CONFIG = """\
[study]
command = "sh train.sh"
edit = ["train.sh"]
budget = "10s"
[objective]
metric = "val_loss"
better = "lower"
[sandbox]
use = "SANDBOX"
"""
BARE = """\
i=0
while [ $i -lt COUNT ]; do
  i=$((i+1))
  sed -i "s/^LR=.*/LR=0.2$i/" train.sh
  git commit -qam "experiment $i"
  sh train.sh > run.log 2>&1
  grep "^val_loss:" run.log >> results
  grep "^began\\|^ended" run.log >> times
  git reset -q --hard HEAD~1
done
"""


def make(folder: Path, sandbox: str) -> Path:
    """A committed project of one shell script."""
    folder.mkdir(parents=True)
    (folder / "train.sh").write_text(SCRIPT)
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "start")
    (folder / "nightlab.toml").write_text(CONFIG.replace("SANDBOX", sandbox))
    return folder


@dataclass
class Prepared:
    """Texts that differ in one number, each worse than the baseline: discarded after one run."""

    name: str = "prepared"

    def propose(self, context: Context) -> Proposal:
        """The next text."""
        text = context.files["train.sh"].replace("LR=0.1", f"LR=0.2{context.number}")
        return Proposal(description=f"LR 0.2{context.number}", files={"train.sh": text})

    def learn(self, experiment: Experiment) -> None:
        """Nothing to learn."""


def pad(engine: Engine, count: int) -> None:
    """Write ``count`` settled experiments as a real night would have, refs included."""
    repo, head = engine.repo, engine.history.base_commit
    tree = repo.tree_of(head)
    for number in range(1, count + 1):
        _write_one(engine, number, head, tree)
    tag = engine.study.tag
    repo.update_refs([(f"refs/nightlab/{tag}/{n}", head, None) for n in range(1, count + 1)])


def _write_one(engine: Engine, number: int, head: str, tree: str) -> None:
    claim = Claim(
        description=f"LR 0.1 → {number / 1000:g}, DROPOUT 0 → 0.1",
        hypothesis="a different step size may end lower within the same budget",
        category="constants",
        researcher="optuna",
        lines_added=2,
        lines_removed=2,
    )
    started = RunStarted(
        run=number,
        experiment=number,
        occasion=number,
        purpose=Purpose.BASELINE if number == 1 else Purpose.SCREEN,
        seed=1,
        device="cpu0",
        commit=head,
        marker="x",
    )
    run = Run(
        id=number,
        experiment=number,
        occasion=number,
        purpose=started.purpose,
        commit=head,
        seed=1,
        device="cpu0",
        outcome=Outcome.OK,
        metrics={"val_loss": 0.1 if number == 1 else 0.3, "began": 1.0, "ended": 2.0},
        started_at=time.time(),
        duration_s=300.0,
    )
    action = Action.KEEP if number == 1 else Action.DISCARD
    reason = "0.3000 against 0.1000 ± 0.0000: worse by 0.2000 over 1 run"
    engine.record(Proposed(number=number, parent=head, tree=tree, claim=claim))
    engine.record(Committed(number=number, commit=head))
    engine.record(started)
    engine.record(RunFinished(run=run))
    decision = Decision(action=action, rule="screen", reason=reason)
    engine.record(Judged(number=number, decision=decision))
    engine.record(Settled(number=number, verdict=Verdict(action.value), commit=head))


def lab(root: Path, experiments: int, padded: int) -> dict[str, float]:
    """Gaps between the runs of ``experiments`` fresh experiments, and the lab's memory."""
    engine = open_study(root, judge=open_judge("greedy")).engine
    with engine.journal:
        if padded:
            pad(engine, padded)
    # Opened again, as after a reboot: what is measured is a lab that replayed its journal.
    engine = open_study(root, judge=open_judge("greedy")).engine
    with engine.journal:
        start = len(engine.history.experiments)
        Loop(engine, Prepared(), Bounds(max_experiments=start + experiments + 1)).run()
    fresh = [e for e in engine.history.experiments.values() if e.number > max(start, 1)]
    spans = [(e.runs[0].metrics["began"], e.runs[0].metrics["ended"]) for e in fresh]
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return _summary(spans) | {"rss_mb": pages * resource.getpagesize() / 2**20}


def _summary(spans: list[tuple[float, float]]) -> dict[str, float]:
    gaps = [1e3 * (after[0] - before[1]) for before, after in pairwise(spans)]
    return {"median_ms": statistics.median(gaps), "max_ms": max(gaps), "n": len(gaps)}


def bare(root: Path, experiments: int) -> dict[str, float]:
    """The same gaps under the shell loop."""
    subprocess.run(["sh", "-c", BARE.replace("COUNT", str(experiments + 1))], cwd=root, check=True)
    lines = (root / "times").read_text().split("\n")
    stamps = [float(line.split()[1]) for line in lines if line]
    return _summary(list(zip(stamps[::2], stamps[1::2], strict=True)))


def verb(root: Path, *words: str) -> dict[str, float]:
    """Whole-process wall seconds of a nightlab command."""
    times = []
    for _ in range(7):
        began = time.perf_counter()
        command = [sys.executable, "-m", "nightlab", *words]
        subprocess.run(command, cwd=root, check=True, capture_output=True)
        times.append(time.perf_counter() - began)
    return {"median_s": statistics.median(times), "max_s": max(times), "n": len(times)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="controller overhead per experiment")
    parser.add_argument("--experiments", type=int, default=40)
    parser.add_argument("--journal", type=int, default=10_000)
    parser.add_argument("--sandbox", default="process", help="or auto, bubblewrap, …")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, n, padded = Path(name), asked.experiments, f"journal of {asked.journal:,}"
        box = asked.sandbox
        results = {
            "bare shell loop": bare(make(folder / "bare", box), n),
            f"nightlab, {box}, fresh study": lab(make(folder / "fresh", box), n, 0),
            f"nightlab, {box}, {padded}": lab(make(folder / "padded", box), n, asked.journal),
            f"nightlab status --json, {padded}": verb(folder / "padded", "status", "--json"),
            "nightlab --help": verb(folder / "padded", "--help"),
        }
    machine = f"{platform.machine()}, {platform.system()} {platform.release()}"
    if asked.json:
        print(json.dumps({"machine": machine, **results}, indent=2))
        return
    print(machine)
    for label, figures in results.items():
        print(f"{label:44}", ", ".join(f"{k} {v:.3g}" for k, v in figures.items()))


if __name__ == "__main__":
    main()
