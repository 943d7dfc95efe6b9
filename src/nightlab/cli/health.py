"""What ``nightlab doctor`` looks at: each check is an answer, and where it is bad a cure."""

from __future__ import annotations

import platform
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from nightlab import (
    config,
    devices,
    expression,
    git,
    journal,
    notify,
    process,
    project,
    sandboxes,
    scope,
)
from nightlab.cli import remarks, words
from nightlab.cli.debrief import fold as folded
from nightlab.config import Paths, Settings
from nightlab.errors import NightlabError
from nightlab.git import Repo
from nightlab.history import fold
from nightlab.researchers import agents

_LEAST_FREE_BYTES = 200 * 1024**2
_OLDEST_GIT = (2, 17)
_SHELL_WORDS = (
    "cd",
    "exec",
    ".",
    "source",
    "export",
    "set",
    "ulimit",
    "if",
    "for",
    "while",
    "{",
    "(",
)


class State(StrEnum):
    """``bad`` would stop a run; ``warn`` is worth a look."""

    OK = "ok"
    WARN = "warn"
    BAD = "bad"


_MARKS = {State.OK: "✓", State.WARN: "!", State.BAD: "✗"}


@dataclass(frozen=True)
class Check:
    """One thing that was looked at; ``cure`` is what to do, empty where it is well."""

    name: str
    state: State
    text: str
    cure: str = ""

    def lines(self, width: int) -> list[str]:
        """Folded to the width; the cure is a command to copy, and stays in one piece."""
        said = folded(self.text, f"{_MARKS[self.state]} {self.name:<11} ", width)
        return [*said, f"  {'':<11} try: {self.cure}"] if self.cure else said

    def as_dict(self) -> dict[str, Any]:
        return {"name": self.name, "state": self.state, "text": self.text, "cure": self.cure}


def examine(folder: Path, *, send: bool = False) -> list[Check]:
    """Everything, in the order in which a night needs it. Never raises for what it finds.

    With ``send`` every address of ``[notify] to`` gets a message.
    """
    root = config.find_root(folder)
    repo, found = _repository(root or folder)
    settings, configured = _configuration(root, folder)
    checks = [_git(), found, _python(), configured]
    if settings is not None and root is not None:
        checks += [*_project(root, settings, repo), *_researcher(root, settings, repo)]
    if settings is not None:
        checks += _messages(settings, send=send)
    checks += [*_sandboxes(settings), _memory(settings), _disk(root or folder), _devices()]
    if root is not None:
        checks += _studies(Paths(root))
    return checks


def _of(name: str, error: NightlabError, state: State = State.BAD) -> Check:
    text = f"{error.what}: {error.why}" if error.why else error.what
    return Check(name, state, text, error.hint)


def _git() -> Check:
    try:
        said = process.call(("git", "--version")).stdout.decode("utf-8", "replace").strip()
    except NightlabError as error:
        return Check("git", State.BAD, error.why or error.what, "install git 2.17 or newer")
    numbers = tuple(map(int, re.findall(r"\d+", said)[:2]))
    if numbers < _OLDEST_GIT:
        return Check("git", State.BAD, f"{said} is too old", "install git 2.17 or newer")
    return Check("git", State.OK, said)


def _repository(folder: Path) -> tuple[Repo | None, Check]:
    try:
        repo = git.discover(folder)
        head = repo.head()
    except NightlabError as error:
        return None, _of("repository", error)
    changed = len(repo.uncommitted())
    dirty = f"; {changed} uncommitted, which no run sees" if changed else ""
    return repo, Check("repository", State.OK, f"{repo.top} at {head[:7]}{dirty}")


def _python() -> Check:
    return Check("python", State.OK, f"{platform.python_version()} on {platform.system()}")


def _configuration(root: Path | None, folder: Path) -> tuple[Settings | None, Check]:
    if root is None:
        text = f"there is no {config.CONFIG_NAME} in {folder} or above"
        return None, Check("config", State.BAD, text, "nightlab init")
    try:
        return config.load(root), Check("config", State.OK, f"{root / config.CONFIG_NAME}")
    except NightlabError as error:
        return None, _of("config", error)


