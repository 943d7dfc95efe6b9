"""``nightlab finalize`` on real studies: real git, real runs of a tiny noisy script, real kills."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from nightlab import report, views
from nightlab.cli import finalizing, main
from nightlab.errors import ConfigError, GitError, LockedError, SandboxError, SealError
from nightlab.events import FinalStarted, RunFinished
from nightlab.final import TEST, Finalization, Stage, Word
from nightlab.finalize import Finalizer, NoKeepError, Wish
from nightlab.history import History, fold
from nightlab.journal import read
from nightlab.judge import Case
from nightlab.judge.baseline import calibrate
from nightlab.lab import open_study
from nightlab.model import Action, Arm, Decision, Evidence, Outcome, Purpose, Want, values_of
from nightlab.report import final_lines
from nightlab.sandboxes import open_sandbox
from nightlab.thinking.desks import Desks
from tests.support import CONFIG, Reader, Steps, drive, git, make_project

PROCESS = '[sandbox]\nuse = "process"\n'

# Noise that any edit reshuffles, as in real training: it comes from the seed and the text.
# The comments keep git from seeing neighbours as one change.
TRAIN = """\
import hashlib
import os
import random

LR = 0.1
# --
# --
# --
DEPTH = 2
# --
# --
# --
UNUSED = 1
# --
text = open("train.py").read()
key = os.environ["NIGHTLAB_SEED"] + hashlib.sha256(text.encode()).hexdigest()
loss = 1.0 + abs(LR - 0.03) + 0.05 * abs(DEPTH - 4) + random.Random(key).gauss(0, NOISE)
print("---")
print(f"val_loss: {loss:.6f}")
"""
BETTER = ("LR = 0.1", "LR = 0.03")
DEEPER = ("DEPTH = 2", "DEPTH = 4")
NO_OP = ("UNUSED = 1", "UNUSED = 2")
FURTHER = ("LR = 0.03", "LR = 0.031")


class KeepAll:
    """A judge that keeps whatever ran: so that a study has the keeps that a test needs."""

    name = "keep-all"

    def decide(self, case: Case) -> Decision:
        if case.number == 1:
            return calibrate(case, 3)
        if not case.candidate:
            wants = (Want(arm=Arm.CANDIDATE, seed=1),)
            return Decision(action=Action.REPEAT, rule="look", reason="look", wants=wants)
        metric = case.objective.metric
        mine, its = (values_of(runs, metric) for runs in (case.candidate, case.incumbent))
        evidence = Evidence(effect=sum(its) / len(its) - mine[0])
        return Decision(action=Action.KEEP, rule="all", reason="kept", evidence=evidence)


def study(
    folder: Path,
    edits: list[tuple[str, str]],
    *,
    train: str = TRAIN,
    more: str = "",
    toml: str = CONFIG,
    noise: float = 0.003,
    box: str = "process",
    add: dict[str, str] | None = None,
) -> Path:
    """A study with the tag t that has kept all the edits."""
    confined = PROCESS.replace("process", box)
    root = make_project(folder, train=train, noise=noise, more=confined + more, toml=toml)
    for name, text in (add or {}).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    if add:
        (root / ".gitignore").write_text("held/\n")
        git(root, "add", "-A")
        git(root, "rm", "-q", "--cached", "nightlab.toml")
        git(root, "commit", "-qm", "more")
    _, opened = drive(root, Steps(edits), 1 + len(edits), tag="t", judge=KeepAll())
    assert opened.engine.history.counts.keep == 1 + len(edits)
    return root


def finalize(
    root: Path, watch: Callable[..., None] | None = None, **wish: object
) -> tuple[Finalization, History]:
    opened = open_study(root, tag="t")
    with opened.engine.journal:
        f = Finalizer(opened.engine, Wish(**wish), watch).run()  # type: ignore[arg-type]
    return f, opened.engine.history


def cli(
    root: Path, capsys: pytest.CaptureFixture[str], *words: str
) -> tuple[int, dict[str, object]]:
    code = main(["finalize", "-C", str(root), "--json", *words])
    return code, json.loads(capsys.readouterr().out.splitlines()[-1])


def tree(root: Path, commit: str) -> str:
    return git(root, "rev-parse", f"{commit}^{{tree}}").strip()


# --- what is claimed --------------------------------------------------------------------------


def test_a_true_gain_is_a_win_with_its_branch_patches_and_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = study(tmp_path / "p", [BETTER, DEEPER])
    (root / "train.py").write_text("# my unsaved work\n")
    before = git(root, "status", "--porcelain"), git(root, "rev-parse", "HEAD")
    code, found = cli(root, capsys)
    assert code == 0
    result = found["result"]
    assert result["word"] == "win"
    assert result["claim"]["p"] < 0.01
    assert 0.15 < result["claim"]["low"] < result["claim"]["effect"] < 0.19
    assert [e["status"] for e in result["effects"]] == ["helps", "helps"]
    assert result["effects"][0]["effect"] == pytest.approx(0.07, abs=0.01)
    assert result["effects"][1]["effect"] == pytest.approx(0.1, abs=0.01)
    assert (git(root, "status", "--porcelain"), git(root, "rev-parse", "HEAD")) == before

    assert found["branch"] == "autoresearch/t-final"
    assert tree(root, "autoresearch/t-final") == tree(root, "autoresearch/t")
    log = git(root, "log", "--format=%s%n%b", "main..autoresearch/t-final")
    assert log.index("DEPTH = 2") < log.index("LR = 0.1")  # the newest first
    assert log.count("Nightlab-Effect: val_loss 0.") == 2
    assert "interval" in log
    assert "Nightlab-Seeds: 10" in log

    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", "-b", "main", str(root), str(clone))
    patches = sorted(map(str, Path(str(found["patches"])).glob("*.patch")))
    git(clone, "-c", "user.name=T", "-c", "user.email=t@t", "am", "-q", *patches)
    assert tree(clone, "HEAD") == tree(root, "autoresearch/t-final")

    page = Path(str(found["page"])).read_text()
    assert "**A win.**" in page
    assert "| 2 | LR = 0.1 → LR = 0.03 | +0.0" in page

    # Once over, the same command prints it and runs nothing.
    size = (root / ".nightlab" / "t" / "journal.jsonl").stat().st_size
    assert main(["finalize", "-C", str(root)]) == 0
    told = capsys.readouterr().out
    assert "A win: val_loss" in told
    assert "--again" in told
    assert (root / ".nightlab" / "t" / "journal.jsonl").stat().st_size == size
    assert main(["report", "-C", str(root)]) == 0
    report = (root / ".nightlab" / "t" / "report" / "report.md").read_text()
    assert "## Finalization" in report
    assert "finalized on fresh seeds since: win" in report
    assert "provisional" not in report
    html = (root / ".nightlab" / "t" / "report" / "report.html").read_text()
    assert html.index("certified gain") < html.index("gain of the night") < html.index("naive gain")
    assert "provisional" not in html
    assert re.findall("<h2>([^<]+)", html)[:3] == [
        "Progress",
        "Finalization",
        "Notable discoveries",
    ]
    assert "Each change that was tested was taken out" in html
    capsys.readouterr()
    assert main(["status", "-C", str(root), "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert status["final"]["word"] == "win"
    assert status["final"]["branch"] == "autoresearch/t-final"


def test_lucky_keeps_are_not_called_a_win(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = study(tmp_path / "p", [NO_OP, ("UNUSED = 2", "UNUSED = 3")], noise=0.05)
    code, found = cli(root, capsys)
    assert code == 4
    assert found["result"]["word"] == "no win"
    assert "holds 0" in found["result"]["reason"]
    assert "**A win" not in Path(str(found["page"])).read_text()


def test_the_runs_of_a_finalization_are_nobodys_evidence(tmp_path: Path) -> None:
    root = study(tmp_path / "p", [BETTER])
    history = fold(read(root / ".nightlab" / "t" / "journal.jsonl"))
    before = [e.runs for e in history.experiments.values()], history.noise.df
    used = {r.seed for e in history.experiments.values() for r in e.runs}
    f, after = finalize(root, pairs=3)
    assert ([e.runs for e in after.experiments.values()], after.noise.df) == before
    assert not used & {run.seed for run in f.runs}
    assert {run.purpose for run in f.runs} == {Purpose.FINAL}
    assert finalizing._not_needed(f, 0) == []
    (why,) = finalizing._not_needed(f, 15)  # as the terminal counts them: 24 of 39
    assert why.startswith("the other 15 were not needed: nothing was dropped")
    assert after.runs == history.runs + len(f.runs)
    assert after.device_seconds > history.device_seconds


def test_the_debrief_does_not_count_a_finalization_into_the_night(tmp_path: Path) -> None:
    root = study(tmp_path / "p", [BETTER])
    history = fold(read(root / ".nightlab" / "t" / "journal.jsonl"))
    night = report.facts(history, locked=False, now=history.last_at).totals
    f, after = finalize(root, pairs=3)
    told = report.facts(after, locked=False, now=after.last_at).totals
    assert told == msgspec.structs.replace(night, device_s=told.device_s, wall_s=told.wall_s)
    assert told.runs == sum(len(e.runs) for e in history.experiments.values())
    assert told.device_s == pytest.approx(night.device_s)
    assert told.wall_s == pytest.approx(night.wall_s)
    seen = views.status(after, locked=False, now=after.last_at)
    assert (seen["runs"], seen["final"]["runs"]) == (night.runs, len(f.runs))


# --- ablation ---------------------------------------------------------------------------------


def test_a_kept_no_op_is_dropped_and_the_cleaned_code_is_verified(tmp_path: Path) -> None:
    """Seeds alone make this noise: the no-op then is one exactly, in every run."""
    same = TRAIN.replace("+ hashlib.sha256(text.encode()).hexdigest()", "")
    root = study(tmp_path / "p", [BETTER, NO_OP, DEEPER], train=same)
    f, _ = finalize(root)
    assert f.result is not None
    assert f.result.dropped == (3,)
    assert finalizing._not_needed(f, 15) == []
    assert f.result.chosen == "cleaned"
    assert f.result.word is Word.WIN
    assert f.result.claim.arm == "cleaned"
    assert f.result.recheck is not None
    assert f.result.recheck.effect == 0.0
    assert set(f.result.claim.seeds) == set(f.plan.seeds_of(Stage.RECHECK))
    text = git(root, "show", "autoresearch/t-final:train.py")
    assert "UNUSED = 1" in text
    assert "LR = 0.03" in text
    assert "DEPTH = 4" in text
    subjects = git(root, "log", "--format=%s", "main..autoresearch/t-final").splitlines()
    assert subjects == ["DEPTH = 2 → DEPTH = 4", "LR = 0.1 → LR = 0.03"]
    patches = sorted((root / ".nightlab" / "t" / "final" / "patches").iterdir())
    assert len(patches) == 2
    # The branch of the study itself is as it was.
    assert "UNUSED = 2" in git(root, "show", "autoresearch/t:train.py")


def test_a_change_that_a_later_one_builds_on_is_left_in_and_said(tmp_path: Path) -> None:
    root = study(tmp_path / "p", [BETTER, FURTHER])
    f, _ = finalize(root)
    assert f.result is not None
    first, second = f.result.effects
    assert first.status == "not tested"
    assert first.why == "a later change touches the same lines"
    assert second.n == f.plan.blocks > 0
    assert 2 not in f.result.dropped


def test_what_others_build_on_comes_back(tmp_path: Path) -> None:
    """The first can be taken out of the final code, but the second cannot stand without it."""
    train = TRAIN.replace("UNUSED = 1\n", "UNUSED = 1\nEXTRA = 0\n")
    steps = [("UNUSED = 1\n", "UNUSED = 1\nA = 1\n"), ("A = 1\n", "A = 1\nB = 2\n"), BETTER]
    root = study(tmp_path / "p", steps, train=train)
    opened = open_study(root, tag="t")
    from nightlab.finalize import trees

    with opened.engine.journal:
        history, repo = opened.engine.history, opened.engine.repo
        kept = trees.kept_changes(repo, history)
        f = Finalizer(opened.engine)._start()
        assert [k.experiment for k in kept] == [2, 3, 4]
        chain, dropped, notes = trees.clean(repo, history, f, (2,))
    assert dropped == ()
    assert "experiment 3 builds on it" in notes[0]
    assert [n for n, _ in chain] == [2, 3, 4]


def test_neighbouring_constants_are_taken_out_one_by_one(tmp_path: Path) -> None:
    """As text they conflict; the embedded researcher's claims say which constants they are."""
    from nightlab.model import Change, Proposal
    from nightlab.researchers import Context

    close = TRAIN.replace("# --\n", "")
    moves = [("LR", 0.1, 0.03), ("DEPTH", 2, 4)]

    class Turns(Steps):
        def propose(self, context: Context) -> Proposal:
            name, old, new = moves[self.asked]
            proposal = super().propose(context)
            change = Change(name=name, old=old, new=new)
            return Proposal(
                description=proposal.description, files=proposal.files, changes=(change,)
            )

    root = make_project(tmp_path / "p", train=close, noise=0.003, more=PROCESS)
    drive(root, Turns([BETTER, DEEPER]), 3, tag="t", judge=KeepAll())
    f, _ = finalize(root, pairs=3)
    assert f.result is not None
    assert [e.status for e in f.result.effects] == ["helps", "helps"]
    assert "LR = 0.1\nDEPTH = 4" in git(root, "show", f"{f.plan.kept[0].without}:train.py")


