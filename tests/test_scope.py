"""What a proposal may touch, and what is a change at all."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightlab import scope
from nightlab.errors import ScopeError

BEFORE = {"train.py": "LR = 0.1  # rate\n"}


@pytest.mark.parametrize(
    ("pattern", "inside", "outside"),
    [
        ("train.py", ["train.py"], ["a/train.py", "train.pyc", "xtrain.py"]),
        ("models", ["models/a.py", "models/b/c.py"], ["modelsx/a.py"]),
        ("*.py", ["a.py"], ["a/b.py", "a.pyc"]),
        ("src/**/*.py", ["src/a.py", "src/a/b/c.py"], ["a.py", "src/a.txt"]),
        ("conf/?.yaml", ["conf/a.yaml"], ["conf/ab.yaml", "conf/a/b.yaml"]),
        ("a+b (1).py", ["a+b (1).py"], ["aab 1.py"]),
    ],
)
def test_patterns(pattern: str, inside: list[str], outside: list[str]) -> None:
    assert all(scope.matches(p, [pattern]) for p in inside)
    assert not any(scope.matches(p, [pattern]) for p in outside)


@pytest.mark.parametrize(
    "text",
    [
        "LR = 0.1\n",
        "LR = 0.1  # another word\n\n\n",
        "LR   =    0.1\n",
        "# a comment\nLR = 0.1\n",
        "LR = 1e-1\n",
    ],
)
def test_comments_and_layout_are_no_change(text: str) -> None:
    with pytest.raises(ScopeError, match="nothing that runs"):
        scope.check({"train.py": text}, BEFORE, ["train.py"])


SEEDED = "import torch\nSEED = 1\ntorch.manual_seed(42)\nrng = np.random.default_rng(7 + SEED)\nx = f(random_state=3)\n"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("SEED = 1", "SEED = 1337"),
        ("seed(42)", "seed(43)"),
        ("rng(7", "rng(70"),
        ("state=3", "state=4"),
    ],
)
def test_a_seed_alone_is_no_change(old: str, new: str) -> None:
    with pytest.raises(ScopeError, match="only a seed"):
        scope.check({"train.py": SEEDED.replace(old, new)}, {"train.py": SEEDED}, ["train.py"])


@pytest.mark.parametrize(
    ("old", "new"),
    [("x = f(", "x = g("), ("import torch", "import torch\nLR = 2"), ("7 + SEED", "7 * SEED")],
)
def test_a_seed_with_something_else_is_a_change(old: str, new: str) -> None:
    text = SEEDED.replace(old, new).replace("SEED = 1\n", "SEED = 5\n")
    assert scope.check({"train.py": text}, {"train.py": SEEDED}, ["train.py"])


@pytest.mark.parametrize(
    "path",
    ["lib/x\0100644 blob\tprepare.py", "lib/../prepare.py", "./lib/a.py", "lib//a.py", "lib/.git/config",
     "lib/.GIT/hooks/x", "lib/" + "n" * 300, "lib/\udce9.py", "lib/a\nb", "/lib/a.py", ""],
)  # fmt: skip
def test_a_path_that_git_or_the_disk_would_read_otherwise_is_refused(path: str) -> None:
    with pytest.raises(ScopeError, match="not in scope"):
        scope.check({path: "x = 1\n"}, {}, ["lib", "**"])


def test_a_real_change_passes_with_only_the_files_that_differ() -> None:
    before = {**BEFORE, "model.py": "x = 1\n"}
    files = {"train.py": "LR = 0.2\n", "model.py": "x = 1\n"}
    assert scope.check(files, before, ["*.py"]) == {"train.py": "LR = 0.2\n"}


def test_a_removed_and_a_new_file_are_changes() -> None:
    assert scope.check({"train.py": None}, BEFORE, ["train.py"]) == {"train.py": None}
    assert scope.check({"models/new.py": "x = 1\n"}, BEFORE, ["models"])


@pytest.mark.parametrize("text", ["def f(:\n", "x = (\n", "a\0b", "\tx\n  y\n"])
def test_syntax_errors_are_refused_before_device_time(text: str) -> None:
    with pytest.raises(ScopeError, match="does not parse"):
        scope.check({"train.py": text}, BEFORE, ["train.py"])


@given(st.lists(st.sampled_from("abcd")), st.lists(st.sampled_from("abcd")))
def test_lines_are_counted_so_that_they_add_up(old: list[str], new: list[str]) -> None:
    texts = {"f": "\n".join(old)}, {"f": "\n".join(new)}
    added, removed = scope.count_lines(*texts)
    assert added - removed == texts[1]["f"].count("\n") - texts[0]["f"].count("\n")
    assert (added == 0 and removed == 0) == (texts[0] == texts[1])
    assert added <= len(new) + 1
    assert removed <= len(old) + 1


def test_one_changed_line_is_one_added_and_one_removed() -> None:
    before = "".join(f"x{n} = {n}\n" for n in range(1000))
    after = before.replace("x7 = 7", "x7 = 8").replace("x900 = 900", "")
    assert scope.count_lines({"f": before}, {"f": after}) == (2, 2)


@given(st.text(), st.text())
def test_any_text_is_answered_or_refused_never_worse(old: str, new: str) -> None:
    try:
        changed = scope.check({"train.py": new}, {"train.py": old}, ["train.py"])
    except ScopeError as refusal:
        assert all(refusal.lines())
    else:
        assert changed == {"train.py": new}


def test_nodes_count_what_the_code_says_and_not_how_it_is_laid_out() -> None:
    before = {"a.py": "x = 1\ny = 2\nz = x + y\n", "b.txt": "x"}
    assert scope.count_nodes(before, {"a.py": "x = 1; y = 2; z = x + y  # golf\n"}) == 0
    assert (scope.count_nodes(before, {"a.py": "z = 3\n"}) or 0) < 0
    assert (scope.count_nodes(before, {"c.py": "x = [1, 2]\n"}) or 0) > 0
    assert scope.count_nodes(before, {"a.py": None}) == 1 - sum(
        1 for _ in ast.walk(ast.parse(before["a.py"]))
    )
    assert scope.count_nodes(before, {"b.txt": "y"}) is None
    assert scope.count_nodes({"a.py": "("}, {"a.py": "x = 1\n"}) is None
