"""examples/retrieval, run as its owner runs it: scenes, folds, ranks, and the bug worth finding."""

from __future__ import annotations

import importlib.util
import math
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from nightlab.researchers import constants
from tests.support import torch_python

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "retrieval"
_VALUE = re.compile(r"^(\w+):\s+(\S+)$", re.MULTILINE)


def _module(name: str) -> ModuleType:
    """A module of the example under a name of its own: every example has a prepare.py."""
    spec = importlib.util.spec_from_file_location(f"retrieval_{name}", EXAMPLE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def prepare() -> Any:
    """The module, set to a fifth of its scenes: all else is as it is."""
    module = _module("prepare")
    module.POOL_GROUPS, module.TEST_GROUPS = 500, 100
    return module


@pytest.fixture(scope="module")
def evaluate(prepare: Any) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "prepare", prepare)
        return _module("evaluate")


@pytest.fixture(scope="module")
def made(prepare: Any) -> Any:
    return prepare.make()


# ------------------------------------------------------------------- data


def test_scenes_are_the_same_on_every_call(prepare: Any, made: Any) -> None:
    again = prepare.make()
    for one, other in zip(made, again, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            assert np.array_equal(one[name], other[name]), name
    pool, queries, answers = made
    # Other data would make every older figure incomparable.
    assert [prepare.decode(tokens) for tokens in pool["captions"][:4]] == [
        "a tiny purple triangle to the left of a large yellow circle",
        "a little purple triangle right of a big yellow circle",
        "a little yellow triangle to the left of a big purple circle",
        "a large yellow circle right of a big purple triangle",
    ]
    assert pool["boxes"][0].tolist() == [[2, 3, 7, 9], [11, 0, 18, 9]]
    assert pool["fold"][:12].tolist() == [0] * 4 + [2] * 4 + [4] * 4
    assert answers["caption_of"][:4].tolist() == [68, 206, 160, 104]
    assert queries["images"].shape == (400, 32, 32, 3)


def test_a_group_of_hard_negatives_stays_in_one_fold_and_differs_in_one_thing(
    prepare: Any, made: Any
) -> None:
    pool = made[0]
    folds = pool["fold"].reshape(-1, prepare.GROUP)
    assert (folds == folds[:, :1]).all()
    assert np.bincount(pool["fold"]).tolist() == [400] * 5
    groups = prepare.scene_groups(np.random.default_rng(1), 50, set())
    for first, swapped, recoloured, changed in groups:
        how, a, b = first
        assert swapped == (how, b, a)
        assert recoloured == (how, (a[0], b[1], a[2]), (b[0], a[1], b[2]))
        assert changed[2] == b
        assert sum(x != y for x, y in zip(changed[1], a, strict=True)) == 1


def test_no_two_scenes_of_pool_and_test_mean_the_same(prepare: Any) -> None:
    taken: set[Any] = set()
    rng = np.random.default_rng(2)
    scenes = [s for count in (400, 100) for g in prepare.scene_groups(rng, count, taken) for s in g]
    assert len(scenes) == len(set(scenes)) == 2000 == len(taken)


def test_a_caption_says_its_scene_in_either_order(prepare: Any) -> None:
    scene = ("beside", ("small", "red", "ring"), ("large", "blue", "cross"))
    rng = np.random.default_rng(3)
    said = {prepare.caption(scene, rng) for _ in range(200)}
    assert "a small red ring left of a large blue cross" in said
    assert "there is a big blue cross to the right of a tiny red ring" in said
    left = {re.search(r"(\w+) (?:to the )?left of", text)[1] for text in said if "left" in text}  # type: ignore[index]
    assert left == {"ring"}
    for text in said:
        assert prepare.decode(prepare.encode(text)) == text


def test_boxes_hold_what_the_caption_means(prepare: Any) -> None:
    """In the mean colour of its box's middle a shape shows its paint, front of all else."""
    rng = np.random.default_rng(4)
    scene = ("over", ("large", "red", "circle"), ("large", "blue", "circle"))
    order = []
    for _ in range(40):
        image, boxes = prepare.render(scene, rng)
        x = (boxes[:, 0].astype(int) + boxes[:, 2]) // 2
        y = (boxes[:, 1].astype(int) + boxes[:, 3]) // 2
        reddest = [int(image[b, a, 0]) - int(image[b, a, 2]) for a, b in zip(x, y, strict=True)]
        assert max(reddest) > 60
        assert min(reddest) < -60
        red = int(np.argmax(reddest))
        assert y[red] < y[1 - red]  # red is above blue, as the caption says
        order.append(red)
    assert 5 < sum(order) < 35  # and the order of the boxes tells nothing


def test_the_fold_goes_by_the_seed_unless_it_is_named(
    prepare: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [prepare.fold_of(seed) for seed in (1, 2, 3, 4, 5, 1001)] == [1, 2, 3, 4, 0, 1]
    monkeypatch.setenv("RETRIEVAL_FOLD", "2")
    assert {prepare.fold_of(seed) for seed in range(9)} == {2}


def test_training_and_measuring_share_no_pair_and_queries_hide_which_belong(
    prepare: Any, made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "DATA", tmp_path / "data")
    monkeypatch.setattr(prepare, "HELD_OUT", tmp_path / "heldout")
    monkeypatch.setattr(prepare, "make", lambda: made)
    with pytest.raises(FileNotFoundError, match=r"run python prepare\.py"):
        prepare.load_train(0)
    prepare.prepare()
    assert sorted(p.name for p in tmp_path.rglob("*.npz")) == [
        "answers.npz",
        "pool.npz",
        "test_queries.npz",
    ]
    measured: list[bytes] = []
    pool = {image.tobytes(): caption for image, caption in zip(*_pairs(made[0]), strict=True)}
    for fold in range(prepare.FOLDS):
        learned = {image.tobytes() for image in prepare.load_train(fold)["images"]}
        asked = prepare.load_queries("val", fold)
        pictures = [image.tobytes() for image in asked["images"]]
        assert len(learned) == 1600
        assert not learned & set(pictures)
        measured += pictures
        partner = prepare.caption_of("val", fold)
        for picture, row in zip(pictures, partner, strict=True):
            assert np.array_equal(pool[picture], asked["captions"][row])
        assert (partner == np.arange(400)).mean() < 0.03
    assert len(set(measured)) == len(measured) == 2000
    test = {image.tobytes() for image in prepare.load_queries("test", 0)["images"]}
    assert len(test) == 400
    assert not test & set(pool)


def _pairs(part: Any) -> tuple[Any, Any]:
    return part["images"], part["captions"]


# ------------------------------------------------------------------- ranks


def test_perfect_embeddings_rank_first_and_random_ones_at_chance(evaluate: Any) -> None:
    rng = np.random.default_rng(5)
    partner = rng.permutation(400)
    captions = rng.normal(size=(400, 16)).astype(np.float32)
    perfect = evaluate.measure(3 * captions[partner], captions, partner)
    assert perfect["mean_rank"] == perfect["median_rank"] == 1
    assert perfect["recall_at_1_i2t"] == perfect["recall_at_1_t2i"] == 1
    chance = evaluate.measure(rng.normal(size=(400, 16)), captions, partner)
    assert chance["mean_rank"] == pytest.approx(200.5, abs=20)
    assert chance["recall_at_5"] < 0.05


@pytest.mark.parametrize("collapsed", ["both", "images", "zero"])
def test_embeddings_that_are_all_alike_get_no_rank_for_free(evaluate: Any, collapsed: str) -> None:
    rng = np.random.default_rng(6)
    one = np.tile(rng.normal(size=24).astype(np.float32), (401, 1))
    captions = one if collapsed == "both" else rng.normal(size=(401, 24)).astype(np.float32)
    images = 0 * one if collapsed == "zero" else one
    found = evaluate.measure(images, captions, rng.permutation(401))
    assert found["mean_rank_i2t"] == pytest.approx(201, abs=1e-9 if collapsed != "images" else 1)
    assert found["mean_rank_t2i"] == 201
    assert found["recall_at_5_t2i"] == 0
    assert found["mean_rank"] == pytest.approx(201, abs=1)


def test_equals_share_their_places(evaluate: Any) -> None:
    similarity = np.array([[0.5, 0.5, 0.1], [0.9, 0.2, 0.2], [0.3, 0.3, 0.3]])
    assert evaluate.ranks(similarity, np.array([0, 1, 2])).tolist() == [1.5, 2.5, 2.0]


def test_both_ways_are_ranked_by_their_own_rows(evaluate: Any) -> None:
    images = np.array([[1.0, 0.0], [0.9, 0.5]])
    captions = np.array([[0.9, 0.4], [0.0, 1.0]])
    found = evaluate.measure(images, captions, np.array([0, 1]))
    assert found["mean_rank_i2t"] == 1.5  # the second image likes the first caption more
    assert found["mean_rank_t2i"] == 1.5  # the first caption likes the second image more
    assert found["mean_rank"] == 1.5
    assert found["recall_at_1"] == 0.5


def test_what_is_not_finite_is_nan_and_what_has_another_shape_is_refused(evaluate: Any) -> None:
    good, partner = np.ones((6, 3)), np.arange(6)
    bad = good.copy()
    bad[2, 1] = np.nan
    assert all(math.isnan(v) for v in evaluate.measure(good, bad, partner).values())
    for images, captions in (
        (good[:5], good),
        (good, good[:, :2]),
        (good[0], good),
        (np.ones((6, 2000)), np.ones((6, 2000))),
    ):
        with pytest.raises(ValueError, match=r"are|compare"):
            evaluate.measure(images, captions, partner)


# ------------------------------------------------------------------- the study


def test_the_embedded_researcher_finds_the_constants_and_nothing_else() -> None:
    found = {c.name: c for c in constants.find({"train.py": (EXAMPLE / "train.py").read_text()})}
    assert len(found) == 17
    assert found.keys() >= {"MAX_LOGIT_SCALE", "HEATMAP_SIGMA", "LR", "INIT_TEMPERATURE"}
    assert not found.keys() & {"STEPS", "SIDE", "CAPTION_LENGTH"}
    scale = found["MAX_LOGIT_SCALE"]
    assert (scale.value, scale.space.low, scale.space.high) == (0.5, 0.1, 2.5)
    assert found["BATCH_SIZE"].space.high == 64  # as the comment beside it says
    assert found["STAGES"].space.high == 4


def test_the_study_names_what_exists_and_measures_in_a_sealed_box() -> None:
    table = tomllib.loads((EXAMPLE / "nightlab.toml").read_text())
    assert table["study"]["edit"] == ["train.py"]
    assert table["objective"]["evaluate"].split()[1] == "evaluate.py"
    printed = (EXAMPLE / "evaluate.py").read_text() + (EXAMPLE / "train.py").read_text()
    for name in (table["objective"]["metric"], "peak_memory_mb", "num_steps"):
        assert f'"{name}"' in printed or f"{name}:" in printed
    assert table["final"]["hidden"] == ["heldout"]
    assert not set(table["final"]["hidden"]) & set(table["study"]["data"])
    phases = re.findall(r"(?m)^## Phase (\d): ", (EXAMPLE / "program.md").read_text())
    assert phases == ["1", "2", "3"]


@pytest.fixture(scope="module")
def torch_path() -> str:
    """A PATH whose python has torch."""
    return f"{Path(torch_python()).parent}{os.pathsep}{os.environ['PATH']}"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, prepare: Any, made: Any) -> Path:
    ignored = shutil.ignore_patterns("__pycache__", "data", "heldout", "out", ".nightlab")
    root = tmp_path_factory.mktemp("retrieval") / "project"
    shutil.copytree(EXAMPLE, root, ignore=ignored)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "DATA", root / "data")
        patch.setattr(prepare, "HELD_OUT", root / "heldout")
        patch.setattr(prepare, "make", lambda: made)
        prepare.prepare()
    return root


