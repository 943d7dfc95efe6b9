"""The dashboard's server by real HTTP: what it tells of a study, and whom."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from nightlab import journal, views
from nightlab.config import Paths
from nightlab.history import History, fold
from nightlab.web.guard import Guard, Keys
from nightlab.web.table import COLUMNS
from tests.support import Steps, drive, lr, make_project
from tests.web_support import ENV, Ui, happenings, serving, words

S = "/api/studies/0/night"
NASTY = "<img src=x onerror=alert(1)> \u202e😀 \x1b[31m"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a study of four experiments that has ended."""
    folder = make_project(tmp_path_factory.mktemp("web") / "p")
    (folder / "program.md").write_text("# What to do\n\n<script>alert(1)</script>\n")
    steps = Steps([lr(0.05), lr(0.5), lr(0.03)], name=NASTY)
    drive(folder, steps, 4, tag="night")
    return folder


@pytest.fixture(scope="module")
def ui(root: Path) -> Iterator[Ui]:
    with serving(root) as served:
        served.until(f"{S}/status", lambda s: not s["loading"])
        yield served


@pytest.fixture(scope="module")
def history(root: Path) -> History:
    return fold(journal.read(Paths(root).journal("night")))


# -- what is told


def test_the_list_names_every_study_of_every_project(root: Path, tmp_path: Path) -> None:
    other = make_project(tmp_path / "other")
    drive(other, Steps([lr(0.05)]), 2, tag="a.b_c-1")
    (root / ".nightlab" / "<b>").mkdir(exist_ok=True)
    (root / ".nightlab" / "<b>" / "journal.jsonl").write_text("{}\n")
    with serving(root, other, root) as both:
        told = both.until("/api/studies", lambda t: len(t["studies"]) == 2)
        assert [p["name"] for p in told["projects"]] == ["p", "other"]
        assert {s["id"] for s in told["studies"]} == {"0/night", "1/a.b_c-1"}
        both.until("/api/studies", lambda t: all(s["state"] == "finished" for s in t["studies"]))
        assert both.get("/api/studies/1/a.b_c-1/status").json["experiments"]["total"] == 2


def test_status_is_what_the_command_line_says(ui: Ui, history: History) -> None:
    told = ui.get(f"{S}/status").json
    program = "# What to do\n\n<script>alert(1)</script>\n"
    wanted = views.status(history, locked=False, now=time.time(), program=program)
    assert {key: told[key] for key in wanted} == json.loads(json.dumps(wanted))
    assert told["seq"] == history.last_seq


def test_rows_are_the_experiments_as_columns(ui: Ui, history: History) -> None:
    told = ui.get(f"{S}/rows").json
    columns = told["columns"]
    assert told["full"]
    assert told["total"] == 4
    assert set(columns) == {*COLUMNS, "metrics"}
    for i, row in enumerate(views.rows(history)):
        assert columns["n"][i] == row["experiment"]
        assert columns["verdict"][i] == row["verdict"]
        assert columns["value"][i] == pytest.approx(row["value"])
        assert columns["description"][i] == row["description"]
        assert columns["seconds"][i] == pytest.approx(sum(row["durations_seconds"]), abs=0.02)
        for name, value in row["metrics"].items():
            assert columns["metrics"][name][i] == pytest.approx(value)
        assert columns["parent"][i] == history.kept.get(row["parent"])


def test_after_the_last_change_there_are_no_rows_and_of_another_epoch_all(ui: Ui) -> None:
    told = ui.get(f"{S}/rows").json
    nothing = ui.get(f"{S}/rows?epoch={told['epoch']}&since={told['seq']}").json
    assert nothing["columns"]["n"] == []
    assert not nothing["full"]
    assert ui.get(f"{S}/rows?epoch=0&since=5").json["full"]


def test_an_experiment_is_told_in_whole(ui: Ui, history: History) -> None:
    last = history.incumbent
    assert last is not None
    told = ui.get(f"{S}/experiments/{last.number}").json
    assert told["decision"]["reason"] == last.decision.reason  # type: ignore[union-attr]
    assert told["run_ids"] == [run.id for run in last.runs]
    assert told["run_records"][0]["metrics"]["val_loss"] == last.runs[0].metrics["val_loss"]
    assert told["lineage"][0]["experiment"] == 1
    assert told["ref"] == f"refs/nightlab/night/{last.number}"
    first = ui.get(f"{S}/experiments/1").json
    assert last.number in {c["experiment"] for c in first["children"]} or len(told["lineage"]) > 1
    assert ui.get(f"{S}/experiments/99").status == 404


