"""Composite objectives: what is arithmetic, what is refused, what is missing."""

from __future__ import annotations

import contextlib
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightlab import expression, report, views
from nightlab.errors import ConfigError
from nightlab.expression import UndefinedError, composed
from nightlab.metrics import Measurement, read
from nightlab.model import Better, Objective, Outcome, Verdict
from tests.support import CONFIG, Steps, drive, lr, make_project

HALVES = Objective("score", Better.HIGHER, "0.5*pbqc + 0.5*dice")


@pytest.mark.parametrize(
    ("text", "metrics", "is_"),
    [
        ("0.5*pbqc + 0.5*dice", {"pbqc": 0.8, "dice": 0.6}, 0.7),
        ("-(a - b) ** 2 / 4", {"a": 5, "b": 1}, -4.0),
        ("a - b - c", {"a": 1, "b": 2, "c": 3}, -4.0),
        ("2 ** 3 ** a", {"a": 2}, 512.0),
        ("min(a, b, 3) + max(a, 1) + abs(-a)", {"a": 2, "b": 7}, 6.0),
        ("sqrt(a) + log(b) + exp(0*a)", {"a": 9, "b": math.e}, 5.0),
        ("test.acc - 'recall@10' * 2", {"test.acc": 3, "recall@10": 1}, 1.0),
        (" a ", {"a": 0.25, "b": 1}, 0.25),
    ],
)
def test_arithmetic_over_metrics(text, metrics, is_) -> None:
    assert expression.value(text, metrics) == pytest.approx(is_)


@pytest.mark.parametrize(
    ("text", "marked", "why"),
    [
        ("__import__('os').system('x')", "⟶", "not arithmetic"),
        ("a + open('x')", "a + ⟶open", "no function 'open'"),
        ("a if b else c", "⟶a if", "IfExp"),
        ("a + [b]", "a + ⟶[b]", "List"),
        ("a and b", "⟶a and", "BoolOp"),
        ("a % 2", "⟶a % 2", "BinOp"),
        ("(lambda: 1)()", "⟶", "not arithmetic"),
        ("a +", "⟶", "invalid syntax"),
        ("1 + 2", "⟶1 + 2", "no metric"),
        ("", "⟶", ""),
        ("a * 1e999", "a * ⟶1e999", "not finite"),
        ("a * 1j", "a * ⟶1j", "not arithmetic"),
        ("a * True", "a * ⟶True", "not arithmetic"),
        ("é + a.b(c)", "é + ⟶a.b", "not arithmetic"),
        ("log(a, b)", "⟶log", "takes 1 value"),
        ("min(a)", "⟶min", "2 values or more"),
        ("max(*a)", "max(", ""),
        ("a" * 2000, "⟶", "longer"),
        ("(" * 900 + "a", "⟶", ""),
    ],
)
def test_anything_else_is_refused_with_its_place(text, marked, why) -> None:
    with pytest.raises(ConfigError) as caught:
        expression.parts(text)
    what, reason, hint = caught.value.lines()
    assert marked in what
    assert why in reason
    assert "expression =" in hint


@pytest.mark.parametrize(
    ("text", "metrics", "why"),
    [
        ("a / b", {"a": 1, "b": 0}, "division by zero"),
        ("a + b", {"a": 1}, "b was not printed"),
        ("sqrt(a)", {"a": -1}, "no value"),
        ("a ** 0.5", {"a": -1}, "no value"),
        ("0 ** a", {"a": -1}, "no value"),
        ("exp(a)", {"a": 1e6}, "no value"),
        ("a * a", {"a": 1e200}, "not finite"),
        ("a ** 9999999", {"a": 9.0}, "no value"),
    ],
)
def test_what_has_no_value_says_why(text, metrics, why) -> None:
    with pytest.raises(UndefinedError, match=why):
        expression.value(text, metrics)


