"""Messages to a person who is elsewhere: real labs, a real server on loopback, apprise between."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest

from nightlab import config, journal, notify
from nightlab.budget import Bounds
from nightlab.cli import main
from nightlab.errors import ConfigError
from nightlab.events import Paused, SessionEnded, SessionStarted, Settled, Warned
from nightlab.lab import Opened, open_study
from nightlab.loop import Loop
from nightlab.model import Verdict
from nightlab.notify import services
from tests.support import CONFIG, Steps, lr, make_project

SECRET = "hunter2-not-for-logs"
VARIABLE = "NIGHTLAB_NOTIFY_URL"


@dataclass
class Server:
    """Takes apprise's json:// posts; slow, or refusing, where a test wants that."""

    port: int = 0
    status: int = 200
    slow_s: float = 0.0
    got: list[dict[str, str]] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"json://owl:{SECRET}@127.0.0.1:{self.port}/{SECRET}"

    def wait_for(self, count: int, timeout_s: float = 20) -> list[dict[str, str]]:
        deadline = time.monotonic() + timeout_s
        while len(self.got) < count and time.monotonic() < deadline:
            time.sleep(0.02)
        return self.got


@pytest.fixture
def server() -> Iterator[Server]:
    shared = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if shared.slow_s:
                time.sleep(shared.slow_s)
            if shared.status == 200:
                shared.got.append(json.loads(body))
            try:
                self.send_response(shared.status)
                self.end_headers()
            except OSError:  # who asked has given up
                return

        def log_message(self, format: str, *args: object) -> None:
            return

    real = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    real.daemon_threads = True
    shared.port = real.server_port
    thread = threading.Thread(target=real.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield shared
    real.shutdown()
    thread.join()
    real.server_close()


@pytest.fixture
def env(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setenv(VARIABLE, server.address)
    return server


def table(more: str = "") -> str:
    return f'\n[notify]\nto = ["${VARIABLE}"]\n{more}'


def project(tmp_path: Path, more: str = "") -> Path:
    return make_project(tmp_path / "p", more=table(more))


def parse(text: str) -> config.Settings:
    return config.parse(tomllib.loads(CONFIG.format(python="python") + text))


def night(
    root: Path,
    steps: list[object],
    experiments: int,
    now: Callable[[], float] = time.time,
    *,
    again_s: tuple[float, ...] = (),
) -> tuple[Opened, float]:
    """A whole session with a notifier on it, and how long the loop took."""
    opened = open_study(root, now=now)
    engine = opened.engine
    wanted = engine.settings.notify
    to = services.opened(wanted.to, os.environ, again_s=again_s)
    with engine.journal:
        notifier = notify.Notifier(engine, to)
        loop = Loop(
            engine,
            Steps(steps),  # type: ignore[arg-type]
            Bounds(max_experiments=experiments),
            lambda _loop: notifier.watch(),
        )
        began = time.monotonic()
        loop.run()
        took = time.monotonic() - began
        notifier.close()
    return opened, took


def crash(code: int) -> Callable[[str], str]:
    return lambda text: f"{text}\nraise SystemExit({code})\n"


# -- what arrives


def test_a_keep_and_the_morning_arrive_with_their_numbers(tmp_path: Path, env: Server) -> None:
    root = project(tmp_path)
    night(root, [lr(0.03)], 2)
    text = "\n".join(f"{m['title']}\n{m['message']}" for m in env.got)
    assert "1 kept" in text
    assert "exp 2 kept: a change (+0.07" in text
    assert "val_loss 1.1" in text
    assert env.got[-1]["title"].endswith(": ended")
    last = env.got[-1]["message"]
    assert "the bound of 2 experiments is reached" in last
    assert "2 experiments: 1 kept, 0 discarded" in last  # report.short's three lines
    assert "Largest effect: a change" in last


def test_a_failure_storm_arrives_at_once_and_so_does_its_end(tmp_path: Path, env: Server) -> None:
    root = project(tmp_path, 'on = ["storm"]\n')
    night(root, [crash(number) for number in range(2, 11)], 10)
    assert env.got[0]["title"].endswith(": a failure storm")
    assert "8 experiments in a row crashed" in env.got[0]["message"]
    assert "it works again" in env.got[-1]["message"]  # at once, or with the storm itself


def test_a_plateau_is_told_when_it_begins_and_not_again(tmp_path: Path, env: Server) -> None:
    root = project(tmp_path, 'on = ["plateau"]\n')
    night(root, [lr(0.5 + n / 100) for n in range(20)], 13)
    assert [m["title"][-22:] for m in env.got] == ["nothing helps any more"]
    assert "10 experiments since the last keep; next: change category" in env.got[0]["message"]


def test_a_resumed_lab_does_not_repeat_and_tells_what_a_kill_kept_back(
    tmp_path: Path, env: Server
) -> None:
    root = project(tmp_path, 'on = ["kept"]\n')
    opened, _ = night(root, [lr(0.05)], 2)
    assert len(env.got) == 1
    night(root, [lr(0.4)], 3)
    assert len(env.got) == 1
    # As after a kill -9 between the verdict and the message: it is not among what was told.
    mark = opened.engine.paths.notified(opened.engine.study.tag)
    mark.write_text(json.dumps({"kept": [], "sent": []}))
    night(root, [lr(0.3)], 4)
    assert len(env.wait_for(2)) == 2
    assert "exp 2 kept" in env.got[1]["message"]


def test_who_was_never_told_is_not_told_of_old_nights(tmp_path: Path, env: Server) -> None:
    root = make_project(tmp_path / "p")
    night(root, [lr(0.05)], 2)
    with (root / "nightlab.toml").open("a") as file:
        file.write(table('on = ["kept"]\n'))
    night(root, [lr(0.4)], 3)
    assert env.got == []


def test_an_ending_that_a_person_asked_for_is_no_news() -> None:
    assert notify.telling.ended(SessionEnded(reason="stopped", detail="asked by a person")) is None
    assert notify.telling.ended(SessionEnded(reason="interrupted", detail="SIGINT")) is None
    line = notify.telling.ended(SessionEnded(reason="interrupted", detail="SIGTERM"))
    assert line is not None
    assert line.urgent


# -- a service that is slow, dead or gone


@pytest.mark.parametrize("way", ["slow", "refusing", "dead"])
def test_a_bad_server_neither_slows_the_loop_nor_fails_the_night(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(notify, "_CLOSE_S", 0.2)
    server.slow_s, server.status = (3.0, 200) if way == "slow" else (0.0, 500)
    where = server.address
    if way == "dead":
        where = where.replace(str(server.port), "9")
    monkeypatch.setenv(VARIABLE, where)
    _, quiet_s = night(make_project(tmp_path / "q"), [lr(0.05), lr(0.03), lr(0.3)], 4)
    opened, loud_s = night(project(tmp_path), [lr(0.05), lr(0.03), lr(0.3)], 4)
    assert loud_s < quiet_s + 2.0
    events = list(journal.read(opened.engine.paths.journal(opened.engine.study.tag)))
    assert isinstance([e for e in events if not isinstance(e, Warned)][-1], SessionEnded)
    warned = [e.text for e in events if isinstance(e, Warned) and "notifications" in e.text]
    if way != "slow":  # that one is on its way still
        assert len(warned) == 1
        assert f"${VARIABLE} did not take the message" in warned[0]
        assert "nightlab doctor --notify" in warned[0]


def test_a_message_that_failed_is_tried_again(env: Server) -> None:
    env.status = 500
    service = services.Service(VARIABLE, env.address, again_s=(0.2,) * 50)
    service.post(services.Message("a title", "a body"))
    deadline = time.monotonic() + 10
    while not service.trouble and time.monotonic() < deadline:
        time.sleep(0.01)
    assert service.trouble
    env.status = 200
    assert env.wait_for(1)[0]["message"] == "a body"
    assert service.close(5)
    assert not service.trouble


def test_of_many_messages_to_a_dead_server_the_last_ones_wait(env: Server) -> None:
    env.slow_s = 0.3
    service = services.Service(VARIABLE, env.address)
    for number in range(100):
        service.post(services.Message("t", str(number)))
    assert service.close(30)
    assert len(env.got) <= 22
    assert env.got[-1]["message"] == "99"


# -- how often


@dataclass
class Clock:
    at: float = 1_700_000_000.0

    def __call__(self) -> float:
        return self.at


def told(
    tmp_path: Path, clock: Clock, more: str, server: Server
) -> tuple[notify.Notifier, list[services.Service], object]:
    opened = open_study(project(tmp_path, more), now=clock)
    to = notify.open_services(opened.engine.settings.notify)
    return notify.Notifier(opened.engine, to), to, opened.engine


def storm(notifier: notify.Notifier) -> None:
    notifier.heard(Paused(reason="8 experiments in a row crashed"))


def look(notifier: notify.Notifier) -> None:
    notifier._look_at = 0.0
    notifier.watch()


def test_key_notify_per_hour_bounds_messages_and_gathers_what_waits(
    tmp_path: Path, env: Server
) -> None:
    clock = Clock()
    notifier, to, engine = told(tmp_path, clock, 'per_hour = 3\non = ["storm"]\n', env)
    with engine.journal:  # type: ignore[attr-defined]
        for _ in range(10):
            storm(notifier)
            look(notifier)
            clock.at += 60
        assert len(env.wait_for(3)) == 3
        clock.at += 3600
        look(notifier)
        assert len(env.wait_for(4)) == 4
        assert env.got[3]["message"].count("8 experiments in a row crashed") == 7
        # A lab that a supervisor starts again and again has the same hour.
        for _ in range(4):
            again = notify.Notifier(engine, to)  # type: ignore[arg-type]
            storm(again)
            look(again)
        notifier.close()
        time.sleep(0.2)
        assert len(env.got) == 6


def test_keeps_are_spread_and_leave_room_for_what_is_urgent(tmp_path: Path, env: Server) -> None:
    clock = Clock()
    notifier, _, engine = told(tmp_path, clock, 'on = ["kept", "storm"]\n', env)
    with engine.journal:  # type: ignore[attr-defined]
        for second in range(3540):  # one keep a second, for an hour
            notifier._lines.append(notify.Line("kept", f"exp {second} kept"))
            look(notifier)
            clock.at += 1
        storm(notifier)
        look(notifier)
        messages = env.wait_for(5)
        assert [m["title"].split(": ")[1] for m in messages] == [
            "1 kept", "600 kept", "600 kept", "600 kept", "a failure storm",
        ]  # fmt: skip
        assert max(len(m["message"]) for m in messages) < 1000
        assert "(588 more before these)" in messages[1]["message"]
        notifier.close()


# -- the other keys


def test_key_notify_to_is_a_variable_and_no_address(tmp_path: Path, env: Server) -> None:
    assert parse(table()).notify.to == (VARIABLE,)
    assert parse('[notify]\nto = ["${A}"]\n').notify.to == ("A",)
    for wrong in (f"tgram://{SECRET}/1", f"json://owl:{SECRET}@x", "$", "$A$B", "A"):
        with pytest.raises(ConfigError) as caught:
            parse(f'[notify]\nto = ["{wrong}"]\n')
        assert SECRET not in "".join(caught.value.lines())
        assert "export NIGHTLAB_NOTIFY_URL=" in caught.value.hint


def test_key_notify_on_chooses_what_is_told(tmp_path: Path, env: Server) -> None:
    root = project(tmp_path, 'on = ["bound"]\n')
    night(root, [lr(0.03)], 2)
    assert [m["title"].split(": ")[1] for m in env.got] == ["ended"]
    assert "gain" not in env.got[0]["message"]
    with pytest.raises(ConfigError, match="on = "):
        parse(table('on = ["kpet"]\n'))
    assert notify.open_services(parse(table("on = []\n")).notify) == []


def test_key_notify_morning_is_the_time_of_the_summary(tmp_path: Path, env: Server) -> None:
    noon = time.mktime((2026, 3, 5, 12, 0, 0, 0, 0, -1))
    clock = Clock(noon)
    root = project(tmp_path, 'on = ["morning"]\nmorning = "12:05"\n')
    opened = open_study(root, now=clock)
    engine = opened.engine
    with engine.journal:
        notifier = notify.Notifier(engine, notify.open_services(engine.settings.notify))

        def watch(_loop: Loop) -> None:
            clock.at += 60 if engine.history.incumbent else 0
            look(notifier)

        Loop(engine, Steps([lr(0.03 + n / 100) for n in range(9)]), Bounds(max_experiments=9), watch).run()  # fmt: skip
        notifier.close()
    assert clock.at > noon + 300
    assert [m["title"].split(": ")[1] for m in env.got] == ["good morning"]
    assert "It is still running" in env.got[0]["message"]
    # Without it, or before it, the summary comes with the end of the session.
    clock.at = noon
    other = make_project(tmp_path / "o", more=table('on = ["morning"]\nmorning = "13:00"\n'))
    night(other, [lr(0.03)], 2, clock)
    assert "because the bound" in env.wait_for(2)[1]["message"]
    with pytest.raises(ConfigError, match="morning"):
        parse(table('morning = "7am"\n'))


# -- secrets, and what others wrote


def test_no_secret_is_in_the_journal_a_log_or_any_file(
    tmp_path: Path, env: Server, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    env.status = 500
    monkeypatch.setattr(notify, "_CLOSE_S", 1.0)
    root = make_project(tmp_path / "p", more=table() + '[researcher]\nuse = "sweep"\nvalues = { LR = [0.03, 0.05] }\n')  # fmt: skip
    assert main(["run", "-n", "3", "-C", str(root)]) == 0
    assert main(["doctor", "--notify", "-C", str(root)]) == 1
    said = capfd.readouterr()
    assert f"the last message did not arrive: ${VARIABLE} did not take the message" in said.out
    assert SECRET not in said.out + said.err
    found = subprocess.run(
        ["grep", "-rl", SECRET, str(root)], check=False, capture_output=True, text=True
    )
    assert found.stdout == ""


def test_what_others_wrote_is_one_bounded_line(tmp_path: Path, env: Server) -> None:
    opened, _ = night(project(tmp_path), [lr(0.03)], 2)
    history = opened.engine.history
    words = "\x1b]0;owned\x07 lower\n\n@everyone " + "x" * 5000
    claim = msgspec.structs.replace(history.experiments[2].claim, description=words)
    history.experiments[2] = msgspec.structs.replace(history.experiments[2], claim=claim)
    line = notify.telling.kept(history, 2).text
    assert len(line) < 220
    assert "\n" not in line
    assert "\x1b" not in line


# -- the command line


def test_an_address_that_cannot_be_is_told_in_three_lines_before_the_night(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    root = project(tmp_path)
    for value, says in (
        (None, f"${VARIABLE} is not set"),
        (f"nosuch://{SECRET}", "it begins with nosuch://"),
        (SECRET, "it is not like scheme://"),
        (f"{SECRET}://x", "it is not like scheme://"),
    ):
        monkeypatch.delenv(VARIABLE, raising=False)
        if value is not None:
            monkeypatch.setenv(VARIABLE, value)
        assert main(["run", "-n", "1", "-C", str(root)]) == 2
        said = capfd.readouterr()
        assert len(said.err.strip().splitlines()) == 3
        assert says in said.err
        assert SECRET not in said.err + said.out
    assert not (root / ".nightlab").exists()


def test_doctor_sends_a_test_message_when_asked(
    tmp_path: Path, env: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    root = project(tmp_path)
    assert main(["doctor", "-C", str(root)]) == 0
    assert env.got == []
    assert f"notify      ${VARIABLE}: nightlab doctor --notify tries it" in capfd.readouterr().out
    assert main(["doctor", "--notify", "-C", str(root)]) == 0
    assert [m["title"] for m in env.got] == ["nightlab: a test"]
    assert "a test message was taken" in capfd.readouterr().out


def test_a_whole_run_of_the_command_line_tells_its_end(tmp_path: Path, env: Server) -> None:
    sweep = '[researcher]\nuse = "sweep"\nvalues = { LR = [0.03] }\n'
    root = make_project(tmp_path / "p", more=table() + sweep)
    assert main(["run", "-n", "2", "-C", str(root)]) == 0
    assert env.got[-1]["title"].endswith(": ended")
    events = list(journal.read(config.Paths(root).journal(config.Paths(root).tags()[0])))
    assert any(isinstance(e, SessionStarted) for e in events)
    kept = [e for e in events if isinstance(e, Settled) and e.verdict is Verdict.KEEP]
    assert len(kept) == 2
