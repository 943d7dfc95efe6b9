"""The same change is recognised wherever and however it is written, and nothing else is."""

from __future__ import annotations

import time

import pytest

from nightlab import novelty
from nightlab.errors import DuplicateError
from nightlab.events import IdeaAdded, Proposed, Refused, Settled, StudyStarted
from nightlab.history import History
from nightlab.model import Change, Claim, Idea, Proposal, Verdict
from tests.test_journal import STUDY

BEFORE = """\
import torch

LR = 0.1
DEPTH = 4


def train(model, steps=100):
    \"\"\"Train.\"\"\"
    for step in range(steps):
        if step > 10:
            model.step(lr=LR, clip=1.0)
        else:
            model.step(lr=LR * 0.1, clip=1.0)
    return model
"""


def mark(after: str, before: str = BEFORE) -> str:
    return novelty.fingerprint({"train.py": before}, {"train.py": after})


LOWER = mark(BEFORE.replace("LR = 0.1\n", "LR = 0.001\n"))


@pytest.mark.parametrize(
    "after",
    [
        BEFORE.replace("LR = 0.1\n", "LR = 1e-3\n"),
        BEFORE.replace("LR = 0.1\n", "LR = 1 / 1000  # smaller\n"),
        BEFORE.replace("LR = 0.1\n", "LR = (\n    0.001\n)\n"),
        BEFORE.replace("LR = 0.1\n", "LR = 0.001\n").replace('"""Train."""', '"""Other words."""'),
        BEFORE.replace("LR = 0.1\n", "\n\nLR = 0.001\n").replace(
            "lr=LR, clip=1.0", "clip=1.0, lr=LR"
        ),
    ],
)
def test_a_change_written_otherwise_is_the_same_change(after: str) -> None:
    assert mark(after) == LOWER


def test_a_change_on_another_incumbent_is_the_same_change() -> None:
    other = BEFORE.replace("DEPTH = 4", "DEPTH = 8").replace("step > 10", "step > 20")
    assert mark(other.replace("LR = 0.1\n", "LR = 0.001\n"), other) == LOWER


@pytest.mark.parametrize(
    "after",
    [
        BEFORE.replace("LR = 0.1\n", "LR = 0.002\n"),
        BEFORE.replace("LR = 0.1\n", "LR = 0.001\n").replace("DEPTH = 4", "DEPTH = 5"),
        BEFORE.replace("LR, clip=1.0", "LR, clip=0.001", 1),
        BEFORE.replace("LR * 0.1, clip=1.0", "LR * 0.1, clip=0.001"),
        BEFORE.replace("DEPTH = 4", "DEPTH = 4.0"),
        BEFORE.replace("import torch\n\nLR = 0.1\n", "LR = 0.1\nimport torch\n"),
    ],
)
def test_another_change_is_another(after: str) -> None:
    assert mark(after) not in ("", LOWER)


def test_the_same_edit_in_another_branch_of_the_code_is_another_change() -> None:
    first = mark(BEFORE.replace("lr=LR, clip=1.0", "lr=LR, clip=2.0"))
    second = mark(BEFORE.replace("lr=LR * 0.1, clip=1.0", "lr=LR * 0.1, clip=2.0"))
    assert first != second


def test_comments_and_layout_have_no_fingerprint() -> None:
    assert mark(BEFORE.replace("DEPTH = 4", "DEPTH   =   4  # layers")) == ""


def test_files_that_are_no_python_and_python_that_does_not_parse_are_compared_by_line() -> None:
    a = novelty.fingerprint({"run.sh": "LR=1\nD=2\n"}, {"run.sh": "LR=2\nD=2\n"})
    b = novelty.fingerprint({"run.sh": "LR=1\nD=3\n"}, {"run.sh": "LR=2  \nD=3\n"})
    assert a == b != ""
    broken = novelty.fingerprint({"x.py": "def ("}, {"x.py": "def (("})
    assert broken != ""
    assert novelty.fingerprint({}, {"new.py": "X = 1"}) != ""
    assert novelty.fingerprint({"new.py": "X = 1"}, {"new.py": None}) != ""


