"""One study's life on a real repository: commits, refs, branch, ledger, and what is left alone."""

from __future__ import annotations

import shutil
import signal
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from nightlab import inbox
from nightlab.budget import Bounds
from nightlab.devices import Slot
from nightlab.errors import ConfigError, ExecutorError, LockedError, ScopeError
from nightlab.events import RunFinished
from nightlab.executors import Order
from nightlab.executors.local import LocalExecutor
from nightlab.history import fold
from nightlab.journal import read
from nightlab.lab import open_study
from nightlab.loop import Ending, Loop
from nightlab.model import Change, Experiment, Outcome, Proposal, Purpose, Verdict
from nightlab.researchers import Context, open_researcher
from nightlab.researchers import Settings as ResearcherSettings
from tests.support import CONFIG, TRAIN, Steps, drive, git, lr, make_project
from tests.test_git import snapshot


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Steps]:
    """One short study that keeps, discards and crashes; many tests look at it."""
    root = make_project(tmp_path_factory.mktemp("a night's 'work'") / "p")
    (root / "train.py").write_text("dirty = 1\n")
    (root / "staged.txt").write_text("s")
    git(root, "add", "staged.txt")
    edits = [lr(0.03), lr(0.3), ("rng =", "raise RuntimeError('boom')\nrng ="), lr(0.2)]
    steps = Steps(edits)
    before = snapshot(root)
    ending, _ = drive(root, steps, 5)
    assert ending.reason == "bound"
    after = snapshot(root)
    assert (after[0].replace("?? results.tsv\n", ""), *after[1:]) == before
    return root, steps


def test_the_first_experiment_is_the_untouched_baseline(night: tuple[Path, Steps]) -> None:
    history = fold(read(night[0] / ".nightlab" / _tag(night[0]) / "journal.jsonl"))
    baseline = history.experiments[1]
    assert baseline.commit == git(night[0], "rev-parse", "HEAD").strip()
    assert baseline.verdict is Verdict.KEEP
    assert all(r.purpose is Purpose.BASELINE for r in baseline.runs[:2])
    assert history.noise.df >= 1


def test_verdicts_and_reasons_are_those_of_the_changes(night: tuple[Path, Steps]) -> None:
    history = fold(read(night[0] / ".nightlab" / _tag(night[0]) / "journal.jsonl"))
    verdicts = [e.verdict for e in history.settled()]
    keep, discard, crash = Verdict.KEEP, Verdict.DISCARD, Verdict.CRASH
    assert verdicts == [keep, keep, discard, crash, discard]
    crashed = history.experiments[4].runs[0]
    assert crashed.outcome is Outcome.CRASHED
    assert "boom" in crashed.detail
    assert all(e.decision and e.decision.reason for e in history.settled())


def test_the_branch_holds_the_keeps_and_every_commit_stays_reachable(
    night: tuple[Path, Steps],
) -> None:
    root, tag = night[0], _tag(night[0])
    log = git(root, "log", "--format=%s", f"autoresearch/{tag}").split("\n")
    assert log[:2] == ["a change", "start"]
    refs = git(root, "for-each-ref", "--format=%(refname)", f"refs/nightlab/{tag}").split()
    assert sorted(refs) == [f"refs/nightlab/{tag}/{n}" for n in range(1, 6)]
    assert "LR = 0.3\n" in git(root, "show", f"refs/nightlab/{tag}/3:train.py")


def test_a_commit_carries_its_verdict_in_trailers(night: tuple[Path, Steps]) -> None:
    root, tag = night[0], _tag(night[0])
    keys = "%(trailers:only,unfold)"
    trailers = git(root, "log", "-1", f"--format={keys}", f"refs/nightlab/{tag}/3")
    found = dict(line.split(": ", 1) for line in trailers.strip().split("\n"))
    assert found["Nightlab-Verdict"] == "discard"
    assert found["Nightlab-Experiment"] == f"{tag}/3"
    assert found["Nightlab-Researcher"] == "steps"
    assert found["Nightlab-Metric"].startswith("val_loss 1.")
    assert found["Nightlab-Seeds"]


def test_results_tsv_has_the_reference_columns(night: tuple[Path, Steps]) -> None:
    lines = (night[0] / "results.tsv").read_text().split("\n")
    assert lines[0] == "commit\tval_loss\tmemory_gb\tstatus\tdescription"
    rows = [line.split("\t") for line in lines[1:] if line]
    assert [r[3] for r in rows] == ["keep", "keep", "discard", "crash", "discard"]
    assert rows[3][1:3] == ["0.000000", "0.0"] or float(rows[3][1]) == 0.0
    assert rows[0][2] == "0.5"
    assert all(len(r[0]) == 7 for r in rows)


