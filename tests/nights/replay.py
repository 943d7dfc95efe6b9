"""Replaying a night: an example's project, ``nightlab run`` as a process, an agent with a script.

Each night is a module ``tests/nights/<example>.py``:

- ``STEPS: tuple[Step, ...]``: what the agent proposes, in order (see ``agent.py`` for how);
- ``SHORT: tuple[int, ...]``: indices of the steps of the short form (default: all);
- ``GAIN: int | None``: the index of the step with the planted big gain, which must be kept;
- ``FAST: dict[str, str]``: what makes a run of the short form short. ``budget`` and
  ``kill_factor`` are keys of ``[study]``; ``FILE:NAME`` sets the constant ``NAME`` in ``FILE``
  before the first commit; anything else is a variable in the command's environment;
- ``SLOW: dict[str, str]``: the same for the whole form (default: nothing, the example as it is).

``python -m tests.nights.replay EXAMPLE FOLDER [--short]`` plays one by hand and prints its story.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.nights import agent
from tests.support import git, torch_python

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TAG = "night"
# Wrong on purpose and never an experiment, each with what nightlab may call the answer.
NO_EXPERIMENT = {
    "refusal": ("refusal",),
    "question": ("question",),
    "prose": ("no_edit",),
    "forbidden": ("out_of_scope", "no_edit", "denied"),
    "duplicate": ("duplicate",),
    "syntax": ("broken_syntax",),
}
# Wrong on purpose and an experiment, each with the outcomes that its run may have.
FAILING = {
    "crash": ("crashed",),
    "oom": ("oom", "crashed"),
    "nan": ("diverged",),
    "timeout": ("timed_out",),
    "silent": ("no_metric",),
}
# An experiment that measures, and must not be kept: a metric that falls, a guard that is broken.
NOT_KEPT = ("collapse", "guard")
_KEYS = ("budget", "kill_factor")
_NOT_COPIED = shutil.ignore_patterns(
    "__pycache__", "data", "held", ".nightlab", "results.tsv", "debrief"
)


@dataclass(frozen=True)
class Step:
    """One proposal. ``edits`` are (file, old text, new text) on the parent's files.

    ``old`` must stand there exactly once; "" for a new file. ``fails`` is "" or what is wrong on
    purpose: a key of NO_EXPERIMENT, FAILING, or one of NOT_KEPT. ``mend`` are the edits with
    which the agent answers when its crash comes back; without them it gives up. A crash that is
    mended is none: its ``fails`` is "mended".
    """

    description: str
    hypothesis: str
    category: str
    edits: tuple[tuple[str, str, str], ...] = ()
    expects: str = ""
    fails: str = ""
    mend: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True)
class Script:
    """A night's module, read. ``steps`` by their index in STEPS."""

    example: str
    steps: Mapping[int, Step]
    gain: int | None
    overrides: Mapping[str, str]


@dataclass(frozen=True)
class Night:
    """What is left of a night: the journal's raw events, the debrief's facts, the agent's memory.

    ``given`` are the steps that the agent proposed, in order (one that was overtaken by a new
    incumbent once more); ``dropped`` those that never
    fitted; ``fixes`` those whose crash came back to it, once for each time. ``root`` is the
    person's project, ``start`` its commit, ``out`` what nightlab printed.
    """

    script: Script
    root: Path
    start: str
    events: tuple[dict[str, Any], ...]
    facts: dict[str, Any]
    page: str
    given: tuple[int, ...]
    dropped: tuple[int, ...]
    fixes: tuple[int, ...]
    out: str

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The journal's events of one type."""
        return [event for event in self.events if event["type"] == kind]

    def numbers(self) -> dict[int, int]:
        """Steps that became experiments -> their numbers, matched in order."""
        answers = self.answers()
        return {step: e["number"] for step, e in answers if e["answer"] == "proposed"}

    def answers(self) -> list[tuple[int, dict[str, Any]]]:
        """Each step that was proposed, in order, with what the journal says came of it."""
        asked = [e for e in self.of("asked") if e["task"] == "propose" and e["answer"] != "stopped"]
        return list(zip(self.given, asked, strict=True))


def script(example: str, *, short: bool) -> Script:
    """Read ``tests/nights/<example>.py``."""
    module = importlib.import_module(f"tests.nights.{example}")
    steps: tuple[Step, ...] = module.STEPS
    chosen = getattr(module, "SHORT", range(len(steps))) if short else range(len(steps))
    overrides = getattr(module, "FAST" if short else "SLOW", {})
    gain = getattr(module, "GAIN", None)
    assert gain is None or gain in chosen
    return Script(example, {n: steps[n] for n in chosen}, gain, overrides)


def play(script: Script, folder: Path, *, within_s: float) -> Night:
    """Play a night in ``folder`` (to be made) and read what is left of it.

    Skips the test where the example needs torch and no interpreter has it.
    """
    needs = EXAMPLES / script.example / "requirements.txt"
    torch = needs.is_file() and re.search(r"(?m)^torch\b", needs.read_text()) is not None
    python = torch_python() if torch else sys.executable
    folder.mkdir(parents=True)
    steps = folder / "steps.json"
    steps.write_text(json.dumps({str(n): asdict(step) for n, step in script.steps.items()}))
    env = _environment(python)
    root = _project(script, folder, env, steps)
    _run(root, env, folder / "log.txt", within_s)
    return read(script, folder)


