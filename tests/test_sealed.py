"""The ruler: sealed files, protected data, the second box, and numbers that look forged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from nightlab import views
from nightlab.cli import texts
from nightlab.errors import ConfigError, SealError
from nightlab.history import fold
from nightlab.integrity import signs
from nightlab.journal import read
from nightlab.judge import Noise
from nightlab.lab import open_study
from nightlab.model import Better, Objective, Outcome, Proposal, Purpose, Run, Verdict
from nightlab.report import facts
from nightlab.researchers import Context
from nightlab.runs import ArtifactError, copy_artifact
from nightlab.seal import Protected, Seal, digests
from tests.support import CONFIG, TRAIN, Steps, drive, git, lr, make_project

PROCESS = '[sandbox]\nuse = "process"\n'

# Training leaves a number; the evaluator, which training never sees run, scores it.
SEALED_TRAIN = """\
import json, os, pathlib, random
LR = 0.1
rng = random.Random(int(os.environ["NIGHTLAB_SEED"]))
model = {"error": 1.0 + abs(LR - 0.03) + rng.gauss(0, 0.001)}
pathlib.Path(os.environ["NIGHTLAB_ARTIFACT"], "model.json").write_text(json.dumps(model))
print("val_loss: 0.000001")
print("steps: 10")
print("hidden_seen:", int(os.path.exists("secret.txt") or os.path.exists("held/out.txt")))
"""
EVALUATE = """\
import json, os, pathlib
secret = float(open("secret.txt").read()) + float(open("held/out.txt").read())
model = json.loads(pathlib.Path(os.environ["NIGHTLAB_ARTIFACT"], "model.json").read_text())
print("candidate_importable:", int(os.path.exists("train.py")))
print("candidate_given:", int(os.path.exists(os.environ["NIGHTLAB_CANDIDATE"] + "/train.py")))
print(f"val_loss: {model['error'] + secret - 3.0:.6f}")
"""


def sealed_project(folder: Path, train: str = SEALED_TRAIN) -> Path:
    toml = CONFIG + 'evaluate = "{python} evaluate.py"\nhidden = ["secret.txt", "held"]\n'
    root = make_project(folder, train=train, toml=toml, more=PROCESS)
    (root / "evaluate.py").write_text(EVALUATE)
    (root / "secret.txt").write_text("1.0")
    (root / ".gitignore").write_text("held/\n")
    git(root, "add", "evaluate.py", "secret.txt", ".gitignore")
    git(root, "commit", "-qm", "evaluator")
    (root / "held").mkdir()
    (root / "held" / "out.txt").write_text("2.0")
    return root


def test_a_sealed_study_believes_the_evaluator_alone(tmp_path: Path) -> None:
    _, opened = drive(sealed_project(tmp_path / "p"), Steps([lr(0.03)]), 2)
    history = opened.engine.history
    assert [e.verdict for e in history.settled()] == [Verdict.KEEP, Verdict.KEEP]
    run = history.experiments[2].runs[0]
    assert run.metrics["val_loss"] == pytest.approx(1.0, abs=0.01)
    assert run.metrics["steps"] == 10
    assert run.metrics["hidden_seen"] == 0
    assert run.metrics["candidate_importable"] == 0
    assert run.metrics["candidate_given"] == 1
    assert run.evaluate_s is not None
    folder = opened.engine.paths.run(opened.engine.study.tag, run.id)
    left = sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))
    assert left == ["evaluation", "evaluation/log.txt", "log.txt"]


@pytest.mark.parametrize(
    ("edit", "outcome", "says"),
    [
        (("pathlib.Path(os.environ", "0 and pathlib.Path(os.environ"), "no_metric", "FileNotFound"),
        (("json.dumps(model)", "'not json'"), "no_metric", "could not evaluate it"),
        (("import json,", "raise SystemExit(3)\nimport json,"), "crashed", ""),
    ],
    ids=["no artifact", "bad artifact", "crash"],
)
def test_an_artifact_that_cannot_be_scored_is_the_candidates_fault(
    tmp_path: Path, edit: tuple[str, str], outcome: str, says: str
) -> None:
    _, opened = drive(sealed_project(tmp_path / "p"), Steps([edit]), 2)
    experiment = opened.engine.history.experiments[2]
    assert experiment.verdict is Verdict.CRASH
    assert experiment.runs[0].outcome == outcome
    assert says in experiment.runs[0].detail


def test_hidden_needs_an_evaluator(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p", toml=CONFIG + 'hidden = ["x"]\n')
    with pytest.raises(ConfigError, match="evaluate is not"):
        open_study(root)


def test_a_file_that_a_candidate_adds_is_not_beside_the_evaluator(tmp_path: Path) -> None:
    """edit = ["*.py"] would let it add json.py, which `import json` in evaluate.py would find."""
    root = sealed_project(tmp_path / "p")
    toml = (root / "nightlab.toml").read_text().replace('["train.py"]', '["[t]*.py", "j*.py"]')
    (root / "nightlab.toml").write_text(
        toml.replace('["[t]*.py", "j*.py"]', '["train.py", "j*.py"]')
    )

    class Adds(Steps):
        def propose(self, context: Context) -> Proposal:
            files = {
                "json.py": "raise SystemExit('shadowed')\n",
                "train.py": context.files["train.py"],
            }
            return Proposal(description="shadow json", files={**files, "jolt.py": "x = 1\n"})

    (root / "jig.py").write_text("x = 1\n")
    git(root, "add", "jig.py")
    git(root, "commit", "-qm", "jig")
    _, opened = drive(root, Adds([]), 2)
    run = opened.engine.history.experiments[2].runs[0]
    assert "shadowed" not in run.detail or run.outcome is Outcome.CRASHED  # in training at most
    assert run.evaluate_s is None


def test_a_run_that_changes_protected_data_does_not_count(tmp_path: Path) -> None:
    toml = CONFIG.replace('budget = "10s"', 'budget = "10s"\nprotect = ["val.bin"]')
    root = make_project(tmp_path / "p", toml=toml, more=PROCESS)
    (root / "val.bin").write_text("1234")
    attack = ("rng =", "open('val.bin', 'w').write('easy')\nLR = 0.03\nrng =")
    with pytest.raises(SealError):
        drive(root, Steps([attack, lr(0.05)]), 3)
    history = fold(read(next((root / ".nightlab").glob("*/journal.jsonl"))))
    last = history.experiments[2]
    assert last.runs[0].outcome is Outcome.NO_METRIC
    assert "val.bin, which is sealed" in last.runs[0].detail


def test_a_protected_link_protects_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "v").write_text("v")
    (tmp_path / "data").symlink_to("real")
    protected = Protected(tmp_path, digests(tmp_path, ["data"]))
    assert protected.broken() == []
    (tmp_path / "real" / "v").write_text("w")
    assert protected.broken() == ["data/v"]


def test_an_artifact_is_copied_without_links_and_within_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "artifact"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "w.bin").write_bytes(b"12345")
    (tmp_path / "secret").write_text("s")
    (source / "link").symlink_to(tmp_path / "secret")
    (source / "folder").symlink_to(tmp_path)
    (source / "hard").hardlink_to(tmp_path / "secret")
    copy_artifact(source, tmp_path / "copy")
    found = sorted(str(p.relative_to(tmp_path / "copy")) for p in (tmp_path / "copy").rglob("*"))
    assert found == ["deep", "deep/w.bin"]
    monkeypatch.setattr("nightlab.runs.ARTIFACT_BYTES", 4)
    with pytest.raises(ArtifactError):
        copy_artifact(source, tmp_path / "second")


@pytest.mark.parametrize(
    "attack",
    [
        "open('prepare.py', 'w').write('# mine')",
        "os.rename('train.py', 'x'); os.unlink('prepare.py')",
        "os.unlink('prepare.py'); os.symlink('/etc/passwd', 'prepare.py')",
        "os.chmod('prepare.py', 0o777); open('prepare.py', 'a').write(' ')",
        "s = os.stat('prepare.py'); open('prepare.py', 'r+').write('#!'); os.utime('prepare.py', ns=(s.st_atime_ns, s.st_mtime_ns))",
    ],
    ids=["overwrite", "unlink", "symlink", "append", "same size and time"],
)
def test_a_run_that_touches_a_sealed_file_measures_nothing(tmp_path: Path, attack: str) -> None:
    root = make_project(tmp_path / "p", more=PROCESS)
    steps = Steps([("rng =", f"{attack}\nLR = 0.0301\nrng =")])
    _, opened = drive(root, steps, 2)
    experiment = opened.engine.history.experiments[2]
    assert experiment.verdict is Verdict.CRASH
    assert "prepare.py, which is sealed" in experiment.decision.reason  # type: ignore[union-attr]
    assert experiment.runs[0].metrics == {}
    assert (root / "prepare.py").read_text() == "# fixed\n"


def test_protected_data_that_changed_stops_the_study(tmp_path: Path) -> None:
    """Key [study] protect. The first check finds it, before any device time is spent."""
    toml = CONFIG.replace('budget = "10s"', 'budget = "10s"\nprotect = ["val.bin", "more"]')
    root = make_project(
        tmp_path / "p", toml=toml, train=TRAIN + "print('n:', len(open('val.bin').read()))\n"
    )
    (root / "val.bin").write_text("1234")
    (root / "more" / "deep").mkdir(parents=True)
    (root / "more" / "deep" / "x").write_text("x")
    _, opened = drive(root, Steps([lr(0.03)]), 1)
    assert opened.engine.history.experiments[1].runs[0].metrics["n"] == 4
    (root / "more" / "deep" / "x").write_text("y")
    with pytest.raises(SealError, match="more/deep/x is not what it was"):
        drive(root, Steps([lr(0.03)]), 2)
    (root / "more" / "deep" / "x").write_text("x")
    ending, _ = drive(root, Steps([lr(0.03)]), 2)
    assert ending.reason == "bound"


def test_a_seal_is_broken_by_content_not_by_time(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    (tmp_path / "free").write_text("f")
    seal = Seal(tmp_path, except_for=["free"])
    (tmp_path / "a").touch()
    (tmp_path / "free").write_text("changed")
    (tmp_path / "new").write_text("n")
    assert seal.broken() == []
    (tmp_path / "b").write_text("B")
    assert seal.broken() == ["b"]


def test_protected_files_are_hashed_again_only_when_they_moved(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "x").write_text("x")
    known = digests(tmp_path, ["d"])
    assert list(known) == ["d/x"]
    protected = Protected(tmp_path, known)
    assert protected.broken() == []
    (tmp_path / "d" / "x").unlink()
    assert protected.broken() == ["d/x"]


# -- numbers that look forged

OBJECTIVE = Objective(metric="loss", better=Better.LOWER)
NOISE = Noise(sigma=0.01, df=6)


def run(value: float, seed: int = 1, **more: object) -> Run:
    fields: dict[str, object] = {"duration_s": 60.0, "cpu_s": 50.0, "metrics": {"loss": value}}
    extra = more.pop("extra", {})
    fields |= more
    fields["metrics"] = {"loss": value, **extra}  # type: ignore[dict-item]
    return Run(
        id=1,
        experiment=2,
        occasion=2,
        purpose=Purpose.SCREEN,
        commit="c",
        seed=seed,
        device="cpu0",
        outcome=Outcome.OK,
        **fields,  # type: ignore[arg-type]
    )


INCUMBENT = (run(1.0, 1), run(1.01, 2), run(0.99, 3))


def seen(
    *candidate: Run,
    incumbent: tuple[Run, ...] = INCUMBENT,
    largest: float | None = 0.05,
    noise: Noise = NOISE,
    baseline: tuple[Run, ...] = (),
    earlier: tuple[Run, ...] = (),
) -> tuple[str, ...]:
    return signs(
        candidate=candidate,
        incumbent=incumbent,
        objective=OBJECTIVE,
        noise=noise,
        budget_s=60.0,
        largest_gain=largest,
        baseline=baseline,
        earlier=earlier,
    )


def test_an_honest_gain_shows_no_sign() -> None:
    assert seen(run(0.9, 1), run(0.91, 2)) == ()


@pytest.mark.parametrize(
    ("candidate", "says"),
    [
        ((run(0.5, 1), run(0.5, 2)), "whatever the seed"),
        ((run(0.9, duration_s=3.0),), "where the incumbent trains for"),
        ((run(0.9, duration_s=90.0, cpu_s=80.0),), "where the budget is 60 s"),
        ((run(0.9, cpu_s=0.5),), "of CPU"),
        ((run(0.9, extra={"training_seconds": 300.0}),), "prints training_seconds 300"),
        ((run(0.01),), "times the largest so far"),
        ((run(0.0), run(0.0)), "zero or less"),
        (
            (run(0.9, notes=("loss was printed more than once (3 … 0.9): the last counts",)),),
            "more than once",
        ),
        ((run(0.9, flags=("it changed prepare.py, which is sealed",)),), "sealed"),
    ],
)
def test_each_sign_of_forging_is_seen(candidate: tuple[Run, ...], says: str) -> None:
    assert any(says in sign for sign in seen(*candidate)), seen(*candidate)


def test_more_steps_than_possible_is_a_sign() -> None:
    incumbent = (run(1.0, extra={"num_steps": 100.0}),)
    assert seen(run(0.9, extra={"num_steps": 5000.0}), incumbent=incumbent)
    assert not seen(run(0.9, extra={"num_steps": 300.0}), incumbent=incumbent)


def test_a_program_that_is_not_bound_by_time_may_be_faster() -> None:
    quick = tuple(run(v, duration_s=10.0) for v in (1.0, 1.01))
    assert seen(run(0.9, duration_s=1.0), incumbent=quick) == ()


def test_more_tokens_than_possible_are_a_sign() -> None:
    incumbent = (run(1.0, extra={"total_tokens_M": 50.0}),)
    assert seen(run(0.9, extra={"total_tokens_M": 900.0}), incumbent=incumbent)


@pytest.mark.parametrize(
    ("took_s", "incumbent_s", "baseline_s", "sign"),
    [
        ([74.0], [60.0], [60.0], False),  # a quarter more at most: start, compilation, evaluation
        ([76.0], [60.0], [60.0], True),
        ([61.0, 200.0, 62.0], [60.0], [60.0], False),  # one slow run is the machine
        ([80.0], [60.0, 85.0], [60.0], False),  # the incumbent has taken as long
        ([80.0], [70.0], [60.0], True),  # small steps do not add up
        ([100.0], [85.0], [85.0], False),  # 25 s of start and evaluation are the script's own
        ([110.0], [85.0], [85.0], True),
        ([70.0], [10.0], [10.0], False),  # not bound by time, and within its budget
        ([80.0], [10.0], [10.0], True),
    ],
)
def test_training_for_longer_than_the_budget_explains_is_a_sign(
    took_s: list[float], incumbent_s: list[float], baseline_s: list[float], sign: bool
) -> None:
    """A script that slows its own clock, or raises TIME_BUDGET inside."""
    found = seen(
        *(run(0.9 + n / 1000, n, duration_s=s, cpu_s=s) for n, s in enumerate(took_s)),
        incumbent=tuple(run(1 + n / 1000, n, duration_s=s) for n, s in enumerate(incumbent_s)),
        baseline=tuple(run(1.1 + n / 1000, n, duration_s=s) for n, s in enumerate(baseline_s)),
    )
    assert any("where the budget is" in s for s in found) == sign, found


@pytest.mark.parametrize(
    ("candidate", "sign"),
    [
        ({"cpu_s": 50.0}, False),  # it only waited
        ({"cpu_s": 63.0}, True),
        ({"cpu_s": None}, True),  # nobody knows
        ({"cpu_s": 50.0, "peak_gpu_bytes": 10**9}, True),  # the GPU worked
    ],
)
def test_a_run_that_took_longer_on_a_busy_machine_shows_no_sign(
    candidate: dict[str, Any], sign: bool
) -> None:
    found = seen(run(0.9, duration_s=150.0, **candidate), baseline=INCUMBENT)
    assert any("where the budget is" in s for s in found) == sign, found


def other(number: int, value: float, seed: int) -> Run:
    return msgspec.structs.replace(run(value, seed), experiment=number)


LUCKY = (other(7, 0.912345, 1), other(8, 1.023451, 2), other(9, 0.934512, 3))


@pytest.mark.parametrize(
    ("candidate", "sign"),
    [
        ([(0.912345, 2)], True),  # experiment 7's number, on another seed
        ([(0.912345, 1)], True),  # on its own seed: the same change again? measured once more
        ([(0.912345, 1), (0.92, 2)], False),  # and on a fresh seed it is a number of its own
        ([(0.912345, 2), (0.934512, 1)], True),  # nothing but others' numbers
        ([(0.912346, 2)], False),
    ],
)
def test_a_number_that_other_code_printed_to_the_last_digit_is_a_sign(
    candidate: list[tuple[float, int]], sign: bool
) -> None:
    found = seen(*(run(v, s) for v, s in candidate), earlier=LUCKY)
    assert any("printed already" in s for s in found) == sign, found


def test_the_same_number_is_no_sign_where_honest_code_repeats_numbers() -> None:
    copied = run(0.912345, 2)
    coarse = (*LUCKY, other(10, 0.934512, 4))  # so many correct of a hundred: met again
    assert not seen(copied, earlier=coarse)
    assert not seen(copied, earlier=LUCKY, noise=Noise(sigma=0.0, df=3))
    assert not seen(run(0.912, 2), earlier=(other(7, 0.912, 1),))  # too few digits to tell


def test_removing_what_never_ran_keeps_the_incumbents_numbers_and_is_no_sign() -> None:
    incumbent = tuple(other(3, v, s) for v, s in ((1.012345, 1), (1.023451, 2), (0.998877, 3)))
    same = tuple(run(r.metrics["loss"], r.seed) for r in incumbent[:2])
    assert seen(*same, incumbent=incumbent, earlier=incumbent) == ()
    assert seen(same[0], incumbent=incumbent, earlier=incumbent) == ()
    moved = run(incumbent[1].metrics["loss"], 1)
    assert seen(moved, incumbent=incumbent, earlier=incumbent)


def test_a_run_that_outlives_its_budget_is_noted(tmp_path: Path) -> None:
    toml = CONFIG.replace('"10s"', '"0.2s"\nkill_factor = 50')
    slow = TRAIN.replace('print("---")', 'import time\ntime.sleep(0.6)\nprint("---")')
    root = make_project(tmp_path / "p", train=slow, toml=toml)
    _, opened = drive(root, Steps([]), 1)
    run = opened.engine.history.experiments[1].runs[0]
    assert any("its budget is 0.2 s" in note for note in run.notes), run


def test_a_large_true_gain_is_measured_again_and_kept(tmp_path: Path) -> None:
    """A bug found in the code: a leap, real on every seed. Suspicion must not lose it."""
    root = make_project(tmp_path / "p", train=TRAIN.replace("loss = 1.0", "loss = 9.0"))
    steps = Steps([lr(0.09), ("loss = 9.0", "loss = 1.0")])
    _, opened = drive(root, steps, 3)
    experiment = opened.engine.history.experiments[3]
    assert experiment.verdict is Verdict.KEEP
    assert len(experiment.runs) >= 2


def test_a_printed_constant_is_quarantined_not_kept(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p", more=PROCESS)
    forged = ('print(f"val_loss: {loss:.6f}")', "print('val_loss: 0.900000')")
    _, opened = drive(root, Steps([forged]), 2)
    experiment = opened.engine.history.experiments[2]
    assert experiment.verdict is Verdict.INCONCLUSIVE
    assert experiment.decision is not None
    assert experiment.decision.rule == "quarantine"
    assert "whatever the seed" in experiment.decision.reason
    kinds = [type(e).__name__ for e in read(opened.engine.journal.path)]
    assert "Judged" in kinds
    assert fold(read(opened.engine.journal.path)).incumbent_number == 1
    # And the person is told, wherever they look first.
    found = views.status(opened.engine.history, locked=False, now=0.0)
    assert found["quarantined"] == [2]
    assert any(x.startswith("put aside  exp 2: ") for x in texts.status(found))
    told = facts(opened.engine.history, locked=False, now=0.0)
    assert told.near_misses == ()
    assert any("put aside" in step.do and "experiment 2" in step.do for step in told.steps)
