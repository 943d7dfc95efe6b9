"""A scenario: what the scripted model does, turn after turn, in a TOML file.

    final = "Done."                       # said when a turn has no step left

    [[turn]]                              # one turn: what the model does for one proposal
    name = "a higher rate"                # optional, for the log and for errors
    when = "crash"                        # optional: only where the prompt contains this
    repeat = 2                            # optional: for so many conversations, or "always"
    usage = { input = 1200, output = 80, cached = 0 }   # optional: of each answer
    steps = [
      { read = "train.py" },
      { status = 429, retry_after = 1, repeat = 2 },
      { edit = "train.py", old = "LR = 0.1", new = "LR = 0.2", say = "A higher rate." },
    ]

A step is one **answer** of the model, or one **failure** before the next answer. Answers:

    say = TEXT, ask = TEXT         text without a call: a client ends its turn there
    nothing = true                 an empty answer
    refuse = TEXT                  a refusal in the protocol's own field
    read = PATH                    the client's own tool for it; so are the next three
    edit = PATH, old = …, new = …  whole lines: patches and search blocks know no others
    write = PATH, content = …
    run = COMMAND                  a shell command
    call = TOOL, arguments = {…}   a tool by name or the end of its name (MCP: without prefix);
                                   raw = TEXT instead of arguments for a freeform tool

    with any: say = TEXT before the call · delay = SECONDS before the first byte
              usage = {…} · repeat = N · take = { NAME = 'regex (group)' }: the last match
              in the request replaces {NAME} in the step's strings

Failures, each used by one request (``repeat = N``: by N), then the next step is due:

    status = CODE, message = …, code = …, retry_after = SECONDS    in the protocol's own shape
    reset = true                   the connection closes before any answer
    cut = 0.5                      the next answer's stream, dropped at that share of it
    stall = 0.5, seconds = 60      the same, but silent for so long before it drops
    hang = true, seconds = 600     no byte at all for so long
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nightlab.errors import ConfigError

REPEAT_MAX = 10_000
COMMON = {"repeat": int, "delay": (int, float)}
ANSWERED = COMMON | {"usage": dict, "take": dict, "say": str}
# What a step does -> (type of its value, the other keys it may have); a key with `!` is needed.
ANSWERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "read": (str, {}),
    "edit": (str, {"old!": str, "new!": str}),
    "write": (str, {"content!": str}),
    "run": (str, {}),
    "call": (str, {"arguments": dict, "raw": str}),
    "refuse": (str, {}),
    "ask": (str, {}),
    "nothing": (bool, {}),
    "say": (str, {}),  # last: beside another action it is what is said before the call
}
FAILURES: dict[str, tuple[Any, dict[str, Any]]] = {
    "status": (int, {"message": str, "code": str, "retry_after": (int, float)}),
    "reset": (bool, {}),
    "cut": ((int, float), {}),
    "stall": ((int, float), {"seconds": (int, float)}),
    "hang": (bool, {"seconds": (int, float)}),
}
SECONDS = {"stall": 60.0, "hang": 600.0}
TURN_KEYS = {"name": str, "when": str, "repeat": (int, str), "usage": dict, "steps": list}
USAGE_KEYS = ("input", "output", "cached")


@dataclass(frozen=True)
class Step:
    """One answer or failure. ``does`` is its word, ``value`` that word's value."""

    does: str
    value: Any = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fails(self) -> bool:
        return self.does in FAILURES

    @property
    def delay_s(self) -> float:
        return float(self.options.get("delay", 0.0))


@dataclass(frozen=True)
class Turn:
    """What the model does for one proposal. ``repeat`` None: for every conversation."""

    steps: tuple[Step, ...]
    name: str = ""
    when: str = ""
    repeat: int | None = 1
    usage: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Scenario:
    """The turns in order, and what is said when they are spent."""

    turns: tuple[Turn, ...] = ()
    final: str = "Done."


def load(path: Path) -> Scenario:
    """Read a scenario file. Raises ConfigError that names file, line, turn and step."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"the scenario {path} cannot be read", str(error), f"ls {path.parent}"
        ) from error
    return parse(text, path.name)


def parse(text: str, source: str = "scenario") -> Scenario:
    """The scenario in a TOML text. Raises ConfigError that names line, turn and step."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source} is not TOML", str(error), f"edit {source}") from error
    _check(table, {"final": str, "turn": list}, source)
    lines = [n for n, line in enumerate(text.splitlines(), 1) if re.match(r"\s*\[\[turn\]\]", line)]
    turns = []
    for number, entry in enumerate(table.get("turn", []), 1):
        line = f" (line {lines[number - 1]})" if len(lines) >= number else ""
        name = f" {entry['name']!r}" if isinstance(entry, dict) and "name" in entry else ""
        turns.append(_turn(entry, f"{source}, turn {number}{name}{line}"))
    return Scenario(tuple(turns), table.get("final", "Done."))


