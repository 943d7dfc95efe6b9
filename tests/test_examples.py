"""The bundled examples, run as their owners run them: in a copy, by their own command."""

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
from typing import Any

import numpy as np
import pytest

from nightlab.researchers import constants
from tests.support import torch_python

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
_VALUE = re.compile(r"^(\w+):\s+(\S+)$", re.MULTILINE)


def _module(example: str, name: str) -> Any:
    """An example's module under a name of its own: two examples both have a prepare.py."""
    spec = importlib.util.spec_from_file_location(
        f"example_{example}_{name}", EXAMPLES / example / f"{name}.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _copy(example: str, where: Path) -> Path:
    ignored = shutil.ignore_patterns("__pycache__", "data", "held", ".nightlab", "results.tsv")
    return Path(shutil.copytree(EXAMPLES / example, where / example, ignore=ignored))


def _edit(train: Path, **constants: object) -> None:
    text = train.read_text()
    for name, value in constants.items():
        text, found = re.subn(rf"(?m)^{name} = [^ \n]+", f"{name} = {value!r}", text)
        assert found == 1, name
    train.write_text(text)


def _run(project: Path, python: str = sys.executable, **env: str) -> dict[str, float]:
    """The metrics of the last ``---`` block that ``train.py`` prints."""
    done = subprocess.run(
        [python, "train.py"],
        cwd=project,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    assert "---" in done.stdout.splitlines(), done.stdout
    block = done.stdout.rpartition("---\n")[2]
    return {name: float(value) for name, value in _VALUE.findall(block)}


# ------------------------------------------------------------------- digits


def test_digits_learns_within_its_budget_and_prints_the_block(tmp_path: Path) -> None:
    metrics = _run(_copy("digits", tmp_path), TIME_BUDGET="0.5")
    assert 0.05 < metrics["val_loss"] < 0.5
    assert 0.9 < metrics["val_accuracy"] <= 1.0
    assert 0.45 <= metrics["training_seconds"] < 1.0
    assert metrics["num_steps"] > 50
    assert metrics["num_params"] == 64 * 64 + 64 + 64 * 10 + 10
    assert not any(name.startswith("test_") for name in metrics)


def test_digits_differs_between_seeds_and_shows_the_test_split_only_when_asked(
    tmp_path: Path,
) -> None:
    project = _copy("digits", tmp_path)
    first = _run(project, TIME_BUDGET="0.3", NIGHTLAB_SEED="1")
    other = _run(project, TIME_BUDGET="0.3", NIGHTLAB_SEED="2", NIGHTLAB_SPLIT="test")
    assert first["val_loss"] != other["val_loss"]
    assert "test_loss" not in first
    assert 0.05 < other["test_loss"] < 0.6
    assert other["test_loss"] != other["val_loss"]


def test_digits_repeats_itself_exactly_on_one_seed_and_the_same_steps(tmp_path: Path) -> None:
    project = _copy("digits", tmp_path)
    train = project / "train.py"
    counted = "max(cpu, spent / 1.5) / TIME_BUDGET"
    assert counted in train.read_text()
    train.write_text(train.read_text().replace(counted, "step / 300"))
    _edit(train, DROPOUT=0.2)  # every source of chance takes part
    first, again = (_run(project, NIGHTLAB_SEED="7") for _ in range(2))
    assert first["num_steps"] == again["num_steps"] == 300
    assert first["val_loss"] == again["val_loss"]
    assert first["val_loss"] != _run(project, NIGHTLAB_SEED="8")["val_loss"]


def test_digits_says_nan_when_training_diverges(tmp_path: Path) -> None:
    project = _copy("digits", tmp_path)
    _edit(project / "train.py", LR=1e9, ACTIVATION="relu")
    metrics = _run(project, TIME_BUDGET="0.5")
    assert not math.isfinite(metrics["val_loss"])
    assert metrics["training_seconds"] < 0.4  # it stops at once


@pytest.mark.parametrize("activation", ["tanh", "relu", "gelu"])
def test_digits_gradients_are_those_of_its_loss(
    activation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "prepare", _module("digits", "prepare"))
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "1")  # the script sets them: put back afterwards
    train = _module("digits", "train")
    monkeypatch.setattr(train, "ACTIVATION", activation)
    monkeypatch.setattr(train, "DEPTH", 2)
    rng = np.random.default_rng(3)
    net = train.Network(rng)
    images, labels = rng.random((5, 64)), rng.integers(0, 10, 5)

    def loss() -> float:
        return float(train.cross_entropy(net.forward(images)[0], labels)[0])

    logits, tape = net.forward(images)
    net.backward(train.cross_entropy(logits, labels)[1], tape)
    # Along the gradient itself the loss changes most, so single precision suffices.
    direction = net.grads / np.linalg.norm(net.grads)
    start, h = net.params.copy(), 1e-2
    net.params[:] = start + h * direction
    up = loss()
    net.params[:] = start - h * direction
    slope = (up - loss()) / (2 * h)
    assert slope == pytest.approx(float(np.linalg.norm(net.grads)), rel=1e-2)


def test_digits_splits_are_disjoint_whole_and_the_same_for_ever() -> None:
    prepare = _module("digits", "prepare")
    splits = prepare.splits()
    rows = np.concatenate(list(splits.values()))
    assert {name: len(part) for name, part in splits.items()} == {
        "train": 500,
        "val": 600,
        "test": 697,
    }
    assert sorted(rows) == list(range(1797))
    # A different split would make every older figure incomparable.
    assert splits["train"][:4].tolist() == [713, 1642, 800, 373]
    assert splits["test"][:4].tolist() == [654, 1574, 1544, 850]
    pictures = {name: {i.tobytes() for i in prepare.load(name)[0]} for name in splits}
    assert not pictures["train"] & (pictures["val"] | pictures["test"])
    assert not pictures["val"] & pictures["test"]


def test_digits_evaluation_knows_uniform_and_perfect_answers_and_refuses_other_shapes() -> None:
    prepare = _module("digits", "prepare")
    labels = prepare.load("val")[1]
    uniform = prepare.evaluate(lambda images: np.zeros((len(images), 10)))
    perfect = prepare.evaluate(lambda _: 1000.0 * np.eye(10)[labels])
    assert uniform["val_loss"] == pytest.approx(math.log(10))
    assert perfect == {"val_loss": 0.0, "val_accuracy": 1.0}
    with pytest.raises(ValueError, match="predict gave"):
        prepare.evaluate(lambda images: np.zeros((len(images), 9)))


# ------------------------------------------------------------------- gpt


def test_gpt_tokenizer_gives_back_every_byte_and_compresses() -> None:
    prepare = _module("gpt", "prepare")
    text = Path(__file__).read_bytes()
    tokenizer = prepare.Tokenizer.train([text], 400)
    for sample in (text, b"", b"\x00\xff\xfe \t\r\n  \n", "naïve 日本語 🙂".encode(), b"   x"):
        tokens = tokenizer.encode(sample)
        assert tokenizer.decode(tokens) == sample
        assert tokenizer.lengths()[tokens].sum() == len(sample)
    assert len(tokenizer.encode(text)) < 0.6 * len(text)
    assert tokenizer.lengths()[prepare.SEPARATOR] == 0


def test_gpt_tokenizer_does_not_depend_on_hash_order() -> None:
    prepare = _module("gpt", "prepare")
    text = Path(__file__).read_bytes()
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import prepare;"
        "print(prepare.Tokenizer.train([open(sys.argv[2], 'rb').read()], 300).merges)"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code, str(EXAMPLES / "gpt"), __file__],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert outputs == {str(prepare.Tokenizer.train([text], 300).merges)}


