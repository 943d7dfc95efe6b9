"""pi: `pi -p --mode json`, seen to work at 0.87.1."""

from __future__ import annotations

import json

from nightlab.model import Usage
from nightlab.researchers.agents.seam import (
    PROVIDER_KEYS,
    PROVIDERS,
    Order,
    Said,
    Start,
    items,
    money,
    number,
    objects,
    words,
)

_PROVIDER = "nightlab"
_GUARD = """\
import { resolve } from "node:path";
const allowed = new Set(%s);
export default function (pi) {
  pi.on("tool_call", async (event) => {
    if (event.toolName !== "edit" && event.toolName !== "write") return undefined;
    if (allowed.has(resolve(%s, String(event.input.path)))) return undefined;
    return { block: true, reason: "nightlab: this file is not in scope" };
  });
}
"""


class Pi:
    """Edits by tool, guarded by an extension; no shell."""

    name = program = "pi"
    install = "npm install -g @earendil-works/pi-coding-agent"
    keys = PROVIDER_KEYS
    base = "OPENAI_BASE_URL"
    hosts = PROVIDERS
    login = (".pi/agent/auth.json",)
    cumulative = ()
    hopeless = ""

    def start(self, order: Order) -> Start:
        guard = ".nightlab/guard.ts"
        argv = [order.program, "-p", "--mode", "json", "--tools", "read,edit,write,grep,find,ls"]
        argv += ["-e", str(order.home / guard)]
        if order.endpoint:
            argv += ["--provider", _PROVIDER]
        if order.settings.model:
            argv += ["--model", order.settings.model]
        if order.session:
            argv += ["--session", order.session]
        allowed = json.dumps([f"{order.tree}/{p}" for p in order.writable])
        files = {
            guard: _GUARD % (allowed, json.dumps(str(order.tree))),
            ".pi/agent/settings.json": json.dumps({"retry": {"maxRetries": 1}}),
        }
        if order.endpoint:
            files[".pi/agent/models.json"] = json.dumps(
                {"providers": {_PROVIDER: _provider(order)}}
            )
        env = {"PI_OFFLINE": "1"} | ({"OPENAI_API_KEY": order.key} if order.key else {})
        return Start(tuple(argv), env, files)

    def read(self, out: str, err: str, order: Order) -> Said:
        session = text = error = ""
        ended, calls, usd = False, 0, None
        tokens_in = tokens_out = cached = 0
        asked: dict[str, str] = {}
        denied = []
        for event in objects(out):
            kind, message = event.get("type"), event.get("message")
            if kind == "session":
                session = words(event, "id")
            elif kind == "tool_execution_start":
                asked[words(event, "toolCallId")] = words(event, "args", "path")
            elif kind == "tool_execution_end" and "nightlab: this file" in json.dumps(event):
                denied.append((words(event, "toolName"), asked.get(words(event, "toolCallId"), "")))
            elif kind == "agent_end":
                ended = True
            elif kind == "message_end" and words(message, "role") == "assistant":
                calls += 1
                texts = [words(part, "text") for part in items(message, "content")]
                text = "\n".join(filter(None, texts))
                failed = words(message, "stopReason") == "error"
                error = (words(message, "errorMessage") or "it failed") if failed else ""
                read = number(message, "usage", "cacheRead")
                tokens_in += number(message, "usage", "input") + read
                tokens_in += number(message, "usage", "cacheWrite")
                tokens_out += number(message, "usage", "output")
                cached += read
                cost = money(message, "usage", "cost", "total")
                usd = usd if not cost else (usd or 0.0) + cost  # 0 where it knows no price
        return Said(
            ended=ended,
            text=text,
            error=error or ("" if ended else err[-2000:]),
            denied=tuple(denied),
            usage=Usage(tokens_in, tokens_out, cached, usd, 0.0, calls, order.settings.model),
            session=session,
        )


def _provider(order: Order) -> dict[str, object]:
    return {
        "baseUrl": order.endpoint,
        "apiKey": order.key or "none",
        "api": "openai-completions",
        "models": [{"id": order.settings.model}],
    }
