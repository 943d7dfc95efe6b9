"""``status --watch``: a lab seen from another process, on a terminal, in a pipe, as JSON."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nightlab import config, journal, pulse
from nightlab.budget import Bounds
from nightlab.cli import base, live, looking
from tests.simulated import night
from tests.support import make_project
from tests.test_live import ENV, drain, read_until, start

CURVED = """\
import os, random, time
LR = 0.1
rng = random.Random(int(os.environ["NIGHTLAB_SEED"]))
for step in range(12):
    print(f"step {step} val_loss: {2 - step / 12 + LR:.4f} \\x1b]0;owned\\x07", flush=True)
    time.sleep(0.15)
print("val_loss:", 1 + LR + rng.gauss(0, 0.001))
"""
SWEEP = """
[researcher]
use = "sweep"
values = { LR = [0.05, 0.5, 0.02] }
"""


def nightlab(root: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nightlab", *args],
        cwd=root,
        env=ENV,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@dataclass
class Seen:
    """What four watches of one lab saw, each in a process of its own."""

    terminal: str
    pipe: str
    objects: list[dict[str, Any]]
    ctrl_c: bytes
    codes: list[int]
    root: Path
    outlived: bool  # the lab went on when a watch ended


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    root = make_project(tmp_path_factory.mktemp("watch") / "p", CURVED, more=SWEEP)
    piped = {"cwd": root, "env": ENV, "stdout": subprocess.PIPE, "text": True}
    command = [sys.executable, "-m", "nightlab"]
    args = [*command, "run", "--tag", "night", "-n", "3"]
    with subprocess.Popen(args, cwd=root, env=ENV, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 30
        while pulse.read(config.Paths(root).live("night")) is None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        pipe = subprocess.Popen([*command, "status", "--watch"], **piped)
        objects = subprocess.Popen([*command, "status", "--watch", "--json"], **piped)
        terminal, master = start(root, "status", "--watch", width=100)
        stopped, other = start(root, "status", "--watch")
        read_until(other, b"calibrating")
        os.kill(stopped.pid, signal.SIGINT)
        ctrl_c = drain(other)
        codes = [stopped.wait(30)]
        outlived = journal.is_locked(config.Paths(root).lock("night"))
        text = drain(master)
        codes += [terminal.wait(60)]
        told = [p.communicate(timeout=60)[0] for p in (pipe, objects)]
        codes += [pipe.returncode, objects.returncode]
        process.wait(timeout=40)
    for end in (master, other):
        os.close(end)
    lines = [json.loads(line) for line in told[1].splitlines()]
    return Seen(text.decode("utf-8", "replace"), told[0], lines, ctrl_c, codes, root, outlived)


def test_on_a_terminal_it_shows_the_run_its_curve_and_the_end(seen: Seen) -> None:
    for words in ("calibrating", "baseline · seed", r"  val_loss +█", "killed at 20 s",
                  r"  incumbent +█", "of 3 experiments"):  # fmt: skip
        assert re.search(words, seen.terminal), words
    assert "the lab has ended: bound: the bound of 3 experiments is reached" in seen.terminal
    assert "owned" not in seen.terminal
    assert seen.codes[1] == 0


def test_ctrl_c_ends_the_watch_and_not_the_lab(seen: Seen) -> None:
    assert seen.codes[0] == 130
    assert b"the lab goes on" in seen.ctrl_c
    assert b"Traceback" not in seen.ctrl_c
    assert seen.outlived


def test_in_a_pipe_it_is_plain_lines(seen: Seen) -> None:
    lines = seen.pipe.splitlines()
    assert lines[0].startswith("study      night on autoresearch/night: running")
    assert any("exp 2    KEEP" in line for line in lines)
    assert lines[-1].startswith("the lab has ended: bound")
    assert "\x1b" not in seen.pipe
    assert seen.codes[2] == 0


def test_as_json_it_is_one_object_for_each_change(seen: Seen) -> None:
    told = seen.objects
    assert told[0]["state"] == "running"
    assert told[-1]["state"] == "finished"
    assert told[-1]["live"] is None
    assert any(run["curve"] for t in told if t["live"] for run in t["live"]["runs"])
    stamps = [(t["last_event_at"], t["state"], t["live"] and t["live"]["doing"]) for t in told]
    assert all(a != b for a, b in itertools.pairwise(stamps))
    assert seen.codes[3] == 0


def test_where_no_lab_works_it_says_so_and_ends(seen: Seen) -> None:
    done = nightlab(seen.root, "status", "--watch")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "no lab works on it now: nightlab run"
    (line,) = nightlab(seen.root, "status", "--watch", "--json").stdout.splitlines()
    assert json.loads(line)["live"] is None


def test_a_lab_that_was_killed_is_gone_without_a_word(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p", CURVED, more=SWEEP)
    args = [sys.executable, "-m", "nightlab", "run", "--tag", "night"]
    with subprocess.Popen(args, cwd=root, env=ENV, stdout=subprocess.DEVNULL) as process:
        path = config.Paths(root).live("night")
        while pulse.read(path) is None:
            time.sleep(0.05)
        watched = subprocess.Popen(
            [sys.executable, "-m", "nightlab", "status", "--watch"],
            cwd=root, env=ENV, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        time.sleep(2)
        process.kill()
        out, _ = watched.communicate(timeout=30)
    assert out.splitlines()[-1].startswith("the lab is gone without a word")
    assert watched.returncode == 0


def test_a_torn_line_that_a_resumed_lab_set_aside_is_read_anew(seen: Seen, tmp_path: Path) -> None:
    whole = config.Paths(seen.root).journal("night").read_bytes()
    lines = whole.splitlines(keepends=True)
    half = b"".join(lines[: len(lines) // 2])
    path = config.Paths(tmp_path).journal("night")
    path.parent.mkdir(parents=True)
    path.write_bytes(half + b'{"type":"warned","seq":')
    study = looking._Study(base.Place(tmp_path, "night"))
    assert study.history.last_seq == len(lines) // 2
    os.truncate(path, len(half))
    with path.open("ab") as file:
        file.write(whole[len(half) :])
    study.take()
    assert study.history.last_seq == len(lines)
    assert study.history.counts.total == 3


# -- what it draws, and what that costs

RUN = {
    "run": 7,
    "experiment": 3,
    "purpose": "screen",
    "check": None,
    "seed": 1,
    "device": "cpu0",
    "description": "lower LR",
    "elapsed_seconds": 4.0,
    "curve": {"name": "loss", "points": [[1.0, 4.0], [4.0, 2.0]]},
    "incumbent_curve": {"name": "loss", "points": [[1.0, 4.0], [4.0, 3.0], [8.0, 1.0]]},
    "tail": ["step 4"],
}


def test_two_curves_share_seconds_and_values() -> None:
    ours, theirs = live._running(RUN).curves
    assert (ours.name, ours.last, theirs.name, theirs.last) == ("loss", "2", "incumbent", "1")
    assert len(ours.blocks) == len(theirs.blocks) == 32
    assert ours.blocks[3] == theirs.blocks[3] == "█"
    assert ours.blocks[15:] == "▃" * 2 + " " * 15
    assert theirs.blocks[15:31] == "▆" * 16
    assert theirs.blocks[31] == "▁"
    assert ours.blocks[:3] == "   "
    alone = live._running({**RUN, "incumbent_curve": None, "curve": {"name": "x", "points": [[0.0, 1.0], [0.0, 1.0]]}})  # fmt: skip
    assert [c.blocks for c in alone.curves] == ["▁" + " " * 31] or len(alone.curves) == 1
    assert live._running({**RUN, "curve": None}).curves == ()


def test_a_frame_costs_the_same_however_many_experiments_there_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    history = night(60).history

    def walked(*_: object) -> None:
        raise AssertionError("every experiment is looked at, once a second")

    class Numbered(dict[int, object]):
        __iter__ = values = items = keys = walked  # type: ignore[assignment]

    monkeypatch.setattr(history, "experiments", Numbered(history.experiments))
    monkeypatch.setattr(history, "settled", walked)
    shown = live.of(history, doing="x", runs=[RUN], bounds=Bounds(), now=0.0, session_s=1.0)
    assert len(shown.verdicts) == live.VERDICTS
