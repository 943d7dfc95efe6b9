"""Where attacks are let loose: a home with secrets, listeners, a project, and a witness of it all.

Everything that an attack may reach for is planted here, so that getting through shows: files
with known content, secrets that are nowhere else, sockets that remember what they hear. The
attack runs as any experiment does: proposed, committed, run, measured, judged and settled.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import psutil

from nightlab import sandboxes
from nightlab.devices import Slot
from nightlab.engine import Engine
from nightlab.errors import NightlabError, SealError
from nightlab.executors import Job, Order
from nightlab.executors.local import LocalExecutor
from nightlab.lab import open_study
from nightlab.model import Action, Arm, Decision, Outcome, Proposal, Run, Want
from nightlab.sandboxes import Options, Sandbox, open_sandbox
from tests.redteam import image
from tests.redteam.attack import Attack
from tests.support import git

# The interpreter of runs: one without a virtual environment has user sites to plant things in,
# and any user may read it.
PYTHON = "/usr/bin/python3" if os.access("/usr/bin/python3", os.X_OK) else sys.executable
DISK_BYTES = 128 << 20
MEMORY_BYTES = 160 << 20
_MOST_RUNS = 14
_PATIENCE_S = 60.0

_TOML = """\
[study]
command = "{python} train.py"
edit = ["train.py"]
budget = "{budget}"
kill_factor = {factor}

[objective]
metric = "val_loss"
better = "lower"
{more}
[sandbox]
use = "process"
"""
PREPARE = """\
import json
def evaluate(model):
    return model
"""
# The honest program of each kind of study.
REPORTED = """\
import os, random
from prepare import evaluate
LR = 0.1
rng = random.Random(int(os.environ["NIGHTLAB_SEED"]))
print("---")
print(f"val_loss: {evaluate(1.0 + abs(LR - 0.03) + rng.gauss(0, 0.001)):.6f}")
"""
SEALED = """\
import json, os, pathlib, random
LR = 0.1
rng = random.Random(int(os.environ["NIGHTLAB_SEED"]))
model = {"error": 1.0 + abs(LR - 0.03) + rng.gauss(0, 0.001)}
pathlib.Path(os.environ["NIGHTLAB_ARTIFACT"], "model.json").write_text(json.dumps(model))
"""
TIMED = """\
import os, random, time
LR = 0.1
rng = random.Random(int(os.environ["NIGHTLAB_SEED"]))
began, steps = time.time(), 0
while time.time() - began < float(os.environ["TIME_BUDGET"]):
    time.sleep(0.01)
    steps += 1
print("---")
print(f"val_loss: {1.0 + abs(LR - 0.03) + rng.gauss(0, 0.001):.6f}")
print(f"training_seconds: {time.time() - began:.2f}")
print(f"num_steps: {steps}")
"""
EVALUATE = """\
import json, os, pathlib, random
answer = float(open("held/answer.txt").read().split()[0])
model = json.loads(pathlib.Path(os.environ["NIGHTLAB_ARTIFACT"], "model.json").read_text())
error = abs(float(model["error"]))
print(f"val_loss: {max(error, 0.9) + answer - 2.0:.6f}")
"""
HONEST = {"reported": REPORTED, "sealed": SEALED, "timed": TIMED}

# On top of every attack: what it knows of the machine. A candidate could find it all out.
_TOP = """\
from types import SimpleNamespace as _Names
import contextlib, os, sys, time
W = _Names(**{facts!r})
W.BOX = os.path.dirname(os.environ["NIGHTLAB_RESULT"])
W.RUN = os.path.dirname(W.BOX)
W.SEED = int(os.environ["NIGHTLAB_SEED"])
def armed():
    print("armed", flush=True)
def attempt():
    return contextlib.suppress(Exception)
