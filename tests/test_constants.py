"""Constants are found as a researcher would pick them, and edited in place."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightlab.errors import ConfigError, ResearcherError
from nightlab.researchers.constants import Constant, apply, find, spoken, survey, written
from nightlab.researchers.hints import declared, infer
from nightlab.researchers.spaces import Scalar, Scale, Space

# A training script with the same shapes of constants as the well-known ones.
SCRIPT = '''\
"""A script."""
from dataclasses import dataclass, field

@dataclass
class ModelConfig:  # every call passes every field: these defaults never count
    layers: int = 12
    pattern: str = "SSSL"

@dataclass
class TrainConfig:
    lr: float = 1e-3
    use_bias: bool = False
    drop: float = field(default=0)
    run_name: str = "first"

ASPECT = 64       # width = depth * ASPECT
HEAD_DIM = 128
WINDOW_PATTERN = "SSSL"

BATCH_SIZE = 2**19  # tokens per step
MATRIX_LR = 0.04
WEIGHT_DECAY = 0
ADAM_BETAS = (0.8, 0.95)
WARMUP_RATIO = 0.0
FINAL_LR_FRAC = 0.0
LABEL_SCALE = -0.5
HIDDEN = 4 * 64
DEPTH = 8
ACTIVATION = "relu"
SEED = 1337
PEAK_FLOPS = 989.5e12
DATA_DIR = "data/train"
DEVICE = "cuda"
DTYPE = "bfloat16"
EVAL_EVERY = 100
TIME_BUDGET = 300
NEVER_READ = 3.0
GROWS = 1
GROWS = GROWS + 1
CURVE = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
BIG = 10**10**9
HALF = MATRIX_LR / 2

cfg = TrainConfig()
model = ModelConfig(layers=DEPTH, pattern=WINDOW_PATTERN)
print(ASPECT, HEAD_DIM, BATCH_SIZE, WEIGHT_DECAY, ADAM_BETAS, WARMUP_RATIO, FINAL_LR_FRAC)
print(LABEL_SCALE, HIDDEN, ACTIVATION, SEED, PEAK_FLOPS, DATA_DIR, DEVICE, DTYPE, EVAL_EVERY)
print(TIME_BUDGET, GROWS, CURVE, BIG, HALF, cfg.lr, cfg.use_bias, cfg.drop, cfg.run_name)
print({"relu": max, "gelu": min}[ACTIVATION])
'''


def found(text: str, path: str = "train.py") -> dict[str, Constant]:
    return {c.name: c for c in find({path: text})}


def test_it_finds_the_knobs_and_nothing_else() -> None:
    constants = found(SCRIPT)
    assert {n: c.value for n, c in constants.items()} == {
        "TrainConfig.lr": 1e-3,
        "TrainConfig.use_bias": False,
        "TrainConfig.drop": 0,
        "ASPECT": 64,
        "HEAD_DIM": 128,
        "BATCH_SIZE": 2**19,
        "MATRIX_LR": 0.04,
        "WEIGHT_DECAY": 0,
        "ADAM_BETAS[0]": 0.8,
        "ADAM_BETAS[1]": 0.95,
        "WARMUP_RATIO": 0.0,
        "FINAL_LR_FRAC": 0.0,
        "LABEL_SCALE": -0.5,
        "HIDDEN": 256,
        "DEPTH": 8,
        "ACTIVATION": "relu",
    }
    scales = {n: c.space.scale for n, c in constants.items()}
    assert scales["TrainConfig.lr"] is Scale.LOG
    assert scales["MATRIX_LR"] is Scale.LOG
    assert scales["WEIGHT_DECAY"] is Scale.ZERO_LOG
    assert scales["ADAM_BETAS[1]"] is Scale.COMPLEMENT
    assert scales["BATCH_SIZE"] is scales["HEAD_DIM"] is scales["HIDDEN"] is Scale.POW2
    assert scales["DEPTH"] is Scale.INT
    assert constants["ACTIVATION"].space.options == ("gelu", "relu")


def test_a_rate_of_zero_has_zero_in_its_range_and_may_rise() -> None:
    for name in ("DROPOUT", "WEIGHT_DECAY", "WARMUP_RATIO", "LABEL_SMOOTHING", "MOMENTUM"):
        for zero in (0, 0.0):
            space = infer(name, zero)
            assert space is not None
            assert space.value(space.place(0.0)) == 0.0
            assert 0 < float(space.value(0.6)) < 1


@pytest.mark.parametrize(
    ("name", "value", "low", "high"),
    [
        ("LR", 3e-4, 3e-5, 3e-3),
        ("DROPOUT", 0.1, 0.0, 0.6),
        ("MOMENTUM", 0.9, 0.5, 0.99),
        ("BATCH_SIZE", 64, 16, 256),
        ("DEPTH", 8, 4, 16),
        ("STEPS", 1000, 250, 4000),
        ("ADAM_EPS", 1e-8, 1e-10, 1e-6),
        ("KEEP_PROB", 0.9, 0.0, 1.0),
    ],
)
def test_ranges_are_what_a_person_would_write(
    name: str, value: float, low: float, high: float
) -> None:
    space = infer(name, value)
    assert space is not None
    assert space.low == pytest.approx(low)
    assert space.high == pytest.approx(high)


def test_argparse_defaults_and_choices_are_constants() -> None:
    text = (
        "import argparse\np = argparse.ArgumentParser()\n"
        'p.add_argument("-l", "--lr", type=float, default=1, help="rate")\n'
        'p.add_argument("--opt", choices=["sgd", "zeta"], default="zeta")\n'
        'p.add_argument("--seed", type=int, default=1)\n'
        'p.add_argument("--out-dir", default="runs")\n'
        'p.add_argument("--batch-size", type=int, default=32)\n'
        'p.add_argument("--quiet", action="store_true")\n'
        "a = p.parse_args()\nprint(a.lr, a.opt, a.seed, a.out_dir, a.batch_size)\n"
    )
    constants = found(text)
    assert list(constants) == ["--lr", "--opt", "--batch-size"]
    assert constants["--opt"].space.options == ("sgd", "zeta")
    assert isinstance(constants["--lr"].value, float)
    assert "default=0.5, help" in apply({"train.py": text}, {"--lr": 0.5})["train.py"]


@pytest.mark.parametrize(
    ("words", "value", "scale", "low", "high"),
    [
        ("1e-5..1e-2 log", 1e-3, Scale.LOG, 1e-5, 1e-2),
        ("16..256 pow2", 64, Scale.POW2, 16, 256),
        ("int 1..8", 4, Scale.INT, 1, 8),
        ("1..8", 4, Scale.INT, 1, 8),
        ("10..1000 log int", 100, Scale.INT_LOG, 10, 1000),
        ("0..0.5", 0, Scale.LINEAR, 0, 0.5),
        ("-1..1", 0.5, Scale.LINEAR, -1, 1),
    ],
)
def test_the_persons_own_range_wins(
    words: str, value: float, scale: Scale, low: float, high: float
) -> None:
    for text in (
        f"KNOB = {value!r}  # nightlab: {words}\nprint(KNOB)\n",
        f"# nightlab: {words}\nKNOB = {value!r}\nprint(KNOB)\n",
    ):
        space = found(text)["KNOB"].space
        assert (space.scale, space.low, space.high) == (scale, low, high)
        assert space.fixed_bounds


def test_a_comment_names_choices_and_fixes_and_frees() -> None:
    text = (
        'MODE = "SSSL"  # nightlab: SSSL|L|SL\nLR = 0.1  # nightlab: fixed\n'
        "SEED = 3  # nightlab: 1..9\nrate = 0.5  # the peak  # nightlab: 0.1..0.9\n"
        "WIDTH = 64\nprint(MODE, LR, SEED, rate, WIDTH)\n"
    )
    constants = found(text)
    assert list(constants) == ["MODE", "SEED", "rate", "WIDTH"]
    assert constants["MODE"].space.options == ("SSSL", "L", "SL")
    assert constants["WIDTH"].space.scale is Scale.POW2  # the comment of the line above is not its


@pytest.mark.parametrize(
    "line",
    [
        "LR = 0.1  # nightlab: 1e-2..1e-5 log",
        "LR = 0.1  # nightlab: 0..1 log",
        "LR = 0.1  # nightlab: sometimes",
        "LR = 0.1  # nightlab: 1..2 log linear",
        "LR = 0.1  # nightlab:",
        "LR = 0.1  # nightlab: relu|gelu",
        'ACT = "relu"  # nightlab: 0..1',
        "SIZE = 64  # nightlab: 10..100 pow2",
        "SIZE = 64  # nightlab: int 1.5..8",
        "FLAG = True  # nightlab: 0|1",
        "LR = 0.1  # nightlab: 0.1|",
        "LR = compute()  # nightlab: 0..1",
        "LR = 0.1  # nightlab: 0..1\nLR = 0.2",
    ],
)
def test_a_comment_that_cannot_be_followed_names_file_and_line(line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        find({"sub/train.py": f"import os\n{line}\n"})
    assert "sub/train.py:2" in caught.value.what
    assert all(caught.value.lines())


def test_a_file_that_does_not_parse_is_skipped_with_a_reason() -> None:
    result = survey(
        {
            "a.py": "LR = (",
            "b.py": "LR = 0.1\nprint(LR)\n",
            "c.toml": "LR = 1",
            "d.py": "X='\udcff'",
        }
    )
    assert [c.name for c in result.constants] == ["LR"]
    assert set(result.skipped) == {"a.py", "c.toml", "d.py"}
    assert "parse" in result.skipped["a.py"]


def test_a_settings_module_is_read_by_others() -> None:
    config = "LR = 0.1\nUNUSED = 0.5\n"
    assert list(found(config)) == ["LR", "UNUSED"]  # nothing is read here: it is for importing
    both = find(
        {"config.py": config, "train.py": "import config\nWIDTH = 8\nprint(config.LR, WIDTH)"}
    )
    assert {c.name for c in both} == {"LR", "UNUSED", "WIDTH"}


def test_two_files_with_the_same_name_are_told_apart() -> None:
    files = {"a.py": "LR = 0.1\nprint(LR)\n", "b.py": "LR = 0.2\nprint(LR)\n"}
    assert {c.name: c.value for c in find(files)} == {"LR@a.py": 0.1, "LR@b.py": 0.2}
    assert apply(files, {"LR@b.py": 0.3}) == {"b.py": "LR = 0.3\nprint(LR)\n"}


def test_a_constant_that_a_function_may_assign_is_left_alone() -> None:
    text = (
        "LR = 0.1\nB = 16\ndef f(x):\n    global LR\n    LR = 0.2\n    B, T = x\n    return B\n"
        "print(LR, B)\n"
    )
    assert list(found(text)) == ["B"]


def test_only_the_literal_changes_in_a_hostile_file() -> None:
    text = (
        "\ufeff# café 🌙\r\nLR\t=  0.1\t# rate, was 0.1\r\nBATCH_SIZE = 2**6;  KIND='relu'\r\n"
        "ADAM_BETAS = ( 0.9 , # first\r\n\t0.95, )\r\nDROPOUT = (0.0)\r\nLOGIT_BIAS = - 0.5"
        "\r\nprint(LR, BATCH_SIZE, KIND, ADAM_BETAS, DROPOUT, LOGIT_BIAS, 'gelu')"
    )
    changed = apply(
        {"t.py": text},
        {"LR": 3.2e-05, "BATCH_SIZE": 128, "KIND": "gelu", "ADAM_BETAS[1]": 0.99, "DROPOUT": 0.25,
         "LOGIT_BIAS": 0.5},
    )["t.py"]  # fmt: skip
    expected = (
        text.replace("0.1\t", "3.2e-05\t")
        .replace("2**6", "128")
        .replace("KIND='relu'", "KIND='gelu'")
        .replace("0.95", "0.99")
        .replace("(0.0)", "(0.25)")
        .replace("- 0.5", "0.5")
    )
    assert changed == expected


def test_equal_values_change_nothing_and_wrong_ones_are_refused() -> None:
    files = {"t.py": SCRIPT}
    assert apply(files, {c.name: c.value for c in find(files)}) == {}
    wrong: tuple[tuple[str, Scalar], ...] = (
        ("NO_SUCH", 1.0), ("MATRIX_LR", "high"), ("DEPTH", 2.5), ("MATRIX_LR", math.nan),
        ("ACTIVATION", 3), ("TrainConfig.use_bias", 1), ("MATRIX_LR", True),
    )  # fmt: skip
    for name, value in wrong:
        with pytest.raises(ResearcherError):
            apply(files, {name: value})


@settings(max_examples=40, deadline=None)  # parsing takes what the machine's load lets it
@given(st.data())
def test_what_is_applied_is_found_again_and_nothing_else_moves(data: st.DataObject) -> None:
    files = {"t.py": SCRIPT.replace("\n", data.draw(st.sampled_from(["\n", "\r\n"])))}
    before = find(files)
    some = data.draw(st.lists(st.sampled_from(before), unique_by=lambda c: c.name))
    values = {c.name: c.space.value(data.draw(st.floats(0, 1))) for c in some}
    after = find({**files, **apply(files, values)})
    assert [c.name for c in after] == [c.name for c in before]
    assert [c.value for c in after] == [values.get(c.name, c.value) for c in before]
    assert around(files["t.py"], before) == around({**files, **apply(files, values)}["t.py"], after)


def around(text: str, constants: tuple[Constant, ...]) -> list[bytes]:
    """The bytes between the literals."""
    raw, at, pieces = text.encode(), 0, []
    for c in sorted(constants, key=lambda c: c.span):
        pieces.append(raw[at : c.span[0]])
        at = c.span[1]
    return [*pieces, raw[at:]]


SPACES: dict[str, Callable[[], Space | None]] = {
    "LR": lambda: infer("LR", 0.1),
    "WD": lambda: infer("WEIGHT_DECAY", 0.0),
    "MOMENTUM": lambda: infer("MOMENTUM", 0.9),
    "DROPOUT": lambda: infer("DROPOUT", 0.1),
    "BATCH": lambda: infer("BATCH_SIZE", 64),
    "DEPTH": lambda: infer("DEPTH", 6),
    "STEPS": lambda: infer("STEPS", 700),
    "ACT": lambda: infer("ACT", "relu"),
    "own": lambda: declared("0.3..0.37", 0.35),
}


@given(st.sampled_from(sorted(SPACES)), st.floats(0, 1))
def test_a_place_gives_a_value_within_bounds_that_lies_at_that_place(name: str, at: float) -> None:
    space = SPACES[name]()
    assert space is not None
    value = space.value(at)
    assert space.holds(value)
    assert space.value(space.place(value)) == value
    if not isinstance(value, str):
        assert value == 0 or space.low <= float(value) <= space.high
    tolerance = max(space.spacing() / 2, 0.08 if space.scale is Scale.ZERO_LOG else 0.03)
    assert abs(space.place(value) - at) <= tolerance + 1e-9


def test_values_are_written_as_people_write_them() -> None:
    assert [written(v) for v in (0.032, 3.2e-05, 64, True, "gelu")] == [
        "0.032", "3.2e-05", "64", "True", '"gelu"',
    ]  # fmt: skip
    assert [spoken(v) for v in (0.0, 0.1, "gelu", 64, False)] == ["0", "0.1", "gelu", "64", "False"]
    assert SPACES["LR"]().value(0.25) == 0.032  # type: ignore[union-attr]
