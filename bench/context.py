"""What a brief costs, however long the study: its size in tokens and the time to build it.

    python -m bench.context [--json]

Histories of 10, 100, 1,000 and 10,000 experiments are made of real events (proposals, runs,
verdicts) and folded as a journal is; then a context with all its words is built for a proposal,
a plan and a fix, with a program.md, a scratchpad, a backlog and knowledge.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from nightlab import brief, contexts
from nightlab.config import Paths
from nightlab.events import (
    AnyEvent,
    Committed,
    IdeaAdded,
    Judged,
    Noted,
    Proposed,
    RunFinished,
    RunStarted,
    SessionStarted,
    Settled,
    StudyStarted,
)
from nightlab.history import History
from nightlab.model import (
    Action,
    Better,
    Claim,
    Decision,
    Evidence,
    Idea,
    Objective,
    Outcome,
    Purpose,
    Run,
    Study,
    Verdict,
)
from nightlab.researchers import Failure, Task

SIZES = (10, 100, 1_000, 10_000)
_CATEGORIES = ("tuning", "architecture", "optimizer", "schedule", "data", "regularisation")
_SUBJECTS = ("warmup", "momentum", "head width", "dropout", "weight decay", "rotary base", "gating")
_PROGRAM = """\
# The study

Bring val_bpb down; it is bits per byte on held-out text.

## Phase: tuning (20 experiments or plateau 15)

Turn the constants, one at a time.

## Phase: architecture (200 experiments)

Change the structure.

## Phase: moonshots