def test_a_diff_is_the_change_and_the_baseline_has_none(ui: Ui) -> None:
    told = ui.get(f"{S}/experiments/2/diff").json
    assert "-LR = 0.1\n+LR = 0.05\n" in told["diff"]
    assert told["truncated"] is False
    assert ui.get(f"{S}/experiments/1/diff").json["diff"] == ""


def test_a_log_is_read_from_its_end_or_in_pieces(ui: Ui, root: Path) -> None:
    text = Paths(root).log("night", 1).read_text()
    whole = ui.get(f"{S}/runs/1/log").json
    assert whole["text"] == text
    assert whole["size"] == len(text)
    piece = ui.get(f"{S}/runs/1/log?from=4&bytes=8").json
    assert (piece["from"], piece["to"], piece["text"]) == (4, 12, text[4:12])
    assert ui.get(f"{S}/runs/1/log?bytes=5").json["text"] == text[-5:]
    assert ui.get(f"{S}/runs/1/log?from=99999").json["text"] == ""
    for wrong in ("from=-1", "bytes=x", "from=9999999999999999999"):
        assert ui.get(f"{S}/runs/1/log?{wrong}").status == 422
    assert ui.get(f"{S}/runs/77/log").status == 404


def test_a_log_that_leads_elsewhere_is_not_followed(ui: Ui, root: Path) -> None:
    path = Paths(root).log("night", 2)
    kept = path.read_bytes()
    for trap in (lambda: path.symlink_to("/etc/passwd"), lambda: os.mkfifo(path)):
        path.unlink()
        trap()
        answer = ui.get(f"{S}/runs/2/log")
        assert answer.status == 404
        assert b"root:" not in answer.body
    path.unlink()
    path.write_bytes(kept)


def test_the_other_pages_are_told(ui: Ui, root: Path) -> None:
    assert "<script>" in ui.get(f"{S}/program").json["text"]
    assert ui.get(f"{S}/scratchpad").json == {"text": "", "modified_at": None}
    assert ui.get(f"{S}/live").json == {"id": "0/night", "live": None}
    costs = ui.get(f"{S}/costs").json
    assert costs["cost"]["device_seconds"] > 0
    assert costs["dearest"][0]["device_seconds"] > 0
    backlog = ui.get(f"{S}/backlog").json
    assert backlog["ideas"] == backlog["waiting"] == []


def test_text_of_a_model_stays_text(ui: Ui) -> None:
    answer = ui.get(f"{S}/rows")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.json["columns"]["researcher"][1].startswith("<img src=x")