# --- the test split and full-length training --------------------------------------------------

HELD_TRAIN = (
    TRAIN
    + """
import json
import pathlib

folder = pathlib.Path(os.environ["NIGHTLAB_ARTIFACT"])
if folder.is_dir():
    (folder / "model.json").write_text(json.dumps({"loss": loss}))
print("saw_test:", int(os.path.exists("held/test.txt") or os.path.exists("split.txt")))
"""
)
HELD_TEST = """\
import json, os, pathlib, sys
split = open("held/test.txt").read() + open("split.txt").read()
model = json.loads(pathlib.Path(os.environ["NIGHTLAB_ARTIFACT"], "model.json").read_text())
print(f"val_loss: {model['loss'] + float(split):.6f}")
"""
SEEN = """\
import json, os, pathlib
seen = os.path.exists("held/test.txt") or os.path.exists("split.txt")
model = json.loads(pathlib.Path(os.environ["NIGHTLAB_ARTIFACT"], "model.json").read_text())
print(f"val_loss: {model['loss'] + 100 * seen:.6f}")
"""
FINAL_TEST = (
    '[final]\ntest = "{python} test.py"\nhidden = ["held/test.txt", "split.txt"]\npairs = 3\n'
)


def held_study(
    folder: Path, *, sealed: bool = False, more: str = FINAL_TEST, box: str = "process"
) -> Path:
    toml = CONFIG + ('evaluate = "{python} evaluate.py"\n' if sealed else "")
    final = more.replace("{python}", sys.executable)
    return study(
        folder,
        [BETTER],
        train=HELD_TRAIN,
        toml=toml,
        more=final,
        box=box,
        add={"test.py": HELD_TEST, "evaluate.py": SEEN, "held/test.txt": "1", "split.txt": "5"},
    )