rules: free hand, web
"""


class Maker:
    """Makes a study event by event, and folds each into its history."""

    def __init__(self, seed: int = 0) -> None:
        study = Study(
            tag="bench",
            command="python train.py",
            edit=("train.py",),
            budget_s=300.0,
            objective=Objective(metric="val_bpb", better=Better.LOWER),
        )
        self.history = History(StudyStarted(study=study, base_commit="c0", seq=1, at=1e9))
        self._random = random.Random(seed)
        self._at = 1e9
        self._runs = 0
        self.take(
            SessionStarted(
                pid=1,
                host="h",
                researcher="claude",
                judge="default",
                sandbox="process",
                slots=("0",),
            )
        )

    def take(self, event: AnyEvent) -> None:
        """Fold one more event, some seconds after the last."""
        stamp = {f: getattr(event, f) for f in event.__struct_fields__}
        stamp |= {"seq": self.history.last_seq + 1, "at": self._at}
        self.history.apply(type(event)(**stamp))

    def grow(self, count: int) -> History:
        """Go on until so many experiments are settled."""
        while len(self.history.experiments) < count:
            self._one(len(self.history.experiments) + 1)
        return self.history

    def _one(self, number: int) -> None:
        rng, commit = self._random, f"{number:040x}"
        category = rng.choice(_CATEGORIES)
        claim = Claim(
            description=f"{rng.choice(_SUBJECTS)} {rng.random():.3g} → {rng.random():.3g} in layer "
            f"{rng.randint(1, 48)}",
            hypothesis="it should end lower within the same budget, as the curve was still falling",
            category="baseline" if number == 1 else category,
            researcher="claude",
            lines_added=rng.randint(1, 40),
        )
        self.take(Proposed(number=number, parent="p", tree=f"t{number}", claim=claim))
        self.take(Committed(number=number, commit=commit))
        crashed = number > 1 and rng.random() < 0.07
        for seed in range(4 if number == 1 else rng.choice((1, 1, 2, 3))):
            self._run(number, commit, seed, crashed=crashed)
        effect = rng.gauss(-0.005, 0.01)
        keep = number == 1 or (effect > 0.008 and rng.random() < 0.3)
        verdict = Verdict.KEEP if keep else Verdict.DISCARD if effect < 0 else Verdict.INCONCLUSIVE
        verdict = Verdict.CRASH if crashed else verdict
        evidence = Evidence(effect=effect, low=effect - 0.006, high=effect + 0.006, sigma=0.004)
        decision = Decision(
            action=Action(verdict.value),
            rule="screen",
            reason=f"{effect:+.4f} against the incumbent",
            evidence=Evidence() if crashed or number == 1 else evidence,
        )
        self.take(Judged(number=number, decision=decision))
        self.take(Settled(number=number, verdict=verdict, commit=commit))
        if number % 25 == 0:
            idea = Idea(id=self.history.backlog.next_id(), text=f"{claim.description}, again")
            self.take(IdeaAdded(idea=idea))
            self.take(Noted(text="leave the tokenizer alone"))

    def _run(self, number: int, commit: str, seed: int, *, crashed: bool) -> None:
        self._runs += 1
        purpose = Purpose.BASELINE if number == 1 else Purpose.SCREEN
        self.take(
            RunStarted(
                run=self._runs,
                experiment=number,
                occasion=number,
                purpose=purpose,
                seed=seed,
                device="0",
                commit=commit,
            )
        )
        self._at += 300.0
        loss = 1.0 + self._random.gauss(0, 0.004)
        run = Run(
            id=self._runs,
            experiment=number,
            occasion=number,
            purpose=purpose,
            commit=commit,
            seed=seed,
            device="0",
            outcome=Outcome.CRASHED if crashed else Outcome.OK,
            metrics={} if crashed else {"val_bpb": loss, "tokens_per_s": 41_000.0, "mfu": 38.5},
            duration_s=300.0,
            peak_memory_bytes=12 << 30,
            detail="RuntimeError: the shapes (64, 128) and (96, 64) do not match"
            if crashed
            else "",
        )
        self.take(RunFinished(run=run))


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--tokens", type=int, default=brief.DEFAULT_TOKENS)
    chosen = parser.parse_args()
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "program.md").write_text(_PROGRAM)
        (root / "knowledge").mkdir()
        (root / "knowledge" / "notes.md").write_text("# Warmup\n\nIt helps.\n\n" * 2000)
        paths = Paths(root)
        paths.study("bench").mkdir(parents=True)
        paths.scratchpad("bench").write_text("warmup above 0.2 hurt twice\n" * 200)
        words = contexts.Words(paths, tokens=chosen.tokens, show_files=True)
        words.library.refresh(60.0)
        maker = Maker()
        files = {"train.py": "x = 1  # a line of code\n" * 600}
        found += [measure(maker.grow(count), files, root, words, count) for count in SIZES]
        words.close()
    if chosen.json:
        json.dump(found, sys.stdout, indent=1)
        return 0
    print(f"{'experiments':>12}{'task':>9}{'tokens':>9}{'build ms':>10}{'without ms':>12}")
    for row in found:
        for task in Task:
            cost = row[task.value]
            print(
                f"{row['experiments']:>12,}{task.value:>9}{cost['tokens']:>9,}"
                f"{cost['build_ms']:>10.1f}{cost['without_ms']:>12.3f}"
            )
    return 0


def measure(
    history: History, files: dict[str, str], root: Path, words: contexts.Words, count: int
) -> dict[str, Any]:
    """Tokens and median milliseconds of each kind of question."""
    row: dict[str, Any] = {"experiments": count}
    failure = Failure(
        number=count,
        description="a change",
        outcome=Outcome.CRASHED,
        detail="it crashed",
        traceback="  File x, line 1\n" * 400,
        log_tail=("step",) * 400,
    )
    for task in Task:
        fails = failure if task is Task.FIX else None
        context = contexts.build(history, files, root, task=task, failure=fails, words=words)
        with_words, without = [], []
        for _ in range(7):
            began = time.perf_counter()
            contexts.build(history, files, root, task=task, failure=fails, words=words)
            with_words.append(1000 * (time.perf_counter() - began))
            began = time.perf_counter()
            contexts.build(history, files, root, task=task, failure=fails)
            without.append(1000 * (time.perf_counter() - began))
        row[task.value] = {
            "tokens": brief.tokens_of(context.brief),
            "build_ms": statistics.median(with_words),
            "without_ms": statistics.median(without),
        }
    return row


if __name__ == "__main__":
    raise SystemExit(main())