@given(st.text(max_size=60))
def test_no_text_does_anything_but_parse_or_be_refused(text) -> None:
    try:
        names = expression.parts(text)
    except ConfigError:
        return
    with contextlib.suppress(UndefinedError):
        assert math.isfinite(expression.value(text, dict.fromkeys(names, 2.0)))


def test_a_printed_number_of_the_composites_name_is_ignored_and_noted() -> None:
    measured = composed(read(b"score: 99\npbqc: 0.8\ndice: 0.6\n"), HALVES)
    assert measured.values == {"pbqc": 0.8, "dice": 0.6, "score": pytest.approx(0.7)}
    assert "a printed score was ignored" in measured.notes[0]
    assert composed(read(b"score: nan\npbqc: 1\ndice: 1\n"), HALVES).diverged == ()


def test_a_part_that_diverged_or_is_missing_leaves_no_composite() -> None:
    diverged = composed(read(b"pbqc: nan\ndice: 0.6\n"), HALVES)
    assert "score" in diverged.diverged
    assert "score" not in diverged.values
    missing = composed(Measurement(values={"dice": 0.6, "score": 3.0}), HALVES)
    assert "score" not in missing.values
    assert missing.notes[0] == "score: pbqc was not printed"


TWO = """\
import os, random
LR = 0.1
rng = random.Random(int(os.environ["NIGHTLAB_SEED"]))
print("pbqc:", 0.8 - abs(LR - 0.03) + rng.gauss(0, 0.001))
print("dice:", 0.6 - abs(LR - 0.03) + rng.gauss(0, 0.001))
print("val_score: 12345")
"""
TOML = CONFIG.replace('"val_loss"\nbetter = "lower"', '"val_score"\nbetter = "higher"') + (
    'expression = "0.5*pbqc + 0.5*dice"\n'
)


def test_key_objective_expression_computes_the_objective_and_shows_its_parts(tmp_path) -> None:
    root = make_project(tmp_path / "p", TWO, TOML)
    no_dice = ('print("dice:"', 'print("dish:"')
    _, opened = drive(root, Steps([lr(0.03), no_dice]), 3)
    history = opened.engine.history
    kept, broken = history.experiments[2], history.experiments[3]
    assert kept.verdict is Verdict.KEEP
    assert kept.value == pytest.approx(0.7, abs=0.01)
    assert broken.runs[0].outcome is Outcome.NO_METRIC
    assert "no value for val_score: dice was not printed" in broken.runs[0].detail
    shown = views.status(history, locked=False, now=0.0)["objective"]
    assert shown["expression"] == "0.5*pbqc + 0.5*dice"
    assert shown["parts"]["dice"]["baseline"] == pytest.approx(0.53, abs=0.01)
    assert shown["parts"]["dice"]["incumbent"] == pytest.approx(0.6, abs=0.01)
    page = report.markdown(history, locked=False, now=0.0, plot=None)
    assert "pbqc 0.7" in page
    assert "dice 0." in (root / "results.tsv").read_text().split("\n")[2]
    assert json.dumps(report.facts(history, locked=False, now=0.0).json())


def test_a_sealed_study_computes_from_what_the_evaluator_printed(tmp_path) -> None:
    train = TWO + "open(os.environ['NIGHTLAB_ARTIFACT'] + '/x', 'w').write('1')\n"
    toml = TOML + 'evaluate = "echo pbqc: 0.25; echo dice: 0.75"\n'
    root = make_project(tmp_path / "p", train, toml)
    _, opened = drive(root, Steps([lr(0.03)]), 1)
    assert opened.engine.history.experiments[1].value == pytest.approx(0.5)
    toml = TOML + 'evaluate = "echo pbqc: 0.25"\n'
    root = make_project(tmp_path / "q", train, toml)
    _, opened = drive(root, Steps([lr(0.03)]), 1)
    run = opened.engine.history.experiments[1].runs[0]
    assert run.outcome is Outcome.NO_METRIC
    assert "dice was not printed" in run.detail
