"""What a language model is asked to write, and reading it back. Pure, and tolerant.

One block in a fence, ``key: value`` a line; a value goes on over the lines that follow until the
next key. Small models manage that where they fail at JSON.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from nightlab.model import Idea

PROPOSAL = """\
```nightlab
description: one line, what you changed, with the numbers (LR 0.04 → 0.02)
hypothesis: why it should help
category: one or two words, as in the list of categories where one fits
expects: the size of the effect you expect, and on what
idea: the number of the idea in the backlog that this follows; leave out if none
scratchpad: what you want to remember next time; it replaces your scratchpad; leave out to keep it
```"""

PLAN = """\
```nightlab
idea: one line, what to try
category: one or two words
priority: a number, higher is sooner
expects: the effect you expect, and on what
cost: small, medium or large
after: numbers of experiments that it combines or tests again; leave out if none
idea: the next one, and so on, the most promising first
veto: numbers of ideas in the backlog that are not worth trying any more; leave out if none
scratchpad: what you want to remember; it replaces your scratchpad; leave out to keep it
```"""

_OPEN = re.compile(r"^[ \t]*(`{3,}|~{3,})[ \t]*nightlab\b[^\n]*\n", re.MULTILINE)
_KEYS = (
    "description", "hypothesis", "category", "expects", "idea", "scratchpad", "priority", "cost",
    "after", "veto",
)  # fmt: skip
_KEY = re.compile(
    rf"[ \t]*[-*]?[ \t]*[*_`]*({'|'.join(_KEYS)})[*_`]*[ \t]*:[*_]*[ \t]*(.*)", re.IGNORECASE
)
_NUMBER = re.compile(r"\d{1,9}")
_MOST_IDEAS = 50
_MOST_CHARS = 2000


@dataclass(frozen=True)
class Said:
    """A proposal's words. Everything is "" or None where it was not said."""

    description: str = ""
    hypothesis: str = ""
    category: str = ""
    expects: str = ""
    idea: int | None = None
    scratchpad: str | None = None


@dataclass(frozen=True)
class Planned:
    """A plan's words; ids of ideas count from 1 here and mean nothing."""

    ideas: tuple[Idea, ...] = ()
    vetoed: tuple[int, ...] = ()
    scratchpad: str | None = None
    problems: tuple[str, ...] = field(default=())


def proposal(text: str) -> Said:
    """Read the last block of a message; without one, its ``key: value`` lines. Never raises."""
    said = dict(_pairs(text))
    number = _NUMBER.search(said.get("idea", ""))
    return Said(
        description=_line(said.get("description", "")),
        hypothesis=said.get("hypothesis", "")[:_MOST_CHARS],
        category=_line(said.get("category", ""))[:40],
        expects=_line(said.get("expects", "")),
        idea=int(number[0]) if number else None,
        scratchpad=said.get("scratchpad"),
    )


def plan(text: str) -> Planned:
    """Read a plan: ideas in their order, vetoes, the scratchpad. Never raises."""
    ideas: list[dict[str, str]] = []
    vetoed: list[int] = []
    scratchpad: str | None = None
    for key, value in _pairs(text):
        if key == "idea":
            ideas.append({"idea": value})
        elif key == "veto":
            vetoed += [int(n) for n in _NUMBER.findall(value)]
        elif key == "scratchpad":
            scratchpad = value
        elif ideas:
            ideas[-1][key] = value
    found = [i for i in ideas if i["idea"].strip()]
    return Planned(
        tuple(_idea(n, i) for n, i in enumerate(found[:_MOST_IDEAS], start=1)),
        tuple(dict.fromkeys(vetoed)),
        scratchpad,
        (f"{len(found) - _MOST_IDEAS} ideas beyond {_MOST_IDEAS} were left out",)
        if len(found) > _MOST_IDEAS
        else (),
    )


def _idea(number: int, said: dict[str, str]) -> Idea:
    priority = re.search(r"-?\d{1,6}(?:\.\d+)?", said.get("priority", ""))
    return Idea(
        id=number,
        text=_line(said["idea"]),
        category=_line(said.get("category", ""))[:40],
        priority=float(priority[0]) if priority else 0.0,
        expects=_line(said.get("expects", "")),
        cost=_line(said.get("cost", "")),
        after=tuple(int(n) for n in _NUMBER.findall(said.get("after", "")))[:20],
    )


def _pairs(text: str) -> list[tuple[str, str]]:
    """(key, value) in order; a value's lines as they stand, the ends trimmed."""
    pairs: list[tuple[str, list[str]]] = []
    for line in _block(text).splitlines():
        found = _KEY.fullmatch(line)
        # The scratchpad is free text and stands last: what looks like a key in it is text.
        if found and not (pairs and pairs[-1][0] == "scratchpad"):
            pairs.append((found[1].lower(), [found[2].strip()]))
        elif pairs:
            pairs[-1][1].append(line)
    return [(key, "\n".join(lines).strip()) for key, lines in pairs]


def _block(text: str) -> str:
    opened = list(_OPEN.finditer(text))
    if not opened:
        return text
    fence, rest = opened[-1][1], text[opened[-1].end() :]
    # The fence is closed by a line of it alone, or of more; the scratchpad may hold others.
    closing = re.compile(rf"^[ \t]*{re.escape(fence)}[{fence[0]}]*[ \t]*$", re.MULTILINE)
    ends = list(closing.finditer(rest))
    return rest[: ends[-1].start()] if ends else rest


def _line(text: str) -> str:
    return " ".join(text.split())[:300]