def test_gpt_splits_follow_from_the_name_and_have_about_the_named_shares() -> None:
    prepare = _module("gpt", "prepare")
    names = [f"lib/module_{i}.py" for i in range(4000)]
    parts = [prepare.split_of(name) for name in names]
    assert set(parts) == {"train", "val", "test"}
    assert 0.88 < parts.count("train") / 4000 < 0.92
    assert [prepare.split_of(n) for n in ("lib/ast.py", "lib/json/decoder.py")] == ["train", "test"]


def test_gpt_reads_this_pythons_library() -> None:
    documents = dict(_module("gpt", "prepare").documents())
    assert b"import" in documents["lib/tokenize.py"]
    assert len(documents) > 300
    assert not any("/test/" in name or "site-packages" in name for name in documents)


def test_gpt_trains_measures_in_bits_per_byte_and_prints_the_block(tmp_path: Path) -> None:
    python = torch_python()
    project = _copy("gpt", tmp_path)
    _edit(project / "train.py", DEPTH=1, WIDTH=64, MATRIX_OPTIMIZER="muon")
    metrics = _run(project, python, TIME_BUDGET="3", NIGHTLAB_SPLIT="test")
    assert 1.0 < metrics["val_bpb"] < 6.0  # bytes of Python at random need 8, a good model below 2
    assert 1.0 < metrics["test_bpb"] < 6.0
    # Three seconds of the processor: up to four times that on the wall clock, and one step more.
    assert 2.9 < metrics["training_seconds"] < 14
    assert metrics["training_seconds"] < metrics["total_seconds"]
    assert metrics["depth"] == 1
    for name in ("peak_vram_mb", "tokens_per_sec", "total_tokens_M", "num_steps", "num_params_M"):
        assert metrics[name] > 0

    check = (
        "import math, torch, prepare as p;"
        "uniform = lambda x: torch.zeros(*x.shape, p.VOCAB_SIZE);"
        "t = p.load_tokens('val')[:p.EVAL_TOKENS + 1].astype('int64');"
        "y = t[1:(len(t) - 1) // p.SEQ_LEN * p.SEQ_LEN + 1]; n = p.load_tokenizer().lengths()[y];"
        "expected = (n > 0).sum() * math.log2(p.VOCAB_SIZE) / n.sum();"
        "found = p.evaluate_bpb(uniform, 'cpu');"
        "assert abs(found - expected) < 1e-4, (found, expected)\n"
        "peeking = lambda x: torch.nn.functional.one_hot(x.roll(-1, 1), p.VOCAB_SIZE).float()\n"
        "try: p.evaluate_bpb(peeking, 'cpu')\n"
        "except ValueError as error: assert 'looks ahead' in str(error)\n"
        "else: raise AssertionError('a model that looks ahead was measured')"
    )
    done = subprocess.run(
        [python, "-c", check], cwd=project, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


# ------------------------------------------------------------------- both


@pytest.mark.parametrize(("example", "found"), [("digits", 12), ("gpt", 19)])
def test_the_embedded_researcher_finds_the_constants_and_nothing_else(
    example: str, found: int
) -> None:
    text = (EXAMPLES / example / "train.py").read_text()
    names = {constant.name for constant in constants.find({"train.py": text})}
    assert len(names) == found
    assert names >= {"DEPTH", "BATCH_SIZE", "ACTIVATION", "WEIGHT_DECAY", "WARMDOWN_FRAC"}
    assert not names & {"COMPILE", "PEAK_FLOPS", "TIME_BUDGET", "SEQ_LEN"}


@pytest.mark.parametrize("example", ["digits", "gpt"])
def test_every_example_names_files_and_metrics_that_exist(example: str) -> None:
    folder = EXAMPLES / example
    table = tomllib.loads((folder / "nightlab.toml").read_text())
    assert all((folder / name).is_file() for name in table["study"]["edit"])
    printed = (folder / "train.py").read_text() + (folder / "prepare.py").read_text()
    for name in (table["objective"]["metric"], *table["guards"]):
        assert name in printed or name.replace("val_", "{split}_") in printed
    phases = re.findall(r"(?m)^## Phase (\d): ", (folder / "program.md").read_text())
    assert phases == ["1", "2", "3"]
