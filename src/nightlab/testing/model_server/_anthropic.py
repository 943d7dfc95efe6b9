"""Anthropic Messages: POST /v1/messages."""

from __future__ import annotations

import json

from nightlab.testing.model_server._wire import (
    Answer,
    Asked,
    Json,
    Message,
    Tool,
    as_dict,
    chunks,
    dicts,
    flat,
    sse,
)

ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


class Anthropic:
    """The Messages API."""

    name = "anthropic"

    def read(self, body: Json) -> Asked:
        schema = as_dict(as_dict(body.get("output_config")).get("format")).get("schema")
        items = list(dicts(body.get("messages")))
        return Asked(
            model=str(body.get("model", "scripted")),
            stream=bool(body.get("stream")),
            messages=tuple(_message(item) for item in items if item.get("role") != "system"),
            system=flat([body.get("system"), [i for i in items if i.get("role") == "system"]]),
            tools=tuple(
                Tool(str(tool["name"]), as_dict(tool.get("input_schema")))
                for tool in dicts(body.get("tools"))
                if "name" in tool
            ),
            schema=schema if isinstance(schema, dict) else None,
        )

    def whole(self, answer: Answer) -> Json:
        stop = "refusal" if answer.refusal else "tool_use" if answer.calls else "end_turn"
        return {
            "id": f"msg_{answer.mark}",
            "type": "message",
            "role": "assistant",
            "model": answer.model,
            "content": _blocks(answer),
            "stop_reason": stop,
            "stop_sequence": None,
            "usage": _usage(answer),
        }

    def frames(self, answer: Answer) -> list[bytes]:
        whole = self.whole(answer)
        start = whole | {"content": [], "stop_reason": None}
        start["usage"] = whole["usage"] | {"output_tokens": 1}
        frames = [_event("message_start", message=start), _event("ping")]
        for index, block in enumerate(whole["content"]):
            if block["type"] == "text":
                empty = {"type": "text", "text": ""}
                deltas = [{"type": "text_delta", "text": x} for x in chunks(block["text"])]
            else:
                empty = block | {"input": {}}
                pieces = chunks(json.dumps(block["input"]))
                deltas = [{"type": "input_json_delta", "partial_json": x} for x in pieces]
            frames += [
                _event("content_block_start", index=index, content_block=empty),
                *(_event("content_block_delta", index=index, delta=delta) for delta in deltas),
                _event("content_block_stop", index=index),
            ]
        delta = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
        frames.append(_event("message_delta", delta=delta, usage=whole["usage"]))
        frames.append(_event("message_stop"))
        return frames

    def error(self, status: int, message: str, code: str | None) -> Json:
        kind = code or ERRORS.get(status, "api_error")
        return {
            "type": "error",
            "error": {"type": kind, "message": message},
            "request_id": "req_scripted",
        }


def _message(item: Json) -> Message:
    content = item.get("content")
    blocks = list(dicts(content))
    if item.get("role") == "assistant":
        ids = tuple(str(b.get("id")) for b in blocks if b.get("type") == "tool_use")
        return Message("assistant", flat(content), ids)
    results = [b for b in blocks if b.get("type") == "tool_result"]
    if not results:
        return Message("user", flat(content))
    ids = tuple(str(b.get("tool_use_id")) for b in results)
    return Message("tool", flat(content), ids)


def _blocks(answer: Answer) -> list[Json]:
    blocks: list[Json] = []
    if answer.text is not None:
        blocks.append({"type": "text", "text": answer.text})
    for i, call in enumerate(answer.calls):
        blocks.append(
            {
                "type": "tool_use",
                "id": f"toolu_{answer.mark}_{i}",
                "name": call.tool,
                "input": call.arguments,
            }
        )
    return blocks


def _usage(answer: Answer) -> Json:
    return {
        "input_tokens": answer.usage.input,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": answer.usage.cached,
        "output_tokens": answer.usage.output,
    }


def _event(kind: str, **fields: object) -> bytes:
    return sse({"type": kind, **fields}, kind)
