"""``[export] live``: a tracker that keeps up with a running lab, and one that does not."""

from __future__ import annotations

import threading
import time
import tomllib
from pathlib import Path

import pytest

from nightlab import config, journal
from nightlab.budget import Bounds
from nightlab.cli import main
from nightlab.errors import ConfigError, UsageError
from nightlab.events import SessionEnded, Warned
from nightlab.exchange import trackers
from nightlab.exchange.trackers import live
from nightlab.lab import Opened, open_study
from nightlab.loop import Loop
from tests.support import CONFIG, Steps, lr, make_project

EXPORT = '\n[export]\nlive = "{}"\n'


def night(root: Path, experiments: int) -> tuple[Opened, list[str], float]:
    """A session with its tracker: what the end said, and how long the loop took."""
    opened = open_study(root)
    with opened.engine.journal:
        beside = live.Live(opened.engine)
        steps = Steps([lr(0.05), lr(0.5), lr(0.03)])
        began = time.monotonic()
        Loop(opened.engine, steps, Bounds(max_experiments=experiments), lambda _: beside.watch()).run()  # fmt: skip
        took = time.monotonic() - began
        return opened, beside.close(), took


def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> Path:
    """A tracker of the test's own in tensorboard's place: a real module that is really loaded."""
    name = f"stand_in_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(body)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(trackers.TRACKERS, "tensorboard", (name, "board"))
    monkeypatch.setitem(live._LIBRARIES, "tensorboard", name)
    return tmp_path / "seen.txt"


KEEPS_UP = """
from pathlib import Path
def export(history, to):
    with Path(__file__).with_name("seen.txt").open("a") as file:
        file.write(f"{to} {len(history.settled())}\\n")
    return 0
"""


def test_key_export_live_brings_experiments_over_while_the_lab_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_EVERY_S", 0.0)
    seen = stand_in(tmp_path, monkeypatch, KEEPS_UP)
    root = make_project(tmp_path / "p", more=EXPORT.format("tensorboard"))
    _, late, _ = night(root, 3)
    assert late == []
    lines = seen.read_text().splitlines()
    assert {line.rsplit(" ", 1)[0] for line in lines} == {str(root / "board")}
    counts = [int(line.rsplit(" ", 1)[1]) for line in lines]
    assert counts == sorted(counts)
    assert counts[-1] == 3
    assert any(0 < count < 3 for count in counts)  # while it ran, not only at the end
    root = make_project(tmp_path / "q", more=EXPORT.format("tensorboard:over/there"))
    night(root, 1)
    assert seen.read_text().splitlines()[-1] == "over/there 1"
    night(make_project(tmp_path / "none"), 1)
    assert not [t for t in threading.enumerate() if t.name == "tracker"]


def warned(opened: Opened) -> list[str]:
    events = list(journal.read(opened.engine.paths.journal(opened.engine.study.tag)))
    assert isinstance([e for e in events if not isinstance(e, Warned)][-1], SessionEnded)
    return [e.text for e in events if isinstance(e, Warned)]


def test_a_tracker_that_fails_is_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_AGAIN_S", 0.0)
    stand_in(
        tmp_path, monkeypatch, "def export(history, to):\n    raise OSError('token=hunter2')\n"
    )
    opened, late, _ = night(make_project(tmp_path / "p", more=EXPORT.format("tensorboard")), 4)
    (text,) = warned(opened)
    assert "the tracker tensorboard failed (OSError)" in text
    assert "nightlab export --format tensorboard" in text
    assert late == [text]


def test_a_tracker_that_hangs_does_not_hold_the_night_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_SILENT_S", 0.2)
    monkeypatch.setattr(live, "_CLOSE_S", 0.2)
    body = (
        "import threading\nheld = threading.Event()\ndef export(history, to):\n    held.wait(90)\n"
    )
    stand_in(tmp_path, monkeypatch, body)
    _, _, quiet_s = night(make_project(tmp_path / "q"), 3)
    opened, late, took_s = night(make_project(tmp_path / "p", more=EXPORT.format("tensorboard")), 3)
    assert took_s < quiet_s + 2.0
    (text,) = warned(opened)
    assert "has not answered" in text
    assert late == ["tensorboard does not answer; later: nightlab export --format tensorboard"]
    __import__(f"stand_in_{tmp_path.name}").held.set()


def test_what_cannot_be_a_tracker_is_told_before_the_night(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    good = CONFIG.format(python="python")
    with pytest.raises(ConfigError, match="live"):
        config.parse(tomllib.loads(good + EXPORT.format("neptune")))
    with pytest.raises(ConfigError) as caught:
        config.parse(
            tomllib.loads(good + EXPORT.format("mlflow:https://owl:hunter2@example.org/x"))
        )
    assert "hunter2" not in "".join(caught.value.lines())
    monkeypatch.setitem(live._LIBRARIES, "wandb", "a_module_that_nobody_has")
    with pytest.raises(UsageError, match="wandb"):
        live.check_tracker("wandb")
    root = make_project(tmp_path / "p", more=EXPORT.format("wandb"))
    assert main(["run", "-n", "1", "-C", str(root)]) == 2
    assert "pip install 'nightlab[wandb]'" in capfd.readouterr().err
    assert not (root / ".nightlab").exists()


@pytest.mark.filterwarnings("ignore")  # of the libraries' own
@pytest.mark.parametrize(("name", "library"), sorted(live._LIBRARIES.items()))
def test_the_real_libraries_keep_up_in_their_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, library: str
) -> None:
    pytest.importorskip(library, reason=f"the extra nightlab[{name}] is not installed")
    monkeypatch.setattr(live, "_CLOSE_S", 60.0)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody answers there
    root = make_project(tmp_path / "p", more=EXPORT.format(name))
    opened, late, _ = night(root, 2)
    assert late == []
    assert warned(opened) == []
    to = None if name == "mlflow" else str(root / trackers.TRACKERS[name][1])
    to = to or f"sqlite:///{root / 'mlflow.db'}"
    assert trackers.export(name, opened.engine.history, to) == (0, to)  # all of it is there
