"""The folders of one call, and what is in them before the agent begins."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from nightlab.model import Usage
from nightlab.researchers import Context
from nightlab.researchers import Desk as Seat
from nightlab.researchers.agents import tree
from nightlab.researchers.agents.command import CONTEXT_NAME
from nightlab.researchers.agents.seam import Agent

_SCRIPT_BYTES = 16 * 1024


@dataclass(frozen=True)
class Desk:
    """The folders of one call, under their real names."""

    top: Path
    tree: Path
    home: Path
    scratch: Path
    log: Path
    scratchpad: str  # its name in the tree

    @property
    def errors(self) -> Path:
        return self.scratch / "stderr.txt"


def lay_out(seat: Seat, context: Context) -> Desk:
    """A fresh copy of the project and scratch folder beside the home that stays."""
    seat.folder.mkdir(parents=True, exist_ok=True)
    top = Path(os.path.realpath(seat.folder))
    project = tree.fresh(top / "project")
    seat.checkout(project)
    scratch = tree.fresh(top / "scratch")
    (scratch / "tmp").mkdir()
    home = top / "home"
    if home.is_symlink() or not home.is_dir():
        tree.fresh(home)
    for name in (".config", ".local/share", ".local/state", ".cache"):
        tree.place(home, f"{name}/.keep", "")
    pad = "scratchpad.md"
    while (project / pad).exists() or (project / pad).is_symlink():
        pad = f"nightlab-{pad}"
    tree.place(project, pad, context.scratchpad, mode=0o644)
    tree.place(scratch, CONTEXT_NAME, _as_json(context), mode=0o644)
    return Desk(top, project, home, scratch, top / "log.txt", pad)


def _as_json(context: Context) -> str:
    """The context for a program: everything but the desk."""
    fields = {k: v for k, v in vars(context).items() if k != "desk"}
    if context.failure is not None:
        fields["failure"] = vars(context.failure)
    return msgspec.json.encode(fields).decode()


def log_in(agent: Agent, home: Path) -> None:
    """Copy the person's login into the agent's home, unless a later one is there already."""
    for name in agent.login:
        source, there = Path.home() / name, home / name
        try:
            if there.exists() and there.stat().st_mtime >= source.stat().st_mtime:
                continue
            tree.place(home, name, source.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError):
            continue  # not logged in; the agent will say so


def launched(program: str) -> tuple[str, ...]:
    """A program, and what it starts where it is a script for the shell: all must be in the box."""
    text = tree.text_of(Path(os.path.realpath(program)), _SCRIPT_BYTES) or ""
    if not re.match(r"#!\S*/(?:ba|da|z|)sh\b|#!/usr/bin/env (?:ba|)sh\b", text):
        return (program,)
    return (program, *(p for p in re.findall(r"(?<![\w$}])/[\w./@+-]+", text) if Path(p).is_file()))


def shown(named: tuple[str, ...]) -> tuple[Path, ...]:
    """Files that a command line names by full path, like a script of the person's."""
    return tuple(Path(w) for w in named if w.startswith("/") and Path(w).is_file())


def session(desk: Desk, name: str) -> dict[str, str]:
    """The session that this agent may go on with: its id and what it has cost."""
    try:
        record = json.loads(tree.text_of(desk.top / "session.json") or "{}")
    except ValueError:
        return {}
    return record if isinstance(record, dict) and record.get("agent") == name else {}


def since(earlier: object, usage: Usage, names: tuple[str, ...]) -> Usage:
    """A session's accounts less what they were before this call, where they count on."""
    try:
        was = msgspec.convert(earlier, Usage)
    except msgspec.ValidationError:
        return usage
    news: dict[str, Any] = {}
    for name in names:
        now, then = getattr(usage, name), getattr(was, name)
        if now is not None and then is not None and now >= then:  # else it was counted anew
            news[name] = now - then
    return msgspec.structs.replace(usage, **news)
