"""Gemini: POST /v1beta/models/M:generateContent and :streamGenerateContent."""

from __future__ import annotations

from nightlab.testing.model_server._wire import (
    Answer,
    Asked,
    Json,
    Message,
    Tool,
    as_dict,
    dicts,
    flat,
    sse,
)

STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
}


class Gemini:
    """The Gemini API. Model and streaming stand in its path: the server adds them to the body."""

    name = "gemini"

    def read(self, body: Json) -> Asked:
        config = as_dict(body.get("generationConfig"))
        schema = config.get("responseJsonSchema") or config.get("responseSchema")
        return Asked(
            model=str(body.get("model", "scripted")),
            stream=bool(body.get("stream")),
            messages=tuple(_message(item) for item in dicts(body.get("contents"))),
            system=flat(as_dict(body.get("systemInstruction")).get("parts")),
            tools=tuple(_tools(body)),
            schema=schema if isinstance(schema, dict) else None,
        )

    def whole(self, answer: Answer) -> Json:
        return _piece(answer, _parts(answer), ended=True)

    def frames(self, answer: Answer) -> list[bytes]:
        parts = _parts(answer)
        frames = [sse(_piece(answer, [part], ended=False)) for part in parts[:-1]]
        return [*frames, sse(_piece(answer, parts[-1:], ended=True))]

    def error(self, status: int, message: str, code: str | None) -> Json:
        word = code or STATUSES.get(status, "INTERNAL")
        return {"error": {"code": status, "message": message, "status": word}}


def _tools(body: Json) -> list[Tool]:
    tools = []
    for group in dicts(body.get("tools")):
        declared = group.get("functionDeclarations") or group.get("function_declarations")
        for f in dicts(declared):
            schema = f.get("parametersJsonSchema") or f.get("parameters")
            tools.append(Tool(str(f.get("name")), as_dict(schema)))
    return tools


def _message(item: Json) -> Message:
    parts = list(dicts(item.get("parts")))
    if item.get("role") == "model":
        calls = [as_dict(part.get("functionCall")) for part in parts]
        ids = tuple(str(call["id"]) for call in calls if "id" in call)
        return Message("assistant", flat(parts), ids)
    results = [part["functionResponse"] for part in parts if "functionResponse" in part]
    if not results:
        return Message("user", flat(parts))
    texts = [str(as_dict(result).get("response", "")) for result in results]
    ids = tuple(str(as_dict(r).get("id")) for r in results)
    return Message("tool", "\n".join([*texts, flat(parts)]), ids)


def _parts(answer: Answer) -> list[Json]:
    parts: list[Json] = []
    if answer.text is not None:
        parts.append({"text": answer.text})
    for i, call in enumerate(answer.calls):
        call_id = f"fc_{answer.mark}_{i}"
        parts.append({"functionCall": {"id": call_id, "name": call.tool, "args": call.arguments}})
    return parts


def _piece(answer: Answer, parts: list[Json], *, ended: bool) -> Json:
    candidate: Json = {"content": {"role": "model", "parts": parts}, "index": 0}
    if ended:
        candidate["finishReason"] = "SAFETY" if answer.refusal else "STOP"
    usage = {
        "promptTokenCount": answer.usage.prompt,
        "candidatesTokenCount": answer.usage.output,
        "cachedContentTokenCount": answer.usage.cached,
        "totalTokenCount": answer.usage.prompt + answer.usage.output,
    }
    return {
        "candidates": [candidate],
        "usageMetadata": usage,
        "modelVersion": answer.model,
        "responseId": answer.mark,
    }