def test_folding_never_computes_for_long() -> None:
    began = time.monotonic()
    mark(BEFORE.replace("LR = 0.1", "LR = 9 ** 9 ** 9 ** 9"))
    mark(BEFORE.replace("LR = 0.1", "LR = 999999 ** 64 ** 1 * " + " * ".join(["1e300"] * 500)))
    assert time.monotonic() - began < 2.0


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("raise the warmup ratio to 0.2", "Raise warmup ratio to 0.20!", True),
        ("batch size 524K -> 262K per step", "batch size 524000 → 262000 per step", True),
        ("increase the head width to 256", "decrease the head width to 256", False),
        ("warmup ratio 0.2 for embedding", "warmup ratio 0.3 for embedding", False),
        ("test", "TEST", False),
        ("adding gated residuals to blocks", "add a gated residual to the block", True),
        ("widen the trunk by half (3ep)", "widen the trunk by half (1ep)", False),
        ("do not normalise the logits", "normalise the logits do", False),
        ("swap relu for gelu in every block", "swap gelu for relu in every block", True),
        ("add matting_pigment_ratio feature", "add binder_pigment_ratio feature", False),
    ],
)
def test_descriptions_are_near_when_only_filler_differs(a: str, b: str, same: bool) -> None:
    assert novelty.alike(novelty.words(a), novelty.words(b)) is same


def study(description: str = "halve the learning rate of the head", **more: object) -> History:
    """A study with a baseline and one discarded experiment, whose change is ``LOWER``."""
    history = History(StudyStarted(study=STUDY, base_commit="c0", seq=1))
    for number, claim in enumerate((Claim("baseline"), Claim(description)), start=1):
        fingerprint = LOWER if number == 2 else ""
        event = Proposed(
            seq=2,
            number=number,
            parent="p",
            tree=f"t{number}",
            claim=claim,
            fingerprint=fingerprint,
        )
        history.apply(event)
        verdict = Verdict.KEEP if number == 1 else Verdict.DISCARD
        history.apply(Settled(seq=3, number=number, verdict=verdict, commit=f"c{number}"))
    return history


def ask(history: History, after: str, description: str = "x", **more: object) -> str:
    files: dict[str, str | None] = {"train.py": after}
    made = Proposal(description=description, files=files, **more)  # type: ignore[arg-type]
    return novelty.check(history, made, {"train.py": BEFORE}, files)


SAME = BEFORE.replace("LR = 0.1\n", "LR = 1e-3\n")
OTHER = BEFORE.replace("DEPTH = 4", "DEPTH = 6")


def test_a_change_that_was_tried_is_refused_with_its_experiment_and_verdict() -> None:
    with pytest.raises(DuplicateError) as caught:
        ask(study(), SAME)
    assert "experiment 2" in caught.value.what
    assert "discard" in caught.value.why


def test_a_test_again_that_a_plan_names_is_allowed_and_so_are_constants_turned_by_a_machine() -> (
    None
):
    history = study()
    history.apply(IdeaAdded(seq=9, idea=Idea(id=1, text="again", after=(2,))))
    assert ask(history, SAME, idea=1) == LOWER
    change = Change(name="LR", old=0.1, new=0.001)
    assert ask(history, SAME, changes=(change,)) == LOWER
    with pytest.raises(DuplicateError):
        ask(history, SAME, idea=7)


def test_a_description_that_sounds_the_same_is_refused_once_and_may_insist() -> None:
    history = study()
    said = "Halve learning rate of the head."
    with pytest.raises(DuplicateError) as caught:
        ask(history, OTHER, said)
    assert "sounds like experiment 2" in caught.value.what
    reason = f"{caught.value.what}: {caught.value.why}"
    history.apply(Refused(seq=10, description=said, reason=reason))
    assert ask(history, OTHER, said) != ""
    # Another proposal in between, and it is refused anew.
    history.apply(Refused(seq=11, description="something else", reason="it does not parse"))
    with pytest.raises(DuplicateError):
        ask(history, OTHER, said)


def test_a_fix_of_an_experiment_is_no_duplicate_of_it() -> None:
    history = study()
    files: dict[str, str | None] = {"train.py": SAME}
    made = Proposal(description="halve the learning rate of the head", files=files)
    assert novelty.check(history, made, {"train.py": BEFORE}, files, own=2) == LOWER


def test_a_long_study_is_searched_quickly() -> None:
    history = History(StudyStarted(study=STUDY, base_commit="c0", seq=1))
    for number in range(1, 10_001):
        claim = Claim(f"set the width of layer {number} to {number * 2} with warm restarts")
        history.apply(Proposed(seq=2, number=number, parent="p", tree=f"t{number}", claim=claim))
    ask(history, OTHER, "set the depth of block 3 to 9")
    began = time.perf_counter()
    ask(history, OTHER, "set the depth of block 4 to 10")
    assert time.perf_counter() - began < 0.25