"""


@dataclass
class Scene:
    """What an attack did, for its witness. ``effects`` are what it should not have had."""

    attack: Attack
    world: World
    engine: Engine
    token: str
    number: int = 0
    runs: list[Run] = field(default_factory=list)
    logs: list[bytes] = field(default_factory=list)
    decision: Decision | None = None
    longest_s: float = 0.0
    effects: list[str] = field(default_factory=list)

    @property
    def output(self) -> bytes:
        return b"\n".join(self.logs)


class _Quick(LocalExecutor):
    """The local executor with a shorter grace, so that the suite is quick."""

    def start(self, order: Order) -> Job:
        return super().start(replace(order, grace_s=0.2))


class Listeners:
    """Sockets on this machine that note down whatever reaches them."""

    def __init__(self, folder: Path) -> None:
        self.heard: list[str] = []
        self.facts: dict[str, object] = {}
        self._stack = ExitStack()
        tag = secrets.token_hex(6)
        # /run is where agents and docker have their sockets.
        runtime = Path("/run") if os.access("/run", os.W_OK) else folder
        paths = {
            "SSH_AGENT": str(folder / "agent.sock"),
            "DOCKER": str(runtime / f"redteam-{tag}.sock"),
        }
        for name, path in paths.items():
            self._open(name, socket.AF_UNIX, path, path)
            os.chmod(path, 0o777)
            self._stack.callback(Path(path).unlink, missing_ok=True)
        self._open("ABSTRACT", socket.AF_UNIX, f"\0redteam-{tag}", f"\0redteam-{tag}")
        self._open("TCP", socket.AF_INET, ("127.0.0.1", 0))
        self._open("UDP", socket.AF_INET, ("127.0.0.1", 0), kind=socket.SOCK_DGRAM)
        self.facts |= {"TCP6": 0}
        with suppress(OSError):
            self._open("TCP6", socket.AF_INET6, ("::1", 0))

    def _open(
        self,
        name: str,
        family: socket.AddressFamily,
        address: Any,
        fact: str = "",
        kind: socket.SocketKind = socket.SOCK_STREAM,
    ) -> None:
        server = socket.socket(family, kind)
        server.bind(address)
        self._stack.callback(server.close)
        self.facts[name] = fact or server.getsockname()[1]
        if kind == socket.SOCK_STREAM:
            server.listen(16)
        thread = threading.Thread(target=self._serve, args=(name, server, kind), daemon=True)
        thread.start()

    def _serve(self, name: str, server: socket.socket, kind: socket.SocketKind) -> None:
        while True:
            try:
                if kind == socket.SOCK_DGRAM:
                    self.heard.append(f"{name} heard {server.recv(512)[:40]!r}")
                    continue
                client, _ = server.accept()
                self.heard.append(f"{name} was connected to")
                client.close()
            except OSError:
                return

    def close(self) -> None:
        self._stack.close()


class World:
    """A machine to attack, for one sandbox. Set up once, put back in order after each attack."""

    def __init__(self, folder: Path, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.folder = folder
        self.home = folder / "home"
        self.outside = folder / "outside"
        self.secrets = {
            name: f"sesame-{name.lower()}-{secrets.token_hex(8)}"
            for name in (
                "env",
                "environ",
                "ssh",
                "cloud",
                "agent",
                "argv",
                "test",
                "netrc",
                "memory",
            )
        }
        # In a nightlab of its own: of the environment that it was started with.
        self.secrets["env"] = os.environ.get("REDTEAM_SECRET", self.secrets["env"])
        self._stack = ExitStack()
        self._plant()
        self.listeners = Listeners(self.home)
        self._stack.callback(self.listeners.close)
        self._stack.enter_context(_environment(self._env()))
        self.helper = subprocess.Popen(
            ["/bin/sh", "-c", "read line", self.secrets["argv"]],
            stdin=subprocess.PIPE,
            env={"SECRET": self.secrets["environ"]},
        )
        self._stack.callback(self._end_helper)
        self._engines: dict[tuple[str, bool], Engine] = {}
        self._kept = bytearray(self.secrets["memory"].encode())  # in nightlab's own memory

    def _env(self) -> dict[str, str]:
        secret = self.secrets["env"]
        names = ("AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "WANDB_API_KEY", "DATABASE_URL")
        agent = str(self.listeners.facts["SSH_AGENT"])
        return dict.fromkeys(names, secret) | {"HOME": str(self.home), "SSH_AUTH_SOCK": agent}

    def _plant(self) -> None:
        files = {
            ".bashrc": "# mine\n",
            ".gitconfig": "[user]\n\tname = T\n\temail = t@t\n",
            ".ssh/id_ed25519": self.secrets["ssh"],
            ".ssh/authorized_keys": "",
            ".aws/credentials": self.secrets["cloud"],
            ".claude/.credentials.json": self.secrets["agent"],
            ".codex/auth.json": self.secrets["agent"],
            ".netrc": self.secrets["netrc"],
            ".git-credentials": self.secrets["netrc"],
        }
        for name, text in files.items():
            path = self.home / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.outside.mkdir()
        (self.outside / "canary").write_text("alive\n")
        (self.outside / "folder").mkdir()
        (self.outside / "folder" / "canary").write_text("alive\n")

    def _end_helper(self) -> None:
        self.helper.kill()
        self.helper.communicate()

    def close(self) -> None:
        for engine in self._engines.values():
            engine.executor.close()
            engine.journal.close()
        self._stack.close()

    # -- the studies

    def engine(self, kind: str, *, memory: bool = False) -> Engine:
        """The open study of a kind, its baseline measured."""
        if (kind, memory) not in self._engines:
            self._engines[kind, memory] = self._open(kind, memory=memory)
        return self._engines[kind, memory]

    def _open(self, kind: str, *, memory: bool) -> Engine:
        root = self.folder / f"project-{kind}{'-memory' * memory}"
        root.mkdir()
        more = ""
        if kind == "sealed":
            more = f'evaluate = "{PYTHON} evaluate.py"\nhidden = ["held"]\n'
            (root / "held").mkdir()
            (root / "held" / "answer.txt").write_text(f"2.0 {self.secrets['test']}\n")
            (root / "evaluate.py").write_text(EVALUATE)
        (root / ".gitignore").write_text("held/\n")
        (root / "train.py").write_text(HONEST[kind])
        (root / "prepare.py").write_text(PREPARE)
        git(root, "init", "-q", "-b", "main")
        git(root, "add", "-A")
        git(root, "commit", "-q", "-m", "start")
        # So long that the start of a container is short beside it.
        short = "3s" if self.sandbox.name == "container" else "0.4s"
        budget, factor = (short, 20) if kind == "timed" else ("60s", 1)
        toml = _TOML.format(python=PYTHON, more=more, budget=budget, factor=factor)
        if memory:
            toml += f"memory = {MEMORY_BYTES}\n"
        (root / "nightlab.toml").write_text(toml)
        engine = open_study(
            root, tag="red", sandbox=self.sandbox, executor=_Quick([Slot("cpu0")])
        ).engine
        number = engine.begin_baseline()
        decision = self._judge(engine, number, Scene(_HONEST, self, engine, ""))
        if decision.action is not Action.KEEP:
            raise AssertionError(f"the honest program does not run here: {decision.reason}")
        engine.settle(number, decision)
        return engine

    # -- one attack

    def facts(self, engine: Engine, token: str) -> dict[str, object]:
        root = engine.paths.root
        return self.listeners.facts | {
            "TOKEN": token,
            "HOME": str(self.home),
            "OUTSIDE": str(self.outside),
            "PROJECT": str(root),
            "STUDY": str(engine.paths.study("red")),
            "FIRST_RUN": str(engine.paths.run("red", 1)),
            "NEXT_RUN": str(engine.paths.run("red", engine.history.last_run_id + 2)),
            "NIGHTLAB": os.getpid(),
            "HELPER": self.helper.pid,
        }

    def play(self, attack: Attack) -> Scene:
        """Run the attack as an experiment and look at everything afterwards."""
        engine = self.engine(attack.study, memory=attack.memory)
        token = f"redteam{secrets.token_hex(6)}"
        scene = Scene(attack, self, engine, token)
        text = _TOP.format(facts=self.facts(engine, token)) + attack.code
        if attack.honest:
            text += "\n" + HONEST[attack.study]
        before, heard = _snapshot(self._guarded()), len(self.listeners.heard)
        others = {p.pid for p in psutil.Process().children(recursive=True)}
        whole = engine.rig
        scaled = attack.wall_s / engine.study.kill_factor
        if attack.study != "timed":
            engine.rig = replace(whole, study=msgspec.structs.replace(whole.study, budget_s=scaled))
        stopped = False
        try:
            self._experiment(engine, scene, text)
        except SealError as error:
            stopped = True
            scene.effects.append(f"the study stops: {error.what}")
        except (NightlabError, OSError, RecursionError) as error:
            scene.effects.append(f"nightlab failed: {type(error).__name__}: {error}")
        finally:
            engine.rig = whole
        scene.effects += self._look(scene, before, heard, others)
        scene.effects += attack.sees(scene)
        self._tidy(scene, before, others)
        if stopped:  # as a person would: put back, and started again
            engine.recover()
            engine.settle(scene.number, _DISCARDED)
        return scene

    def _experiment(self, engine: Engine, scene: Scene, text: str) -> None:
        attack = scene.attack
        proposal = Proposal(description="an attack", files={"train.py": text}, researcher="red")
        tip = engine.history.tip
        scene.number = engine.begin(proposal, engine.files_in_scope(), tip)
        if attack.judged:
            scene.decision = self._judge(engine, scene.number, scene)
        else:
            for seed in range(1, attack.runs + 1):
                self._run(engine, scene.number, Want(arm=Arm.CANDIDATE, seed=seed), scene)
        decision = _DISCARDED
        if scene.decision is not None and scene.decision.action is not Action.KEEP:
            decision = scene.decision
        elif scene.runs and not scene.runs[-1].outcome.counts:
            decision = engine.decide(scene.number)
            if decision.action in (Action.KEEP, Action.REPEAT):
                decision = _DISCARDED
        engine.settle(scene.number, decision)

    def _judge(self, engine: Engine, number: int, scene: Scene) -> Decision:
        for _ in range(_MOST_RUNS):
            decision = engine.decide(number)
            if decision.action is not Action.REPEAT:
                return decision
            for want in decision.wants:
                self._run(engine, number, want, scene)
            if len(scene.runs) > 2 * _MOST_RUNS:
                break
        raise AssertionError(f"the judge goes on for ever: {decision.reason}")

    @staticmethod
    def _run(engine: Engine, number: int, want: Want, scene: Scene) -> None:
        attempt = engine.start_run(number, want, engine.executor.slots[0])
        if attempt is None:
            warned = engine.history.experiments[number].runs[-1:]
            scene.effects.append(f"a run could not be started: {warned}")
            return
        run, until = None, time.monotonic() + _PATIENCE_S
        while run is None:
            began = time.monotonic()
            try:
                finished = attempt.job.poll(max(0.0, until - time.monotonic()))
                lost = ""
            except NightlabError as error:
                finished, lost = None, f"{error}"
            if finished is None and not lost:
                attempt.job.stop()
                attempt.job.poll(10)
                raise AssertionError(f"a run of {scene.attack.name} does not end")
            scene.longest_s = max(scene.longest_s, time.monotonic() - began)
            run = engine.finish_run(attempt, finished, lost)
        if want.arm is Arm.CANDIDATE:
            scene.runs.append(run)
            folder = engine.paths.run("red", run.id)
            for log in (folder / "log.txt", folder / "evaluation" / "log.txt"):
                if log.is_file():
                    scene.logs.append(log.read_bytes())

    # -- the witness

    def _look(
        self, scene: Scene, before: dict[str, object], heard: int, others: set[int]
    ) -> Iterator[str]:
        attack = scene.attack
        time.sleep(0.02 if attack.category == "network" else 0)
        after = _snapshot(self._guarded())
        for path in sorted({*before, *after}):
            if before.get(path) != after.get(path):
                yield f"{os.path.relpath(path, self.folder)} was changed"
        yield from (f"{path} was left behind" for path in self._traces(scene))
        for name, secret in self.secrets.items():
            if secret.encode() in scene.output:
                yield f"the {name} secret was read"
        yield from dict.fromkeys(self.listeners.heard[heard:])
        for child in _children(others):
            yield f"process {child.pid} is still alive: {child.name()}"
        for run in scene.runs:
            if run.outcome is Outcome.LOST:
                yield f"nightlab took it for a failure of its own: {run.detail[:200]}"
            elif attack.outcomes and run.outcome not in attack.outcomes:
                yield f"the run counted as {run.outcome}: {run.detail[:100]}"
            folder = scene.engine.paths.run("red", run.id)
            left = _size(folder) - _size(folder / "log.txt")
            if left > 1 << 20:
                yield f"{left >> 20} MB were left in the run's folder"
            known = {"log.txt", "result.json", "evaluation"}
            if strays := {path.name for path in folder.iterdir()} - known:
                yield f"left in the run's folder: {sorted(strays)}"
        if scene.decision is not None and scene.decision.action is Action.KEEP:
            yield f"it was kept: {scene.decision.reason[:120]}"

    def _guarded(self) -> Iterator[Path]:
        yield self.home
        yield self.outside
        for kind, memory in list(self._engines):
            engine = self._engines[kind, memory]
            root = engine.paths.root
            for path in root.iterdir():
                if path.name not in {".git", ".nightlab"}:
                    yield path
            for name in ("config", "hooks", "info", "HEAD", "refs/heads/main"):
                yield root / ".git" / name
            yield engine.paths.run("red", 1)

    def _traces(self, scene: Scene) -> list[str]:
        """Files with the token in their name or text, where no run should have been able to."""
        token = scene.token
        found = []
        for top in ("/tmp", "/dev/shm", "/var/tmp", "/usr/local", "/run"):
            with suppress(OSError):
                found += [f"{top}/{n}" for n in os.listdir(top) if token in n]
        own = {str(scene.engine.paths.run("red", run.id)) for run in scene.runs}
        for path in _walk(str(scene.engine.paths.state), own):
            name = os.path.basename(path)
            if name == "train.py" or "/index/" in path:
                continue
            if token in name or (os.path.isfile(path) and _holds(path, token.encode())):
                found.append(path)
        return found

    def _tidy(self, scene: Scene, before: dict[str, object], others: set[int]) -> None:
        for child in _children(others):
            with suppress(psutil.Error):
                child.kill()
        for path in self._traces(scene):
            if path.endswith(("journal.jsonl", "results.tsv")):
                lines = Path(path).read_bytes().split(b"\n")
                kept = [line for line in lines if scene.token.encode() not in line]
                Path(path).write_bytes(b"\n".join(kept))
            else:
                _remove(path)
        _restore(before, _snapshot(self._guarded()))


@contextmanager
def opened(sandbox: str) -> Iterator[World]:
    """A world of its own. Raises SandboxError where the sandbox does not work."""
    box = open_sandbox(sandbox, Options(image=image.NAME))
    # Not below pytest's folder, which only its own user may enter.
    folder = tempfile.mkdtemp(prefix="redteam-")
    os.chmod(folder, 0o755)
    world = World(Path(folder), box)
    usual = sandboxes._DISK_BYTES
    sandboxes._DISK_BYTES = DISK_BYTES  # the default, in small
    try:
        yield world
    finally:
        sandboxes._DISK_BYTES = usual
        world.close()
        subprocess.run(["rm", "-rf", folder], check=False)


_DISCARDED = Decision(action=Action.DISCARD, rule="redteam", reason="an attack")
_HONEST = Attack("honest", "none", "", arms=False)


def _children(others: set[int]) -> list[psutil.Process]:
    """Living descendants of nightlab that were not there before; orphans come to it."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if child.pid not in others and child.status() != psutil.STATUS_ZOMBIE:
                found.append(child)
    return found


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _walk(top: str, skip: set[str] = frozenset()) -> Iterator[str]:  # type: ignore[assignment]
    """Everything below a folder; not os.walk, which recurses, and attacks go deep."""
    waiting = [top]
    while waiting:
        try:
            entries = list(os.scandir(waiting.pop()))
        except OSError:
            continue
        for entry in entries:
            yield entry.path
            if entry.is_dir(follow_symlinks=False) and entry.path not in skip:
                waiting.append(entry.path)


