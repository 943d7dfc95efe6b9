"""The dashboard beside a real lab: what it shows while one runs, and what a person asks there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from nightlab import config, journal
from nightlab.events import AnyEvent, IdeaAdded, IdeaChanged, Noted, Paused, Resumed, SessionEnded
from nightlab.model import IdeaState
from tests.support import Steps, drive, lr, make_project
from tests.web_support import ENV, Page, Ui, happenings, serving

S = "/api/studies/0/night"
SCRIPT = """\
import os, random, time
LR = 0.1
rng = random.Random(int(os.environ["NIGHTLAB_SEED"]))
for step in range(6):
    print(f"step {step} val_loss: {2 - step / 10}", flush=True)
    time.sleep(0.2)
print("val_loss:", 1 + LR + rng.gauss(0, 0.001))
"""


@contextmanager
def lab(root: Path) -> Iterator[subprocess.Popen[bytes]]:
    words = [sys.executable, "-m", "nightlab", "run", "-C", str(root), "--tag", "night"]
    with subprocess.Popen(
        words, env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            time.sleep(0.2)
            process.send_signal(signal.SIGINT)
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()


def events(root: Path) -> list[AnyEvent]:
    return list(journal.read(config.Paths(root).journal("night")))


def until(condition: Callable[[], object], seconds: float = 60) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)
    return found


def one(root: Path, kind: type) -> Any:
    return next((e for e in events(root) if isinstance(e, kind)), None)


def seen(
    stream: Iterator[tuple[str, Any, str]], name: str, condition: Callable[[Any], object]
) -> Any:
    """The data of the next such event that the condition holds of."""
    end = time.monotonic() + 60
    for event, data, _ in stream:
        if event == name and condition(data):
            return data
        assert time.monotonic() < end, f"no {name} of that kind came"
    raise AssertionError("the stream ended")


def watched(stream: Iterator[tuple[str, Any, str]], page: Page) -> Iterator[tuple[str, Any, str]]:
    """The same, and the page takes every difference in."""
    for event, data, where in stream:
        if event == "rows":
            page.take(json.loads(json.dumps(data)))
        yield event, data, where


def ask(ui: Ui, what: str, body: str = "{}") -> dict[str, Any]:
    answer = ui.send("POST", f"{S}/{what}", ui.page(), body)
    assert answer.status == 202, answer.body
    told: dict[str, Any] = answer.json
    assert told["running"]
    return told


@pytest.mark.timeout(240)
def test_a_study_that_begins_is_seen_and_what_a_person_asks_reaches_its_lab(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p", SCRIPT)
    with serving(root) as ui:
        assert ui.get("/api/studies").json["studies"] == []
        page = Page()
        stream = watched(happenings(ui.stream("study=0/night")), page)
        assert seen(stream, "studies", lambda _: True)["studies"] == []
        with lab(root):
            seen(stream, "status", lambda s: s["state"] == "running")
            live = seen(stream, "live", lambda s: s["live"] and s["live"]["runs"])["live"]
            assert live["runs"][0]["description"] == "baseline"
            curve = seen(
                stream, "live", lambda s: s["live"] and any(r["curve"] for r in s["live"]["runs"])
            )
            assert curve["live"]["runs"][0]["curve"]["points"]
            rows = seen(stream, "rows", lambda r: "keep" in r["columns"]["verdict"])
            assert rows["columns"]["description"][0] == "baseline"

            ask(ui, "notes", '{"text": "try a lower warmup"}')
            noted = until(lambda: one(root, Noted))
            assert noted.text == "try a lower warmup"
            assert noted.author.endswith("via ui")
            seen(stream, "backlog", lambda _: True)
            shown = ui.until(f"{S}/backlog", lambda b: b["notes"] and not b["waiting"])
            assert shown["notes"][0]["text"] == "try a lower warmup"

            ask(ui, "ideas", '{"text": "cosine", "priority": 2}')
            added = until(lambda: one(root, IdeaAdded))
            assert (added.idea.text, added.idea.priority) == ("cosine", 2.0)
            assert added.author.endswith("via ui")
            ui.until(f"{S}/backlog", lambda b: b["ideas"])
            ask(ui, "ideas/1", '{"priority": 7.5}')
            assert until(lambda: one(root, IdeaChanged)).idea.priority == 7.5
            ask(ui, "ideas/1", '{"veto": true}')
            ui.until(f"{S}/backlog", lambda b: b["ideas"][0]["state"] == IdeaState.VETOED)

            ask(ui, "pause")
            paused = until(lambda: one(root, Paused))
            assert "via ui" in paused.reason
            assert seen(stream, "status", lambda s: s["paused"])["paused"] == paused.reason
            ask(ui, "resume")
            assert until(lambda: one(root, Resumed)).author.endswith("via ui")
            seen(stream, "status", lambda s: s["paused"] is None)

            ask(ui, "stop", '{"now": true}')
            ended = until(lambda: one(root, SessionEnded))
            assert "via ui" in ended.detail
            assert seen(stream, "status", lambda s: s["state"] == "stopped")["ended"]
            assert ui.get(f"{S}/live").json["live"] is None
            assert ui.send("POST", f"{S}/pause", ui.page(), "{}").status == 409

            fresh = Page()
            fresh.take(ui.get(f"{S}/rows").json)
            while page.seq < fresh.seq and page.rows != fresh.rows:
                next(stream)
            assert page.rows == fresh.rows


@pytest.mark.timeout(180)
def test_a_lab_that_is_killed_is_not_shown_as_running(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p", SCRIPT)
    with serving(root) as ui, lab(root) as process:
        ui.until(f"{S}/live", lambda told: told["live"] and told["live"]["runs"])
        os.kill(process.pid, signal.SIGKILL)
        status = ui.until(f"{S}/status", lambda s: s["state"] != "running")
        assert status["state"] == "stopped"
        assert config.Paths(root).live("night").exists()  # it had no time to remove it
        assert ui.get(f"{S}/live").json["live"] is None
        assert ui.get(f"{S}/experiments/1").json["pending"]


def test_a_page_that_reads_nothing_holds_up_nobody(tmp_path: Path) -> None:
    from bench.ui import project  # it makes long journals

    root = tmp_path / "p"
    root.mkdir()
    writer, file = project(root, 3000)
    with serving(root) as ui:
        base = "/api/studies/0/bench"
        ui.until(f"{base}/status", lambda s: not s["loading"])
        deaf = [ui.stream("study=0/bench", window=4096) for _ in range(12)]
        for _ in range(5):
            writer.grow(len(writer.history.experiments) + 200)
            file.flush()
            time.sleep(0.6)
        total = len(writer.history.experiments)
        began = time.monotonic()
        ui.until(f"{base}/rows", lambda r: r["total"] == total)
        assert time.monotonic() - began < 20
        # Who reads at last gets all that it missed.
        rows: set[int] = set()
        differences = 0
        for event, data, _ in happenings(deaf[0]):
            if event == "rows":
                differences += 1
                rows.update(data["columns"]["n"])
                if data["seq"] == writer.history.last_seq:
                    break
        assert len(rows) == total
        assert differences <= 3  # five changes added up while it was deaf
    file.close()


def test_a_stream_that_breaks_off_goes_on_where_it_was(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p")
    drive(root, Steps([lr(0.05)]), 2, tag="night")
    with serving(root) as ui:
        ui.until(f"{S}/status", lambda s: not s["loading"])
        where = next(w for e, _, w in happenings(ui.stream("study=0/night")) if e == "rows")
        assert where.startswith("0/night@")
        drive(root, Steps([lr(0.03)]), 3)
        ui.until(f"{S}/rows", lambda r: r["total"] == 3)
        again = happenings(ui.stream("study=0/night", **{"Last-Event-ID": where}))
        rows = next(data for event, data, _ in again if event == "rows")
        assert not rows["full"]
        assert 3 in rows["columns"]["n"]
        assert 1 not in rows["columns"]["n"] or rows["columns"]["runs"][0] > 0


def test_nonsense_in_the_address_of_a_stream_is_ignored(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p")
    drive(root, Steps([lr(0.05)]), 2, tag="night")
    with serving(root) as ui:
        ui.until(f"{S}/status", lambda s: not s["loading"])
        query = "study=../..&study=0/night@zz.1&study=0/%0Adata:x&study=5/none&study=0/night@ab.9"
        stream = happenings(ui.stream(query, **{"Last-Event-ID": "x" * 6000}))
        assert next(stream)[0] == "studies"
        assert next(data for event, data, _ in stream if event == "rows")["full"]
        query = "&".join(f"study=0/{n}" for n in range(50))
        assert next(happenings(ui.stream(query)))[0] == "studies"


def test_a_study_that_is_removed_is_told_as_gone(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p")
    drive(root, Steps([lr(0.05)]), 2, tag="night")
    with serving(root) as ui:
        ui.until(f"{S}/status", lambda s: not s["loading"])
        stream = happenings(ui.stream("study=0/night"))
        seen(stream, "rows", lambda _: True)
        folder = config.Paths(root).study("night")
        folder.rename(folder.with_name("night~1"))
        assert seen(stream, "gone", lambda _: True) == {"id": "0/night"}
        assert ui.get(f"{S}/status").status == 404
        folder.with_name("night~1").rename(folder)
        assert seen(stream, "rows", lambda r: r["full"])["total"] == 2
