"""What the four protocols have in common: a request and an answer with the shape taken off."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Json = dict[str, Any]
Role = Literal["user", "assistant", "tool"]
CHARS_PER_TOKEN = 4
CHUNK_CHARS = 24


@dataclass(frozen=True)
class Tool:
    """A tool that a request offers. ``group`` is the Responses namespace of an MCP server."""

    name: str
    schema: Json = field(default_factory=dict)
    kind: str = "function"
    group: str | None = None


@dataclass(frozen=True)
class Message:
    """One item of a conversation; ``ids`` are the ids of the tool calls in it."""

    role: Role
    text: str
    ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Asked:
    """A request for an answer. ``schema``: the JSON schema that the answer must have, if any."""

    model: str
    stream: bool
    messages: tuple[Message, ...]
    system: str = ""
    tools: tuple[Tool, ...] = ()
    schema: Json | None = None

    @property
    def text(self) -> str:
        """Everything readable in the request, system prompt first."""
        return "\n".join([self.system, *(message.text for message in self.messages)])

    @property
    def turns(self) -> int:
        """How many assistant turns it holds: runs of assistant items without a break."""
        roles = [message.role for message in self.messages]
        return sum(
            role == "assistant" and (i == 0 or roles[i - 1] != "assistant")
            for i, role in enumerate(roles)
        )


@dataclass(frozen=True)
class Call:
    """A tool call: ``raw`` is the text of a freeform tool, else ``arguments`` count."""

    tool: str
    arguments: Json = field(default_factory=dict)
    kind: str = "function"
    group: str | None = None
    raw: str = ""


@dataclass(frozen=True)
class Usage:
    """Tokens of one answer as the server reports them; ``input`` excludes ``cached``."""

    input: int
    output: int
    cached: int = 0

    @property
    def prompt(self) -> int:
        return self.input + self.cached


@dataclass(frozen=True)
class Answer:
    """What the model says: ``mark`` is in every id, so that later requests tell whose they are."""

    mark: str
    model: str
    text: str | None
    calls: tuple[Call, ...]
    usage: Usage
    refusal: bool = False


class Wire(Protocol):
    """One wire protocol, both ways."""

    name: str

    def read(self, body: Json) -> Asked:
        """The request without its shape; tolerant of fields it does not know."""
        ...

    def whole(self, answer: Answer) -> Json:
        """The answer as one JSON object."""
        ...

    def frames(self, answer: Answer) -> list[bytes]:
        """The answer as server-sent events, each ready for the socket."""
        ...

    def error(self, status: int, message: str, code: str | None) -> Json:
        """An HTTP error's body; ``code`` overrides the protocol's own word for the status."""
        ...


def sse(data: Json, event: str | None = None) -> bytes:
    """One server-sent event."""
    head = f"event: {event}\n" if event else ""
    return f"{head}data: {json.dumps(data)}\n\n".encode()


def chunks(text: str) -> list[str]:
    """The text in the pieces that a stream sends."""
    return [text[i : i + CHUNK_CHARS] for i in range(0, len(text), CHUNK_CHARS)]


def rough_tokens(characters: int) -> int:
    """Four characters a token: rough, the same for every client, and free."""
    return -(-characters // CHARS_PER_TOKEN)


def flat(content: object) -> str:
    """The text in a message's content, whatever mix of strings, lists and parts it is."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(piece for piece in map(flat, content) if piece)
    if isinstance(content, dict):
        for key in ("text", "content", "output", "thinking"):
            if key in content:
                return flat(content[key])
    return ""


def dicts(items: object) -> Iterable[Json]:
    """The dicts of a list, or nothing: a hostile body must not raise."""
    return (item for item in items if isinstance(item, dict)) if isinstance(items, list) else ()


def as_dict(value: object) -> Json:
    """The value if it is a dict, else an empty one."""
    return value if isinstance(value, dict) else {}
