"""OpenAI Responses: POST /v1/responses. What Codex speaks, freeform and grouped tools included."""

from __future__ import annotations

import itertools
import json
import time

from nightlab.testing.model_server._chat import Chat
from nightlab.testing.model_server._wire import (
    Answer,
    Asked,
    Call,
    Json,
    Message,
    Tool,
    as_dict,
    chunks,
    dicts,
    flat,
    sse,
)

# Which field of a call is streamed, and under which event.
STREAMED = {
    "function_call": ("arguments", "response.function_call_arguments"),
    "custom_tool_call": ("input", "response.custom_tool_call_input"),
}
# Tools that are their kind.
NAMELESS = ("local_shell", "tool_search")


class Responses:
    """The Responses API."""

    name = "responses"

    def read(self, body: Json) -> Asked:
        given = body.get("input")
        items = (
            [{"role": "user", "content": given}] if isinstance(given, str) else list(dicts(given))
        )
        offered = [*dicts(body.get("tools"))]
        for item in items:
            if item.get("type") in ("additional_tools", "tool_search_output"):
                offered += dicts(item.get("tools"))
        schema = as_dict(as_dict(body.get("text")).get("format")).get("schema")
        system = [i for i in items if i.get("role") in ("system", "developer")]
        return Asked(
            model=str(body.get("model", "scripted")),
            stream=bool(body.get("stream")),
            messages=tuple(m for item in items if (m := _message(item)) is not None),
            system="\n".join([flat(body.get("instructions")), flat(system)]),
            tools=tuple(tool for item in offered for tool in _tools(item, None)),
            schema=schema if isinstance(schema, dict) else None,
        )

    def whole(self, answer: Answer) -> Json:
        return {
            "id": f"resp_{answer.mark}",
            "object": "response",
            "created_at": int(time.time()),
            "status": "completed",
            "model": answer.model,
            "output": _items(answer),
            "usage": _usage(answer),
            "error": None,
            "incomplete_details": None,
            "parallel_tool_calls": True,
            "tools": [],
            "metadata": {},
        }

    def frames(self, answer: Answer) -> list[bytes]:
        number = itertools.count()

        def event(kind: str, **fields: object) -> bytes:
            return sse({"type": kind, "sequence_number": next(number), **fields}, kind)

        whole = self.whole(answer)
        begun = whole | {"status": "in_progress", "output": [], "usage": None}
        frames = [
            event("response.created", response=begun),
            event("response.in_progress", response=begun),
        ]
        for i, item in enumerate(whole["output"]):
            at = {"item_id": item["id"], "output_index": i}
            if item["type"] == "message":
                part = item["content"][0]
                field = "refusal" if part["type"] == "refusal" else "text"
                kind = "response.refusal" if field == "refusal" else "response.output_text"
                at["content_index"] = 0
                opened = item | {"content": [], "status": "in_progress"}
                frames += [
                    event("response.output_item.added", output_index=i, item=opened),
                    event("response.content_part.added", **at, part=part | {field: ""}),
                    *(event(f"{kind}.delta", **at, delta=x) for x in chunks(part[field])),
                    event(f"{kind}.done", **at, **{field: part[field]}),
                    event("response.content_part.done", **at, part=part),
                ]
            else:
                field, kind = STREAMED.get(item["type"], ("", ""))
                opened = item | {"status": "in_progress"} | ({field: ""} if field else {})
                frames.append(event("response.output_item.added", output_index=i, item=opened))
                if field:
                    frames += [
                        *(event(f"{kind}.delta", **at, delta=x) for x in chunks(item[field])),
                        event(f"{kind}.done", **at, **{field: item[field]}),
                    ]
            frames.append(event("response.output_item.done", output_index=i, item=item))
        frames.append(event("response.completed", response=whole))
        return frames

    def error(self, status: int, message: str, code: str | None) -> Json:
        return Chat().error(status, message, code)


def _tools(item: Json, group: str | None) -> list[Tool]:
    kind = str(item.get("type") or "function")
    if kind == "namespace":
        name = str(item.get("name"))
        return [tool for sub in dicts(item.get("tools")) for tool in _tools(sub, name)]
    if not item.get("name") and kind not in NAMELESS:
        return []
    name = str(item.get("name") or kind)
    return [Tool(name, as_dict(item.get("parameters")), kind, group)]


def _message(item: Json) -> Message | None:
    kind = str(item.get("type") or "message")
    if kind.endswith("_output"):
        return Message("tool", flat(item.get("output")), (str(item.get("call_id")),))
    if kind.endswith("_call"):
        return Message("assistant", "", (str(item.get("call_id")),))
    if kind == "message" and item.get("role") == "assistant":
        return Message("assistant", flat(item.get("content")), (str(item.get("id")),))
    if kind == "message" and item.get("role") == "user":
        return Message("user", flat(item.get("content")))
    return None


def _items(answer: Answer) -> list[Json]:
    items: list[Json] = []
    if answer.text is not None:
        part: Json = {"type": "output_text", "text": answer.text, "annotations": []}
        if answer.refusal:
            part = {"type": "refusal", "refusal": answer.text}
        items.append(
            {
                "type": "message",
                "id": f"msg_{answer.mark}",
                "status": "completed",
                "role": "assistant",
                "content": [part],
            }
        )
    return items + [_item(call, answer.mark, i) for i, call in enumerate(answer.calls)]


def _item(call: Call, mark: str, i: int) -> Json:
    common: Json = {"call_id": f"call_{mark}_{i}", "status": "completed"}
    if call.group:
        common["namespace"] = call.group
    if call.kind == "custom":
        own = {"type": "custom_tool_call", "id": f"ctc_{mark}_{i}"}
        return own | common | {"name": call.tool, "input": call.raw}
    if call.kind == "tool_search":
        own = {"type": "tool_search_call", "id": f"ts_{mark}_{i}"}
        return own | common | {"execution": "client", "arguments": call.arguments}
    if call.kind == "local_shell":
        own = {"type": "local_shell_call", "id": f"lsh_{mark}_{i}"}
        action = {"type": "exec", "command": call.arguments["command"], "env": {}}
        return own | common | {"action": action}
    own = {"type": "function_call", "id": f"fc_{mark}_{i}"}
    return own | common | {"name": call.tool, "arguments": json.dumps(call.arguments)}


def _usage(answer: Answer) -> Json:
    return {
        "input_tokens": answer.usage.prompt,
        "input_tokens_details": {"cached_tokens": answer.usage.cached},
        "output_tokens": answer.usage.output,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": answer.usage.prompt + answer.usage.output,
    }