def test_what_is_long_travels_compressed(ui: Ui) -> None:
    plain = ui.get(f"{S}/rows")
    packed = ui.get(f"{S}/rows", **{"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert len(packed.body) < len(plain.body) / 2


def test_reading_all_of_it_leaves_no_file_in_the_study(ui: Ui, root: Path) -> None:
    def files() -> dict[str, tuple[int, int]]:
        found = sorted(root.rglob("*"))
        return {str(p): (p.lstat().st_mtime_ns, p.lstat().st_size) for p in found}

    before = files()
    for what in ("status", "rows", "live", "backlog", "scratchpad", "program", "costs"):
        assert ui.get(f"{S}/{what}").status == 200
    for what in ("experiments/2", "experiments/2/diff", "runs/1/log"):
        assert ui.get(f"{S}/{what}").status == 200
    stream = happenings(ui.stream("study=0/night"))
    assert next(stream)[0] == "studies"
    time.sleep(1.2)
    assert files() == before


# -- who may ask


def denied(ui: Ui, path: str = f"{S}/status", **headers: str) -> int:
    keys = {"Authorization": f"Bearer {ui.token}", **headers}
    answer = ui.send("GET", path, keys)
    if answer.status != 200:
        assert set(answer.json) == {"error"}
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    return answer.status


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example:8737", "10.0.0.7", "", "[::1", "localhost@evil"],
)
def test_another_name_for_this_machine_is_refused(ui: Ui, host: str) -> None:
    assert denied(ui, Host=host) == 421
    assert denied(ui, "/", Host=host) == 421


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost:1", "LOCALHOST:8737", "[::1]:9", "localhost."]
)
def test_this_machine_by_its_own_names_is_served_through_any_tunnel(ui: Ui, host: str) -> None:
    assert denied(ui, Host=host) == 200


def test_another_sites_page_is_refused(ui: Ui) -> None:
    assert denied(ui, Origin="http://evil.example") == 403
    assert denied(ui, Origin="null") == 403
    assert denied(ui, Origin=f"http://localhost:{ui.port}") == 403  # another origin than the Host
    assert denied(ui, **{"Sec-Fetch-Site": "cross-site"}) == 403
    assert denied(ui, **{"Sec-Fetch-Site": "same-site"}) == 403
    assert denied(ui, Origin=f"http://127.0.0.1:{ui.port}") == 200


def test_nobody_reads_without_the_token(ui: Ui) -> None:
    for path in (f"{S}/status", "/api/session", "/api/studies", "/api/stream", "/api/nothing"):
        assert ui.send("GET", path).status == 401
    for wrong in ("", "x", ui.token[:-1], ui.token + "x", "ü" * 32):
        keys = {"Authorization": f"Bearer {wrong}".encode().decode("latin-1")}
        assert ui.send("GET", f"{S}/status", keys).status == 401
        assert ui.send("GET", f"/login?token={quote(wrong)}").status == 403
    assert ui.send("GET", f"{S}/status", {"Cookie": f"{'a' * 9}={ui.token}"}).status == 401
    assert ui.send("GET", f"{S}/status?token={ui.token}").status == 401


def test_the_link_logs_in_with_a_cookie_that_scripts_cannot_read(ui: Ui) -> None:
    login = ui.send("GET", f"/login?token={ui.token}")
    assert login.status == 303
    assert login.headers["location"] == "/"
    assert login.headers["referrer-policy"] == "no-referrer"
    cookie = login.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    name = {"Cookie": login.headers["set-cookie"].partition(";")[0]}
    assert ui.send("GET", f"{S}/status", name).status == 200


def test_a_wish_needs_the_pages_own_token(ui: Ui) -> None:
    mine = ui.page()
    body = '{"text": ""}'  # refused afterwards: nothing is sent
    assert ui.send("POST", f"{S}/notes", mine, body).status == 422
    for name, value, status in (
        ("X-Nightlab-Csrf", "x", 403),
        ("X-Nightlab-Csrf", ui.token, 403),
        ("Origin", "http://evil.example", 403),
        ("Sec-Fetch-Site", "cross-site", 403),
        ("Content-Type", "text/plain", 415),
        ("Content-Type", "application/x-www-form-urlencoded", 415),
        ("Cookie", "a=b", 401),
        ("Host", "evil.example", 421),
    ):
        assert ui.send("POST", f"{S}/notes", {**mine, name: value}, body).status == status
    without = {k: v for k, v in mine.items() if k != "X-Nightlab-Csrf"}
    assert ui.send("POST", f"{S}/notes", without, body).status == 403


def test_what_is_too_much_or_no_wish_is_refused(ui: Ui) -> None:
    mine = ui.page()
    assert ui.send("POST", f"{S}/notes", mine, b" " * 70_000).status == 413
    assert ui.send("POST", f"{S}/notes", mine, iter([b" " * 40_000] * 2)).status == 413
    for path, body in (
        ("notes", "[" * 5000),
        ("notes", '{"text": 5}'),
        ("notes", '{"text": "x", "kind": "stop"}'),
        ("notes", "\xff"),
        ("notes", '{"text": "   "}'),
        ("notes", '{"text": "%s"}' % ("x" * 4001)),
        ("ideas", '{"text": "x", "priority": 1e999}'),
        ("ideas/1", "{}"),
        ("ideas/1", '{"veto": true, "priority": 1}'),
        ("stop", '{"now": "yes"}'),
        ("pause", '{"now": true}'),
    ):
        answer = ui.send("POST", f"{S}/{path}", mine, body.encode("latin-1"))
        assert answer.status == 422, (path, answer.body)
    assert ui.send("POST", f"{S}/ideas/7", mine, '{"veto": true}').status == 404
    for verb in ("pause", "resume", "stop"):
        assert ui.send("POST", f"{S}/{verb}", mine, "{}").status == 409
    assert ui.get(f"{S}/backlog").json["waiting"] == []


def test_other_methods_and_places_are_nothing(ui: Ui) -> None:
    mine = ui.page()
    assert ui.send("GET", f"{S}/notes", mine).status == 405
    assert ui.send("DELETE", f"{S}/notes", mine).status in (404, 405)
    assert ui.send("POST", "/", mine, "{}").status == 405
    assert ui.send("OPTIONS", f"{S}/notes", {"Origin": "http://evil.example"}).status == 403
    for path in (
        "/api/studies/0/..%2f..%2fetc/status",
        "/api/studies/0/../status",
        "/api/studies/0/%3Cb%3E/status",
        "/api/studies/0/night%00/status",
        "/api/studies/7/night/status",
        "/api/studies/-1/night/status",
        "/api/studies/99999999999999999999/night/status",
        f"/api/studies/0/{'a' * 5000}/status",
        "/api/studies/0/night/experiments/0",
        "/api/studies/0/night/runs/0/log",
    ):
        assert ui.get(path).status == 404, path


@pytest.mark.parametrize(
    "path",
    ["../app.py", "..%2fapp.py", "%2e%2e/app.py", "/etc/passwd", "%00", "", "js/../../guard.py"],
)
def test_nothing_beside_the_static_files_is_served(ui: Ui, path: str) -> None:
    answer = ui.send("GET", f"/static/{path}")
    assert answer.status == 404
    assert b"import" not in answer.body


def test_a_message_that_waits_for_a_lab_is_shown(root: Path, tmp_path: Path) -> None:
    other = make_project(tmp_path / "p")
    drive(other, Steps([lr(0.05)]), 2, tag="night")
    with serving(other) as ui:
        ui.until(f"{S}/status", lambda s: s["state"] == "finished")
        sent = ui.send("POST", f"{S}/notes", ui.page(), '{"text": "try \\ud800 a lower warmup"}')
        assert sent.status in (202, 422)
        sent = ui.send("POST", f"{S}/ideas", ui.page(), '{"text": "cosine", "priority": 2.5}')
        assert sent.status == 202
        assert sent.json["running"] is False
        assert "when the lab runs again" in sent.json["told"]
        waiting = ui.get(f"{S}/backlog").json["waiting"]
        assert [(w["kind"], w["text"], w["priority"]) for w in waiting[-1:]] == [
            ("idea", "cosine", 2.5)
        ]
        assert waiting[-1]["author"].endswith("via ui")
        assert abs(waiting[-1]["at"] - time.time()) < 60
        listed = ui.get("/api/studies").json["studies"]
        assert listed[0]["state"] == "finished"


# -- the verb


def test_bound_elsewhere_it_asks_for_the_token_and_knows_its_addresses(root: Path) -> None:
    with serving(root, more=("--host", "0.0.0.0", "--port", "0")) as ui:
        assert ui.send("GET", f"{S}/status").status == 401
        assert denied(ui, "/api/session", Host=f"192.168.7.7:{ui.port}") == 200
        assert denied(ui, "/api/session", Host=f"{socket.gethostname()}:{ui.port}") == 200
        assert denied(ui, "/api/session", Host="evil.example") == 421


def test_a_port_that_is_taken_is_said_in_three_lines(root: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "nightlab", "ui", str(root), "--port", str(port), "--no-open"],
            env=ENV, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert len(lines) == 3
    assert f"port {port}" in lines[0]
    assert "nightlab ui --port 0" in lines[2]


def test_without_a_port_a_second_dashboard_finds_another(root: Path) -> None:
    with serving(root, more=()) as first, serving(root, more=()) as second:
        assert first.port != second.port
        assert first.get("/api/session").status == second.get("/api/session").status == 200
        assert first.send("GET", "/api/session", second.page()).status in (401, 403)


def test_a_project_without_a_configuration_is_an_error(tmp_path: Path) -> None:
    done = subprocess.run(words(tmp_path), env=ENV, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "nightlab init" in done.stdout


def test_the_first_interrupt_ends_it_at_once_with_a_page_open(root: Path) -> None:
    with serving(root) as ui:
        stream = happenings(ui.stream("study=0/night"))
        assert next(stream)[0] == "studies"
        idle = socket.create_connection(("127.0.0.1", ui.port))
        began = time.monotonic()
        ui.process.send_signal(signal.SIGINT)
        assert ui.process.wait(timeout=20) == 0
        assert time.monotonic() - began < 6
        idle.close()
        assert ui.process.stderr is not None
        assert ui.process.stderr.read() == ""


def test_a_bug_is_told_to_the_terminal_and_not_to_the_page(
    capfd: pytest.CaptureFixture[str],
) -> None:
    sent: list[dict[str, object]] = []

    async def broken(*_: object) -> None:
        raise RuntimeError("/home/me/secret \x1b[31mred")

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"host", b"localhost")]}
    asyncio.run(Guard(broken, Keys("t"), "127.0.0.1")(scope, None, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == 500
    assert b"content-security-policy" in dict(sent[0]["headers"])  # type: ignore[call-overload]
    assert b"secret" not in sent[1]["body"]  # type: ignore[operator]
    told = capfd.readouterr().err
    assert "secret" in told
    assert "\x1b" not in told


def test_a_message_that_cannot_be_left_is_an_error(tmp_path: Path) -> None:
    other = make_project(tmp_path / "p")
    drive(other, Steps([lr(0.05)]), 2, tag="night")
    inbox = Paths(other).inbox("night")
    if inbox.exists():
        inbox.rmdir()
    inbox.write_text("a file")
    with serving(other) as ui:
        ui.until(f"{S}/status", lambda s: s["state"] == "finished")
        answer = ui.post(f"{S}/notes", {"text": "hello"})
        assert answer.status == 503
        assert answer.json["error"]["why"]