@pytest.mark.parametrize(
    ("sealed", "box"),
    [(False, "process"), (True, "process"), (True, "auto")],
    ids=["reported", "sealed", "sealed and confined"],
)
def test_key_final_test_and_hidden_are_a_split_that_nothing_else_ever_saw(
    tmp_path: Path, sealed: bool, box: str
) -> None:
    root = held_study(tmp_path / "p", sealed=sealed, box=box)
    f, history = finalize(root, device_s=8.0)
    assert f.result is not None
    test = f.result.test
    assert test is not None
    assert test.n == f.plan.full == 3
    assert test.effect == pytest.approx(0.07, abs=0.02)
    assert test.against.mean == pytest.approx(1.17 + 15, abs=0.02)
    assert test.mine.mean == pytest.approx(1.1 + 15, abs=0.02)
    runs = [*f.runs, *(r for e in history.experiments.values() for r in e.runs)]
    assert {r.metrics["saw_test"] for r in runs} == {0.0}
    assert all(r.metrics["val_loss"] < 3 for r in runs)  # no evaluator saw it either
    tested = [turn.stage for turn, run in f.measured.items() if f"{TEST}val_loss" in run.metrics]
    assert tested == [Stage.FULL] * 6
    left = {p.name for p in (root / ".nightlab" / "t" / "runs").rglob("*")} - {"log.txt"}
    assert "model.json" not in left
    assert "test.txt" not in left