def read(script: Script, folder: Path) -> Night:
    """What is left of a night that was played in ``folder``."""
    root = folder / script.example
    memory = json.loads((_home(root) / agent.MEMORY).read_text())
    whole = (root / ".nightlab" / TAG / "journal.jsonl").read_text()
    report = _nightlab(root, dict(os.environ), "report", "--json")
    return Night(
        script,
        root,
        git(root, "rev-parse", "main").strip(),
        tuple(json.loads(line) for line in whole.splitlines()),
        json.loads(report)["facts"],
        (root / ".nightlab" / TAG / "report" / "report.md").read_text(),
        *(tuple(int(n) for n in memory[key]) for key in ("given", "dropped", "fixes")),
        (folder / "log.txt").read_text(),
    )


def _environment(python: str) -> dict[str, str]:
    """The example's interpreter is ``python``, as in a person's activated environment.

    Its own folder is first on the PATH; one without a ``python`` gets a folder that has it.
    """
    path = os.pathsep.join((str(Path(python).parent), os.environ["PATH"]))
    return {**os.environ, "PATH": path, "NO_COLOR": "1"}


def _project(script: Script, folder: Path, env: dict[str, str], steps: Path) -> Path:
    """A copy of the example as its owner's repository, prepared, with the replayed agent."""
    root = folder / script.example
    shutil.copytree(EXAMPLES / script.example, root, ignore=_NOT_COPIED)
    variables = {}
    toml = (root / "nightlab.toml").read_text()
    for key, value in script.overrides.items():
        file, _, name = key.partition(":")
        if name:
            path = root / file
            text, found = re.subn(
                rf"(?m)^{name} = [^\n#]*?(?=\s*(#|$))", f"{name} = {value}", path.read_text()
            )
            assert found == 1, key
            path.write_text(text)
        elif key in _KEYS:
            quoted = f'"{value}"' if key == "budget" else value
            toml, found = re.subn(rf"(?m)^{key}\s*=\s*\S+", f"{key} = {quoted}", toml)
            if not found:
                toml = toml.replace("[study]\n", f"[study]\n{key} = {quoted}\n", 1)
        else:
            variables[key] = value
    settings = "".join(f"{key}={shlex.quote(value)} " for key, value in variables.items())
    toml = re.sub(r'(?m)^command(\s*=\s*)"', lambda m: f'command{m[1]}"{settings}', toml, count=1)
    toml = re.sub(r"(?ms)^\[researcher\]\n.*?(?=^\[|\Z)", "", toml)
    command = shlex.join([sys.executable, agent.__file__, str(steps)])
    toml += f'\n[researcher]\nuse = "command"\ncommand = {json.dumps(command)}\n'
    toml += 'fallback = "none"\nplan_every = 0\n'
    (root / "nightlab.toml").write_text(toml)
    git(root, "init", "-q", "-b", "main")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "start")
    if (root / "prepare.py").is_file():
        done = subprocess.run(
            ["python", "prepare.py"], cwd=root, env=env | variables, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    return root


def _home(root: Path) -> Path:
    return root / ".nightlab" / TAG / "desk" / "home"


def _nightlab(root: Path, env: dict[str, str], *args: str) -> str:
    command = [sys.executable, "-m", "nightlab", args[0], "-C", str(root), *args[1:]]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _run(root: Path, env: dict[str, str], log: Path, within_s: float) -> None:
    """``nightlab run`` until the agent has nothing left; then stop it, as a person would."""
    command = [sys.executable, "-m", "nightlab", "run", "-C", str(root), "--plain", "--tag", TAG]
    with log.open("w") as out:
        lab = subprocess.Popen(command, env=env, stdout=out, stderr=subprocess.STDOUT)
    try:
        end = time.monotonic() + within_s
        while not _is_over(root):
            assert lab.poll() is None, f"the lab has ended:\n{log.read_text()}"
            assert time.monotonic() < end, f"not within {within_s} s:\n{log.read_text()}"
            time.sleep(0.2)
        _nightlab(root, env, "stop")
        code = lab.wait(60)
        assert code in (0, 4), log.read_text()  # 4: nothing was kept
    finally:
        if lab.poll() is None:
            lab.terminate()
            lab.wait(60)


def _is_over(root: Path) -> bool:
    """Whether the agent has nothing left and every experiment is settled."""
    memory = _home(root) / agent.MEMORY
    if not memory.exists() or not json.loads(memory.read_text())["done"]:
        return False
    text = (root / ".nightlab" / TAG / "journal.jsonl").read_text().rpartition("\n")[0]
    kinds = [json.loads(line)["type"] for line in text.splitlines()]
    return kinds.count("proposed") == kinds.count("settled")


def tell(night: Night) -> str:
    """A line a step: what was tried, what became of it."""
    numbers = night.numbers()
    judged = {e["number"]: e["decision"] for e in night.of("judged")}
    verdicts = {e["number"]: e["verdict"] for e in night.of("settled")}
    lines = []
    for n, event in night.answers():
        step, number = night.script.steps[n], numbers.get(n)
        if number is None:
            became = f"{event['answer']}: {event.get('detail', '')}"
        else:
            decision = judged[number]
            became = f"exp {number} {verdicts[number]} ({decision['rule']}): {decision['reason']}"
        lines.append(f"{n:3} {step.fails or '-':9} {step.description}\n      {became[:200]}")
    lines += [f"{n:3} dropped   {night.script.steps[n].description}" for n in night.dropped]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("example")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--short", action="store_true")
    options = parser.parse_args()
    began = time.monotonic()
    chosen = script(options.example, short=options.short)
    night = play(chosen, options.folder.absolute(), within_s=6 * 3600.0)
    print(tell(night))
    print(f"{len(night.given)} steps in {time.monotonic() - began:.0f} s: {night.root}")


if __name__ == "__main__":
    main()