def test_run_folders_keep_logs_and_drop_the_copies(night: tuple[Path, Steps]) -> None:
    runs = night[0] / ".nightlab" / _tag(night[0]) / "runs"
    folders = sorted(runs.iterdir())
    assert len(folders) >= 7
    assert all((f / "log.txt").exists() for f in folders)
    assert not any((f / "tree").exists() for f in folders)


def test_the_researcher_learns_every_settled_experiment_in_order(
    night: tuple[Path, Steps],
) -> None:
    learned = night[1].learned or []
    # The thread may still hold the last one when the loop ends.
    assert [e.number for e in learned[:4]] == [1, 2, 3, 4]
    assert learned[3].value is None


def _tag(root: Path) -> str:
    return (root / ".nightlab" / "current").read_text().strip()


def test_a_study_resumes_with_nothing_counted_twice(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p")
    drive(root, Steps([lr(0.03)]), 2)
    _, opened = drive(root, Steps([lr(0.04)]), 3)
    assert opened.resumed
    assert list(opened.engine.history.experiments) == [1, 2, 3]
    assert opened.engine.history.sessions == 2


def test_a_bound_already_reached_ends_at_once(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p")
    drive(root, Steps([lr(0.03)]), 2)
    ending, opened = drive(root, Steps([lr(0.04)]), 2)
    assert ending.reason == "bound"
    assert opened.engine.history.counts.total == 2


def test_the_ruler_of_a_study_does_not_change(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p")
    drive(root, Steps([lr(0.03)]), 1)
    toml = (root / "nightlab.toml").read_text()
    (root / "nightlab.toml").write_text(toml.replace('"10s"', '"20s"'))
    with pytest.raises(ConfigError, match=r"budget_s was 10\.0"):
        open_study(root)


def test_a_tag_whose_branch_exists_is_refused(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p")
    git(root, "branch", "autoresearch/mine")
    with pytest.raises(ConfigError, match="autoresearch/mine exists"):
        open_study(root, tag="mine")
    assert not (root / ".nightlab").exists()


def test_a_file_in_scope_that_is_not_committed_is_refused(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p", toml=CONFIG.replace('["train.py"]', '["model.py"]'))
    with pytest.raises(ConfigError, match=r"model\.py is not in the last commit"):
        open_study(root)
    (root / "model.py").write_text("x = 1\n")
    with pytest.raises(ConfigError) as caught:
        open_study(root)
    assert "git add model.py" in caught.value.hint


def test_two_labs_on_one_study_exclude_each_other(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p")
    opened = open_study(root)
    with opened.engine.journal, pytest.raises(LockedError, match="another nightlab"):
        open_study(root)


def test_a_baseline_that_does_not_run_ends_the_study_and_frees_its_tag(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p", train="import nonesuch\n")
    ending, _ = drive(root, Steps([lr(0.03)]), 5)
    assert ending.reason == "baseline"
    assert "nonesuch" in ending.detail
    (root / "train.py").write_text(TRAIN.replace("NOISE", "0.001"))
    git(root, "commit", "-qam", "mended")
    ending, opened = drive(root, Steps([lr(0.03)]), 2)
    assert ending.reason == "bound"
    assert opened.engine.history.counts.keep == 2
    assert len(list((root / ".nightlab").glob("*~1"))) == 1


def test_refused_proposals_cost_no_run_and_the_researcher_is_told(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p")
    steps = Steps([("LR", "LR  "), lr(0.03), ("rng", "r n g"), lr(0.04)])
    _, opened = drive(root, steps, 3)
    history = opened.engine.history
    assert history.counts.total == 3
    assert history.refused == 2
    told = [c.refused for c in steps.contexts or []]
    assert any("nothing that runs" in reason for reasons in told for reason in reasons)
    assert any("does not parse" in reason for reasons in told for reason in reasons)


def test_what_was_tried_already_is_not_run_again(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p")
    opened = open_study(root)
    with opened.engine.journal:
        Loop(opened.engine, Steps([lr(0.3)]), Bounds(max_experiments=2)).run()
        engine = opened.engine
        proposal = Steps([lr(0.3)]).propose(_context(engine))
        with pytest.raises(ScopeError, match="experiment 2 already tried"):
            engine.begin(proposal, engine.files_in_scope(), engine.history.tip)


def test_a_file_out_of_scope_is_refused(tmp_path: Path) -> None:
    opened = open_study(make_project(tmp_path / "p"))
    engine = opened.engine
    with engine.journal:
        engine.begin_baseline()
        for path in ("prepare.py", "../train.py", "/etc/passwd", "nightlab.toml"):
            proposal = Proposal(description="cheat", files={path: "x = 1\n"})
            with pytest.raises(ScopeError, match="not in scope"):
                engine.begin(proposal, engine.files_in_scope(), engine.history.tip)


def test_a_branch_moved_by_hand_or_checked_out_is_left_alone(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p")
    drive(root, Steps([lr(0.05)]), 2, tag="t")
    kept = git(root, "rev-parse", "autoresearch/t").strip()
    git(root, "checkout", "-q", "autoresearch/t")
    _, opened = drive(root, Steps([lr(0.03)]), 3, tag="t")
    assert opened.engine.history.experiments[3].verdict is Verdict.KEEP
    assert git(root, "rev-parse", "HEAD").strip() == kept
    assert any("checked out" in w.text for w in opened.engine.history.warnings)
    git(root, "checkout", "-q", "main")
    _, opened = drive(root, Steps([lr(0.03)]), 3, tag="t")  # recovery moves it now
    assert git(root, "rev-parse", "autoresearch/t").strip() == opened.engine.history.tip


def test_an_infrastructure_failure_is_retried_and_never_judged(tmp_path: Path) -> None:
    class Flaky(LocalExecutor):
        failures = 2

        def start(self, order: Order) -> object:  # type: ignore[override]
            if self.failures:
                self.failures -= 1
                raise ExecutorError("the machine was busy", "no reason")
            return super().start(order)

    root = make_project(tmp_path / "p")
    executor = Flaky((Slot("cpu0"),))
    _, opened = drive(root, Steps([lr(0.03)]), 2, executor=executor)
    history = opened.engine.history
    assert history.runs_by_outcome[Outcome.LOST] == 2
    assert history.counts.keep == 2
    assert history.counts.crash == 0


def test_a_storm_of_crashes_pauses_probes_the_incumbent_and_goes_on(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p")
    moves = iter(range(1000))

    def broken(text: str) -> str:
        return text.replace("rng =", f"raise RuntimeError({next(moves)})\nrng =")

    _, opened = drive(root, Steps([broken]), 11)
    kinds = [type(e).__name__ for e in read(opened.engine.journal.path)]
    assert kinds.index("Paused") < kinds.index("Resumed")
    assert opened.engine.history.counts.crash == 10


def test_notes_reach_the_researcher_and_stop_ends_the_loop(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p")
    opened = open_study(root)
    folder = opened.engine.paths.inbox(opened.engine.study.tag)

    def edit(text: str) -> str:
        if len(steps.contexts or []) == 3:
            inbox.send(folder, "stop")
        return text.replace("LR = ", f"LR = 0.1 * {len(steps.contexts or [])} + ")

    steps = Steps([edit])
    inbox.send(folder, "note", text="try a lower LR")
    with opened.engine.journal:
        ending = Loop(opened.engine, steps, Bounds()).run()
    assert ending.reason == "stopped"
    assert (steps.contexts or [])[0].notes == ("try a lower LR",)
    assert inbox.waiting(folder) == []


def test_an_interrupt_finishes_the_run_and_a_second_one_stops_it(tmp_path: Path) -> None:
    slow = TRAIN.replace("import os", "import os, time\ntime.sleep(0.7)")
    root = make_project(tmp_path / "p", train=slow)
    for signals, outcome in ((1, Outcome.OK), (2, Outcome.STOPPED)):
        opened = open_study(root)
        sent: list[int] = []

        def watch(loop: Loop, sent: list[int] = sent, most: int = signals) -> None:
            if loop.active and len(sent) < most:
                sent.append(1)
                signal.raise_signal(signal.SIGINT)

        with opened.engine.journal:
            loop = Loop(opened.engine, Steps([lr(0.03)]), Bounds(), watch)
            assert loop.run().reason == "interrupted"
            assert not loop.active
        events = read(opened.engine.journal.path)
        assert [e.run.outcome for e in events if isinstance(e, RunFinished)][-1] is outcome


def test_two_slots_rebase_a_keep_on_an_incumbent_that_moved(tmp_path: Path) -> None:
    """Two good, independent changes in flight at once: both end up on the branch."""
    train = TRAIN.replace("LR = 0.1\nDEPTH", "LR = 0.1\n\n\n\n\nDEPTH")
    train = train.replace("rng = ", "import time\ntime.sleep(0.3)\nrng = ")
    root = make_project(tmp_path / "p", train=train)
    steps = Steps([lr(0.03), ("DEPTH = 2", "DEPTH = 4")])
    executor = LocalExecutor((Slot("cpu0"), Slot("cpu1")))
    _, opened = drive(root, steps, 3, executor=executor)
    history = opened.engine.history
    assert [e.verdict for e in history.settled()] == [Verdict.KEEP] * 3
    final = opened.engine.files_in_scope()["train.py"]
    assert "LR = 0.03" in final
    assert "DEPTH = 4" in final
    kinds = [type(e).__name__ for e in read(opened.engine.journal.path)]
    assert "Rebased" in kinds


def test_a_project_inside_a_larger_repository_works(tmp_path: Path) -> None:
    top = tmp_path / "mono"
    make_project(top / "models" / "small net")
    inner = top / "models" / "small net"
    git(inner, "rev-parse", "HEAD")
    # Make the inner project a folder of one outer repository.
    (inner / ".git").rename(tmp_path / "unused.git")
    git(top, "init", "-q", "-b", "main")
    git(top, "add", "-A")
    git(top, "commit", "-qm", "mono")
    ending, opened = drive(inner, Steps([lr(0.03)]), 2)
    assert ending.reason == "bound"
    assert opened.engine.study.prefix == "models/small net"
    branch = opened.engine.study.branch
    assert "LR = 0.03" in git(top, "show", f"{branch}:models/small net/train.py")


def test_declared_data_is_there_and_undeclared_is_not(tmp_path: Path) -> None:
    train = TRAIN + "print('data_size:', len(open('data/x.bin').read()))\n"
    toml = CONFIG.replace('budget = "10s"', 'budget = "10s"\ndata = ["data"]')
    root = make_project(tmp_path / "p", train=train, toml=toml)
    (root / ".gitignore").write_text("data/\n")
    git(root, "add", ".gitignore")
    git(root, "commit", "-qm", "ignore")
    (root / "data").mkdir()
    (root / "data" / "x.bin").write_text("12345")
    _, opened = drive(root, Steps([lr(0.03)]), 1)
    assert opened.engine.history.experiments[1].runs[0].metrics["data_size"] == 5
    toml = (root / "nightlab.toml").read_text().replace('data = ["data"]\n', "")
    (root / "nightlab.toml").write_text(toml)
    ending, _ = drive(root, Steps([lr(0.03)]), 1, tag="without")
    assert ending.reason == "baseline"


def _context(engine: object) -> object:
    from nightlab import contexts

    return contexts.build(engine.history, engine.files_in_scope(), engine.paths.root)  # type: ignore[attr-defined]


# -- found in review, each once a way to end or bend a night


def test_a_note_that_is_not_unicode_and_a_forged_message_do_no_harm(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p")
    opened = open_study(root)
    folder = opened.engine.paths.inbox(opened.engine.study.tag)
    inbox.send(folder, "note", text="caf\udce9 \x1b[31m red")
    (folder / "000-bad.json").write_text('{"kind": 5, "text": 6, "now": 7, "author": []}')
    with opened.engine.journal:
        Loop(opened.engine, Steps([lr(0.03)]), Bounds(max_experiments=2)).run()
    history = fold(read(opened.engine.journal.path))
    assert all("\x1b" not in n.text for n in history.notes)
    assert inbox.waiting(folder) == []


def test_a_researcher_that_breaks_in_learn_or_propose_does_not_freeze_the_night(
    tmp_path: Path,
) -> None:
    calls: list[int] = []

    class Broken(Steps):
        def learn(self, experiment: Experiment) -> None:
            raise ZeroDivisionError("in learn")

        def propose(self, context: Context) -> Proposal:
            calls.append(1)
            if len(calls) == 1:
                raise SystemExit("quit")
            if len(calls) == 2:
                return None  # type: ignore[return-value]
            return super().propose(context)

    root = make_project(tmp_path / "p")
    ending, opened = drive(root, Broken([lr(0.03), lr(0.3)]), 3)
    assert ending.reason == "bound"
    warnings = " ".join(w.text for w in opened.engine.history.warnings)
    assert "SystemExit" in warnings
    assert "in learn" in warnings


def test_a_person_s_mistake_is_told_at_the_first_question(tmp_path: Path) -> None:
    sweep = open_researcher(ResearcherSettings(use="sweep", values={"LRR": (0.1,)}))
    with pytest.raises(ConfigError, match="LRR"):
        drive(make_project(tmp_path / "p"), sweep, 3)


def test_a_huge_metric_has_diverged_and_later_ones_are_judged(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p")
    huge = ('print(f"val_loss: {loss:.6f}")', "print('val_loss: -1e308')")
    _, opened = drive(root, Steps([huge, lr(0.03)]), 3)
    history = opened.engine.history
    assert history.experiments[2].runs[0].outcome is Outcome.DIVERGED
    assert history.experiments[3].verdict is Verdict.KEEP


def test_neighbouring_constants_of_two_keeps_both_end_up_on_the_branch(tmp_path: Path) -> None:
    """As text they conflict; as constants they do not."""
    train = TRAIN.replace("rng = ", "import time\ntime.sleep(0.3)\nrng = ")
    root = make_project(tmp_path / "p", train=train)

    class Constants(Steps):
        def propose(self, context: Context) -> Proposal:
            proposal = super().propose(context)
            name, new = (("LR", 0.03), ("DEPTH", 4))[(self.asked - 1) % 2]
            return replace(proposal, changes=(Change(name=name, old=None, new=new),))

    steps = Constants([lr(0.03), ("DEPTH = 2", "DEPTH = 4")])
    executor = LocalExecutor((Slot("cpu0"), Slot("cpu1")))
    _, opened = drive(root, steps, 3, executor=executor)
    final = opened.engine.files_in_scope()["train.py"]
    assert "LR = 0.03" in final
    assert "DEPTH = 4" in final


def test_an_experiment_that_cannot_be_run_is_given_up_when_the_machine_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nightlab.budget.pause_s", lambda _n: 0.05)

    class Picky(LocalExecutor):
        def start(self, order: Order) -> object:  # type: ignore[override]
            if "LR = 0.3" in (order.cell.cwd / "train.py").read_text():
                raise ExecutorError("no room", "for this one")
            return super().start(order)

    root = make_project(tmp_path / "p")
    executor = Picky((Slot("cpu0"),))
    _, opened = drive(root, Steps([lr(0.3), lr(0.05)]), 3, executor=executor)
    history = opened.engine.history
    assert history.experiments[2].verdict is Verdict.INCONCLUSIVE
    assert history.experiments[2].decision.rule == "lost"  # type: ignore[union-attr]
    assert history.experiments[3].verdict is Verdict.KEEP


def test_a_stop_now_reaches_a_run_that_starts_meanwhile(tmp_path: Path) -> None:
    slow = TRAIN.replace("import os", "import os, time\ntime.sleep(20)")
    opened = open_study(make_project(tmp_path / "p", train=slow))

    def watch(loop: Loop) -> None:
        if loop.stopping is None:  # before the first run was begun, as a signal could come
            loop.stop(Ending("interrupted", "SIGTERM"), now=True)

    began = time.monotonic()
    with opened.engine.journal:
        loop = Loop(opened.engine, Steps([lr(0.03)]), Bounds(), watch)
        assert loop.run().reason == "interrupted"
    assert time.monotonic() - began < 8


def test_a_branch_called_autoresearch_is_told_before_anything_runs(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p")
    git(root, "branch", "autoresearch")
    with pytest.raises(ConfigError, match="branch called autoresearch"):
        open_study(root)


def test_a_repository_with_sha256_works(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p")
    shutil.rmtree(root / ".git")
    git(root, "init", "-q", "-b", "main", "--object-format=sha256")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "start")
    _, opened = drive(root, Steps([lr(0.03)]), 2)
    assert opened.engine.history.experiments[2].verdict is Verdict.KEEP


def test_the_person_s_own_results_link_stays(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p")
    (root / "mine.tsv").write_text("mine")
    (root / "results.tsv").symlink_to("mine.tsv")
    drive(root, Steps([lr(0.03)]), 1)
    assert (root / "results.tsv").read_text() == "mine"


def test_a_link_in_scope_is_not_followed_or_retargeted(tmp_path: Path) -> None:
    toml = CONFIG.replace('["train.py"]', '["train.py", "lib"]')
    root = make_project(tmp_path / "p", toml=toml)
    (root / "lib").mkdir()
    (root / "lib" / "a.py").write_text("x = 1\n")
    (root / "lib" / "link.txt").symlink_to("../prepare.py")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "link")
    opened = open_study(root)
    with opened.engine.journal:
        assert set(opened.engine.files_in_scope()) == {"train.py", "lib/a.py"}
        opened.engine.begin_baseline()
        proposal = Proposal(description="x", files={"lib/link.txt": "/etc/passwd"})
        number = opened.engine.begin(
            proposal, opened.engine.files_in_scope(), opened.engine.history.tip
        )
    tree = git(root, "ls-tree", "-r", opened.engine.history.experiments[number].commit)
    assert "120000" not in tree