def _holds(path: str, token: bytes) -> bool:
    with suppress(OSError), open(path, "rb") as file:
        return token in file.read(1 << 22)
    return False


def _snapshot(tops: Iterator[Path]) -> dict[str, object]:
    """Path -> what is there: mode and bytes, or where a link points."""
    found: dict[str, object] = {}
    for top in tops:
        for place in (str(top), *_walk(str(top))):
            with suppress(OSError):
                status = os.lstat(place)
                content: object = None
                if stat.S_ISLNK(status.st_mode):
                    content = os.readlink(place)
                elif stat.S_ISREG(status.st_mode):
                    with open(place, "rb") as file:
                        content = file.read(1 << 22)
                found[place] = status.st_mode, content
    return found


def _restore(before: dict[str, object], after: dict[str, object]) -> None:
    for path in sorted(set(after) - set(before), reverse=True):
        _remove(path)
    for path, (mode, content) in sorted(before.items()):  # type: ignore[misc]
        if after.get(path) == (mode, content):
            continue
        if isinstance(content, str):
            _remove(path)
            os.symlink(content, path)
        elif isinstance(content, bytes):
            if os.path.islink(path) or os.path.isdir(path):
                _remove(path)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            Path(path).write_bytes(content)
            os.chmod(path, stat.S_IMODE(mode))
        elif stat.S_ISDIR(mode):
            os.makedirs(path, exist_ok=True)
            os.chmod(path, stat.S_IMODE(mode))


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        with suppress(RecursionError):
            shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            os.unlink(path)


def _size(folder: Path) -> int:
    """Bytes on disk below a folder; what is sparse takes none."""
    total = 0
    for path in (str(folder), *_walk(str(folder))):
        with suppress(OSError):
            total += os.lstat(path).st_blocks * 512
    return total
