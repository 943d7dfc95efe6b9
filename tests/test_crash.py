"""``kill -9`` at every step of an experiment's life: nothing lost, nothing counted twice.

A child process runs a study and is killed right before or right after its k-th journal
append, for every k; then the study is resumed to its end. What comes out must be what an
undisturbed study gives: same experiments, verdicts, trees, refs and branch.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from nightlab.events import Amended, RunFinished
from nightlab.history import History, fold
from nightlab.journal import is_locked, read
from nightlab.model import Outcome, Verdict
from nightlab.testing.contracts import alive, fresh_sleep
from tests.support import TRAIN, git, make_project

EXPERIMENTS = 3
CHECKS = '[checks]\nthere = "test -s train.py"\n'

DRIVER = """
import sys
from pathlib import Path
from nightlab.judge import open_judge
from tests.support import Steps, drive, kill_at_append, lr

root, when, at = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
kill_at_append(when, at)
drive(root, Steps([lr(0.03), lr(0.3)]), EXPERIMENTS, tag="t", judge=open_judge("greedy"))
""".replace("EXPERIMENTS", str(EXPERIMENTS))


def run_lab(root: Path, when: str = "never", at: int = 0) -> int:
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(root), when, str(at)],
        cwd=Path(__file__).parent.parent,
        check=False,
        capture_output=True,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr.decode()
    return done.returncode


def essence(root: Path, history: History) -> list[object]:
    """What must not depend on a crash."""
    tag = history.study.tag
    found: list[object] = []
    for number, e in history.experiments.items():
        counting = [(r.seed, r.metrics["val_loss"]) for r in e.runs if r.outcome.counts]
        tree = git(root, "rev-parse", f"refs/nightlab/{tag}/{number}^{{tree}}").strip()
        assert git(root, "rev-parse", f"refs/nightlab/{tag}/{number}").strip() == e.commit
        checks = [(r.check, r.outcome) for r in e.checks if r.outcome.counts]
        found.append((number, e.verdict, e.claim.description, counting, checks, tree))
    branch = git(root, "log", "--format=%T %s", history.study.branch)
    ledger = (root / "results.tsv").read_text().split("\n")
    return [*found, branch, [line.split("\t")[1:] for line in ledger]]


def replay(root: Path) -> History:
    return fold(read(root / ".nightlab" / "t" / "journal.jsonl"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[object], int]:
    root = make_project(tmp_path_factory.mktemp("undisturbed") / "p", more=CHECKS)
    assert run_lab(root) == 0
    history = replay(root)
    assert history.counts.total == EXPERIMENTS
    return essence(root, history), history.last_seq


STEPS = 24  # events of this study: test_the_number_of_steps_is_right holds it to the truth


def test_the_number_of_steps_is_right(undisturbed: tuple[list[object], int]) -> None:
    # The last event is SessionEnded: one more is appended than there are steps to die at.
    assert undisturbed[1] == STEPS + 1


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("at", range(1, STEPS + 2))
def test_killed_at_a_step_and_resumed(
    tmp_path: Path, undisturbed: tuple[list[object], int], when: str, at: int
) -> None:
    root = make_project(tmp_path / "p", more=CHECKS)
    assert run_lab(root, when, at) == -signal.SIGKILL
    assert not is_locked(root / ".nightlab" / "t" / "lock")
    assert run_lab(root) == 0
    history = replay(root)
    assert essence(root, history) == undisturbed[0]
    assert not history.pending
    events = read(root / ".nightlab" / "t" / "journal.jsonl")
    ids = [e.run.id for e in events if isinstance(e, RunFinished)]
    assert len(ids) == len(set(ids))
    assert run_lab(root) == 0  # and once more: nothing left to do
    assert essence(root, replay(root)) == undisturbed[0]


def test_killed_in_the_middle_of_a_run_leaves_no_stray_process(tmp_path: Path) -> None:
    """The training process and its setsid grandchild are dead, and the run is made again."""
    marker = f"nightlab-stray-{os.getpid()}-{time.time_ns()}"
    sleeper = f"[sys.executable, '-c', 'import time; time.sleep(60)', '{marker}']"
    child = f"subprocess.Popen({sleeper}, start_new_session=True)"
    slow = TRAIN.replace("import os", f"import os, subprocess, sys, time\n{child}\ntime.sleep(0.8)")
    root = make_project(tmp_path / "p", train=slow)
    lab = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(root), "never", "0"], cwd=Path(__file__).parent.parent
    )
    wait_until(lambda: strays(marker))
    lab.kill()
    lab.wait()
    wait_until(lambda: not strays(marker))
    assert run_lab(root) == 0
    history = replay(root)
    assert history.runs_by_outcome[Outcome.LOST] == 1
    assert history.counts.total == EXPERIMENTS
    wait_until(lambda: not strays(marker))


def strays(marker: str) -> list[int]:
    running = psutil.process_iter(["cmdline"])
    return [p.pid for p in running if marker in (p.info["cmdline"] or [])]


def wait_until(condition: object, timeout_s: float = 10.0) -> None:
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if condition():  # type: ignore[operator]
            return
        time.sleep(0.02)
    raise AssertionError("it did not come about in time")


AGENT_DRIVER = """
import sys
from pathlib import Path
from nightlab.budget import Bounds
from nightlab.lab import open_study
from nightlab.loop import Loop
from nightlab.researchers import Settings, open_researcher

