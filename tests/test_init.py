"""What ``nightlab init`` recognises, asks, refuses to guess, and writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from nightlab import config, metrics, project
from nightlab.errors import GitError
from nightlab.model import Better
from tests.support import git, on_a_terminal

SRC = Path(__file__).parent.parent / "src"
ENV = {**os.environ, "PYTHONPATH": str(SRC), "COLUMNS": "100"}

# The shape of the reference's output, from a program of our own.
KARPATHY_TRAIN = """\
import torch
from prepare import TIME_BUDGET, evaluate
torch.manual_seed(42)
DEPTH = 8
print(f"\\rstep {1:05d} loss: {2.0:.6f}", end="")
val_bpb = evaluate()
print("---")
print(f"val_bpb:          {val_bpb:.6f}")
print(f"training_seconds: {TIME_BUDGET:.1f}")
print(f"peak_vram_mb:     {45060.2:.1f}")
print(f"num_steps:        {953}")
"""
KARPATHY_PREPARE = """\
TIME_BUDGET = 300        # training time budget in seconds (5 minutes)
def evaluate():
    return 0.99
"""


def commit(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        path = folder / name.replace("__", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    if not (folder / ".git").exists():
        git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "start")
    return folder


def init(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nightlab", "init", *args],
        cwd=folder,
        env=ENV,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def three_lines(done: subprocess.CompletedProcess[str]) -> list[str]:
    lines = done.stderr.splitlines()
    assert len(lines) == 3, done.stderr
    assert lines[0].startswith("error: ")
    assert lines[1].startswith("  why: ")
    assert lines[2].startswith("  try: ")
    return lines


def karpathy(folder: Path) -> Path:
    commit(
        folder,
        train__py=KARPATHY_TRAIN,
        prepare__py=KARPATHY_PREPARE,
        program__md="# autoresearch\n",
        pyproject__toml="[project]\nname = 'x'\n",
    )
    return commit(folder, uv__lock="version = 1\n")


def test_a_clone_of_the_reference_works_as_it_is_and_nothing_is_asked(tmp_path: Path) -> None:
    root = karpathy(tmp_path / "autoresearch")
    done = init(root)
    assert done.returncode == 0, done.stderr
    settings = config.load(root)
    assert settings.command == "uv run train.py"
    assert settings.edit == ("train.py",)
    assert settings.budget_s == 300
    assert settings.objective.metric == "val_bpb"
    assert settings.objective.better is Better.LOWER
    assert settings.researcher == {"use": "optuna"}
    assert "shaped like karpathy/autoresearch" in done.stdout
    assert (root / "program.md").read_text() == "# autoresearch\n"
    assert git(root, "status", "--short") == "?? nightlab.toml\n"


def test_a_seed_that_the_script_fixes_is_told_with_its_cure(tmp_path: Path) -> None:
    done = init(karpathy(tmp_path / "p"))
    assert "train.py:3 fixes its own seed, torch.manual_seed(42)" in done.stdout
    assert 'int(os.environ.get("NIGHTLAB_SEED", 0))' in done.stdout


@pytest.mark.parametrize(
    ("source", "calls"),
    [
        ("import numpy as np\nnp.random.seed(0)", ["np.random.seed(0)"]),
        ("SEED = 7\nimport random\nrandom.seed(SEED)", ["random.seed(SEED)"]),
        ("rng = np.random.default_rng(3)", ["np.random.default_rng(3)"]),
        ("import os, torch\ntorch.manual_seed(int(os.environ['NIGHTLAB_SEED']))", []),
        ("rng = np.random.default_rng()", []),
        ("lightning.seed_everything(1)", ["lightning.seed_everything(1)"]),
    ],
)
def test_only_seeds_that_are_written_down_are_told(source: str, calls: list[str]) -> None:
    assert [s.call for s in project._seeds({"train.py": source})] == calls


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ('print(f"val_loss: {x:.4f}")', ["val_loss"]),
        ('print("val_acc:", acc)', ["val_acc"]),
        ('print("dice: %.4f" % dice)', ["dice"]),
        ('print("auc: {:.3f}".format(a))', ["auc"]),
        ('print(f"METRIC reward={r}")', ["reward"]),
        ('print(f"val_loss: {a}\\nval_acc: {b}")', ["val_loss", "val_acc"]),
        ('print(f"epoch {e} loss: {x}")', []),  # not a line of its own
        ('print(f"loss: {x} nats")', []),  # a unit: not a measurement
        ('print(f"loss: {x}, acc: {y}")', []),
        ('print(f"rmse = {x:.4f}")', []),  # as a run's output: without METRIC it is no measurement
        ('print("rmse = %.4f" % x)', []),
        ('print(f"METRIC rmse: {x}")', []),
        ('print("loss:")', []),
        ("print(x", []),
        ("", []),
    ],
)
def test_names_are_read_from_print_calls_as_strictly_as_metrics_are(
    source: str, names: list[str]
) -> None:
    assert list(project.printed(source)) == names


@pytest.mark.parametrize(
    "line", ["rmse: {}", "rmse = {}", "rmse={}", "METRIC rmse={}", "METRIC rmse: {}", "a rmse: {}"]
)
def test_a_name_is_found_in_a_source_exactly_where_its_output_is_a_measurement(line: str) -> None:
    measured = "rmse" in metrics.read(line.format(0.5).encode() + b"\n").values
    for source in (f"print({line!r}.format(x))", f"print(f{line.format('{x:.3f}')!r})"):
        assert ("rmse" in project.printed(source)) == measured


@pytest.mark.parametrize(
    ("name", "better"),
    [
        *((n, Better.LOWER) for n in ("val_bpb", "loss", "val.loss", "rmse", "test_error", "MAE")),
        *((n, Better.LOWER) for n in ("mean_rank", "perplexity", "val_loss2")),
        *((n, Better.HIGHER) for n in ("acc", "val_accuracy", "f1", "mIoU", "Recall@10", "dice")),
        *((n, Better.HIGHER) for n in ("episode_reward", "roc_auc", "bleu4", "auc")),
        *((n, None) for n in ("score", "pbqc", "closeness", "accident", "glossy", "time")),
        ("recall_error", None),
    ],
)
def test_a_direction_is_known_only_where_the_name_leaves_no_doubt(
    name: str, better: Better | None
) -> None:
    assert project.direction(name) is better


def test_a_metric_without_a_direction_is_refused_and_not_guessed(tmp_path: Path) -> None:
    root = commit(tmp_path / "p", main__py='print("score:", 3)\n')
    done = init(root)
    lines = three_lines(done)
    assert done.returncode == 2
    assert "score" in lines[0]
    assert lines[2] == "  try: nightlab init --metric score --better higher"
    assert not (root / "nightlab.toml").exists()
    assert init(root, "--better", "higher").returncode == 0
    assert config.load(root).objective.better is Better.HIGHER


def test_several_metrics_are_listed_and_not_guessed_between(tmp_path: Path) -> None:
    root = commit(tmp_path / "p", train__py='print("val_loss:", 1)\nprint("val_acc:", 2)\n')
    done = init(root)
    assert "the script prints val_loss, val_acc" in three_lines(done)[1]
    assert init(root, "--metric", "val_acc").returncode == 0
    assert config.load(root).objective.better is Better.HIGHER


def test_the_held_out_metric_is_the_objective_and_others_are_not(tmp_path: Path) -> None:
    train = "".join(f'print("{n}:", 1)\n' for n in ("train_loss", "val_loss", "num_steps"))
    root = commit(tmp_path / "p", train__py=train)
    assert init(root).returncode == 0
    assert config.load(root).objective.metric == "val_loss"


def test_no_metric_and_no_script_are_told_apart(tmp_path: Path) -> None:
    silent = commit(tmp_path / "silent", train__py="x = 1\n")
    assert "which metric counts" in three_lines(init(silent))[0]
    empty = commit(tmp_path / "empty", README="nothing\n")
    assert "which command to run" in three_lines(init(empty))[0]
    two = commit(
        tmp_path / "two",
        a__py="if __name__ == '__main__': pass\n",
        b__py="if __name__ == '__main__': pass\n",
    )
    assert "a.py, b.py" in three_lines(init(two))[1]


def test_a_line_that_is_nearly_a_metric_is_told_with_what_it_lacks(tmp_path: Path) -> None:
    root = commit(tmp_path / "p", train__py='print(f"rmse = {1.5:.3f}")\n')
    assert "`rmse = …` is none: a colon, `rmse: …`, makes it one" in three_lines(init(root))[1]


def test_the_only_script_that_prints_a_metric_is_found_wherever_it_lies(tmp_path: Path) -> None:
    root = commit(tmp_path / "p", util__py="x = 1\n")
    script = root / "analysis" / "fit" / "spline.py"
    script.parent.mkdir(parents=True)
    script.write_text('print(f"rmse: {2 * 0.5:.3f}")\n')
    git(root, "add", "-A")
    git(root, "commit", "-qm", "the fit")
    assert init(root).returncode == 0
    assert config.load(root).edit == ("analysis/fit/spline.py",)


def test_a_script_of_an_odd_name_is_found_when_it_is_the_only_one(tmp_path: Path) -> None:
    text = 'for epoch in range(3):\n    pass\nprint(f"val_loss: {1.0}")\n'
    root = commit(tmp_path / "p", fit_it__py=text, util__py="x = 1\n")
    assert init(root).returncode == 0
    settings = config.load(root)
    assert settings.edit == ("fit_it.py",)
    assert settings.command.endswith(" fit_it.py")


def test_a_shell_script_is_run_and_its_python_edited(tmp_path: Path) -> None:
    root = commit(
        tmp_path / "p",
        run__sh="#!/bin/bash\npython net.py --fast\n",
        net__py='print("val_loss:", 1)\n',
    )
    assert init(root).returncode == 0
    settings = config.load(root)
    assert settings.command == "bash run.sh"
    assert settings.edit == ("net.py",)
    assert settings.objective.metric == "val_loss"


def test_a_metric_printed_by_an_imported_module_is_seen(tmp_path: Path) -> None:
    root = commit(
        tmp_path / "p",
        train__py="from evaluate import tell\ntell()\n",
        evaluate__py='def tell():\n    print(f"val_loss: {1:.3f}")\n',
    )
    assert init(root).returncode == 0
    assert config.load(root).objective.metric == "val_loss"


def test_every_module_of_an_import_line_is_followed(tmp_path: Path) -> None:
    root = commit(
        tmp_path / "p",
        train__py="import os, evaluate as e, gone\ne.tell()\n",
        evaluate__py='from os import path, other\ndef tell():\n    print(f"val_loss: {1:.3f}")\n',
        other__py='print(f"score: {1}")\n',
    )
    assert init(root).returncode == 0
    assert config.load(root).objective.metric == "val_loss"  # other.py is not what os gives


def test_a_virtual_environment_and_ignored_data_are_declared(tmp_path: Path) -> None:
    root = tmp_path / "p"
    (root / ".venv" / "bin").mkdir(parents=True)
    (root / ".venv" / "bin" / "python").symlink_to(sys.executable)
    (root / "data").mkdir()
    (root / "data" / "train.bin").write_text("1")
    commit(
        root,
        train__py='X = open("data/train.bin")\nY = "results/x"\nprint("val_loss:", 1)\n',
        __gitignore=".venv\ndata\n",
    )
    assert init(root).returncode == 0
    settings = config.load(root)
    assert settings.command == ".venv/bin/python train.py"
    assert settings.data == (".venv", "data")


def test_committed_data_is_not_declared(tmp_path: Path) -> None:
    root = tmp_path / "p"
    (root / "data").mkdir(parents=True)
    (root / "data" / "x.bin").write_text("1")
    commit(root, train__py='open("data/x.bin")\nprint("val_loss:", 1)\n')
    assert init(root).returncode == 0
    assert config.load(root).data == ()


@pytest.mark.parametrize(
    ("line", "budget_s"),
    [
        ("TIME_BUDGET = 300", 300),
        ("TIME_BUDGET = 90  # seconds", 90),
        ('TIME_BUDGET = float(os.environ.get("TIME_BUDGET", "2.5"))  # seconds', 2.5),
        ("TIME_BUDGET: int = 600", 600),
        ("BUDGET = 7", 300),
        ("TIME_BUDGET = minutes * SIXTY", 300),
    ],
)
def test_the_budget_is_the_scripts_own(tmp_path: Path, line: str, budget_s: float) -> None:
    root = commit(tmp_path / "p", train__py=f'{line}\nprint("val_loss:", 1)\n')
    assert init(root).returncode == 0
    assert config.load(root).budget_s == budget_s


def test_flags_go_before_what_is_seen(tmp_path: Path) -> None:
    root = commit(
        tmp_path / "p",
        train__py='print("val_loss:", 1)\n',
        other__py='print("score:", 1)\n',
    )
    flags = "--command|python other.py|--metric|score|--better|higher|--budget|90s"
    done = init(root, *flags.split("|"), "--edit", "other.py", "--edit", "train.py")
    assert done.returncode == 0, done.stderr
    settings = config.load(root)
    assert settings.command == "python other.py"
    assert settings.edit == ("other.py", "train.py")
    assert settings.budget_s == 90
    assert settings.objective.metric == "score"


def test_a_nightlab_toml_is_never_overwritten_without_force(tmp_path: Path) -> None:
    root = commit(tmp_path / "p", train__py='print("val_loss:", 1)\n')
    (root / "nightlab.toml").write_text("# mine\n")
    done = init(root)
    assert done.returncode == 2
    assert "exists already" in three_lines(done)[0]
    assert (root / "nightlab.toml").read_text() == "# mine\n"
    assert init(root, "--force").returncode == 0
    assert config.load(root).objective.metric == "val_loss"


def test_outside_git_and_without_a_commit_it_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "train.py").write_text('print("val_loss:", 1)\n')
    done = init(tmp_path / "bare")
    assert done.returncode == 1
    assert "git init" in three_lines(done)[2]
    git(tmp_path / "bare", "init", "-q")
    done = init(tmp_path / "bare")
    assert "git commit" in three_lines(done)[2]
    with pytest.raises(GitError):
        project.recognise(tmp_path / "bare")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--metric", "a b"], "cannot be a metric's name"),
        (["--budget", "soon"], "[study] budget"),
        (["--researcher", "oracle"], "oracle"),
        (["--edit", "nowhere.py"], "nowhere.py is not there"),
        (["--better", "sideways"], "sideways"),
        (["--command", "make train"], "which file may change"),
    ],
)
def test_a_bad_flag_writes_nothing(tmp_path: Path, flags: list[str], said: str) -> None:
    root = commit(tmp_path / "p", train__py='print("val_loss:", 1)\n')
    done = init(root, *flags)
    assert done.returncode == 2
    assert said in " ".join(three_lines(done))
    assert not (root / "nightlab.toml").exists()


@pytest.mark.parametrize("name", ['it\'s "odd"', "a\nb", "実験 ✓", "$HOME; rm x", "back\\slash"])
def test_hostile_names_of_folders_and_scripts_work(tmp_path: Path, name: str) -> None:
    root = commit(tmp_path / name, train__py="pass\n")
    script = f"{name}.py"
    (root / script).write_text('print("val_loss:", 1)\n')
    (root / "train.py").unlink()
    (root / script).write_text('for step in range(2): pass\nprint(f"val_loss: {1}")\n')
    commit(root)
    done = init(root, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["edit"] == [script]
    table = tomllib.loads((root / "nightlab.toml").read_text())
    assert table["study"]["edit"] == [script]
    ran = subprocess.run(
        ["/bin/sh", "-c", table["study"]["command"]], cwd=root, capture_output=True, check=True
    )
    assert ran.stdout == b"val_loss: 1\n"


def test_the_starter_program_is_written_only_where_there_is_none(tmp_path: Path) -> None:
    root = commit(tmp_path / "p", train__py='print("val_acc:", 1)\n')
    assert init(root).returncode == 0
    text = (root / "program.md").read_text()
    assert "Bring `val_acc` up" in text
    assert "Only `train.py` may change" in text


def test_the_file_is_small_enough_to_read_aloud(tmp_path: Path) -> None:
    root = karpathy(tmp_path / "p")
    init(root)
    lines = (root / "nightlab.toml").read_text().splitlines()
    assert len(lines) <= 16
    assert max(map(len, lines)) <= 100


def at_init(root: Path, answers: bytes) -> bytes:
    """``nightlab init`` with a person at it; what the screen showed."""
    return on_a_terminal(["init"], root, answers, PYTHONPATH=str(SRC), COLUMNS="100")


def test_a_lone_script_that_nothing_tells_of_is_the_answer_to_enter(tmp_path: Path) -> None:
    root = commit(tmp_path / "p", measure_it__py='tell = print\ntell("val_loss:", 3)\n')
    hint = three_lines(init(root))[2]
    assert "nightlab init --command 'python measure_it.py'" in hint
    assert b"[python measure_it.py]" in at_init(root, b"\nval_loss\n")
    assert config.load(root).command == "python measure_it.py"


def test_on_a_terminal_it_asks_what_it_cannot_see(tmp_path: Path) -> None:
    root = commit(tmp_path / "p", main__py='print("score:", 3)\n')
    seen = at_init(root, b"upwards\nhigher\n")
    assert b"Is a lower or a higher score better? [lower/higher]" in seen
    assert config.load(root).objective.better is Better.HIGHER


def test_on_a_terminal_it_asks_what_may_change_behind_a_shell_script(tmp_path: Path) -> None:
    root = commit(tmp_path / "p", run__sh="#!/bin/sh\nmake -s\n", plan__c="int main;\n")
    seen = at_init(root, b"plan.c\nval_loss\n")
    assert b"Which files may change?" in seen
    assert config.load(root).edit == ("plan.c",)


def test_a_fixed_seed_of_the_data_is_not_told_where_the_script_takes_its_own(
    tmp_path: Path,
) -> None:
    data = "import numpy as np\nrng = np.random.default_rng(1234)\n"
    train = "import os\nimport data\nseed = int(os.environ['NIGHTLAB_SEED'])\nprint(f'val_loss: {1 / seed}')\n"
    seeded = commit(tmp_path / "seeded", train__py=train, data__py=data)
    assert "fixes its own seed" not in init(seeded).stdout
    unseeded = train.replace("NIGHTLAB_SEED", "SEED")
    told = init(commit(tmp_path / "unseeded", train__py=unseeded, data__py=data)).stdout
    assert "data.py:2 fixes its own seed" in told
    assert "not where it makes or splits the data" in told


def test_a_name_with_a_space_is_told_to_be_no_metric(tmp_path: Path) -> None:
    root = commit(tmp_path / "p", train__py="print(f'eval rmse: {3:.5f}')\n")
    assert "(`eval rmse: …` is none: a name has no spaces)" in three_lines(init(root))[1]
    named = init(root, "--metric", "rmse")
    assert "rmse was not seen in the source" in named.stdout


def test_a_program_md_that_speaks_of_another_metric_is_left_and_told(tmp_path: Path) -> None:
    root = commit(tmp_path / "p", train__py="print(f'val_loss: {3:.5f}')\n")
    assert "was left" not in init(root).stdout
    before = (root / "program.md").read_text()
    assert "was left" not in init(root, "--force").stdout
    told = init(root, "--force", "--metric", "val_rmse").stdout
    assert "program.md is yours and was left; it does not speak of val_rmse" in told
    assert (root / "program.md").read_text() == before


# -- projects of one's own, laid out as their owners like it

FIT = """\
import argparse
p = argparse.ArgumentParser()
p.add_argument("--lr", type=float, default=0.1)
p.add_argument("--seed", type=int, default=None)
p.add_argument("--data", default="../sets/rows.csv")
a = p.parse_args()
if __name__ == "__main__":
    print(f"logloss: {len(open(a.data).read()) * a.lr:.3f}")
