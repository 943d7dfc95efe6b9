"""OpenAI Chat Completions: POST /v1/chat/completions. Also Ollama, vLLM, llama.cpp."""

from __future__ import annotations

import json
import time

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

CODES = {401: "invalid_api_key", 429: "rate_limit_exceeded"}


class Chat:
    """The Chat Completions API."""

    name = "chat"

    def read(self, body: Json) -> Asked:
        items = list(dicts(body.get("messages")))
        schema = as_dict(as_dict(body.get("response_format")).get("json_schema")).get("schema")
        functions = [as_dict(tool.get("function")) for tool in dicts(body.get("tools"))]
        return Asked(
            model=str(body.get("model", "scripted")),
            stream=bool(body.get("stream")),
            messages=tuple(
                _message(item) for item in items if item.get("role") not in ("system", "developer")
            ),
            system=flat([i for i in items if i.get("role") in ("system", "developer")]),
            tools=tuple(
                Tool(str(f["name"]), as_dict(f.get("parameters"))) for f in functions if "name" in f
            ),
            schema=schema if isinstance(schema, dict) else None,
        )

    def whole(self, answer: Answer) -> Json:
        message: Json = {"role": "assistant", "content": answer.text, "refusal": None}
        if answer.refusal:
            message |= {"content": None, "refusal": answer.text}
        if answer.calls:
            message["tool_calls"] = _calls(answer)
        choice = {"index": 0, "message": message, "finish_reason": _finish(answer)}
        return _base(answer, "chat.completion") | {"choices": [choice], "usage": _usage(answer)}

    def frames(self, answer: Answer) -> list[bytes]:
        base = _base(answer, "chat.completion.chunk")

        def chunk(delta: Json, finish: str | None = None) -> bytes:
            return sse(base | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})

        spoken = "refusal" if answer.refusal else "content"
        frames = [chunk({"role": "assistant", "content": ""})]
        frames += [chunk({spoken: piece}) for piece in chunks(answer.text or "")]
        for i, call in enumerate(_calls(answer)):
            function = call["function"]
            opened = call | {"index": i, "function": function | {"arguments": ""}}
            frames.append(chunk({"tool_calls": [opened]}))
            for piece in chunks(function["arguments"]):
                part = {"index": i, "function": {"arguments": piece}}
                frames.append(chunk({"tool_calls": [part]}))
        frames.append(chunk({}, _finish(answer)))
        frames.append(sse(base | {"choices": [], "usage": _usage(answer)}))
        frames.append(b"data: [DONE]\n\n")
        return frames

    def error(self, status: int, message: str, code: str | None) -> Json:
        kind = "server_error" if status >= 500 else "invalid_request_error"
        code = code or CODES.get(status)
        return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def _message(item: Json) -> Message:
    text = flat(item.get("content"))
    if item.get("role") == "assistant":
        ids = tuple(str(call.get("id")) for call in dicts(item.get("tool_calls")))
        return Message("assistant", text, ids)
    if item.get("role") in ("tool", "function"):
        return Message("tool", text, (str(item.get("tool_call_id")),))
    return Message("user", text)


def _finish(answer: Answer) -> str:
    return "tool_calls" if answer.calls else "stop"


def _base(answer: Answer, kind: str) -> Json:
    return {
        "id": f"chatcmpl-{answer.mark}",
        "object": kind,
        "created": int(time.time()),
        "model": answer.model,
    }


def _calls(answer: Answer) -> list[Json]:
    return [
        {
            "id": f"call_{answer.mark}_{i}",
            "type": "function",
            "function": {"name": call.tool, "arguments": json.dumps(call.arguments)},
        }
        for i, call in enumerate(answer.calls)
    ]


def _usage(answer: Answer) -> Json:
    return {
        "prompt_tokens": answer.usage.prompt,
        "completion_tokens": answer.usage.output,
        "total_tokens": answer.usage.prompt + answer.usage.output,
        "prompt_tokens_details": {"cached_tokens": answer.usage.cached},
    }