opened = open_study(Path(sys.argv[1]), tag="t")
agent = open_researcher(Settings(use="command", command=f"sh {sys.argv[2]}"))
Loop(opened.engine, agent, Bounds(max_experiments=2)).run()
"""


def test_an_agent_does_not_outlive_a_lab_that_is_killed(tmp_path: Path) -> None:
    marker = fresh_sleep()
    script = tmp_path / "agent.sh"
    script.write_text(f"setsid sleep {marker} &\nsleep {marker}\n")
    root = make_project(tmp_path / "p", more='[sandbox]\nuse = "process"\n')
    lab = subprocess.Popen(
        [sys.executable, "-c", AGENT_DRIVER, str(root), str(script)],
        cwd=Path(__file__).parent.parent,
    )
    wait_until(lambda: len(alive(marker)) >= 2, 30.0)
    lab.kill()
    lab.wait()
    wait_until(lambda: not alive(marker))


# -- a crash and its fix: the same, killed at every step

FIX_DRIVER = """
import sys
from pathlib import Path
from nightlab.budget import Bounds
from nightlab.errors import ResearcherError
from nightlab.judge import open_judge
from nightlab.lab import open_study
from nightlab.loop import Loop
from nightlab.model import Idea, Proposal
from nightlab.researchers import Plan, Task
from tests.support import kill_at_append

root, when, at = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
kill_at_append(when, at)

class Agent:
    name = "agent"

    def propose(self, context):
        text = context.files["train.py"]
        if context.task is Task.FIX:  # the first fix crashes again, the second mends it
            first = context.failure.attempt == 1
            new = text.replace("stepz", "stepzz") if first else text.replace("stepzz", "LR")
            return Proposal(description="mend", files={"train.py": new})
        new = text.replace("LR = 0.1", "LR = 0.03\\nprint(stepz)")
        if context.number > 2:
            new = text.replace("DEPTH = 2", "DEPTH = 9")
        return Proposal(description=f"change {context.number}", files={"train.py": new})

    def plan(self, context):
        return Plan((Idea(id=1, text="wider"), Idea(id=2, text="deeper")))

    def learn(self, experiment):
        pass

opened = open_study(root, tag="t", judge=open_judge("greedy"))
with opened.engine.journal:
    Loop(opened.engine, Agent(), Bounds(max_experiments=3)).run()
"""
FIX_STEPS = 33


def fix_lab(root: Path, when: str = "never", at: int = 0) -> int:
    done = subprocess.run(
        [sys.executable, "-c", FIX_DRIVER, str(root), when, str(at)],
        cwd=Path(__file__).parent.parent,
        check=False,
        capture_output=True,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr.decode()
    return done.returncode


def make_fixing(folder: Path) -> Path:
    return make_project(folder, more="[researcher]\nplan_every = 1\n")


@pytest.fixture(scope="module")
def undisturbed_fix(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[object], int]:
    root = make_fixing(tmp_path_factory.mktemp("undisturbed-fix") / "p")
    assert fix_lab(root) == 0
    history = replay(root)
    assert [e.verdict for e in history.experiments.values()] == [
        Verdict.KEEP,
        Verdict.KEEP,
        Verdict.DISCARD,
    ]
    assert history.runs_by_outcome[Outcome.CRASHED] == 2
    assert [i.text for i in history.backlog] == ["wider", "deeper"]
    assert fix_lab(root) == 0
    return settled_in_any_order(root, history), history.last_seq


def settled_in_any_order(root: Path, history: History) -> list[object]:
    """The essence; while one experiment is mended another may settle first, or not."""
    *found, ledger = essence(root, history)
    return [*found, sorted(ledger)]  # type: ignore[call-overload]


def test_the_number_of_steps_of_a_fix_is_right(
    undisturbed_fix: tuple[list[object], int],
) -> None:
    assert undisturbed_fix[1] == FIX_STEPS + 1


def die_and_resume(
    root: Path, undisturbed_fix: tuple[list[object], int], when: str, at: int
) -> None:
    make_fixing(root)
    assert fix_lab(root, when, at) == -signal.SIGKILL
    assert fix_lab(root) == 0
    history = replay(root)
    assert settled_in_any_order(root, history) == undisturbed_fix[0]
    assert [i.text for i in history.backlog] == ["wider", "deeper"]
    assert not history.pending
    amended = [
        e.number for e in read(root / ".nightlab" / "t" / "journal.jsonl") if isinstance(e, Amended)
    ]
    assert amended == [2, 2]  # not one fix lost, not one made twice


@pytest.mark.parametrize(
    ("when", "at"), [("after", 13), ("before", 17), ("after", 17), ("before", 27)]
)
def test_killed_while_a_crash_is_mended_and_resumed(
    tmp_path: Path, undisturbed_fix: tuple[list[object], int], when: str, at: int
) -> None:
    die_and_resume(tmp_path / "p", undisturbed_fix, when, at)


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("at", range(9, FIX_STEPS + 1))
def test_killed_at_any_step_of_a_fix_and_resumed(
    tmp_path: Path, undisturbed_fix: tuple[list[object], int], when: str, at: int
) -> None:
    die_and_resume(tmp_path / "p", undisturbed_fix, when, at)
