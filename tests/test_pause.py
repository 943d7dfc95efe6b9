"""A person's pause, and what a running lab tells other processes: both through real labs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nightlab import config, journal, pulse
from nightlab.events import AnyEvent, Paused, Resumed, RunStarted, SessionEnded
from tests.support import make_project

SRC = Path(__file__).parent.parent / "src"
ENV = {**os.environ, "PYTHONPATH": str(SRC)}
SCRIPT = """\
import os, random, time
LR = 0.1
rng = random.Random(int(os.environ["NIGHTLAB_SEED"]))
for step in range(6):
    print(f"step {step} val_loss: {2 - step / 10}", flush=True)
    time.sleep(0.1)
print("val_loss:", 1 + LR + rng.gauss(0, 0.001))
"""


def nightlab(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nightlab", *words, "-C", str(root)],
        env=ENV, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def events(root: Path) -> list[AnyEvent]:
    return list(journal.read(config.Paths(root).journal("night")))


def until(condition: Callable[[], object], seconds: float = 40) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """The project of a lab that runs; it is stopped afterwards."""
    root = make_project(tmp_path / "p", SCRIPT)
    with subprocess.Popen(
        [sys.executable, "-m", "nightlab", "run", "-C", str(root), "--tag", "night"],
        env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        until(lambda: config.Paths(root).live("night").exists())
        yield root
        nightlab(root, "stop", "--now")
        process.wait(timeout=40)


def test_a_paused_lab_ends_its_run_begins_nothing_and_goes_on_when_told(lab: Path) -> None:
    assert nightlab(lab, "pause").returncode == 0
    until(lambda: any(isinstance(e, Paused) and e.message for e in events(lab)))
    until(lambda: "paused" in (pulse.read(config.Paths(lab).live("night")) or {})["doing"])
    until(lambda: (pulse.read(config.Paths(lab).live("night")) or {})["runs"] == [])
    started = sum(isinstance(e, RunStarted) for e in events(lab))
    status = json.loads(nightlab(lab, "status", "--json").stdout)
    assert status["state"] == "running"
    assert status["paused"].startswith("asked by ")
    time.sleep(1.5)
    assert sum(isinstance(e, RunStarted) for e in events(lab)) == started
    assert nightlab(lab, "resume").returncode == 0
    until(lambda: sum(isinstance(e, RunStarted) for e in events(lab)) > started)
    (resumed,) = (e for e in events(lab) if isinstance(e, Resumed))
    assert resumed.message
    assert json.loads(nightlab(lab, "status", "--json").stdout)["paused"] is None


def test_a_lab_that_starts_is_not_paused_by_a_wish_of_before(lab: Path) -> None:
    nightlab(lab, "pause")
    until(lambda: any(isinstance(e, Paused) for e in events(lab)))
    nightlab(lab, "stop")
    until(lambda: isinstance(events(lab)[-1], SessionEnded))
    assert nightlab(lab, "pause").returncode == 1
    before = sum(isinstance(e, RunStarted) for e in events(lab))
    done = nightlab(lab, "run", "--max-experiments", "2")
    assert done.returncode in (0, 4)
    assert sum(isinstance(e, RunStarted) for e in events(lab)) > before


def test_the_pulse_shows_the_run_in_flight_and_is_gone_with_the_lab(lab: Path) -> None:
    path = config.Paths(lab).live("night")
    until(lambda: any(r["curve"] for r in (pulse.read(path) or {"runs": []})["runs"]))
    told = pulse.read(path)
    assert told is not None
    (run,) = told["runs"]
    assert run["experiment"] >= 1
    assert run["curve"]["name"] == "val_loss"
    assert run["curve"]["points"][0][1] >= 1.0
    assert run["tail"][-1].startswith("step ")
    assert 0 < run["elapsed_seconds"] < run["deadline_seconds"]
    nightlab(lab, "stop", "--now")
    until(lambda: not path.exists())
    path.write_text("{half")
    assert pulse.read(path) is None