def _run(project: Path, path: str, **env: str) -> dict[str, float]:
    """What ``run.sh`` prints after its ``---`` lines, evaluation included."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(("NIGHTLAB_", "RETRIEVAL_"))}
    done = subprocess.run(
        ["sh", "run.sh"],
        cwd=project,
        env={**own, "PATH": path, **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("---\n") == 2, done.stdout
    return {name: float(value) for name, value in _VALUE.findall(done.stdout)}


def test_a_run_prints_the_block_and_repeats_itself_exactly(project: Path, torch_path: str) -> None:
    first, again = (
        _run(project, torch_path, STEPS="25", NIGHTLAB_SEED="7", TIME_BUDGET=budget)
        for budget in ("1", "60")
    )
    table = tomllib.loads((EXAMPLE / "nightlab.toml").read_text())
    wanted = {table["objective"]["metric"], *table["guards"], "median_rank", "train_loss"}
    wanted |= {f"recall_at_{k}_{way}" for k in (1, 5) for way in ("i2t", "t2i")}
    assert first.keys() >= wanted
    assert first["num_steps"] == 25
    assert first["fold"] == 2
    assert 20 < first["mean_rank"] < 195  # of 400: it has begun to learn
    timed = {"training_seconds", "total_seconds", "peak_memory_mb"}
    assert {k: v for k, v in first.items() if k not in timed} == {
        k: v for k, v in again.items() if k not in timed
    }


def test_the_limit_on_the_scale_keeps_the_temperature_from_being_learned(
    project: Path, torch_path: str
) -> None:
    """The planted bug: hundreds are compared with units. Mended, ranks are much lower."""
    train = project / "train.py"
    as_it_stands = train.read_text()
    bug = "clamp(max=MAX_LOGIT_SCALE)"
    assert as_it_stands.count(bug) == 1
    found = {}
    try:
        for name, code in (("bug", bug), ("mended", "clamp(max=100 * MAX_LOGIT_SCALE)")):
            faster = as_it_stands.replace("LR = 1e-3\n", "LR = 3e-3\n")  # 250 steps are few
            train.write_text(faster.replace(bug, code))
            found[name] = _run(project, torch_path, STEPS="250", NIGHTLAB_SEED="3")
    finally:
        train.write_text(as_it_stands)
    assert found["bug"]["logit_scale"] == 0.5
    assert found["mended"]["logit_scale"] > 14
    assert found["mended"]["mean_rank"] < 0.8 * found["bug"]["mean_rank"]
