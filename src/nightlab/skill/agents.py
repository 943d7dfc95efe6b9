"""What each agent needs: the skill, the server in its configuration, permissions, a stop hook."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nightlab.skill.merging import Block, Entry, Part, Whole

NAME = "nightlab"
_TOOL_TIMEOUT_S = 600


@dataclass(frozen=True)
class Order:
    """Where to install: ``root`` is the project's folder, or with ``user`` the person's home.

    ``program`` starts nightlab; ``sealed`` are paths of the project that no tool may edit.
    """

    root: Path
    user: bool
    program: tuple[str, ...]
    sealed: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        return self.program[0]

    @property
    def arguments(self) -> list[str]:
        return [*self.program[1:], "mcp"]


@dataclass(frozen=True)
class Needs:
    """The parts to write, and sentences about what the person has to do."""

    parts: tuple[Part, ...]
    told: tuple[str, ...] = ()


def skill_text() -> str:
    """The SKILL.md that is shipped."""
    return Path(__file__).with_name("SKILL.md").read_text(encoding="utf-8")


def _skill(folder: Path) -> Whole:
    return Whole(folder / NAME / "SKILL.md", skill_text())


def claude(order: Order) -> Needs:
    """Claude Code: skill, server, allow and deny rules, and the hook that holds the session."""
    home = order.root / ".claude"
    settings = home / "settings.json"
    hook = f"{_shell(order.program)} skill stop-hook"
    parts: list[Part] = [_skill(home / "skills")]
    told = []
    if order.user:
        words = " ".join((_shell(order.program), "mcp"))
        told.append(f"run: claude mcp add --scope user {NAME} -- {words}")
    else:
        server = {"command": order.command, "args": order.arguments}
        parts.append(Entry(order.root / ".mcp.json", ("mcpServers", NAME), server))
        parts.append(Entry(settings, ("enabledMcpjsonServers",), NAME, item=True))
        parts += [
            Entry(settings, ("permissions", "deny"), f"Edit(/{path})", item=True)
            for path in order.sealed
        ]
        told.append("trust the folder when Claude Code asks: its allow rules count only then")
    parts.append(Entry(settings, ("permissions", "allow"), f"mcp__{NAME}", item=True))
    held = {"hooks": [{"type": "command", "command": hook, "timeout": 10}]}
    parts.append(Entry(settings, ("hooks", "Stop"), held, item=True))
    return Needs(tuple(parts), tuple(told))


def codex(order: Order) -> Needs:
    """Codex: without "approve" each call would fail, and calls end after 60 s by default."""
    text = "\n".join(
        [
            f"[mcp_servers.{NAME}]",
            f"command = {json.dumps(order.command)}",
            f"args = {json.dumps(order.arguments)}",
            'default_tools_approval_mode = "approve"',
            f"tool_timeout_sec = {_TOOL_TIMEOUT_S}",
            "startup_timeout_sec = 30",
        ]
    )
    block = Block(order.root / ".codex" / "config.toml", ("mcp_servers", NAME), text)
    told = () if order.user else ("trust the folder when Codex asks: its settings count only then",)
    return Needs((_skill(order.root / ".agents" / "skills"), block), told)


def gemini(order: Order) -> Needs:
    """Gemini CLI: without trust a server's tools are not offered headless."""
    server = {
        "command": order.command,
        "args": order.arguments,
        "trust": True,
        "timeout": _TOOL_TIMEOUT_S * 1000,
    }
    home = order.root / ".gemini"
    entry = Entry(home / "settings.json", ("mcpServers", NAME), server)
    return Needs((_skill(home / "skills"), entry))


def opencode(order: Order) -> Needs:
    """Opencode."""
    server = {
        "type": "local",
        "command": [order.command, *order.arguments],
        "enabled": True,
        "timeout": _TOOL_TIMEOUT_S * 1000,
    }
    home = order.root / ".config" / "opencode" if order.user else order.root
    skills = home / "skills" if order.user else order.root / ".opencode" / "skills"
    return Needs((_skill(skills), Entry(home / "opencode.json", ("mcp", NAME), server)))


AGENTS: dict[str, Callable[[Order], Needs]] = {
    "claude": claude,
    "codex": codex,
    "gemini": gemini,
    "opencode": opencode,
}


def _shell(program: tuple[str, ...]) -> str:
    import shlex  # noqa: PLC0415  one use

    return shlex.join(program)
