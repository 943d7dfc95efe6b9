"""Gemini CLI: `gemini -p`, seen to work at 0.61.0."""

from __future__ import annotations

import json
import re

from nightlab.model import Answer, Usage
from nightlab.researchers.agents.seam import Order, Said, Start, number, objects, words

_EDITS = ["replace", "write_file"]
_TURNS_SPENT = 53


class Gemini:
    """Edits by tool under a policy file; no shell, no MCP."""

    name = program = "gemini"
    install = "npm install -g @google/gemini-cli, then set GEMINI_API_KEY"
    keys = ("GEMINI_API_KEY", "GOOGLE_API_KEY")
    base = "GOOGLE_GEMINI_BASE_URL"
    hosts = (
        "generativelanguage.googleapis.com", "cloudcode-pa.googleapis.com", "oauth2.googleapis.com",
    )  # fmt: skip
    login = (".gemini/oauth_creds.json", ".gemini/google_accounts.json")
    cumulative = ()
    hopeless = ""

    def start(self, order: Order) -> Start:
        settings, policy = ".gemini/settings.json", ".nightlab/policy.toml"
        argv = [order.program, "-p", "Do what the text above says.", "-o", "stream-json"]
        argv += ["--approval-mode", "auto_edit", "--skip-trust"]
        argv += ["--policy", str(order.home / policy)]
        if order.settings.model:
            argv += ["-m", order.settings.model]
        if order.session:
            argv += ["--resume", order.session]
        env = {"GEMINI_CLI_NO_RELAUNCH": "true"}  # else a killed parent leaves a child behind
        if order.endpoint:
            env["GOOGLE_GEMINI_BASE_URL"] = order.endpoint
        if order.key:
            env["GEMINI_API_KEY"] = order.key
        return Start(tuple(argv), env, {settings: _settings(order), policy: _policy(order)})

    def read(self, out: str, err: str, order: Order) -> Said:
        session = text = error = ""
        ended, calls, usage = False, 0, Usage()
        asked: dict[str, tuple[str, str]] = {}
        denied = []
        for event in objects(out):
            kind = event.get("type")
            if kind == "init":
                session = words(event, "session_id")
            elif kind == "message" and event.get("role") == "assistant":
                calls += not text
                text += words(event, "content")
            elif kind == "tool_use":
                calls, text = calls + 1, ""
                named = words(event, "tool_name"), words(event, "parameters", "file_path")
                asked[words(event, "tool_id")] = named
            elif kind == "tool_result" and words(event, "error", "type") == "policy_violation":
                denied.append(asked.get(words(event, "tool_id"), ("a tool", "")))
            elif kind == "result":
                ended = True
                error = words(event, "error", "message") if event.get("status") == "error" else ""
                usage = Usage(
                    tokens_in=number(event, "stats", "input_tokens"),
                    tokens_out=number(event, "stats", "output_tokens"),
                    tokens_cached=number(event, "stats", "cached"),
                    calls=calls,
                    model=order.settings.model,
                )
        spent = re.search(r"[Mm]ax(imum)? session turns|FatalTurnLimited", error or err)
        delay = re.findall(r"retryDelayMs: (\d+)", err)
        status = re.findall(r"^\s*status: (\d{3})", err, re.MULTILINE)
        return Said(
            ended=ended,
            text=text,
            error=error or ("" if ended else err[-2000:]),
            status=int(status[-1]) if status and (error or not ended) else None,
            retry_after_s=float(delay[-1]) / 1000 if delay else None,
            stop=Answer.LOOPED if spent else None,
            denied=tuple(denied),
            usage=usage,
            session=session,
        )


def _settings(order: Order) -> str:
    auth = "gemini-api-key" if order.key else "oauth-personal"
    return json.dumps(
        {
            "security": {"auth": {"selectedType": auth}, "folderTrust": {"enabled": False}},
            "privacy": {"usageStatisticsEnabled": False},
            "general": {"enableAutoUpdate": False, "maxAttempts": 2},
            "model": {"maxSessionTurns": order.settings.max_turns},
            "mcp": {"allowed": []},
        }
    )


def _policy(order: Order) -> str:
    names = (re.escape(f"{order.tree}/{path}") for path in order.writable)
    pattern = f'"file_path":"(?:{"|".join(names)})"'
    denied = [*_EDITS, "run_shell_command"]
    denied += [] if order.web else ["google_web_search", "web_fetch"]
    # json.dumps: TOML's basic strings are JSON's.
    return (
        f"[[rule]]\ntoolName = {json.dumps(_EDITS)}\nargsPattern = {json.dumps(pattern)}\n"
        'decision = "allow"\npriority = 200\n'
        f"[[rule]]\ntoolName = {json.dumps(denied)}\n"
        'decision = "deny"\npriority = 150\n'
    )