def _project(root: Path, settings: Settings, repo: Repo | None) -> Iterator[Check]:
    yield _program(root, settings)
    if repo is None:
        return
    yield _scope(settings, repo)
    yield _metric(root, settings)
    for name in settings.data:
        if not (root / name).exists():
            text = f"{name} is not there, and [study] data names it"
            yield Check("data", State.BAD, text, f"restore {name}, or edit nightlab.toml")


def _program(root: Path, settings: Settings) -> Check:
    """Whether the first program of the command line is there, as a run would find it."""
    name = "command"
    try:
        words = shlex.split(settings.command)
    except ValueError as error:
        return Check(name, State.BAD, f"{settings.command}: {error}", "mend [study] command")
    while words and re.fullmatch(r"\w+=.*", words[0], re.DOTALL):
        words.pop(0)
    if not words or words[0] in _SHELL_WORDS or "$" in words[0]:
        return Check(name, State.OK, f"{settings.command} (a shell line: not looked at)")
    program = words[0]
    where = root / program if "/" in program else shutil.which(program)
    if where is None or not Path(where).exists():
        return Check(name, State.BAD, f"{program} is not found", "install it, or mend the command")
    return Check(name, State.OK, f"{settings.command}, with {where}")


def _scope(settings: Settings, repo: Repo) -> Check:
    prefix = f"{repo.prefix}/" if repo.prefix else ""
    inside = [p[len(prefix) :] for p in repo.files(repo.head()) if p.startswith(prefix)]
    for pattern in settings.edit:
        if not any(scope.matches(path, [pattern]) for path in inside):
            text = f"{pattern} is not in the last commit"
            cure = f"git add {shlex.quote(pattern)} && git commit -m 'start'"
            return Check("scope", State.BAD, text, cure)
    return Check("scope", State.OK, f"may change: {', '.join(settings.edit)}")


def _researcher(root: Path, settings: Settings, repo: Repo | None) -> Iterator[Check]:
    """Whether the coding agents that nightlab.toml names are there."""
    table = settings.researcher
    if table.get("use", "optuna") in remarks.TURNS and repo is not None:
        yield from _constants(root, settings)
    if "command" in (table.get("use"), table.get("agent")):
        yield _program_to_ask(root, table.get("command", ""), repo)
    for name in dict.fromkeys((table.get("use", ""), table.get("agent", ""))):
        if name in agents.AGENTS and name != "command":
            found, said, cure = agents.examine(name, table.get("command", ""))
            state = State.OK if found else State.BAD
            yield Check("researcher", state, f"{name}: {said}", cure)


def _constants(root: Path, settings: Settings) -> Iterator[Check]:
    """What the embedded researcher would turn: with nothing to turn a night has no proposals."""
    found = project.recognise(root, command=settings.command, edit=settings.edit)
    files = [name for name in remarks.in_scope(found, settings.edit) if (root / name).is_file()]
    if not files:  # the scope says so
        return
    try:
        names = remarks.constants(root, files)
    except NightlabError as error:
        yield _of("researcher", error)
        return
    if names:
        shown = ", ".join(names[:4]) + (" …" if len(names) > 4 else "")
        text = f"the embedded one: {words.count(len(names), 'constant')} to turn, {shown}"
        yield Check("researcher", State.OK, text)
        return
    alone = settings.researcher.get("use", "optuna") == "optuna"
    yield Check(
        "researcher",
        State.BAD if alone else State.WARN,
        f"the embedded one finds no constant in {', '.join(settings.edit)}: {remarks.NO_CONSTANT}",
        "write a constant such as LR = 0.1 at the top of a Python file in scope",
    )


def _program_to_ask(root: Path, command: str, repo: Repo | None) -> Check:
    """A program to ask runs in a copy of the commit: a script of the project must be in it."""
    if not command.strip():
        text = 'use = "command" names no program'
        cure = 'command = "…" under [researcher]; see docs/agents.md'
        return Check("researcher", State.BAD, text, cure)
    name = project.named_script(root, command)
    if name is None or repo is None or Path(name).is_absolute():
        return Check("researcher", State.OK, f"command: {command}")
    if (f"{repo.prefix}/{name}" if repo.prefix else name) in repo.files(repo.head()):
        return Check("researcher", State.OK, f"command: {command}")
    text = f"{name} is not in the last commit, and {command!r} runs in a copy of that"
    cure = f"name it by its full path, {shlex.quote(str(root / name))}, in [researcher] command"
    return Check("researcher", State.BAD, text, cure)


