"""What the tests share: small real projects in real git repositories, and drivers for them."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest

from nightlab import config, process
from nightlab.budget import Bounds
from nightlab.events import Event
from nightlab.journal import Journal
from nightlab.lab import Opened, open_study
from nightlab.loop import Ending, Loop
from nightlab.model import Experiment, Proposal
from nightlab.process import Finished
from nightlab.researchers import Context, Plan
from nightlab.sandboxes import Cell, Launch, Sandbox

# A program in the reference's shape: constants on top, a `---` block at the end, noise that
# comes from the seed it is handed.
TRAIN = """\
import os
import random

LR = 0.1
DEPTH = 2

rng = random.Random(int(os.environ["NIGHTLAB_SEED"]))
loss = 1.0 + abs(LR - 0.03) + 0.05 * abs(DEPTH - 4) + rng.gauss(0, NOISE)
print("---")
print(f"val_loss: {loss:.6f}")
print("peak_vram_mb: 512.0")
"""

CONFIG = """\
[study]
command = "{python} train.py"
edit = ["train.py"]
budget = "10s"

[objective]
metric = "val_loss"
better = "lower"
"""


def git(folder: Path, *args: str) -> str:
    """A git command of the test's own, as the person would type it."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    env |= {"GIT_AUTHOR_NAME": "T", "GIT_AUTHOR_EMAIL": "t@t"}
    env |= {"GIT_COMMITTER_NAME": "T", "GIT_COMMITTER_EMAIL": "t@t"}
    done = subprocess.run(
        ["git", *args], cwd=folder, env=env, capture_output=True, text=True, check=True
    )
    return done.stdout


def make_project(
    folder: Path, train: str = TRAIN, toml: str = CONFIG, *, noise: float = 0.001, more: str = ""
) -> Path:
    """A committed project with train.py and prepare.py, and an uncommitted nightlab.toml."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train.py").write_text(train.replace("NOISE", str(noise)))
    (folder / "prepare.py").write_text("# fixed\n")
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "start")
    (folder / config.CONFIG_NAME).write_text(toml.format(python=sys.executable) + more)
    return folder


@cache
def _has_torch(python: str) -> bool:
    probe = subprocess.run([python, "-c", "import torch"], capture_output=True, check=False)
    return probe.returncode == 0


def torch_python() -> str:
    """An interpreter that has torch, which nightlab's own has not; skips the test without one.

    The one named in NIGHTLAB_TEST_TORCH, else the checkout's ``.torch`` (``make torch``).
    """
    local = Path(__file__).resolve().parent.parent / ".torch" / "bin" / "python"
    python = os.environ.get("NIGHTLAB_TEST_TORCH", str(local))
    if not Path(python).is_file():
        pytest.skip(f"no torch: {python} does not exist (`make torch`, or NIGHTLAB_TEST_TORCH)")
    if not _has_torch(python):
        pytest.skip(f"no torch: {python} can not import it")
    return python


@dataclass
class Steps:
    """A researcher that plays texts or edits of train.py in turn, then repeats small moves."""

    edits: Sequence[tuple[str, str] | Callable[[str], str]]
    name: str = "steps"
    asked: int = 0
    learned: list[Experiment] | None = None
    contexts: list[Context] | None = None

    def propose(self, context: Context) -> Proposal:
        if self.contexts is None:
            self.contexts = []
        self.contexts.append(context)
        edit = self.edits[self.asked % len(self.edits)]
        self.asked += 1
        text = context.files["train.py"]
        new = edit(text) if callable(edit) else text.replace(edit[0], edit[1])
        words = "a change" if callable(edit) else f"{edit[0]} → {edit[1]}"
        return Proposal(description=words, files={"train.py": new}, researcher=self.name)

    def learn(self, experiment: Experiment) -> None:
        self.learned = [*(self.learned or []), experiment]


@dataclass
class Reader(Steps):
    """Steps that read: it is given words, and plans nothing."""

    def plan(self, context: Context) -> Plan:
        return Plan(())


def lr(value: float) -> Callable[[str], str]:
    """An edit that sets LR, whatever it was."""

    def edit(text: str) -> str:
        lines = [f"LR = {value}" if x.startswith("LR = ") else x for x in text.split("\n")]
        return "\n".join(lines)

    return edit


def drive(
    root: Path, researcher: object, experiments: int, **options: object
) -> tuple[Ending, Opened]:
    """Open the study, run the loop to ``experiments``, close the journal."""
    opened = open_study(root, **options)  # type: ignore[arg-type]
    with opened.engine.journal:
        loop = Loop(opened.engine, researcher, Bounds(max_experiments=experiments))  # type: ignore[arg-type]
        return loop.run(), opened


@dataclass
class Boxed:
    """A command that ran in a box: how it ended, what it printed, what the box says of itself."""

    launch: Launch
    finished: Finished
    text: str
    broke: str | None


def boxed(sandbox: Sandbox, cell: Cell, wall_s: float = 60) -> Boxed:
    """Run the cell's command in the box, with all that the launch asks for."""
    launch = sandbox.launch(cell)
    log = cell.run_dir.parent / "log.txt"
    try:
        finished = process.start(
            launch.argv, env=launch.env, cwd=launch.cwd, wall_s=wall_s, log=log, grace_s=0.1,
            memory_bytes=launch.memory_bytes, fsize_bytes=launch.fsize_bytes,
            pass_fds=launch.pass_fds,
        ).poll(90)  # fmt: skip
        assert finished is not None
        text = log.read_text("utf-8", "replace")
        return Boxed(launch, finished, text, sandbox.broke(launch, finished))
    finally:
        launch.cleanup()


