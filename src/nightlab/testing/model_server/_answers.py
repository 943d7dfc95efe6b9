"""From what is due to what is said: calls for this client, placeholders, usage."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from nightlab.testing.model_server._conversations import SPOKEN, Due
from nightlab.testing.model_server._tools import as_text, calls_for
from nightlab.testing.model_server._wire import Answer, Asked, Call, Usage, rough_tokens
from nightlab.testing.model_server.scenarios import Step


def played(due: Due) -> str:
    if due.failure is not None:
        value = f" {due.failure.value}" if due.failure.value is not True else ""
        return due.failure.does + value
    if due.search:
        return "search"
    return " ".join(step.does for step in due.answer) or "final"


def answer_to(due: Due, asked: Asked, final: str, prompt_tokens: int) -> Answer:
    steps = [_filled(step, asked) for step in due.answer] or [Step("say", final)]
    first = steps[0]
    text: str | None
    calls: tuple[Call, ...] = ()
    if due.search:
        text = None
        calls = (Call("tool_search", {"query": due.search}, kind="tool_search"),)
    elif asked.tools:
        calls = calls_for(first, asked)
        spoken = first.does in SPOKEN and first.does != "nothing"
        text = first.value if spoken else first.options.get("say", None if calls else "")
    else:
        text = as_text(steps)
    given = {**(due.usage.usage if due.usage else {}), **first.options.get("usage", {})}
    said = len(text or "") + sum(len(call.raw) + len(str(call.arguments)) for call in calls)
    usage = Usage(
        input=given.get("input", prompt_tokens),
        output=given.get("output", rough_tokens(said)),
        cached=given.get("cached", 0),
    )
    return Answer(due.mark, asked.model, text, calls, usage, refusal=first.does == "refuse")


def _filled(step: Step, asked: Asked) -> Step:
    """The step with what ``take`` found in the request in place of its {NAME}s."""
    taken = {}
    for name, pattern in step.options.get("take", {}).items():
        found = re.findall(pattern, asked.text)
        taken[name] = found[-1] if found else ""
    if not taken:
        return step
    options = {key: _put(value, taken) for key, value in step.options.items() if key != "take"}
    return Step(step.does, _put(step.value, taken), options)


def _put(value: Any, taken: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _put(inner, taken) for key, inner in value.items()}
    if isinstance(value, list):
        return [_put(inner, taken) for inner in value]
    if not isinstance(value, str):
        return value
    for name, found in taken.items():
        if value == f"{{{name}}}" and re.fullmatch(r"-?\d+", found):
            return int(found)
        value = value.replace(f"{{{name}}}", found)
    return value
