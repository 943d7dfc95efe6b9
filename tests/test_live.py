"""The live view: what it shows, at which width, and that no terminal can stop a lab."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from nightlab import config, journal
from nightlab.budget import Bounds
from nightlab.cli import live
from nightlab.cli.screen import Screen
from nightlab.events import SessionEnded
from nightlab.lab import open_study
from nightlab.loop import Loop
from tests.support import Steps, lr, make_project

SRC = Path(__file__).parent.parent / "src"
ENV = {**os.environ, "PYTHONPATH": str(SRC), "TERM": "xterm-256color"}
SLOW = """\
import os, random, time
LR = 0.1
rng = random.Random(int(os.environ["NIGHTLAB_SEED"]))
print("step 1 of \\x1b]0;owned\\x07 many [bold]", flush=True)
time.sleep(0.4)
print("val_loss:", 1 + LR + rng.gauss(0, 0.001))
"""


def shown(snapshot: live.Snapshot, width: int, height: int) -> list[str]:
    console = Console(
        width=width, height=height, file=io.StringIO(), record=True, force_terminal=True
    )
    console.print(live.Frame(snapshot))
    return console.export_text().splitlines()


@pytest.fixture(scope="module")
def snapshots(tmp_path_factory: pytest.TempPathFactory) -> list[live.Snapshot]:
    """Every state of a short real study, as the view was shown it."""
    root = make_project(tmp_path_factory.mktemp("live") / "p", SLOW)
    opened = open_study(root)
    seen: list[live.Snapshot] = []
    began = time.monotonic()
    with opened.engine.journal:
        Loop(
            opened.engine,
            Steps([lr(0.05), lr(0.5), lr(0.02)]),
            Bounds(max_experiments=4, until=time.time() + 3600),
            lambda loop: seen.append(live.snapshot(loop, began)),
        ).run()
    return seen


@pytest.mark.parametrize("width", [80, 140])
def test_a_frame_shows_run_incumbent_verdicts_and_what_is_left(
    snapshots: list[live.Snapshot], width: int
) -> None:
    frame = next(s for s in reversed(snapshots) if s.runs and s.runs[0].last_line)
    text = "\n".join(shown(frame, width, 40))
    for words in (
        "nightlab",
        "val_loss, lower is better",
        "exp 4",
        "of 10.0 s",
        "killed at 20 s",
        "incumbent",
        "exp 2",
        "baseline",
        "one run varies by ±",
        "0 of 4 experiments and 59:",
        "✓    2 keep",
        "·    3 discard",
        "[bold]",
    ):
        assert words in text, words
    reason = frame.verdicts[0].decision
    assert reason is not None
    assert reason.reason[:50] in text


@pytest.mark.parametrize(("width", "height"), [(80, 24), (140, 50), (40, 10), (20, 5)])
def test_no_line_is_wider_than_the_terminal(
    snapshots: list[live.Snapshot], width: int, height: int
) -> None:
    for snapshot in snapshots:
        assert max(len(line) for line in shown(snapshot, width, height)) <= width


def test_a_frame_fits_a_common_terminal(snapshots: list[live.Snapshot]) -> None:
    assert max(len(shown(s, 80, 24)) for s in snapshots) <= 24


def test_what_a_run_prints_cannot_speak_to_the_terminal(snapshots: list[live.Snapshot]) -> None:
    frame = next(s for s in snapshots if s.runs and s.runs[0].last_line)
    assert "step 1 of many [bold]" in "\n".join(shown(frame, 80, 40))
    assert "owned" not in "\n".join(shown(frame, 80, 40))


def test_the_view_says_what_the_lab_does(snapshots: list[live.Snapshot]) -> None:
    doing = " | ".join(dict.fromkeys(s.doing for s in snapshots))
    assert "calibrating" in doing
    assert "running" in doing


def test_over_budget_the_bar_says_so() -> None:
    bar = live._bar(0.75, 0.5, 40, over=True)
    assert bar.plain == "━" * 20 + "┃" + "━" * 9 + "─" * 10
    assert bar.cell_len == 40


def test_a_view_that_fails_leaves_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> Text:
        raise RuntimeError("a bug in the view")

    screen = Screen(live=True, console=Console(file=io.StringIO(), force_terminal=True))
    screen.frame(broken)
    deadline = time.monotonic() + 10
    while screen.is_live and time.monotonic() < deadline:
        time.sleep(0.01)
    screen.line("still here")
    screen.close()
    assert not screen.is_live
    assert "still here" in capsys.readouterr().out


# -- real terminals


def ended(root: Path) -> SessionEnded | None:
    paths = config.Paths(root)
    for tag in paths.tags():
        for event in journal.read(paths.journal(tag)):
            if isinstance(event, SessionEnded):
                return event
    return None


def start(root: Path, *args: str, width: int = 80) -> tuple[subprocess.Popen[bytes], int]:
    """``nightlab`` on a terminal of its own; returns the process and the other end."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 32, width, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "nightlab", *args],
        cwd=root,
        env=ENV,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    return process, master


def read_until(master: int, words: bytes, timeout_s: float = 30) -> bytes:
    seen = b""
    deadline = time.monotonic() + timeout_s
    while words not in seen and time.monotonic() < deadline:
        if select.select([master], [], [], 0.2)[0]:
            try:
                seen += os.read(master, 65536)
            except OSError:  # the other end is closed
                break
    return seen


def drain(master: int) -> bytes:
    return read_until(master, b"\0never", 30)


SWEEP = """
[researcher]
use = "sweep"
values = { LR = [0.05, 0.5] }
"""


def test_on_a_terminal_the_frame_lives_and_the_debrief_stays(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p", SLOW, more=SWEEP)
    process, master = start(root, "run", "-n", "3")
    seen = drain(master)
    os.close(master)
    assert process.wait(30) == 0, seen
    assert b"calibrating" in seen
    assert "━".encode() in seen
    assert b"report:" in seen
    assert b"owned" not in seen


def test_a_terminal_that_closes_does_not_end_the_night(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p", SLOW, more=SWEEP)
    process, master = start(root, "run", "-n", "3")
    assert b"calibrating" in read_until(master, b"calibrating")
    os.close(master)
    os.kill(process.pid, signal.SIGHUP)
    assert process.wait(60) == 0
    end = ended(root)
    assert end is not None
    assert end.reason == "bound"


def test_a_terminal_that_takes_nothing_does_not_hold_the_night_up(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p", SLOW, more=SWEEP)
    process, master = start(root, "run", "-n", "3", width=200)
    fcntl.ioctl(master, termios.TIOCPKT, struct.pack("i", 0))
    # Nobody reads: the terminal's buffer fills with frames, and writing blocks.
    try:
        assert process.wait(90) == 0
        end = ended(root)
        assert end is not None
        assert end.reason == "bound"
    finally:
        os.close(master)


def test_ctrl_c_lets_the_run_finish_and_says_so(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p", SLOW.replace("0.4", "1.5"), more=SWEEP)
    process, master = start(root, "run")
    assert b"calibrating" in read_until(master, b"calibrating")
    os.kill(process.pid, signal.SIGINT)
    seen = drain(master)
    os.close(master)
    assert process.wait(30) == 130
    assert b"finishing the run in flight" in seen
    status = subprocess.run(
        [sys.executable, "-m", "nightlab", "status", "--json"],
        cwd=root,
        env=ENV,
        capture_output=True,
        check=True,
    )
    assert json.loads(status.stdout)["ended"]["reason"] == "interrupted"
