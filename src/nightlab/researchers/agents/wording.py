"""What an agent is told, and what its last message says of the change: words both ways."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from nightlab.model import Idea
from nightlab.researchers import Context, Plan, Task
from nightlab.researchers.agents.seam import dig, money, words

_FIELDS = ("description", "hypothesis", "category", "expects", "idea")
_BLOCK = re.compile(
    r"^[ \t]*(`{3,}|~{3,})[ \t]*nightlab\b[^\n]*\n(.*?)(?:^[ \t]*\1|\Z)", re.M | re.S
)
_JSON = re.compile(
    r"^[ \t]*(`{3,}|~{3,})[ \t]*(?:json|nightlab)[^\n]*\n(.*?)(?:^[ \t]*\1|\Z)", re.M | re.S
)
_FIELD = re.compile(rf"^[\s>*_-]*({'|'.join(_FIELDS)})[*_]*\s*[:=]\s*(.*)$", re.IGNORECASE)
_DESCRIPTION_CHARS, _TEXT_CHARS, _IDEAS = 200, 1000, 50
_ENDING = """\
When you are done, end your last message with this block, filled in, one line each:

```nightlab
description: what you changed, in one line
hypothesis: why it should help
category: one word, like optimizer, schedule, architecture, regularization, data, simplification
expects: the effect that you expect, like -0.01
idea: the number of the backlog's idea that you followed, or none
```
"""
_PLAN_ENDING = """\
End your last message with your plan in this form, most promising first:

```json
{"ideas": [{"text": "one hypothesis to try", "category": "one word", "priority": 0.8,
            "expects": "the effect that you expect", "cost": "small", "after": [3, 7]}],
 "vetoed": []}
```

`after` names experiments that an idea combines or tests again; `vetoed` the numbers of ideas
in the backlog that are no longer worth trying.
"""


def prompt(context: Context, scratchpad: str, told: tuple[str, ...]) -> str:
    """The whole prompt: the brief, how to work here, how to end."""
    parts = [context.brief or brief(context), _rules(context, scratchpad)]
    if told:
        parts.append("Last time, this was not taken: " + "; ".join(told) + ".")
    parts.append(_PLAN_ENDING if context.task is Task.PLAN else _ENDING)
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _rules(context: Context, scratchpad: str) -> str:
    scope = ", ".join(context.edit or tuple(context.files))
    todo = (
        "Change no file of the project: this is about what to try next."
        if context.task is Task.PLAN
        else f"Make one change by editing files in place. You may change only: {scope}. Every\n"
        "other change is undone."
    )
    return (
        "# How to work here\n\n"
        f"You are in a fresh copy of the project. {todo} Do not run the training:\n"
        "it is run and measured for you after you end. Nobody can answer a question: decide\n"
        "for yourself, and end.\n\n"
        f"{scratchpad} is your own memory between experiments; edit it when you learn something\n"
        "worth keeping, and keep it short."
    )


def brief(context: Context) -> str:
    """A small brief from the context's own fields, where nobody rendered one."""
    objective = context.objective
    lines = ["# Task", "", f"Improve {objective.metric}: {objective.better.value} is better."]
    if context.incumbent is not None and context.incumbent.value is not None:
        lines.append(f"It is {context.incumbent.value:g} now.")
    if context.program:
        lines += ["", "# program.md", "", context.program.strip()]
    if context.recent:
        lines += ["", "# Tried so far"]
        for e in context.recent:
            value = "" if e.value is None else f" ({objective.metric} {e.value:g})"
            lines.append(f"- {e.number} {e.verdict or 'open'}: {e.claim.description}{value}")
    if context.failure is not None:
        f = context.failure
        lines += ["", "# Mend this", "", f"Experiment {f.number} ({f.description}) {f.outcome}:"]
        lines += [f.detail, f.traceback, *f.log_tail]
    for title, items in (("From the person", context.notes), ("Refused", context.refused)):
        lines += ["", f"# {title}", *(f"- {item}" for item in items)] if items else []
    return "\n".join(line for line in lines if line is not None)


def claim(text: str, given: Mapping[str, str], files: Mapping[str, str | None]) -> dict[str, Any]:
    """What a proposal says of itself, as fields of Proposal: from a block, or the first words.

    Tolerant: a missing block, odd marks, fields in any order or over several lines.
    """
    fields = dict(given) or _fields(text)
    described = _line(fields.get("description", "") or _first(text) or _named(files))
    number = re.search(r"\d+", fields.get("idea", ""))
    category = _line(fields.get("category", "")).strip("`*_. ").lower()
    return {
        "description": described[:_DESCRIPTION_CHARS],
        "hypothesis": _line(fields.get("hypothesis", ""))[:_TEXT_CHARS],
        "category": category[:40],
        "expects": _line(fields.get("expects", ""))[:_DESCRIPTION_CHARS],
        "idea": int(number[0]) if number and len(number[0]) < 7 else None,
    }


def _fields(text: str) -> dict[str, str]:
    blocks = _BLOCK.findall(text)
    body = blocks[-1][1] if blocks else text[-3000:]
    found: dict[str, str] = {}
    last = ""
    for line in body.splitlines():
        match = _FIELD.match(line)
        if match:
            last = match[1].lower()
            found[last] = match[2].strip()
        elif last and blocks and line.strip():
            found[last] += f" {line.strip()}"
    return found if blocks or len(found) > 1 else {}


def _first(text: str) -> str:
    """The first sentence of a message, without its marks."""
    prose = re.sub(r"```.*?(```|\Z)", "", text, flags=re.DOTALL)
    plain = re.sub(r"[*_`#>]+", "", prose).strip()
    return re.split(r"(?<=[.!?])\s|\n", plain, maxsplit=1)[0]


def _named(files: Mapping[str, str | None]) -> str:
    return f"change {', '.join(sorted(files)[:3])}"


def _line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def plan(text: str, source: str) -> Plan | None:
    """The plan in a message: JSON in a fence or bare, or else a list of lines; None without."""
    for candidate in (*(b for _, b in reversed(_JSON.findall(text))), text):
        start = candidate.find("{") if "{" in candidate else candidate.find("[")
        if start < 0:
            continue
        try:
            value, _ = json.JSONDecoder().raw_decode(candidate, start)
        except (ValueError, RecursionError):
            continue
        ideas = value if isinstance(value, list) else dig(value, "ideas")
        if isinstance(ideas, list):
            found = tuple(i for n, item in enumerate(ideas) if (i := _idea(item, n, source)))
            vetoed = dig(value, "vetoed") or ()
            if found:
                return Plan(found[:_IDEAS], tuple(v for v in vetoed if type(v) is int))
    lines = re.findall(r"^\s*(?:[-*]|\d+[.)])\s+(.{8,})$", text, re.MULTILINE)
    ideas = [_idea(line, n, source) for n, line in enumerate(lines[:_IDEAS])]
    return Plan(tuple(i for i in ideas if i)) if ideas else None


def _idea(item: object, place: int, source: str) -> Idea | None:
    text = _line(item if isinstance(item, str) else words(item, "text"))
    if not text:
        return None
    priority = money(item, "priority")
    after = dig(item, "after") or ()
    return Idea(
        id=place + 1,
        text=text[:_TEXT_CHARS],
        category=_line(words(item, "category"))[:40].lower(),
        priority=priority if priority is not None else 1.0 / (place + 2),
        expects=_line(words(item, "expects"))[:_DESCRIPTION_CHARS],
        cost=_line(words(item, "cost"))[:_DESCRIPTION_CHARS],
        source=source,
        after=tuple(a for a in after if type(a) is int) if isinstance(after, list) else (),
    )
