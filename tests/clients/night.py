"""A night as a person has one: a project, ``nightlab run`` as a process, and what is left of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nightlab.testing.model_server import ModelServer, Request
from tests.clients.install import cache_folder
from tests.support import git

SCENARIOS = Path(__file__).parent / "scenarios"
MODELS = {"claude": "claude-sonnet-4-5", "codex": "gpt-5.5", "gemini": "gemini-2.5-pro"}
PRICE = {"input": 1.0, "output": 10.0}
UNANSWERED = ("hung", "died", "stopped")  # what such a call cost, the agent took with it
TAG = "night"
_WAIT_S = 60.0
_CONFIG = """\
[study]
command = "{python} train.py"
edit = ["train.py"]
budget = "5s"
[objective]
metric = "val_loss"
better = "lower"
[researcher]
"""


def scenario(name: str) -> Path:
    """The file of a scenario."""
    return SCENARIOS / f"{name}.toml"


@dataclass
class Night:
    """A committed project in ``root`` and the lab that works on it. ``researcher`` is its table."""

    root: Path
    researcher: dict[str, Any]
    labs: list[subprocess.Popen[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.root.mkdir()
        (self.root / "train.py").write_text((SCENARIOS / "train.py").read_text())
        (self.root / "prepare.py").write_text("EASY = False\n")
        (self.root / "program.md").write_text("Lower the loss of the small network.\n")
        git(self.root, "init", "-q", "-b", "main")
        git(self.root, "add", "-A")
        git(self.root, "commit", "-q", "-m", "start")
        self.start = git(self.root, "rev-parse", "HEAD").strip()
        lines = [f"{key} = {_toml(value)}" for key, value in self.researcher.items()]
        config = _CONFIG.format(python=sys.executable) + "\n".join(lines) + "\n"
        (self.root / "nightlab.toml").write_text(config)

    # -- what the person does

    def command(self, *args: str) -> list[str]:
        return [sys.executable, "-m", "nightlab", args[0], "-C", str(self.root), *args[1:]]

    def run(self, *flags: str) -> subprocess.Popen[str]:
        """Start the lab. Its live log goes to ``log.txt`` beside the project."""
        with self.log.open("a") as log:
            command = self.command("run", "--plain", "--tag", TAG, *flags)
            lab = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, text=True)
        self.labs.append(lab)
        return lab

    def say(self, *args: str) -> str:
        """A nightlab command to its end; what it printed."""
        done = subprocess.run(self.command(*args), capture_output=True, text=True, check=True)
        return done.stdout

    def end(self, lab: subprocess.Popen[str], within_s: float = _WAIT_S) -> float:
        """Wait for the lab's end, which must be a good one; the seconds it took."""
        began = time.monotonic()
        assert lab.wait(within_s) == 0, self.log.read_text()
        return time.monotonic() - began

    def close(self) -> None:
        """End what a failed test left."""
        for lab in self.labs:
            if lab.poll() is None:
                lab.terminate()
                lab.wait(_WAIT_S)

    # -- what can be seen of it

    @property
    def log(self) -> Path:
        return self.root.with_name("log.txt")

    def events(self, kind: str = "") -> list[dict[str, Any]]:
        """The journal's events, of one type or all."""
        path = self.root / ".nightlab" / TAG / "journal.jsonl"
        whole = path.read_text().rpartition("\n")[0] if path.exists() else ""
        found = [json.loads(line) for line in whole.splitlines()]
        return [event for event in found if not kind or event["type"] == kind]

    def asked(self, answer: str) -> list[dict[str, Any]]:
        return [event for event in self.events("asked") if event["answer"] == answer]

    def until(self, what: Callable[[], object], within_s: float = _WAIT_S) -> None:
        """Wait until something is so, as long as the lab works."""
        end = time.monotonic() + within_s
        while not what():
            working = self.labs[-1].poll() is None
            assert working, f"the lab has ended:\n{self.log.read_text()}"
            assert time.monotonic() < end, f"not within {within_s} s:\n{self.log.read_text()}"
            time.sleep(0.05)

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.say("status", "--json"))
        return found

    def kill_agent(self) -> None:
        """SIGKILL to the agent that is at work, from outside."""
        agents = [pid for pid in below(self.labs[-1].pid) if _is_agent(pid)]
        assert agents
        for pid in agents:
            os.kill(pid, signal.SIGKILL)


def _toml(value: Any) -> str:
    """TOML's strings and numbers are JSON's."""
    if not isinstance(value, dict):
        return json.dumps(value)
    return "{" + ", ".join(f"{key} = {json.dumps(each)}" for key, each in value.items()) + "}"


def prompts(server: ModelServer, turn: int) -> str:
    """All that was sent in a turn's requests."""
    return "".join(json.dumps(r.body) for r in server.requests if r.turn == turn)


def hangs(server: ModelServer, turn: str) -> Callable[[], bool]:
    """Whether a request of the turn with this name hangs, for ``until``."""
    number = [each.name for each in server.scenario.turns].index(turn) + 1
    return lambda: any(r.turn == number and r.played == "hang" for r in server.requests)


