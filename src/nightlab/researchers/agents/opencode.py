"""opencode: `opencode run`, seen to work at 1.18.33."""

from __future__ import annotations

import json
import re

from nightlab.model import Usage
from nightlab.researchers.agents.seam import (
    PROVIDER_KEYS,
    PROVIDERS,
    Order,
    Said,
    Start,
    money,
    number,
    objects,
    words,
)

_QUIET = ("AUTOUPDATE", "MODELS_FETCH", "LSP_DOWNLOAD", "DEFAULT_PLUGINS", "SHARE")
_PROVIDER = "nightlab"


class Opencode:
    """Edits by tool under a permission map; no shell, no MCP."""

    name = program = "opencode"
    install = "npm install -g opencode-ai, then `opencode auth login`"
    keys = PROVIDER_KEYS
    base = "OPENAI_BASE_URL"
    hosts = (*PROVIDERS, "opencode.ai", "models.dev")
    login = (".local/share/opencode/auth.json",)
    cumulative = ()
    hopeless = r'(?s)(?:message="stream error".*){4}'  # it tries again without end

    def start(self, order: Order) -> Start:
        argv = [order.program, "run", "--format", "json", "--title", "nightlab", "--pure"]
        argv += ["--print-logs", "--log-level", "ERROR"]
        model = order.settings.model
        if model and order.endpoint:
            model = f"{_PROVIDER}/{model}"
        if model:
            argv += ["-m", model]
        if order.session:
            argv += ["-s", order.session]
        env = {f"OPENCODE_DISABLE_{name}": "1" for name in _QUIET}
        env["OPENCODE_CONFIG_CONTENT"] = json.dumps(_config(order))
        if order.key:
            env["OPENAI_API_KEY"] = order.key
        return Start(tuple(argv), env)

    def read(self, out: str, err: str, order: Order) -> Said:
        session = text = error = ""
        status, ended, denied, calls = None, False, [], 0
        tokens_in = tokens_out = cached = 0
        usd: float | None = None
        for event in objects(out):
            kind, part = event.get("type"), event.get("part")
            session = words(event, "sessionID") or session
            if kind == "text":
                text = words(part, "text")
            elif kind == "tool_use" and "prevents you from using" in words(part, "state", "error"):
                denied.append((words(part, "tool"), words(part, "state", "input", "filePath")))
            elif kind == "step_finish":
                calls += 1
                read = number(part, "tokens", "cache", "read")
                tokens_in += number(part, "tokens", "input") + read
                tokens_in += number(part, "tokens", "cache", "write")
                tokens_out += number(part, "tokens", "output") + number(part, "tokens", "reasoning")
                cached += read
                cost = money(part, "cost")
                usd = usd if not cost else (usd or 0.0) + cost  # 0 where it knows no price
                ended = words(part, "reason") == "stop"
            elif kind == "error":
                message = words(event, "error", "data", "message")
                error = message or words(event, "error", "name") or "it failed"
                status = number(event, "error", "data", "statusCode") or None
        retried = re.findall(r'message="stream error".*error\.error="(.*)"', err)
        return Said(
            ended=ended or bool(error),
            text=text,
            error=error or ("" if ended else retried[-1] if retried else err[-2000:]),
            status=status,
            denied=tuple(denied),
            usage=Usage(tokens_in, tokens_out, cached, usd, 0.0, calls, order.settings.model),
            session=session,
        )


def _config(order: Order) -> dict[str, object]:
    # Without a git repository its paths are relative to the root of the file system.
    names = [n for p in order.writable for n in (p, f"{order.tree}/{p}".lstrip("/"))]
    web = "allow" if order.web else "deny"
    config: dict[str, object] = {
        "permission": {
            "edit": {"*": "deny"} | dict.fromkeys(names, "allow"),
            "bash": "deny", "external_directory": "deny", "webfetch": web, "websearch": web,
        },
        "share": "disabled",
        "autoupdate": False,
    }  # fmt: skip
    if order.endpoint:
        model = order.settings.model
        config["provider"] = {
            _PROVIDER: {
                "npm": "@ai-sdk/openai-compatible",
                "options": {"baseURL": order.endpoint, "apiKey": order.key or "none"},
                "models": {model: {"name": model}},
            }
        }
    return config
