"""What could seal a study: an evaluator that loads what training left, told from one that does not."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from nightlab import config
from nightlab.project import evaluators
from tests.test_init import at_init, commit, init, karpathy, three_lines

TRAIN = """\
import numpy as np
LR = 0.1
w = np.zeros(3)
np.savez("model.npz", w=w)
print(f"val_loss: {1.0:.4f}")
"""
EVALUATE = """\
import numpy as np
model = np.load("model.npz")
labels = np.load("data/labels.npy")
print(f"val_loss: {float((model['w'] - labels).sum()):.4f}")
"""
# The shape of the reference's prepare.py: a live model, data of its own, a helper that loads.
LIVE = """\
import os, torch
TOKENIZER_DIR = os.path.join("~/.cache", "tokenizer")
def get_token_bytes(device="cpu"):
    path = os.path.join(TOKENIZER_DIR, "token_bytes.pt")
    with open(path, "rb") as f:
        return torch.load(f, map_location=device)
def evaluate_bpb(model, tokenizer, batch_size):
    token_bytes = get_token_bytes("cuda")
    return sum(model(x) for x in ()) / token_bytes.sum()
"""


def found(tmp_path: Path, **files: str) -> evaluators.Evaluator | None:
    for name, text in files.items():
        path = tmp_path / name.replace("__", ".")
        path.write_text(text)
    tracked = [str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.py")]
    return evaluators.find(tmp_path, tracked, edit=["train.py"], python="python")


@pytest.mark.parametrize(
    ("text", "loads"),
    [
        (EVALUATE, "np.load"),
        ("import torch, sys\nstate = torch.load(sys.argv[1])\nprint('acc:', 1)\n", "torch.load"),
        (
            ("import argparse, torch\ndef main():\n    a = argparse.ArgumentParser().parse_args()\n"
            "    net = Net()\n    net.load_state_dict(torch.load(a.ckpt))\n    print('acc:', 1)\n"
            "if __name__ == '__main__':\n    main()\n"),
            "net.load_state_dict",
        ),
        (
            ("import json, os, pathlib\nout = pathlib.Path(os.environ['NIGHTLAB_ARTIFACT'])\n"
            "print('acc:', json.loads((out / 'result.json').read_text())['x'])\n"),
            "json.loads",
        ),
        (
            ("from safetensors.torch import load_file\nFILE = 'best.safetensors'\n"
            "print('acc:', len(load_file(FILE)))\n"),
            "load_file",
        ),
        (
            ("import pandas as pd\ntruth = pd.read_csv('data/test.csv')\n"
            "mine = pd.read_csv('submission.csv')\nprint('acc:', (mine == truth).mean())\n"),
            "pd.read_csv",
        ),
        ("import joblib\nPATH = 'model.joblib'\nm = joblib.load(PATH)\nprint('f1:', 1)\n", "joblib.load"),
    ],
)  # fmt: skip
def test_a_script_that_loads_what_training_left_is_an_evaluator(
    tmp_path: Path, text: str, loads: str
) -> None:
    one = found(tmp_path, train__py=TRAIN, evaluate__py=text)
    assert one is not None
    assert (one.command, one.loads) == ("python evaluate.py", loads)
    assert text.split("\n")[one.line - 1].count(loads)


@pytest.mark.parametrize(
    "files",
    [
        {"prepare__py": LIVE},
        {"evaluate__py": "import numpy as np\nx = np.load('data/val.npy')\nprint('acc:', x)\n"},
        {"evaluate__py": "def evaluate(model, loader):\n    return model(loader)\n"},
        {"evaluate__py": "import json\ncfg = json.load(open('config.json'))\nprint('acc:', 1)\n"},
        {"utils__py": "import torch\ndef resume(path):\n    return torch.load('model.pt')\n"},
        {"test_eval__py": EVALUATE},
        {"evaluate__py": "def broken(:\n"},
        {"evaluate__py": EVALUATE, "train__py": "print('val_loss:', 1)", "eval__py": EVALUATE},
        {"score__py": "import pickle, yaml\nwith open('labels.yaml') as f:\n    t = yaml.safe_load(f)\nprint(t)\n"},
    ],
    ids=["live model", "data only", "no load", "settings", "not an evaluator", "a test", "broken",
         "two of them", "labels"],
)  # fmt: skip
def test_what_loads_no_artifact_is_no_evaluator(tmp_path: Path, files: dict[str, str]) -> None:
    assert found(tmp_path, **{"train__py": TRAIN, **files}) is None


def test_a_function_that_loads_a_checkpoint_is_an_evaluator_without_a_command(
    tmp_path: Path,
) -> None:
    text = (
        "import torch\ndef _model(path):\n    return torch.load(path)\n"
        "def evaluate(checkpoint):\n    model = torch.load(checkpoint)\n    return model\n"
    )
    one = found(tmp_path, train__py=TRAIN, harness__py=text)
    assert one is not None
    assert (one.file, one.line, one.command) == ("harness.py", 5, None)


def test_the_reference_is_not_told_to_seal(tmp_path: Path) -> None:
    root = karpathy(tmp_path / "p")
    (root / "prepare.py").write_text(LIVE + "TIME_BUDGET = 300\n")
    done = init(commit(root), "--json")
    told = json.loads(done.stdout)
    assert told["recommended"] == {}
    assert told["evaluate"] is None
    assert "evaluate" not in (root / "nightlab.toml").read_text()


def test_a_study_that_could_be_sealed_is_told_so_and_not_sealed(tmp_path: Path) -> None:
    root = commit(tmp_path / "p", train__py=TRAIN, evaluate__py=EVALUATE)
    done = init(root)
    assert done.returncode == 0, done.stderr
    assert "evaluate.py:2 loads what training left (np.load)" in done.stdout
    assert 'evaluate = "python evaluate.py" in [objective]' in done.stdout.replace(
        "python3", "python"
    )
    text = (root / "nightlab.toml").read_text()
    assert '\n# evaluate = "python' in text
    assert config.load(root).evaluate == ""
    uncommented = text.replace("# evaluate", "evaluate")
    assert tomllib.loads(uncommented)["objective"]["evaluate"].endswith("evaluate.py")
    told = json.loads(init(root, "--force", "--json").stdout)
    assert told["recommended"]["evaluate"].endswith("evaluate.py")
    assert told["evaluate"] is None


def test_evaluate_seals_and_its_own_metric_is_the_objective(tmp_path: Path) -> None:
    quiet = TRAIN.replace("val_loss", "train_time")
    scored = EVALUATE.replace("val_loss", "val_acc")
    root = commit(tmp_path / "p", train__py=quiet, evaluate__py=scored)
    done = init(root, "--evaluate", "python evaluate.py", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["evaluate"] == "python evaluate.py"
    assert (told["metric"], told["better"]) == ("val_acc", "higher")
    assert config.load(root).evaluate == "python evaluate.py"
    assert "sealed     python evaluate.py" in init(
        root, "--evaluate", "python evaluate.py", "--force"
    ).stdout  # fmt: skip


def test_a_training_script_that_prints_nothing_is_told_of_the_evaluator(tmp_path: Path) -> None:
    silent = TRAIN.replace('print(f"val_loss: {1.0:.4f}")\n', "")
    root = commit(tmp_path / "p", train__py=silent, evaluate__py=EVALUATE)
    lines = three_lines(init(root, "--command", "python train.py"))
    assert lines[2] == "  try: nightlab init --evaluate 'python evaluate.py'"


def test_what_may_change_cannot_measure(tmp_path: Path) -> None:
    root = commit(tmp_path / "p", train__py=TRAIN)
    lines = three_lines(init(root, "--evaluate", "python train.py"))
    assert "train.py may change, so it cannot measure" in lines[0]
    assert not (root / "nightlab.toml").exists()


@pytest.mark.parametrize(("answer", "sealed"), [(b"yes\n", True), (b"no\n", False)])
def test_on_a_terminal_a_ready_project_is_asked(
    tmp_path: Path, answer: bytes, *, sealed: bool
) -> None:
    """Ready: both speak of NIGHTLAB_ARTIFACT. What would not run yet is recommended only."""
    place = 'os.path.join(os.environ["NIGHTLAB_ARTIFACT"], "model.npz")'
    ready = [f"import os\n{t}".replace('"model.npz"', place) for t in (TRAIN, EVALUATE)]
    root = commit(tmp_path / "p", train__py=ready[0], evaluate__py=ready[1])
    seen = at_init(root, answer)
    assert b"Seal the study with it? [yes/no]" in seen
    assert config.load(root).evaluate.endswith("evaluate.py") == sealed