def below(pid: int) -> list[int]:
    """The living descendants of a process."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            state, parent = stat.rpartition(")")[2].split()[:2]
            if state != "Z":
                parents[int(entry.name)] = int(parent)
    found, ring = [], [pid]
    while ring:
        ring = [child for child, parent in parents.items() if parent in ring]
        found += ring
    return found


def _is_agent(pid: int) -> bool:
    try:
        program = os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return False
    return program.startswith(str(cache_folder())) or Path(program).name == "node"


def left_of(root: Path) -> list[str]:
    """Processes that work below a folder or name it in their command line or environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            where = os.readlink(entry / "cwd")
            words = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
        except OSError:
            continue
        if where.startswith(str(root)) or str(root).encode() in words:
            found.append(f"{entry.name} {words[:200]!r}")
    return found


def check(night: Night, server: ModelServer) -> dict[str, Any]:
    """Journal, status, branch, ledger, report and server tell one story; returns the status."""
    status, events = night.status(), night.events()
    verdicts = [e["verdict"] for e in events if e["type"] == "settled"]
    kept = [e for e in events if e["type"] == "settled" and e["verdict"] == "keep"]
    counts = status["experiments"]
    for verdict in ("keep", "discard", "inconclusive", "crash"):
        assert counts[verdict] == verdicts.count(verdict)
    _check_branch(night, status, kept)
    _check_papers(night, status, verdicts)
    _check_costs(night, status, server.requests)
    assert left_of(night.root) == []
    return status


def _check_branch(night: Night, status: dict[str, Any], kept: list[dict[str, Any]]) -> None:
    root, branch = night.root, status["branch"]
    assert status["incumbent"]["commit"] == git(root, "rev-parse", branch).strip()
    commits = git(root, "rev-list", "--first-parent", f"{night.start}..{branch}").split()
    assert commits == [e["commit"] for e in reversed(kept[1:])]
    changed = git(root, "log", "--format=", "--name-only", "--all").split()
    assert set(changed) <= {"train.py", "prepare.py", "program.md"}
    for refs in git(root, "for-each-ref", "--format=%(refname)").split():
        touched = git(root, "diff", "--name-only", night.start, refs).split()
        assert set(touched) <= {"train.py"}, refs
    assert git(root, "rev-parse", "main").strip() == night.start
    assert git(root, "symbolic-ref", "HEAD").strip() == "refs/heads/main"
    assert git(root, "diff", "--name-only", "HEAD") == ""
    strange = {line[3:] for line in git(root, "status", "--porcelain").splitlines()}
    assert strange <= {"nightlab.toml", ".nightlab/", "results.tsv"}


def _check_papers(night: Night, status: dict[str, Any], verdicts: list[str]) -> None:
    ledger = (night.root / ".nightlab" / TAG / "results.tsv").read_text().splitlines()[1:]
    assert [line.split("\t")[3] for line in ledger].count("keep") == verdicts.count("keep")
    assert len(ledger) == len(verdicts)
    report = (night.root / ".nightlab" / TAG / "report" / "report.md").read_text()
    assert f"{verdicts.count('keep') - 1} kept, {verdicts.count('discard')} discarded" in report
    cost = status["cost"]
    least = "at least " if cost["unpriced"] else ""
    assert f"Thinking cost {cost['tokens']:,} tokens for {least}{cost['usd']:.2f} USD: " in report


def _check_costs(night: Night, status: dict[str, Any], requests: list[Request]) -> None:
    """The books are the sum of the journal, and what was told by the server."""
    asked, cost = night.events("asked"), status["cost"]
    usages = [event.get("usage", {}) for event in asked]
    for key in ("tokens_in", "tokens_out", "tokens_cached"):
        assert cost[key] == sum(usage.get(key, 0) for usage in usages)
    assert cost["tokens"] == cost["tokens_in"] + cost["tokens_out"]
    assert cost["usd"] == round(sum(usage.get("usd") or 0.0 for usage in usages), 6)
    assert cost["asked"] == len(asked) == sum(cost["answers"].values())
    keeps = status["experiments"]["keep"] - 1
    assert cost["per_keep"]["tokens"] == round(cost["tokens"] / keeps, 6)
    assert cost["per_keep"]["usd"] == round(cost["usd"] / keeps, 6)
    ended = [r for r in requests if r.turn not in _hung(requests)]
    told = sum(r.tokens_in + r.tokens_out for r in ended if r.kind == "answer")
    torn = sum(r.tokens_in + r.tokens_out for r in ended if r.kind == "failure")
    whole = [e for e in asked if e["answer"] not in UNANSWERED]
    booked = sum(e.get("usage", {}).get(k, 0) for e in whole for k in ("tokens_in", "tokens_out"))
    assert told <= booked <= told + torn  # some clients count an answer that was cut
    assert cost["tokens"] <= sum(r.tokens_in + r.tokens_out for r in requests)


def _hung(requests: list[Request]) -> set[int | None]:
    """The turns that came to no end: an agent that is killed may not say what it cost."""
    return {r.turn for r in requests if r.played == "hang"}
