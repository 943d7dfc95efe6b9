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
        ("7 + SEED", "7 * SEED"),
        ("SEED = 1", "SEED = 2 + 3"),
        ("torch.manual_seed(42)\n", ""),
        ("import torch\n", "import torch\nnp.random.seed(5)\n"),
    ],
)
def test_a_seed_alone_is_no_change(old: str, new: str) -> None:
    with pytest.raises(ScopeError, match="only a seed"):
        scope.check({"train.py": SEEDED.replace(old, new)}, {"train.py": SEEDED}, ["train.py"])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("x = f(", "x = g("),
        ("import torch", "import torch\nLR = 2"),
        ("SEED)\n", "SEED, 2)\nY = 1\n"),
    ],
)
def test_a_seed_with_something_else_is_a_change(old: str, new: str) -> None:
    text = SEEDED.replace(old, new).replace("SEED = 1\n", "SEED = 5\n")
    assert scope.check({"train.py": text}, {"train.py": SEEDED}, ["train.py"])


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("a.py", "cfg.seed = 1", "cfg.seed = 2"),
        ("a.py", "cfg['seed'] = 1", "cfg['seed'] = 2"),
        ("a.py", "cfg = {'lr': 1, 'seed': 1}", "cfg = {'lr': 1, 'seed': 2}"),
        ("a.py", "def main(lr, seed=1): run(lr)", "def main(lr, seed=2): run(lr)"),
        ("a.py", "def main(*, lr, seed=1): run(lr)", "def main(*, lr, seed=2): run(lr)"),
        ("a.py", "p.add_argument('--seed', type=int, default=1)",
         "p.add_argument('--seed', type=int, default=2)"),
        ("a.py", "S = int(os.environ.get('NIGHTLAB_SEED', 1))",
         "S = int(os.environ.get('NIGHTLAB_SEED', 2))"),
        ("a.py", "os.environ['PYTHONHASHSEED'] = '0'", "os.environ['PYTHONHASHSEED'] = '1'"),
        ("a.py", "LR, SEED = 0.1, 1", "LR, SEED = 0.1, 2"),
        ("a.py", "class C:\n    seed: int = 1\n", "class C:\n    seed: int = 2\n"),
        ("a.py", "SEED = int(os.environ['NIGHTLAB_SEED'])", "SEED = 1337"),
        ("a.py", "OFF = 1\nseed_all(OFF)\ntrain()", "OFF = 2\nseed_all(OFF)\ntrain()"),
        ("a.py", "k = jax.random.key(1)", "k = jax.random.key(2)"),
        ("a.py", "r = Random(int(os.environ['SEED']))\n", "r = Random(7)\n"),
        ("a.py", "k = key(args.seed + 1)\n", "k = key(args.seed + 2)\n"),
        ("a.yaml", "lr: 0.1\nseed: 1\n", "lr: 0.1\nseed: 2\n"),
        ("a.toml", "lr = 0.1\nrandom_state = 1\n", "lr = 0.1\nrandom_state = 2\n"),
        ("a.json", '{"lr": 0.1, "seed": 1}', '{"lr": 0.1, "seed": 2}'),
        ("run.sh", "python train.py --lr 1 --seed 1\n", "python train.py --lr 1 --seed 2\n"),
        ("run.sh", "export SEED=1\nrun\n", "export SEED=2\nrun\n"),
    ],
)  # fmt: skip
def test_a_seed_alone_is_no_change_wherever_it_stands(path: str, old: str, new: str) -> None:
    with pytest.raises(ScopeError, match="only a seed"):
        scope.check({path: new}, {path: old}, ["*"])


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("a.py", "k = key(args.seed, 0.5)\n", "k = key(args.seed, 0.7)\n"),
        ("a.py", "seed_len = 8", "seed_len = 16"),
        ("a.py", "num_seeds = 8", "num_seeds = 16"),
        ("a.py", "speed = 8", "speed = 16"),
        ("a.py", "g = torch.Generator('cpu')", "g = torch.Generator('cuda')"),
        ("a.py", "cfg = {'lr': 1, 'seed': 1}", "cfg = {'lr': 2, 'seed': 2}"),
        ("a.py", "def main(lr=1, seed=1): run(lr)", "def main(lr=2, seed=1): run(lr)"),
        ("a.py", "OFF = 1\nseed_all(OFF)\ntrain(OFF)", "OFF = 2\nseed_all(OFF)\ntrain(OFF)"),
        ("a.py", "p.add_argument('--lr', default=1)", "p.add_argument('--lr', default=2)"),
        ("a.py", "LR, SEED = 0.1, 1", "LR, SEED = 0.2, 1"),
        ("a.py", "B = 0.9\npair = (B, 1)\nf(pair)", "B = 0.8\npair = (B, 1)\nf(pair)"),
        ("a.py", "SEED, *rest = 1, 2, 3", "SEED, *rest = 1, 2, 4"),
        ("a.yaml", "lr: 1\nseed: 1\n", "lr: 2\nseed: 1\n"),
        ("a.yaml", "speed: 1\n", "speed: 2\n"),
        ("run.sh", "train --seed 1 --lr 1\n", "train --seed 1 --lr 2\n"),
    ],
)
def test_what_only_looks_like_a_seed_is_a_change(path: str, old: str, new: str) -> None:
    assert scope.check({path: new}, {path: old}, ["*"]) == {path: new}


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("a.py", '"""Old."""\nx = 1\n', '"""New words."""\nx = 1\n'),
        ("a.py", "def f():\n    return 1\n", 'def f():\n    """Says."""\n    return 1\n'),
        ("a.py", "class C:\n    pass\n", 'class C:\n    """Says."""\n'),
        ("a.py", "x = 1\n", 'x = 1\n"a text that stands alone"\n...\n'),
        ("a.py", "x = 1\r\ny = 2\r\n", "x = 1\ny = 2\n"),
        ("a.py", "x = (1 +\n     2)\n", "x = 1 + 2\n"),
        ("a.json", '{"a": 1, "b": [1, 2]}', '{\n  "a": 1,\n  "b": [1,2]\n}\n'),
        ("a.yaml", "a: 1\nb: 2\n", "# why\na: 1\n\nb: 2   \n"),
        ("run.sh", "#!/bin/sh\nrun\n", "#!/bin/sh\n# a word\nrun\n\n"),
    ],
)
def test_words_and_layout_are_no_change_in_any_kind_of_file(path: str, old: str, new: str) -> None:
    with pytest.raises(ScopeError, match="nothing that runs"):
        scope.check({path: new}, {path: old}, ["*"])


