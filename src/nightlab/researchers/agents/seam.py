"""What an adapter is: data, how to start the agent for one question, how to read its output."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from nightlab.model import Answer, Usage
from nightlab.researchers import Settings

# Where the agents that take any model may find one, and the keys that these providers want.
PROVIDERS = (
    "api.openai.com",
    "api.anthropic.com",
    "openrouter.ai",
    "generativelanguage.googleapis.com",
)
PROVIDER_KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "OPENROUTER_API_KEY", "GEMINI_API_KEY")


@dataclass(frozen=True)
class Order:
    """One question to one agent.

    ``tree`` is its copy of the project and where it starts, ``home`` its home (kept between
    questions), ``scratch`` a fresh folder that it may write to. ``brief`` is the file with the
    whole prompt, ``prompt`` the same text. ``writable`` are the files that it may change, there
    already or not, and ``patterns`` the scope they come from (both relative to ``tree``).
    ``usd`` is what the answer may cost, None without a bound.
    ``endpoint`` is the base URL of its model ("" for the provider's own), ``key`` its key.
    ``session`` is one to go on with. ``boxed``: walls stand around it, so that it needs none of
    its own.
    """

    settings: Settings
    program: str
    tree: Path
    home: Path
    scratch: Path
    brief: Path
    prompt: str
    writable: tuple[str, ...]
    patterns: tuple[str, ...]
    web: bool = False
    usd: float | None = None
    boxed: bool = False
    endpoint: str = ""
    key: str = ""
    session: str = ""


@dataclass(frozen=True)
class Start:
    """What to run. ``files`` are written below the home first (path -> text).

    ``stdin``: the prompt comes by standard input. ``words`` are where to look for programs
    that must be seen in a box, if not ``argv[0]``.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    stdin: bool = True
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Said:
    """What an agent said of itself. Nothing in it is believed but its own troubles and costs.

    ``ended``: it reported the end of its turn; None: its exit code alone says so. ``text`` is
    its last message, ``error`` its words for what failed, ``status`` the HTTP status of that.
    ``stop`` is how the turn ended where the protocol itself says so (LOOPED, REFUSAL).
    ``denied`` are calls that were refused: (tool, path or ""). An answer that edits nothing
    itself has whole texts in ``files`` or a unified diff in ``patch``; ``claim`` holds what it
    says of the change, in fields.
    """

    ended: bool | None = False
    text: str = ""
    error: str = ""
    status: int | None = None
    retry_after_s: float | None = None
    stop: Answer | None = None
    denied: tuple[tuple[str, str], ...] = ()
    usage: Usage = field(default_factory=Usage)
    session: str = ""
    files: Mapping[str, str | None] = field(default_factory=dict)
    patch: str = ""
    claim: Mapping[str, str] = field(default_factory=dict)


class Agent(Protocol):
    """An adapter. ``keys`` are the variables with credentials that it gets when they are set.

    The first takes the value of the variable that ``[researcher] key_env`` names. ``base`` is
    the variable with a base URL, ``hosts`` what it must reach without one, ``login`` files
    below the person's home by which it is logged in. ``cumulative``: what of its Usage
    counts from the session's beginning. ``hopeless`` is a pattern of output that says
    that it waits for its provider longer than is of use: then it is ended.
    """

    name: str
    program: str
    install: str
    keys: tuple[str, ...]
    base: str
    hosts: tuple[str, ...]
    login: tuple[str, ...]
    cumulative: tuple[str, ...]
    hopeless: str

    def start(self, order: Order) -> Start:
        """How to run it for this order."""
        ...

    def read(self, out: str, err: str, order: Order) -> Said:
        """What it said, from all of its output. Never raises, whatever it is."""
        ...


def objects(text: str) -> Iterator[dict[str, Any]]:
    """The JSON objects that stand on lines of their own."""
    for line in text.splitlines():
        if line.lstrip().startswith("{"):
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(value, dict):
                yield value


def whole(text: str) -> dict[str, Any]:
    """The last JSON object in a text that may hold other things around it; else empty."""
    decoder = json.JSONDecoder()
    at = len(text)
    while (at := text.rfind("\n{", 0, at)) >= 0:
        try:
            value, _ = decoder.raw_decode(text, at + 1)
        except (ValueError, RecursionError):
            continue
        return value if isinstance(value, dict) else {}
    try:
        value, _ = decoder.raw_decode(text.lstrip())
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def dig(value: object, *path: str | int) -> Any:
    """What lies at a path of keys and indices; None where there is nothing."""
    for key in path:
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, list) and isinstance(key, int) and -len(value) <= key < len(value):
            value = value[key]
        else:
            return None
    return value


def items(value: object, *path: str | int) -> list[Any]:
    """A list at a path, else an empty one."""
    found = dig(value, *path)
    return found if isinstance(found, list) else []


def number(value: object, *path: str | int) -> int:
    """A count at a path; 0 where there is none, as agents leave zeros out."""
    found = dig(value, *path)
    right = isinstance(found, (int, float)) and not isinstance(found, bool) and 0 <= found < 1e15
    return int(found) if right else 0


def words(value: object, *path: str | int) -> str:
    """A text at a path, else empty."""
    found = dig(value, *path)
    return found if isinstance(found, str) else ""


def money(value: object, *path: str | int) -> float | None:
    """A price at a path, None where there is none."""
    found = dig(value, *path)
    right = isinstance(found, (int, float)) and not isinstance(found, bool) and 0 <= found < 1e6
    return float(found) if right else None