def hidden_behind_links(cell: Cell, folder: Path) -> Cell:
    """A cell that prints all it can read; what is hidden lies in shown folders, behind links."""
    store, held = folder / "store", folder / "held"
    (store / "split").mkdir(parents=True)
    held.mkdir()
    for name in ("train.bin", "test.bin", "split/a.bin"):
        (store / name).write_text(f"content of {name}\n")
    (folder / "alias").symlink_to(store)
    (store / "again.bin").symlink_to("test.bin")
    (held / "test.bin").symlink_to(store / "test.bin")
    (held / "split").symlink_to(store / "split")
    shown = (store, folder / "alias")
    words = " ".join(f"{place}/*.bin {place}/split/*.bin" for place in (*shown, held))
    return replace(
        cell,
        command=f"cat {words} 2>&1; ls {store}; echo end",  # one stream: podman mixes two
        data=shown,
        hidden=(held / "test.bin", held / "split", held / "split" / "a.bin"),
    )


def hides_behind_links(text: str) -> bool:
    """Whether a run of that cell saw what it may see, under both names, and nothing else."""
    return text.count("content of train.bin") == 2 == text.count("content of") and text.endswith(
        "end\n"
    )


def kill_at_append(when: str, at: int) -> None:
    """``kill -9`` of this process before or after it appends line ``at`` of a journal.

    For programs of their own that a test starts; ``when`` is "before", "after", or else never.
    """
    real, appended = Journal.append, 0

    def append(self: Journal, event: Event) -> Event:
        nonlocal appended
        appended += 1
        if when == "before" and appended == at:
            os.kill(os.getpid(), signal.SIGKILL)
        written = real(self, event)
        if when == "after" and appended == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return written

    Journal.append = append  # type: ignore[method-assign, assignment]


def on_a_terminal(
    words: Sequence[str], cwd: Path, answers: bytes, *, seconds: float = 30, **env: str
) -> bytes:
    """What a person at a terminal sees of ``nightlab`` ``words``, who types ``answers``.

    It must end well, within ``seconds`` of its last output.
    """
    master, slave = pty.openpty()
    program = subprocess.Popen(
        [sys.executable, "-m", "nightlab", *words],
        cwd=cwd,
        env={**os.environ, "TERM": "xterm", **env},
        stdin=slave,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    os.write(master, answers)
    seen = b""
    try:
        while chunk := os.read(master, 4096):
            seen += chunk
    except OSError:  # the other end is closed
        pass
    os.close(master)
    assert program.wait(seconds) == 0, seen
    return seen