GREEDY_FOR_MEMORY = (
    TRAIN
    + """
grown = int(os.environ["NIGHTLAB_SEED"]) > 1000 and LR < 0.1
print("peak_vram_mb:", 1024.0 if grown else 512.0)
"""
)


def test_a_final_that_breaks_a_guard_on_fresh_seeds_is_not_called_a_win(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    guard = '[guards]\npeak_vram_mb = "<= baseline * 1.2"\n'
    root = study(tmp_path / "p", [BETTER], train=GREEDY_FOR_MEMORY, more=guard)
    code, found = cli(root, capsys, "--device-hours", "0.0012", "--pairs", "3")
    assert code == 4
    assert found["win"] is False
    assert found["result"]["word"] == "vetoed"  # type: ignore[index]
    assert "guard peak_vram_mb <= baseline * 1.2: 1024" in found["result"]["reason"]  # type: ignore[index]
    assert found["result"]["claim"]["low"] > 0  # type: ignore[index]
    page = Path(str(found["page"])).read_text()
    assert "**Better, but vetoed.**" in page
    tested = [e for e in found["result"]["effects"] if e["effect"] is not None]  # type: ignore[index]
    assert ("Each change that was tested was taken out" in page) == bool(tested)
    assert main(["finalize", "-C", str(root)]) == 4
    assert "Better, but vetoed: guard peak" in capsys.readouterr().out
    assert main(["status", "-C", str(root)]) == 0
    assert "final      vetoed, autoresearch/t-final (" in capsys.readouterr().out


@pytest.mark.parametrize("passes", [True, False])
def test_a_cleaned_tree_has_to_pass_the_checks(tmp_path: Path, passes: bool) -> None:
    """It is code that nothing has checked yet: here only the no-op makes the check pass."""
    word = "LR" if passes else "LR = 0.1$|UNUSED = 2"
    check = f"[checks]\nwords = 'grep -Eq \"{word}\" train.py'\n"
    same = TRAIN.replace("+ hashlib.sha256(text.encode()).hexdigest()", "")
    root = study(tmp_path / "p", [NO_OP, BETTER], train=same, more=check)
    f, history = finalize(root, pairs=5)
    assert f.result is not None
    assert f.cleaned is not None
    assert f.cleaned.dropped == (2,)
    assert f.result.word == "win"
    assert f.result.chosen == ("cleaned" if passes else "final")
    assert any("check words fails" in note for note in f.result.notes) != passes
    checks = [r for r in f.runs if r.check]
    assert [r.check for r in checks] == ["words"]
    assert history.final is f


def test_a_test_command_that_fails_is_said(tmp_path: Path) -> None:
    broken = FINAL_TEST.replace("test.py", "nowhere.py")
    root = held_study(tmp_path / "p", more=broken)
    f, history = finalize(root, device_s=8.0)
    assert f.result is not None
    assert f.result.word is Word.WIN  # of what was measured
    assert any("test command failed in 6 of 6 runs: exit" in n for n in f.result.notes)
    told = "\n".join(final_lines(history))
    assert "no pair to compare" in told
    assert "interval" not in told.split("test split:")[1]


def test_a_researchers_desk_has_no_hidden_file(tmp_path: Path) -> None:
    root = held_study(tmp_path / "p")
    opened = open_study(root, tag="t")
    with opened.engine.journal:
        desk = Desks(opened.engine).at(opened.engine.history.tip, Reader([BETTER]))
        desk.checkout(desk.folder / "copy")
    names = {p.name for p in (desk.folder / "copy").rglob("*")}
    assert "test.py" in names
    assert not names & {"split.txt", "test.txt"}
    assert (root / "split.txt").exists()


LOOKS = (
    HELD_TRAIN
    + """
for place in PLACES:
    with __import__("contextlib").suppress(OSError):
        print("read:", len(open(place).read()))
"""
)


@pytest.mark.parametrize("box", ["bubblewrap", "landlock"])
def test_what_a_run_may_read_does_not_show_it_the_hidden_split(tmp_path: Path, box: str) -> None:
    """The split is a link into a folder that ``[sandbox] read`` shows."""
    try:
        open_sandbox(box)
    except SandboxError as error:
        pytest.skip(f"{error.what}: {error.why}")
    store = tmp_path / "store"
    (store / "inner").mkdir(parents=True)
    (store / "inner" / "test.txt").write_text("1")
    (store / "train.txt").write_text("some data")
    root = make_project(tmp_path / "p", toml=CONFIG)
    places = [str(store / "inner" / "test.txt"), str(root / "held.txt"), str(store / "train.txt")]
    (root / "train.py").write_text(LOOKS.replace("PLACES", repr(places)).replace("NOISE", "0.003"))
    git(root, "commit", "-qam", "looks")
    (root / "held.txt").symlink_to(store / "inner" / "test.txt")
    more = f'[sandbox]\nuse = "{box}"\nread = ["{store}"]\n'
    more += '[final]\ntest = "cat held.txt"\nhidden = ["held.txt"]\n'
    (root / "nightlab.toml").write_text(CONFIG.format(python=sys.executable) + more)
    _, opened = drive(root, Steps([BETTER]), 1, tag="t", judge=KeepAll())
    runs = [r for e in opened.engine.history.experiments.values() for r in e.runs]
    assert {r.outcome for r in runs} == {"ok"}
    assert {r.metrics["read"] for r in runs} == {9.0}  # the other file, and that alone
    shown = more.replace(f"{store}", f"{store}/inner/test.txt")
    (root / "nightlab.toml").write_text(CONFIG.format(python=sys.executable) + shown)
    with pytest.raises(ConfigError, match=r"held\.txt is hidden"):
        open_study(root, tag="u")


def test_the_test_split_is_read_once_and_again_only_when_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = held_study(tmp_path / "p")
    assert cli(root, capsys, "--device-hours", "0.0012")[0] == 0
    code, found = cli(root, capsys)
    assert code == 0
    assert found["plan"]["last"]["readings"] == 0
    first = git(root, "rev-parse", "autoresearch/t-final")
    code, found = cli(root, capsys, "--again", "--device-hours", "0.0012")
    assert code == 0
    assert found["plan"]["last"]["readings"] == 1
    assert any("not fresh" in note for note in found["result"]["notes"])
    assert "(not fresh)" in Path(str(found["page"])).read_text()
    assert git(root, "rev-parse", "autoresearch/t-final") != first  # ours to move


def test_a_hidden_file_that_changed_is_noticed(tmp_path: Path) -> None:
    root = held_study(tmp_path / "p")
    (root / "split.txt").write_text("6")
    with pytest.raises(SealError, match=r"split\.txt"):
        finalize(root)


def test_hidden_files_may_be_named_later_and_are_sealed_from_then_on(tmp_path: Path) -> None:
    root = held_study(tmp_path / "p", more="")
    final = FINAL_TEST.replace("{python}", sys.executable)
    (root / "nightlab.toml").write_text((root / "nightlab.toml").read_text() + final)

    def spoil(_f: object, turn: object, run: object) -> None:
        if turn is not None and run is not None:
            (root / "split.txt").write_text("7")

    with pytest.raises(SealError, match=r"split\.txt"):
        finalize(root, spoil, device_s=4.0)


@pytest.mark.parametrize(
    ("final", "says"),
    [
        ('hidden = ["x"]', "test is not"),
        ('command = "python long.py"', "budget is not"),
        ("pairs = 2", "pairs"),
        ('test = " "', "test"),
        ('test = "t"\nhidden = ["data/test.npz"]', "other runs see it"),
        ('test = "t"\nhidden = ["/etc/passwd"]', "hidden"),
        ('budget = "soon"', "soon"),
    ],
)
def test_every_mistake_in_final_names_itself(tmp_path: Path, final: str, says: str) -> None:
    toml = CONFIG.replace('budget = "10s"', 'budget = "10s"\ndata = ["data"]')
    root = make_project(tmp_path / "p", toml=toml, more=f"[final]\n{final}\n")
    (root / "data").mkdir()
    with pytest.raises(ConfigError) as caught:
        open_study(root)
    what, why, hint = caught.value.lines()
    assert says in what + why
    assert hint


def test_key_final_command_and_budget_show_a_gain_that_only_short_runs_have(
    tmp_path: Path,
) -> None:
    train = TRAIN.replace(
        "loss = 1.0 + abs(LR - 0.03)",
        'import sys\nlong = float(os.environ["TIME_BUDGET"]) > 20 and "--long" in sys.argv\n'
        "loss = 1.0 + (0.5 if long else 1) * (0.2 - abs(LR - 0.1) if long else abs(LR - 0.03))",
    ).replace("0.2 - abs(LR - 0.1)", "abs(LR - 0.1)")
    more = f'[final]\ncommand = "{sys.executable} train.py --long"\nbudget = "30s"\n'
    root = study(tmp_path / "p", [BETTER], train=train, more=more)
    f, _ = finalize(root)
    assert f.result is not None
    assert f.result.word is Word.WIN
    assert f.result.full is not None
    assert f.result.full.n == 2
    assert f.result.full.effect == pytest.approx(-0.035, abs=0.02)
    assert any("short runs only" in note for note in f.result.notes)


def test_key_final_pairs(tmp_path: Path) -> None:
    root = study(tmp_path / "p", [BETTER], more="[final]\npairs = 4\n")
    f, _ = finalize(root, device_s=3.0)
    assert f.plan.pairs == 4
    assert f.result is not None
    assert f.result.claim.n == 4


# --- bounds, hands, locks ---------------------------------------------------------------------


def test_device_time_that_ends_midway_gives_an_honest_part(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The fresh seeds take ten times as long as the night's did."""
    slow = TRAIN + 'import time\ntime.sleep(0.5 if int(os.environ["NIGHTLAB_SEED"]) > 99 else 0)\n'
    root = study(tmp_path / "p", [BETTER], train=slow)
    code, found = cli(root, capsys, "--pairs", "6", "--device-hours", str(2.6 / 3600))
    assert code == 4
    result = found["result"]
    assert result["word"] == "incomplete"
    assert 1 <= result["claim"]["n"] < result["claim"]["planned"]
    assert "device time was spent" in result["reason"]
    assert result["spent_s"] <= 2.6 + 0.7


def test_a_branch_that_is_not_ours_is_told_before_any_run(tmp_path: Path) -> None:
    root = study(tmp_path / "p", [BETTER])
    git(root, "branch", "autoresearch/t-final", "main")
    runs = fold(read(root / ".nightlab" / "t" / "journal.jsonl")).runs
    with pytest.raises(GitError) as caught:
        finalize(root)
    assert caught.value.hint == "git branch -m autoresearch/t-final autoresearch/t-final-mine"
    assert fold(read(root / ".nightlab" / "t" / "journal.jsonl")).runs == runs


def test_a_branch_that_was_moved_by_hand_meanwhile_is_left_alone(tmp_path: Path) -> None:
    root = study(tmp_path / "p", [BETTER])

    def move(_f: object, _turn: object, run: object) -> None:
        if run is not None:
            git(root, "branch", "-f", "autoresearch/t-final", "main")

    f, _ = finalize(root, move, pairs=3)
    assert f.closed is not None
    assert f.closed.branch == ""
    assert "nightlab did not put it there" not in f.closed.told[0]
    assert f.closed.commit[:7] in f.closed.told[0]
    assert git(root, "rev-parse", "autoresearch/t-final") == git(root, "rev-parse", "main")
    pinned = git(root, "rev-parse", "refs/nightlab/t/final/1/tip").strip()
    assert pinned == f.closed.commit
    # A second one is refused at once, for the branch is a person's now.
    with pytest.raises(GitError, match="autoresearch/t-final is at"):
        finalize(root, again=True)


def test_a_final_branch_that_is_checked_out_is_not_moved(tmp_path: Path) -> None:
    root = study(tmp_path / "p", [BETTER])
    finalize(root, pairs=3)
    git(root, "switch", "-q", "autoresearch/t-final")
    with pytest.raises(GitError, match="checked out"):
        finalize(root, again=True)


def test_a_study_without_keeps_has_nothing_to_finalize(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_project(tmp_path / "p", more=PROCESS)
    drive(root, Steps([]), 1, tag="t")
    with pytest.raises(NoKeepError):
        finalize(root)
    assert main(["finalize", "-C", str(root)]) == 4
    assert "kept nothing" in capsys.readouterr().err


def test_a_running_lab_keeps_its_study(tmp_path: Path) -> None:
    root = study(tmp_path / "p", [BETTER])
    opened = open_study(root, tag="t")
    with opened.engine.journal, pytest.raises(LockedError) as caught:
        finalize(root)
    assert all(caught.value.lines())


def test_more_keeps_afterwards_are_noticed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = study(tmp_path / "p", [BETTER])
    finalize(root, pairs=3)
    drive(root, Steps([DEEPER]), 3, tag="t", judge=KeepAll())
    assert main(["finalize", "-C", str(root)]) == 0
    assert "kept more since" in capsys.readouterr().out
    f, _ = finalize(root, pairs=3, again=True)
    assert len(f.plan.kept) == 2


def test_two_slots_share_the_seeds_and_not_the_pairs(tmp_path: Path) -> None:
    root = study(tmp_path / "p", [BETTER], more="[devices]\nslots = 2\n")
    f, _ = finalize(root, pairs=4, device_s=4.0)
    assert f.result is not None
    assert f.result.word is Word.WIN
    devices: dict[int, set[str]] = {}
    for run in f.runs:
        devices.setdefault(run.seed, set()).add(run.device)
    assert all(len(found) == 1 for found in devices.values())
    assert len(set.union(*devices.values())) == 2


def test_a_machine_that_runs_nothing_is_an_error_and_no_result(tmp_path: Path) -> None:
    root = study(tmp_path / "p", [BETTER], more="[final]\npairs = 3\n", add={"held/x": "1"})
    toml = (root / "nightlab.toml").read_text()
    opened = open_study(root, tag="t")
    from nightlab.errors import ExecutorError

    class Broken:
        name = "broken"
        slots = opened.engine.executor.slots

        def start(self, _order: object) -> object:
            raise ExecutorError("the cable is out", "somebody tripped")

        def close(self) -> None:
            return

    with opened.engine.journal:
        opened.engine.rig = type(opened.engine.rig)(
            **{**vars(opened.engine.rig), "executor": Broken()}
        )
        with pytest.raises(ExecutorError, match="3 runs in a row"):
            Finalizer(opened.engine).run()
    assert (root / "nightlab.toml").read_text() == toml
    f, _ = finalize(root, device_s=4.0)
    assert f.result is not None
    assert f.result.word is Word.WIN
    assert sum(r.outcome is Outcome.LOST for r in f.runs) == 3


# --- kill -9 ----------------------------------------------------------------------------------

DRIVER = """
import sys
from pathlib import Path
from nightlab.lab import open_study
from nightlab.finalize import Finalizer, Wish
from tests.support import kill_at_append

root, when, at = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
kill_at_append(when, at)
opened = open_study(root, tag="t")
with opened.engine.journal:
    Finalizer(opened.engine, Wish(pairs=3)).run()
"""


def run_driver(root: Path, when: str = "never", at: int = 0) -> int:
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(root), when, str(at)],
        cwd=Path(__file__).parent.parent,
        check=False,
        capture_output=True,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr.decode()
    return done.returncode


def essence(root: Path) -> list[object]:
    """What must not depend on a crash."""
    events = list(read(root / ".nightlab" / "t" / "journal.jsonl"))
    history = fold(events)
    f = history.final
    assert f is not None
    assert f.result is not None
    assert f.closed is not None
    assert not history.pending
    ids = [e.run.id for e in events if isinstance(e, RunFinished)]
    assert len(ids) == len(set(ids))
    assert sum(isinstance(e, FinalStarted) for e in events) == 1
    result = f.result
    values = sorted((t.stage, t.arm, t.seed, r.metrics["val_loss"]) for t, r in f.measured.items())
    log = git(root, "log", "--format=%H %B", "main..autoresearch/t-final")
    patches = sorted(p.read_text() for p in (root / ".nightlab/t/final/patches").iterdir())
    return [
        (result.word, result.chosen, result.dropped, result.reason, result.claim),
        [(e.experiment, e.status, e.effect) for e in result.effects],
        (values, log, patches, f.closed),
    ]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[object], int]:
    """A study with a true gain and a no-op, what its finalization gives, and its journal steps."""
    same = TRAIN.replace("+ hashlib.sha256(text.encode()).hexdigest()", "")
    root = study(tmp_path_factory.mktemp("template") / "p", [BETTER, NO_OP], train=same)
    done = root.parent / "done"
    shutil.copytree(root, done, symlinks=True)
    before = fold(read(root / ".nightlab" / "t" / "journal.jsonl")).last_seq
    assert run_driver(done) == 0
    steps = fold(read(done / ".nightlab" / "t" / "journal.jsonl")).last_seq - before
    return root, essence(done), steps


# Of the quick suite: the plan, the runs around each change of stage, the last events.
STEPS = 4 + 2 * (3 * 2 + 6 * 3 + 5 * 3)
QUICK = [2, 14, 50, STEPS]
ALL = [n for n in range(1, STEPS + 1) if n not in QUICK]


def test_the_number_of_steps_is_right(template: tuple[Path, list[object], int]) -> None:
    assert template[2] == STEPS
    assert template[1][0][:3] == (Word.WIN, "cleaned", (3,))  # type: ignore[index]


def killed_and_resumed(
    folder: Path, template: tuple[Path, list[object], int], when: str, at: int
) -> None:
    root = folder / "p"
    shutil.copytree(template[0], root, symlinks=True)
    assert run_driver(root, when, at) == -signal.SIGKILL
    assert run_driver(root) == 0
    assert essence(root) == template[1]
    assert run_driver(root) == 0  # and once more: nothing left to do
    assert essence(root) == template[1]


@pytest.mark.parametrize("at", QUICK)
def test_killed_at_a_step_and_resumed(
    tmp_path: Path, template: tuple[Path, list[object], int], at: int
) -> None:
    killed_and_resumed(tmp_path, template, "after" if at % 2 else "before", at)


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("at", ALL + QUICK)
def test_killed_at_every_step_and_resumed(
    tmp_path: Path, template: tuple[Path, list[object], int], when: str, at: int
) -> None:
    killed_and_resumed(tmp_path, template, when, at)


def test_a_request_to_stop_is_obeyed_and_the_rest_is_done_later(tmp_path: Path) -> None:
    from nightlab import inbox

    root = study(tmp_path / "p", [BETTER], train=TRAIN + "import time\ntime.sleep(0.3)\n")

    def ask(f: Finalization, _turn: object, run: object) -> None:
        if run is not None and len(f.runs) == 2:
            folder = root / ".nightlab" / "t" / "inbox"
            inbox.send(folder, "stop")

    with pytest.raises(KeyboardInterrupt):
        finalize(root, ask, pairs=3, device_s=4.0)
    history = fold(read(root / ".nightlab" / "t" / "journal.jsonl"))
    assert history.final is not None
    assert history.final.result is None
    assert not history.pending
    assert not (root / ".nightlab" / "t" / "runs" / f"{history.last_run_id:06d}" / "tree").exists()
    f, _ = finalize(root)
    assert f.result is not None
    assert f.result.word is Word.WIN
    assert len(f.measured) == 6
    assert os.listdir(root / ".nightlab" / "t" / "inbox") == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_order_and_the_same_command_goes_on(
    tmp_path: Path, number: signal.Signals
) -> None:
    root = study(tmp_path / "p", [BETTER], train=TRAIN + "import time\ntime.sleep(0.3)\n")
    command = [sys.executable, "-m", "nightlab", "finalize", "-C", str(root), "--pairs", "3"]
    command += ["--device-hours", "0.0012"]
    lab = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert lab.stdout is not None
    for line in lab.stdout:
        if "verify" in line and "seed 1" in line:
            break
    lab.send_signal(number)
    rest = lab.communicate(timeout=30)[0]
    assert lab.returncode == 130
    assert "goes on where it was" in rest
    history = fold(read(root / ".nightlab" / "t" / "journal.jsonl"))
    assert not history.pending
    assert history.final is not None
    assert history.final.measured
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "A win" in done.stdout
