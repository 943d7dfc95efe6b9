"""A real `nightlab ui` for the tests, and a client that says what a browser would say."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SRC = Path(__file__).parent.parent / "src"
ENV = {**os.environ, "PYTHONPATH": str(SRC)}


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Ui:
    """A server that runs."""

    process: subprocess.Popen[str]
    told: dict[str, Any]
    streams: list[http.client.HTTPConnection] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.told["port"])

    @property
    def token(self) -> str:
        return str(self.told["token"])

    def send(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: Any = None
    ) -> Answer:
        """A request with these headers and no others but Host."""
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            link.request(method, path, body=body, headers=headers or {})
            answer = link.getresponse()
            found = {k.lower(): v for k, v in answer.getheaders()}
            return Answer(answer.status, found, answer.read())
        finally:
            link.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.send("GET", path, {"Authorization": f"Bearer {self.token}", **headers})

    def post(self, path: str, value: Any) -> Answer:
        keys = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        return self.send("POST", path, keys, json.dumps(value))

    def page(self) -> dict[str, str]:
        """The headers of this server's own page in a browser that has logged in."""
        login = self.send("GET", f"/login?token={self.token}")
        cookie = login.headers["set-cookie"].partition(";")[0]
        mine = {"Cookie": cookie, "Sec-Fetch-Site": "same-origin"}
        csrf = self.send("GET", "/api/session", mine).json["csrf"]
        mine |= {"X-Nightlab-Csrf": csrf, "Content-Type": "application/json"}
        return {**mine, "Origin": f"http://127.0.0.1:{self.port}"}

    def stream(self, query: str, window: int = 0, **headers: str) -> http.client.HTTPResponse:
        """A stream that stays open; with ``window`` the machine holds no more bytes for it."""
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=40)
        if window:
            link.sock = socket.socket()
            link.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
            link.sock.connect(("127.0.0.1", self.port))
        self.streams.append(link)
        keys = {"Authorization": f"Bearer {self.token}", **headers}
        link.request("GET", f"/api/stream?{query}", headers=keys)
        return link.getresponse()

    def until(self, path: str, condition: Callable[[Any], object], seconds: float = 60) -> Any:
        """What the address answers once the condition holds of it."""
        end = time.monotonic() + seconds
        while True:
            answer = self.get(path)
            if answer.status == 200 and condition(answer.json):
                return answer.json
            assert time.monotonic() < end, answer.body[:2000]
            time.sleep(0.1)


class Page:
    """What a browser does with rows."""

    def __init__(self) -> None:
        self.epoch, self.seq = "", 0
        self.rows: dict[int, dict[str, Any]] = {}

    def take(self, told: dict[str, Any]) -> None:
        if told["full"]:
            self.rows = {}
        self.epoch, self.seq = told["epoch"], told["seq"]
        columns = told["columns"]
        metrics = columns.pop("metrics")
        for i, n in enumerate(columns["n"]):
            row = {name: values[i] for name, values in columns.items()}
            row["metrics"] = {k: v[i] for k, v in metrics.items() if v[i] is not None}
            self.rows[n] = row


def happenings(stream: http.client.HTTPResponse) -> Iterator[tuple[str, Any, str]]:
    """(event, data, id) of a stream, one after the other."""
    event, where = "", ""
    for raw in stream:
        line = raw.decode().rstrip("\n")
        if line.startswith("event: "):
            event = line[7:]
        elif line.startswith("id: "):
            where = line[4:]
        elif line.startswith("data: "):
            yield event, json.loads(line[6:]), where
            where = ""


def words(*roots: Path, more: tuple[str, ...] = ()) -> list[str]:
    return [sys.executable, "-m", "nightlab", "ui", *map(str, roots), "--json", "--no-open", *more]


@contextmanager
def serving(*roots: Path, more: tuple[str, ...] = ("--port", "0")) -> Iterator[Ui]:
    """`nightlab ui` on these projects, as a process; it is ended afterwards."""
    with subprocess.Popen(
        words(*roots, more=more), env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        ui = None
        try:
            assert process.stdout is not None
            ui = Ui(process, json.loads(process.stdout.readline()))
            yield ui
        finally:
            for link in ui.streams if ui else ():
                link.close()
            process.terminate()
            process.communicate(timeout=20)
