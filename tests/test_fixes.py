"""Easy crashes go back to their researcher, a bounded number of times, within the experiment."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nightlab.budget import Bounds
from nightlab.errors import ResearcherError
from nightlab.events import Amended, Asked, Refused
from nightlab.history import History
from nightlab.journal import read
from nightlab.judge import open_judge
from nightlab.lab import open_study
from nightlab.loop import Loop
from nightlab.model import Answer, Change, Outcome, Proposal, Usage, Verdict
from nightlab.researchers import Context, Failure, Plan, Task
from tests.support import CONFIG, Steps, git, lr, make_project

BROKEN = "import os\nraise_here = [][3]\n"
IN_SCOPE = 'File "{tree}/train.py", line 2, in <module>'
FIXED = "the fix"


class Mending(Steps):
    """Proposes ``texts`` of train.py in turn; answers crashes with ``fixes`` in turn."""

    def __init__(self, texts: list[Callable[[str], str]], fixes: list[object]) -> None:
        super().__init__(texts, name="agent")
        self.fixes = fixes
        self.failures: list[Failure] = []
        self.shown: list[Context] = []

    def propose(self, context: Context) -> Proposal:
        if context.task is not Task.FIX:
            return super().propose(context)
        assert context.failure is not None
        self.failures.append(context.failure)
        self.shown.append(context)
        fix = self.fixes[min(len(self.failures), len(self.fixes)) - 1]
        if isinstance(fix, Exception):
            raise fix
        if callable(fix):
            fix = fix(context.files["train.py"])
        spent = Usage(tokens_in=3, calls=1)
        return Proposal(description=FIXED, files={"train.py": str(fix)}, usage=spent)

    def plan(self, context: Context) -> Plan:
        return Plan(())


def broken(text: str) -> str:
    """A slip at the end of the file: an early crash in the file in scope."""
    return f"{text}\nsteps = 3\nprint(stepz)\n"


def mended(text: str) -> str:
    return text.replace("print(stepz)", "print(steps)")


def other_slip(text: str) -> str:
    return re.sub(r"print\(stepz(\w*)\)", r"print(stepz\1z)", text)


def night(root: Path, researcher: Steps, experiments: int, **options: object) -> History:
    opened = open_study(root, tag="t", judge=open_judge("greedy"), **options)  # type: ignore[arg-type]
    with opened.engine.journal:
        Loop(opened.engine, researcher, Bounds(max_experiments=experiments)).run()
        return opened.engine.history


def events(root: Path, kind: type) -> list[object]:
    return [e for e in read(root / ".nightlab" / "t" / "journal.jsonl") if isinstance(e, kind)]


def test_a_slip_is_mended_within_its_experiment(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p")
    researcher = Mending([lambda t: broken(lr(0.03)(t))], [mended])
    history = night(root, researcher, 2)
    second = history.experiments[2]
    assert second.verdict is Verdict.KEEP
    assert [r.outcome for r in second.runs] == [Outcome.OK]  # its runs began anew
    assert history.runs_by_outcome[Outcome.CRASHED] == 1
    assert "stepz" not in git(root, "show", f"{second.commit}:train.py")
    assert "LR = 0.03" in git(root, "show", f"{second.commit}:train.py")
    assert git(root, "rev-parse", f"{second.commit}^").strip() == history.base_commit
    assert second.claim.description == "a change"  # the experiment keeps its name
    assert FIXED in second.claim.hypothesis
    assert len(events(root, Amended)) == 1
    assert events(root, Refused) == []
    assert history.accounts.by_experiment[2].tokens >= 3
    tasks = [(a.task, a.answer, a.number) for a in events(root, Asked)]  # type: ignore[attr-defined]
    assert ("fix", Answer.PROPOSED, 2) in tasks


def test_the_failure_says_what_is_needed_to_mend_it(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p")
    hostile = '\nprint("\\x1b[2J" + "x" * 5000)\n'
    researcher = Mending([lambda t: t + hostile + "print(stepz)\n"], [lambda t: t + "#"])
    night(root, researcher, 2)
    failure, context = researcher.failures[0], researcher.shown[0]
    assert failure.number == 2
    assert failure.outcome is Outcome.CRASHED
    assert (failure.attempt, failure.most) == (1, 2)
    assert "NameError" in failure.traceback
    assert "train.py" in failure.traceback
    assert any("NameError" in line for line in failure.log_tail)
    assert all(len(line) <= 300 and "\x1b" not in line for line in failure.log_tail)
    assert len(failure.log_tail) <= 40
    assert failure.peak_memory_bytes is None or failure.peak_memory_bytes > 0
    assert "print(stepz)" in context.files["train.py"]  # as the experiment left them
    assert "NameError" in context.brief


@pytest.mark.parametrize(("fixes", "asked"), [(0, 0), (1, 1), (2, 2)])
def test_after_so_many_fixes_it_is_a_crash(tmp_path: Path, fixes: int, asked: int) -> None:
    more = f"[researcher]\nfixes = {fixes}\n"
    root = make_project(tmp_path / "p", more=more)
    researcher = Mending([broken], [other_slip])
    history = night(root, researcher, 2)
    assert history.experiments[2].verdict is Verdict.CRASH
    assert len(researcher.failures) == asked
    assert [f.attempt for f in researcher.failures] == list(range(1, asked + 1))
    assert history.runs_by_outcome[Outcome.CRASHED] == asked + 1


@pytest.mark.parametrize(
    "fix",
    [
        lambda text: text,  # empty
        lambda _text: "def (:\n",
        ResearcherError("it would not", answer=Answer.REFUSAL),
        ZeroDivisionError("a bug"),
    ],
    ids=["empty", "broken syntax", "refusal", "bug"],
)
def test_a_fix_that_is_none_leaves_a_crash(tmp_path: Path, fix: object) -> None:
    root = make_project(tmp_path / "p")
    researcher = Mending([broken, lr(0.03)], [fix])
    history = night(root, researcher, 3)
    assert history.experiments[2].verdict is Verdict.CRASH
    assert history.experiments[3].verdict is Verdict.KEEP
    assert len(researcher.failures) == 1
    assert researcher.contexts is not None
    assert researcher.contexts[-1].refused == ()  # that is not the next proposal's business
    assert events(root, Refused) == []


def test_a_fix_that_touches_what_it_may_not_leaves_a_crash(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p")

    class Reaching(Mending):
        def propose(self, context: Context) -> Proposal:
            made = super().propose(context)
            if context.task is Task.FIX:
                made.files["prepare.py"] = "x = 1\n"
            return made

    history = night(root, Reaching([broken], [mended]), 2)
    assert history.experiments[2].verdict is Verdict.CRASH


@pytest.mark.parametrize(
    ("train", "why"),
    [
        (lambda t: t + "\nimport prepare\n", "the frame lies in a protected file"),
        (lambda t: t + "\nimport time\ntime.sleep(1.1)\nprint(stepz)\n", "late in the budget"),
        (lambda t: t.replace("print(f", "f = (f"), "no metric is no crash"),
        (lambda t: t + "\nimport json\njson.loads('{')\n", None),
    ],
    ids=["protected", "late", "no metric", "library called from the file"],
)
def test_only_easy_crashes_go_back(
    tmp_path: Path, train: Callable[[str], str], why: str | None
) -> None:
    toml = CONFIG.replace('"10s"', '"2s"')
    root = make_project(tmp_path / "p", toml=toml)
    if why == "the frame lies in a protected file":
        (root / "prepare.py").write_text("raise ValueError('shape')\n")
        git(root, "commit", "-qam", "a checker")
    researcher = Mending([train], [lr(0.03)])
    night(root, researcher, 2)
    assert bool(researcher.failures) is (why is None)


def test_a_crash_is_early_where_starting_takes_longer_than_the_budget(tmp_path: Path) -> None:
    """As torch does on a busy machine: 2 s before the first step, of a budget of 1 s."""
    root = make_project(tmp_path / "p", toml=CONFIG.replace('"10s"', '"1s"\nkill_factor = 20'))
    text = (root / "train.py").read_text().replace("rng = ", "import time\ntime.sleep(2)\nrng = ")
    (root / "train.py").write_text(text)
    git(root, "commit", "-qam", "slow to start")
    fails_at_once = text.replace("time.sleep(2)", "time.sleep(0.8)\nprint(stepz)")
    researcher = Mending([lambda _: fails_at_once], [lr(0.03)(text)])
    night(root, researcher, 2)
    assert len(researcher.failures) == 1


def test_memory_that_ran_out_goes_back_with_its_peak(tmp_path: Path) -> None:
    hog = "\nraise MemoryError('CUDA out of memory. Tried to allocate 2.00 GiB')\n"
    root = make_project(tmp_path / "p")
    researcher = Mending([lambda t: t + hog], [lambda t: t.replace(hog, "\nprint(1)\n")])
    history = night(root, researcher, 2)
    assert [f.outcome for f in researcher.failures] == [Outcome.OOM]
    assert researcher.failures[0].peak_memory_bytes
    assert history.experiments[2].verdict is not Verdict.CRASH


def test_constants_turned_by_a_machine_are_not_mended(tmp_path: Path) -> None:
    class Turning(Mending):
        def propose(self, context: Context) -> Proposal:
            made = super().propose(context)
            change = Change(name="LR", old=0.1, new=0.3)
            return Proposal(description="turn", files=made.files, changes=(change,))

    researcher = Turning([broken], [mended])
    history = night(make_project(tmp_path / "p"), researcher, 2)
    assert researcher.failures == []
    assert history.experiments[2].verdict is Verdict.CRASH


def test_the_desk_of_a_fix_holds_the_failed_files_and_no_repository(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p")
    seen: dict[str, str] = {}

    class AtDesk(Mending):
        def propose(self, context: Context) -> Proposal:
            assert context.desk is not None
            copy = tmp_path / f"copy-{context.task}"
            context.desk.checkout(copy)
            assert not (copy / ".git").exists()
            seen[context.task] = (copy / "train.py").read_text()
            assert seen[context.task] == context.files["train.py"]
            return super().propose(context)

    night(root, AtDesk([broken], [mended]), 2)
    assert "stepz" in seen["fix"]
    assert "stepz" not in seen["propose"]


def test_a_researcher_that_does_not_read_is_not_asked(tmp_path: Path) -> None:
    history = night(make_project(tmp_path / "p"), Steps([broken]), 2)
    assert history.experiments[2].verdict is Verdict.CRASH


def test_a_rate_limit_during_a_fix_is_waited_out(tmp_path: Path) -> None:
    limited = ResearcherError("slow down", answer=Answer.RATE_LIMITED, retry_after_s=0.3)
    root = make_project(tmp_path / "p")
    researcher = Mending([broken], [limited, mended])
    history = night(root, researcher, 2)
    assert history.experiments[2].verdict is not Verdict.CRASH
    assert len(researcher.failures) == 2
    assert [f.attempt for f in researcher.failures] == [1, 1]


def test_while_a_fix_is_thought_of_other_slots_go_on(tmp_path: Path) -> None:
    """Two slots: while the fix takes its time, another experiment's runs start and end."""
    root = make_project(tmp_path / "p", more="[devices]\nslots = 2\n")
    begun, go = threading.Event(), threading.Event()

    class Slow(Mending):
        def propose(self, context: Context) -> Proposal:
            if context.task is Task.FIX:
                begun.set()
                go.wait(20)
            return super().propose(context)

    def slow_other(text: str) -> str:
        return lr(0.2)(text).replace("rng =", "import time\ntime.sleep(0.5)\nrng =", 1)

    researcher = Slow([slow_other, broken], [mended])
    done = threading.Thread(target=lambda: (begun.wait(20), time.sleep(1.5), go.set()))
    done.start()
    night(root, researcher, 3)
    done.join()
    found = list(read(root / ".nightlab" / "t" / "journal.jsonl"))
    amended = next(e.seq for e in found if isinstance(e, Amended))
    settled = next(e.seq for e in found if type(e).__name__ == "Settled" and e.number == 2)  # type: ignore[union-attr]
    assert settled < amended
