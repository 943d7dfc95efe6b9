"""What an agent is told besides the brief, and what its last message says of the change."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from nightlab import answers
from nightlab.researchers import Context, Task

_CHARS = 200


def prompt(context: Context, scratchpad: str, told: tuple[str, ...]) -> str:
    """The whole prompt: how to work here, what was not taken last time, and the brief."""
    parts = [_rules(context, scratchpad)]
    if told:
        parts.append("Last time you tried what you may not; it was not taken: " + "; ".join(told))
    parts.append(context.brief or brief(context))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _rules(context: Context, scratchpad: str) -> str:
    todo = (
        "Change no file of the project in this call."
        if context.task is Task.PLAN
        else "Edit the files in scope in place: as you leave them, they are your proposal."
    )
    return (
        f"# How to work here\n\nYou are in a fresh copy of the project. {todo}\n\n"
        f"`{scratchpad}` is your own memory between experiments: edit it when you learn something "
        "worth keeping, and keep it short."
    )


def brief(context: Context) -> str:
    """A small brief from the context's own fields, where nobody rendered one."""
    objective = context.objective
    scope = ", ".join(context.edit or tuple(context.files))
    lines = ["# Task", "", f"Improve {objective.metric}: {objective.better.value} is better."]
    lines += [f"You may change only: {scope}. Run nothing and ask nothing: decide, and end."]
    if context.incumbent is not None and context.incumbent.value is not None:
        lines.append(f"It is {context.incumbent.value:g} now.")
    if context.program:
        lines += ["", "# program.md", "", context.program.strip()]
    if context.failure is not None:
        f = context.failure
        lines += ["", "# Mend this", "", f"Experiment {f.number} ({f.description}) {f.outcome}:"]
        lines += [f.detail, f.traceback, *f.log_tail]
    for title, items in (("From the person", context.notes), ("Refused", context.refused)):
        lines += ["", f"# {title}", *(f"- {item}" for item in items)] if items else []
    block = answers.PLAN if context.task is Task.PLAN else answers.PROPOSAL
    return "\n".join([*lines, "", "End your last message with this block:", "", block])


def claim(text: str, given: Mapping[str, str], files: Mapping[str, str | None]) -> dict[str, Any]:
    """What a proposal says of itself, as fields of Proposal: from its block, or its first words."""
    said = "\n".join(f"{key}: {_line(value)}" for key, value in given.items())
    found = answers.proposal(f"```nightlab\n{said}\n```" if given else text)
    named = f"change {', '.join(sorted(files)[:3])}"
    return {
        "description": (_line(found.description) or _first(text) or named)[:_CHARS],
        "hypothesis": found.hypothesis,
        "category": found.category.strip("`*_. ").lower(),
        "expects": found.expects,
        "idea": found.idea,
    }


def _first(text: str) -> str:
    """The first sentence of a message, without its marks."""
    prose = re.sub(r"```.*?(```|\Z)", "", text, flags=re.DOTALL)
    plain = re.sub(r"[*_`#>]+", "", prose).strip()
    return _line(re.split(r"(?<=[.!?])\s|\n", plain, maxsplit=1)[0])


def _line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
