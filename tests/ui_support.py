"""Studies to look at: one that runs, with curves and logs, and nights that never ran."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from nightlab.config import Paths

from .simulated import Night
from .support import make_project

# A program that learns in steps, as slowly as the tests need, and prints its way.
LEARNS = """\
import os
import random
import time

LR = 0.1  # nightlab: 1e-3..1 log
DEPTH = 2  # nightlab: int 1..8

rng = random.Random(int(os.environ["NIGHTLAB_SEED"]))
target = 1.0 + abs(LR - 0.03) + 0.05 * abs(DEPTH - 4)
for step in range(STEPS):
    time.sleep(PAUSE)
    print(f"step {step} val_loss: {target + 2.0 * 0.8 ** step + rng.gauss(0, 0.01):.4f}", flush=True)
print("---")
print(f"val_loss: {target + rng.gauss(0, NOISE):.6f}")
print("peak_vram_mb: 512.0")
"""
QUICK = """
[sandbox]
use = "process"
[judge]
early_stop = 0
"""


def learning(folder: Path, *, steps: int = 12, pause: float = 0.08, more: str = QUICK) -> Path:
    """A project whose runs take ``steps * pause`` seconds, for the embedded researcher."""
    text = LEARNS.replace("STEPS", str(steps)).replace("PAUSE", str(pause))
    make_project(folder, train=text, noise=0.002, more=more)
    (folder / "program.md").write_text("# Learn faster\n\nLower val_loss. Keep it simple.\n")
    return folder


def put(root: Path, night: Night, *, whole: bool = False) -> str:
    """Write a night's events as the journal of a study in ``root``; returns its tag.

    ``whole``: its commits are made too, and its runs leave logs.
    """
    tag = night.events[0].study.tag
    paths = Paths(root)
    path = paths.journal(tag)
    path.parent.mkdir(parents=True, exist_ok=True)
    encoder = msgspec.json.Encoder()
    lines = b"".join(encoder.encode(event) + b"\n" for event in night.events)
    if whole:
        for made_up, real in _commits(root, night).items():
            lines = lines.replace(made_up.encode(), real.encode())
        for run in range(1, night.run_id + 1):
            paths.log(tag, run).parent.mkdir(parents=True, exist_ok=True)
            paths.log(tag, run).write_text(f"the log of run {run}\n")
    path.write_bytes(lines)
    return tag


def _commits(root: Path, night: Night) -> dict[str, str]:
    """Real commits for those that the night made up: each changes one line of its parent's."""
    marks = {night.base: ":1"}
    stream = [_commit(1, "", "LR = 1")]
    for e in night.history.experiments.values():
        if e.number > 1:
            stream.append(_commit(e.number, f"from {marks[e.parent]}\n", f"LR = {e.number}"))
            marks[e.commit] = f":{e.number}"
    exported = root / ".git" / "marks"
    subprocess.run(
        ["git", "fast-import", "--quiet", f"--export-marks={exported}"],
        input="".join(stream),
        cwd=root,
        text=True,
        check=True,
    )
    real = dict(line.split() for line in exported.read_text().splitlines())
    return {made_up: real[mark] for made_up, mark in marks.items()}


def _commit(number: int, parent: str, text: str) -> str:
    return (
        f"commit refs/heads/made/{number}\nmark :{number}\ncommitter T <t@t> 1 +0000\n"
        f"data 1\nx\n{parent}M 100644 inline train.py\ndata {len(text)}\n{text}\n"
    )


def nightlab(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nightlab", *words]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


class Lab:
    """A real ``nightlab run`` in ``root``, until ``close``."""

    def __init__(self, root: Path, tag: str, *words: str) -> None:
        command = [sys.executable, "-m", "nightlab", "run", "--tag", tag, "--plain", *words]
        self.log = root / "lab.log"
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                command, cwd=root, stdout=out, stderr=out, stdin=subprocess.DEVNULL
            )

    def close(self) -> None:
        """Ask it to end, as Ctrl-C does; twice, so that it does not wait for a run."""
        for _ in range(2):
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGINT)
                time.sleep(0.3)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Dashboard:
    """A real ``nightlab ui`` for the projects; ``url`` is what it printed."""

    def __init__(self, *roots: Path) -> None:
        command = [
            sys.executable,
            "-m",
            "nightlab",
            "ui",
            "--port",
            "0",
            "--no-open",
            *map(str, roots),
        ]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        said = ""
        while True:
            line = self.process.stdout.readline()
            said += line
            found = re.search(r"http://\S+/login\?token=\S+", said)
            if found or not line:
                break
        assert found, said
        self.url = found[0]
        self.base = self.url.split("login?")[0]

    def at(self, fragment: str = "") -> str:
        """The address that logs in and shows ``fragment``, like ``#/0/nov21``."""
        return self.url + fragment

    def close(self) -> None:
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


class Wire:
    """What lies between a browser and the dashboard, to be cut and mended."""

    def __init__(self, base: str) -> None:
        self.port = int(re.search(r":(\d+)/", base)[1])
        self.own = 0
        self.held: list[socket.socket] = []
        self.mend()

    def through(self, url: str) -> str:
        """The same address by way of this wire."""
        return url.replace(f":{self.port}/", f":{self.own}/")

    def mend(self) -> None:
        self.door = socket.create_server(("127.0.0.1", self.own))
        self.own = self.door.getsockname()[1]
        threading.Thread(target=self._open, args=(self.door,), daemon=True).start()

    def cut(self) -> None:
        for one in (self.door, *self.held):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self.held = []

    def _open(self, door: socket.socket) -> None:
        while True:
            try:
                near, _ = door.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self.port))
            self.held += [near, far]
            for pair in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=pair, daemon=True).start()

    def _carry(self, source: socket.socket, to: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                to.sendall(data)
        with suppress(OSError):
            to.shutdown(socket.SHUT_WR)