def test_several_files_of_words_are_no_change_and_one_that_runs_is() -> None:
    before = {"a.py": "x = 1\n", "b.py": "y = 1\n", "c.yaml": "z: 1\n"}
    words = {"a.py": "x = 1  # one\n", "b.py": '"""B."""\ny = 1\n', "c.yaml": "# c\nz: 1\n"}
    with pytest.raises(ScopeError, match="nothing that runs"):
        scope.check(words, before, ["*"])
    with pytest.raises(ScopeError, match="nothing that runs"):
        scope.check({**words, "new.py": "# only words\n"}, before, ["*"])
    seeds = {"a.py": "x = 1\n", "b.py": "seed = 1\n", "c.yaml": "seed: 1\n"}
    with pytest.raises(ScopeError, match="only a seed"):
        scope.check(
            {"a.py": "x = 1 # \n", "b.py": "seed = 2\n", "c.yaml": "seed: 2\n"}, seeds, ["*"]
        )
    assert scope.check({**words, "c.yaml": "z: 2\n"}, before, ["*"])["c.yaml"] == "z: 2\n"


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("a.py", '"""Old."""\nprint(__doc__)\n', '"""New."""\nprint(__doc__)\n'),
        ("prompt.md", "# Be kind\n", "# Be brief\n"),
        ("a.yaml", "prompt: |\n  # Be kind\n", "prompt: |\n  # Be brief\n"),
        ("run.sh", "#!/bin/sh\nrun\n", "#!/bin/bash\nrun\n"),
        ("run.sh", "cat <<E\n# a\nE\n", "cat <<E\n# b\nE\n"),
        ("a.json", '{"a": 1, "b": 2}', '{"a": 1, "b": 2.0}'),
        ("a.yaml", "a: 1\n", "a:   1 # one\n"),
        ("a.py", "x = 'a'\n", "x = 'b'\n"),
        ("a.py", "def f():\n    yield\n", "def f():\n    pass\n"),
        ("data.bin", "a\udcff", "a"),
    ],
)
def test_texts_that_are_read_are_changes(path: str, old: str, new: str) -> None:
    assert scope.check({path: new}, {path: old}, ["*"]) == {path: new}


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