def _metric(root: Path, settings: Settings) -> Check:
    metric = settings.objective.metric
    text = f"{metric}, {settings.objective.better.value} is better"
    found = project.recognise(root, command=settings.command, edit=settings.edit)
    composite = settings.objective.expression
    parts = expression.parts(composite) if composite else (metric,)
    if composite:
        text = f"{text}; computed as {composite}"
    if set(parts) <= set(found.metrics):
        return Check("metric", State.OK, f"{text}; the script prints it")
    metric = next(part for part in parts if part not in found.metrics)
    cure = f"nothing, if a run prints a line `{metric}: value`; the first run will tell"
    return Check("metric", State.WARN, f"{text}; not seen in the source", cure)


def _messages(settings: Settings, *, send: bool) -> Iterator[Check]:
    """Whether a person who is elsewhere can be told."""
    if not settings.notify.to and send:
        cure = '[notify] to = ["$NIGHTLAB_NOTIFY_URL"]; see docs/configuration.md'
        yield Check("notify", State.BAD, "nightlab.toml names nobody to tell", cure)
    for name, wrong in notify.try_out(settings.notify, send=send):
        cure = f'see why: uvx apprise -vv -b test "${name}"' if send else f"export {name}='…'"
        well = "a test message was taken" if send else "nightlab doctor --notify tries it"
        state = State.BAD if wrong else State.OK
        yield Check("notify", state, wrong or f"${name}: {well}", cure if wrong else "")


def _sandboxes(settings: Settings | None) -> Iterator[Check]:
    wanted = settings.sandbox if settings else "auto"
    works = False
    options = sandboxes.Options(image=settings.image if settings else None)
    for name in sandboxes.SANDBOXES:
        try:
            sandbox = sandboxes.open_sandbox(name, options)
        except NightlabError as error:
            state = State.BAD if name == wanted else State.WARN
            yield _of(f"box {name}", error, state)
            continue
        chosen = " (in use)" if name == wanted or (wanted == "auto" and not works) else ""
        works = True
        text = f"works{chosen}. Covers: {sandbox.covers}. Leaves open: {sandbox.leaves_open}"
        yield Check(f"box {name}", State.OK, text)
    if wanted not in ("auto", *sandboxes.SANDBOXES):
        known = ", ".join(sandboxes.SANDBOXES)
        text = f"no sandbox is called {wanted!r}"
        yield Check("sandbox", State.BAD, text, f"mend [sandbox] use: auto, {known}")
    elif not works:
        yield Check("sandbox", State.BAD, "none works on this machine", "see above")


def _memory(settings: Settings | None) -> Check:
    """Who holds the memory of a run with all its processes."""
    held, text = process.held_by()
    limit = settings.memory_bytes if settings else None
    bound = f"at most {limit / 1024**3:.3g} GiB a run" if limit else "no bound is set"
    if held:
        return Check("memory", State.OK, f"{bound}; held by the kernel, for groups in {text}")
    return Check("memory", State.OK, f"{bound}; watched four times a second ({text})")


def _disk(folder: Path) -> Check:
    free = shutil.disk_usage(folder).free
    text = f"{free / 1024**3:.1f} GiB free"
    if free < _LEAST_FREE_BYTES:
        return Check("disk", State.BAD, text, f"free some space: df -h {shlex.quote(str(folder))}")
    return Check("disk", State.OK, text)


def _devices() -> Check:
    gpus = devices.gpu_list()
    names = ", ".join(gpu.name for gpu in gpus) or "no GPU"
    try:
        slots = ", ".join(slot.name for slot in devices.slots())
    except NightlabError as error:
        return _of("devices", error)
    return Check("devices", State.OK, f"{names}, {devices.cpu_count()} cores; slots: {slots}")


def _studies(paths: Paths) -> Iterator[Check]:
    for tag in paths.tags():
        name = f"study {tag}"
        try:
            history = fold(journal.read(paths.journal(tag)))
        except NightlabError as error:
            yield _of(name, error)
            continue
        text = f"{words.count(len(history.experiments), 'experiment')}, journal sound"
        if journal.is_locked(paths.lock(tag)):
            text += f"; held by {journal.describe_holder(paths.lock(tag))}"
        yield Check(name, State.OK, text)