def scenario(*turns: list[dict[str, Any]] | dict[str, Any], final: str = "Done.") -> Scenario:
    """The same from Python values: each turn a table as in the file, or only its steps."""
    tables = [turn if isinstance(turn, dict) else {"steps": turn} for turn in turns]
    checked = [_turn(table, f"turn {number}") for number, table in enumerate(tables, 1)]
    return Scenario(tuple(checked), final)


def _turn(entry: object, where: str) -> Turn:
    table = _check(entry, TURN_KEYS, where, needed=("steps",))
    repeat: int | str | None = table.get("repeat", 1)
    if repeat == "always":
        repeat = None
    elif not isinstance(repeat, int) or not 1 <= repeat <= REPEAT_MAX:
        raise _wrong(where, f'repeat is a number from 1 to {REPEAT_MAX} or "always"')
    steps: list[Step] = []
    for number, given in enumerate(table["steps"], 1):
        steps += _step(given, f"{where}, step {number}")
    if not steps:
        raise _wrong(where, 'a turn has at least one step: { nothing = true }, { say = "…" }')
    usage = _usage(table.get("usage", {}), where)
    return Turn(tuple(steps), table.get("name", ""), table.get("when", ""), repeat, usage)


def _step(given: object, where: str) -> list[Step]:
    """The step as often as it is to be played."""
    if not isinstance(given, dict):
        raise _wrong(where, "a step is a table")
    known = FAILURES | ANSWERS
    named = [word for word in known if word in given]
    if not named:
        words = ", ".join(known)
        raise _wrong(where, f"a step does one of {words}{_near(given, known)}")
    does = named[0]
    if len([word for word in named if word != "say"]) > 1:
        raise _wrong(where, f"a step does one thing, not {' and '.join(named)}")
    kind, own = known[does]
    keys = {does: kind} | {key.removesuffix("!"): of for key, of in own.items()}
    keys |= COMMON if does in FAILURES else ANSWERED
    table = _check(given, keys, where, tuple(k[:-1] for k in own if k.endswith("!")))
    _check_values(does, table, where)
    options = {key: value for key, value in table.items() if key not in (does, "repeat")}
    if does in SECONDS:
        options.setdefault("seconds", SECONDS[does])
    if "usage" in options:
        options["usage"] = _usage(options["usage"], where)
    return [Step(does, table[does], options)] * table.get("repeat", 1)


def _check_values(does: str, table: Mapping[str, Any], where: str) -> None:
    if does in ("nothing", "reset", "hang") and table[does] is not True:
        raise _wrong(where, f"{does} is true, or is not there")
    if does == "status" and not 400 <= table[does] <= 599:
        raise _wrong(where, "status is an error: 400 to 599")
    if does in ("cut", "stall") and not 0 <= table[does] < 1:
        raise _wrong(where, f"{does} is a share of the answer: at least 0, below 1")
    if not 1 <= table.get("repeat", 1) <= REPEAT_MAX:
        raise _wrong(where, f"repeat is a number from 1 to {REPEAT_MAX}")
    if min(table.get("delay", 0), table.get("seconds", 0), table.get("retry_after", 0)) < 0:
        raise _wrong(where, "a time is not negative")
    for name, pattern in table.get("take", {}).items():
        try:
            groups = re.compile(pattern).groups
        except (re.error, TypeError) as error:
            raise _wrong(where, f"take.{name} is not a regular expression: {error}") from error
        if groups != 1:
            raise _wrong(where, f"take.{name} has one group, not {groups}")


def _usage(table: Mapping[str, Any], where: str) -> dict[str, int]:
    _check(table, dict.fromkeys(USAGE_KEYS, int), f"{where}, usage")
    if any(value < 0 for value in table.values()):
        raise _wrong(where, "tokens are not negative")
    return dict(table)


def _check(
    given: object, keys: Mapping[str, Any], where: str, needed: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The table, if it has only these keys with values of these types."""
    if not isinstance(given, dict):
        raise _wrong(where, "this is a table")
    for key, value in given.items():
        if key not in keys:
            raise _wrong(where, f"the key {key!r} is not known here{_near([key], keys)}")
        kinds = keys[key] if isinstance(keys[key], tuple) else (keys[key],)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            wanted = " or ".join(kind.__name__ for kind in kinds)
            raise _wrong(where, f"{key} is a {wanted}, not {value!r}")
    for key in needed:
        if key not in given:
            raise _wrong(where, f"the key {key!r} is missing")
    return given


def _near(given: object, known: Mapping[str, Any]) -> str:
    words = [str(key) for key in given] if isinstance(given, (dict, list)) else []
    near = [n for word in words for n in difflib.get_close_matches(word, known, n=1)]
    return f" (did you mean {near[0]}?)" if near else ""


def _wrong(where: str, why: str) -> ConfigError:
    return ConfigError(where, why, "pydoc nightlab.testing.model_server.scenarios")
