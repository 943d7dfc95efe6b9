"""examples/segmentation, as its owner runs it: data, evaluation, guards, knowledge, constants."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nightlab.researchers import constants
from tests.nights.segmentation import COLLAPSE, STEPS
from tests.support import git, torch_python

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "segmentation"
_VALUE = re.compile(r"^(\w+):\s+(\S+)$", re.MULTILINE)
_GIVEN = shutil.ignore_patterns("__pycache__", "data", "hidden", ".nightlab", "debrief")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example with its data made, as ``python prepare.py`` makes it."""
    root = Path(shutil.copytree(EXAMPLE, tmp_path_factory.mktemp("p") / "layers", ignore=_GIVEN))
    done = subprocess.run(
        [sys.executable, "prepare.py"], cwd=root, capture_output=True, text=True, check=True
    )
    assert "val     160 layers" in done.stdout
    return root


@cache
def _prepare(root: Path) -> Any:
    spec = importlib.util.spec_from_file_location("segmentation_prepare", root / "prepare.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _copy(prepared: Path, where: Path, *, steps: int, edits: tuple[Any, ...] = ()) -> Path:
    """A project of its own with few steps, and edits as a night's step has them."""
    root = Path(shutil.copytree(prepared, where / "layers"))
    for name, old, new in (("prepare.py", "STEPS = 300", f"STEPS = {steps}"), *edits):
        text = (root / name).read_text()
        assert text.count(old) == 1, old
        (root / name).write_text(text.replace(old, new))
    return root


def _run(root: Path, *command: str, **env: str) -> dict[str, float]:
    """The metrics of the last block that a command printed."""
    done = subprocess.run(
        command, cwd=root, env={**os.environ, **env}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    block = done.stdout.rpartition("---\n")[2]
    return {name: float(value) for name, value in _VALUE.findall(block)}


# ------------------------------------------------------------------- data and evaluation


def test_layers_are_the_same_for_ever_and_in_one_split_only(prepared: Path) -> None:
    prepare = _prepare(prepared)
    first, again = prepare.layer(100_000), prepare.layer(100_000)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    seeds = {s: set(range(prepare._FIRST[s], prepare._FIRST[s] + n)) for s, n in _sizes(prepare)}
    assert not seeds["train"] & (seeds["val"] | seeds["test"])
    assert not seeds["val"] & seeds["test"]
    pictures = {s: {a.tobytes() for a in prepare.load(s)["printed"]} for s, _ in _sizes(prepare)}
    assert {s: len(p) for s, p in pictures.items()} == dict(_sizes(prepare))
    assert len(set.union(*pictures.values())) == sum(n for _, n in _sizes(prepare))
    # Another figure would make every older one incomparable.
    assert [round(float(a.mean()), 4) for a in prepare.load("train")["printed"][:3]] == [
        0.2757,
        0.3068,
        0.3953,
    ]


def _sizes(prepare: Any) -> list[tuple[str, int]]:
    return list(prepare.SIZES.items())


def test_training_is_not_shown_what_the_evaluation_knows(prepared: Path) -> None:
    prepare = _prepare(prepared)
    shown = {s: set(prepare.load(s)) for s, _ in _sizes(prepare)}
    assert shown == {
        "train": {"nominal", "printed", "part", "defect"},
        "val": {"nominal", "printed"},
        "test": {"nominal", "printed"},
    }
    assert set(np.load(prepared / "data" / "test.npz")) == {"nominal", "printed"}
    for s, count in _sizes(prepare):
        for a in prepare.load(s).values():
            assert a.shape == (count, 48, 48)
            assert a.dtype == np.float32
            assert 0 <= a.min() < a.max() <= 1


def test_the_true_grid_draws_the_part_where_the_photograph_has_it(prepared: Path) -> None:
    """Nominal mask sampled at the true grid = outline; the displacement is as documented."""
    prepare = _prepare(prepared)
    for seed in range(200_000, 200_020):
        layer = prepare.layer(seed)
        at = np.clip(np.round((layer["grid"] + 1) * 24 - 0.5).astype(int), 0, 47)
        drawn = layer["nominal"][at[..., 1], at[..., 0]]
        assert np.abs(drawn - layer["part"]).mean() < 0.02
        away = np.linalg.norm(layer["grid"] - prepare.identity(), axis=-1) * 24
        assert away.max() < 5 * math.sqrt(2) + 0.8 * math.sqrt(2) + 34 * (math.radians(9) + 0.073)
        assert layer["defect"].mean() < 0.2


def test_pbqc_and_dice_of_perfect_shifted_and_empty_answers(prepared: Path) -> None:
    prepare = _prepare(prepared)
    truth = dict(np.load(prepared / "data" / "val.npz"))
    grid, defect = truth["grid"], (truth["defect"] > 0).astype(float)
    perfect = prepare.score(truth, grid, defect)
    assert perfect == {"pbqc": 1.0, "dice": 1.0, "contour_px": 0.0, "false_alarms": 0.0}
    for lines in (1, 2, 3):  # the documented formula: exp(-d^2 / 2)
        beside = prepare.score(truth, grid + np.array([lines * 2 / 48, 0]), defect)
        assert beside["pbqc"] == pytest.approx(math.exp(-(lines**2) / 2), rel=1e-4)
        assert beside["contour_px"] == pytest.approx(lines, rel=1e-4)
        assert beside["dice"] == 1.0
    still = np.broadcast_to(prepare.identity(), grid.shape)
    nothing = prepare.score(truth, still, np.zeros_like(defect))
    assert 0.02 < nothing["pbqc"] < 0.15
    assert nothing["dice"] == 0.0
    everything = prepare.score(truth, still, np.ones_like(defect))
    share = defect.mean()
    assert everything["dice"] == pytest.approx(2 * share / (1 + share))
    assert everything["false_alarms"] == 1.0
    # The middle of a part does not count: there an error does no harm.
    inside = grid + 0.5 * (truth["contour"] == 0)[..., None]
    assert prepare.score(truth, inside, defect)["pbqc"] == 1.0


def test_answers_of_another_shape_are_refused_and_nan_is_no_number(prepared: Path) -> None:
    prepare = _prepare(prepared)
    truth = dict(np.load(prepared / "data" / "val.npz"))
    grid, defect = truth["grid"], truth["defect"].astype(float)
    with pytest.raises(ValueError, match="grid has shape"):
        prepare.score(truth, grid[..., :1], defect)
    with pytest.raises(ValueError, match="defect has shape"):
        prepare.evaluate(lambda nominal, printed: (grid, defect[:-1]))
    defect[0, 0, 0] = math.nan
    assert all(math.isnan(v) for v in prepare.score(truth, grid, defect).values())


def test_evaluate_py_scores_the_predictions_that_training_left(
    prepared: Path, tmp_path: Path
) -> None:
    truth = dict(np.load(prepared / "hidden" / "test.npz"))
    np.savez(tmp_path / "predictions.npz", grid=truth["grid"], defect=truth["defect"])
    said = _run(prepared, sys.executable, "evaluate.py", NIGHTLAB_ARTIFACT=str(tmp_path))
    assert said["pbqc"] == said["dice"] == 1.0


# ------------------------------------------------------------------- runs


def test_a_run_repeats_itself_on_one_seed_differs_on_another_and_prints_the_block(
    prepared: Path, tmp_path: Path
) -> None:
    python = torch_python()
    # Every source of chance takes part, and both halves of the curriculum.
    noise = (("train.py", "NOISE = 0.0 ", "NOISE = 0.05 "),)
    root = _copy(prepared, tmp_path, steps=5, edits=noise)
    first, again = (_run(root, python, "train.py", NIGHTLAB_SEED="1") for _ in range(2))
    kept = {"NIGHTLAB_SEED": "2", "NIGHTLAB_ARTIFACT": str(tmp_path)}
    other = _run(root, python, "train.py", **kept)
    for name in ("pbqc", "dice", "contour_px", "false_alarms"):
        assert first[name] == again[name]
    assert first["contour_px"] != other["contour_px"]
    assert first["num_steps"] == 5
    assert first["num_params"] > 10_000
    assert "val_score" not in first  # nightlab computes it, so that its parts stay visible
    assert 0 < first["training_seconds"] < first["total_seconds"]
    on_test = _run(root, sys.executable, "evaluate.py", **kept)
    assert set(on_test) == {"pbqc", "dice", "contour_px", "false_alarms"}
    assert on_test["contour_px"] != other["contour_px"]


def test_the_planted_bug_is_there_and_the_nights_mend_mirrors_the_outline_too(
    prepared: Path, tmp_path: Path
) -> None:
    python = torch_python()
    text = (prepared / "train.py").read_text()
    (tmp_path / "start.py").write_text(text)
    (tmp_path / "mended.py").write_text(text.replace(*STEPS[1].edits[0][1:]))
    check = (
        "import torch, start, mended\n"
        "for module in (start, mended):\n"
        "    module.FLIP_PROB = 1.0\n"
        "    image = torch.arange(8.0).view(1, 2, 4)\n"
        "    names = ('nominal', 'printed', 'part', 'defect')\n"
        "    batch = module.augmented({name: image for name in names})\n"
        "    print([torch.equal(batch[name], image.flip(-1)) for name in names])\n"
    )
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}:{prepared}"}
    done = subprocess.run(
        [python, "-c", check], env=env, capture_output=True, text=True, check=True
    )
    start, mended = done.stdout.splitlines()
    assert start == "[True, True, False, True]"
    assert mended == "[True, True, True, True]"


# ------------------------------------------------------------------- the study


def test_the_embedded_researcher_finds_the_constants_and_nothing_else() -> None:
    found = constants.find({"train.py": (EXAMPLE / "train.py").read_text()})
    names = {constant.name for constant in found}
    assert len(names) == 20
    assert names >= {"ALIGN_FRAC", "ALIGN_WEIGHT", "MAX_SHIFT", "LOCATOR_LR_RATIO", "DEFECT_WEIGHT"}
    assert not names & {"STEPS", "BATCH", "TIME_BUDGET", "SIDE"}


def test_the_study_names_files_metrics_and_phases_that_exist() -> None:
    table = tomllib.loads((EXAMPLE / "nightlab.toml").read_text())
    assert table["study"]["edit"] == ["train.py"]
    printed = (EXAMPLE / "train.py").read_text() + (EXAMPLE / "prepare.py").read_text()
    for name in (*table["guards"], *table["pareto"]):
        assert f'"{name}"' in printed
    phases = re.findall(r"(?m)^## Phase (\d): ", (EXAMPLE / "program.md").read_text())
    assert phases == ["1", "2", "3"]
    headings = set(re.findall(r"(?m)^## (.*)$", (EXAMPLE / "knowledge" / "pbqc.md").read_text()))
    cited = {c for s in STEPS for c in re.findall(r"\[pbqc.md § (.*?)\]", s.hypothesis)}
    assert len(cited) == 5
    assert cited <= headings


# A stand-in for training that ends at once: the study's path is tested, not the learning. The
# metrics depend on LEVEL alone, so the composite rises while pbqc collapses.
_STAND_IN = """\
import os
SEEN = {pbqc}
FOUND = {dice}
print("---")
print("pbqc:", SEEN + 0.002 * int(os.environ["NIGHTLAB_SEED"]))
print("dice:", FOUND - 0.001 * int(os.environ["NIGHTLAB_SEED"]))
print("num_steps:", 300)
"""
_AGENT = """\
import os, pathlib, shutil
home = pathlib.Path.home()
shutil.copy(os.environ["NIGHTLAB_BRIEF"], home / "brief.md")
if (home / "once").exists():
    raise SystemExit("nothing more")
(home / "once").touch()
text = pathlib.Path("train.py").read_text()
pathlib.Path("train.py").write_text(text.replace("0.16", "0.05").replace("0.3", "0.6"))
print("Done.\\n\\n```nightlab\\ndescription: the segmenter alone\\nhypothesis: {cite} says that"
      " Dice can rise alone\\ncategory: curriculum\\nexpects: dice up\\n```")
"""


def test_a_collapse_is_vetoed_though_the_composite_rises_and_the_passage_was_given_and_is_shown(
    prepared: Path, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(prepared, tmp_path / "layers"))
    (root / "train.py").write_text(_STAND_IN.format(pbqc=0.16, dice=0.3))
    agent = root.parent / "agent.py"
    agent.write_text(_AGENT.replace("{cite}", COLLAPSE))
    toml = (root / "nightlab.toml").read_text()
    toml = toml.replace('"python train.py"', json.dumps(f"{sys.executable} train.py"))
    toml = re.sub(r"(?ms)^\[researcher\]\n.*?(?=^\[)", "", toml)
    command = json.dumps(f"{sys.executable} {agent}")
    toml += f'\n[researcher]\nuse = "command"\ncommand = {command}\nfallback = "none"\n'
    (root / "nightlab.toml").write_text(toml)
    git(root, "init", "-q", "-b", "main")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "start")
    _nightlab(root, "run", "--plain", "--tag", "guarded", "--max-experiments", "2")
    state = root / ".nightlab" / "guarded"
    brief = (state / "desk" / "home" / "brief.md").read_text()
    assert COLLAPSE in brief
    assert "the dimensional\nhalf of the inspection has stopped" in brief
    shown = _nightlab(root, "show", "2")
    assert COLLAPSE.strip("[]") in shown
    facts = json.loads(_nightlab(root, "report", "--json"))["facts"]
    (row,) = (r for r in facts["rows"] if r["experiment"] == 2)
    assert row["verdict"] == "discard"
    assert "vetoed by guard pbqc >= baseline * 0.9" in row["reason"]
    assert "better by" in row["reason"]
    assert facts["guards"][0]["experiments"] == [2]
    assert [p["metric"] for p in facts["declared"]["parts"]] == ["pbqc", "dice"]
    # Nothing beats the collapse in dice, but what a guard vetoes does not stand on the front.
    assert [p["experiment"] for p in facts["declared"]["pareto"]] == [1]


def _nightlab(root: Path, verb: str, *args: str) -> str:
    command = [sys.executable, "-m", "nightlab", verb, "-C", str(root), *args]
    env = {**os.environ, "NO_COLOR": "1", "COLUMNS": "200"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 4), done.stderr + done.stdout
    return done.stdout