"""


def odd(folder: Path) -> Path:
    """A script two folders down, which reads what lies beside the project."""
    (folder / "sets").mkdir(parents=True)
    (folder / "sets" / "rows.csv").write_text("1,2\n")
    root = folder / "p"
    (root / "src" / "fit").mkdir(parents=True)
    (root / "src" / "fit" / "train.py").write_text(FIT)
    (root / "tests").mkdir()
    (root / "tests" / "main.py").write_text("if __name__ == '__main__': pass\n")
    return commit(root, README="a model\n")


def test_a_script_in_a_subfolder_is_found_and_what_it_lacks_is_told(tmp_path: Path) -> None:
    root = odd(tmp_path)
    done = init(root, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["command"].endswith(" src/fit/train.py")
    assert told["edit"] == ["src/fit/train.py"]
    assert told["better"] == "lower"  # a logloss is a loss
    assert told["constants"] == ["--lr"]
    notes = "\n".join(told["notes"])
    assert "--seed $NIGHTLAB_SEED" in notes
    assert f'read = ["{tmp_path / "sets"}"]' in notes


def test_two_scripts_in_subfolders_are_listed_and_not_guessed_between(tmp_path: Path) -> None:
    root = odd(tmp_path)
    (root / "other").mkdir()
    (root / "other" / "train.py").write_text(FIT)
    commit(root)
    assert "other/train.py, src/fit/train.py" in three_lines(init(root))[1]


def test_no_constant_to_turn_is_told_before_the_night(tmp_path: Path) -> None:
    root = commit(tmp_path / "p", train__py='rate = 0.1\nprint("val_loss:", rate)\n')
    assert "constants  none was found" in init(root).stdout
    commit(root, train__py='RATE = 0.1\nprint("val_loss:", RATE)\n')
    assert "constants  RATE (what" in init(root, "--force").stdout
    assert "constants" not in init(root, "--force", "--researcher", "claude").stdout
    commit(root, train__py='RATE = 0.1  # nightlab: sideways\nprint("val_loss:", RATE)\n')
    assert "'sideways' is none of" in init(root, "--force").stdout


def test_a_build_folder_is_no_data_and_a_shell_script_says_that_it_is_what_changes(
    tmp_path: Path,
) -> None:
    root = tmp_path / "p"
    for name in ("bin", "data"):
        (root / name).mkdir(parents=True)
        (root / name / "x").write_text("1\n")
    script = "#!/bin/sh\nmake -s\n./bin/plan data/x\n"
    commit(root, run__sh=script, __gitignore="bin\ndata\n")
    done = init(root, "--metric", "val_loss")
    assert done.returncode == 0, done.stderr
    assert config.load(root).data == ("data",)
    assert "run.sh itself is what may change" in done.stdout
    assert "itself" not in init(root, "--force", "--metric", "val_loss", "--edit", "run.sh").stdout


def test_a_metric_in_a_style_of_its_own_is_told_how_to_be_printed(tmp_path: Path) -> None:
    root = commit(tmp_path / "p", train__py='print("==> loss 0.3 <==")\n')
    assert "`val_loss: 0.123` printed" in three_lines(init(root))[2]
