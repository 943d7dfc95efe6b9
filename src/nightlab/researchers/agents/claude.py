"""Claude Code: `claude -p`, seen to work at 2.1.329."""

from __future__ import annotations

from collections.abc import Mapping

from nightlab.model import Answer, Usage
from nightlab.researchers.agents.seam import (
    Order,
    Said,
    Start,
    dig,
    items,
    money,
    number,
    objects,
    words,
)

_STOPS = {"error_max_turns": Answer.LOOPED, "error_max_budget_usd": Answer.LOOPED}


class Claude:
    """Edits by tool, each path by a rule; no shell, no MCP, none of the person's settings."""

    name = program = "claude"
    install = "npm install -g @anthropic-ai/claude-code, then `claude` once to log in"
    keys = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN")
    base = "ANTHROPIC_BASE_URL"
    hosts = ("api.anthropic.com", "platform.claude.com", "console.anthropic.com")
    login = (".claude/.credentials.json",)
    cumulative = ("usd",)
    hopeless = r'"subtype":"api_retry".*"retry_delay_ms":(?:[2-9]\d{4}|\d{6,})'

    def start(self, order: Order) -> Start:
        web = ("WebSearch", "WebFetch") if order.web else ()
        argv = [order.program, "-p", "--output-format", "stream-json", "--verbose"]
        argv += ["--tools", ",".join(("Read", "Edit", "Write", "Glob", "Grep", *web))]
        # Two slashes make a rule's path absolute, whatever the folder it is read from.
        argv += ["--allowedTools", *(f"Edit(/{order.tree}/{p})" for p in _rules(order)), *web]
        argv += ["--permission-prompts", "none", "--setting-sources", "", "--strict-mcp-config"]
        argv += ["--max-turns", str(order.settings.max_turns)]
        if order.usd is not None:
            argv += ["--max-budget-usd", f"{order.usd:.4f}"]
        if order.settings.model:
            argv += ["--model", order.settings.model]
        if order.session:
            argv += ["--resume", order.session]
        quiet = ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "DISABLE_AUTOUPDATER")
        env = dict.fromkeys(quiet, "1") | {"CLAUDE_CODE_MAX_RETRIES": "2"}
        env["CLAUDE_CONFIG_DIR"] = str(order.home / ".claude")
        if order.endpoint:
            env["ANTHROPIC_BASE_URL"] = order.endpoint
        if order.key:
            env["ANTHROPIC_API_KEY"] = order.key
        return Start(tuple(argv), env)

    def read(self, out: str, err: str, order: Order) -> Said:
        result: object = {}
        status, wait_s = None, None
        spent: dict[str, object] = {}  # of each message: all that is known of a call that was cut
        for event in objects(out):
            kind = event.get("type")
            if kind == "result":
                result = event
            elif kind == "assistant":
                spent[words(event, "message", "id")] = dig(event, "message", "usage")
            elif event.get("subtype") == "api_retry":
                status = number(event, "error_status") or None
                wait_s = number(event, "retry_delay_ms") / 1000
        failed = dig(result, "is_error") is not False
        refused = words(result, "stop_reason") == "refusal" or number(result, "safety_stops")
        stop = Answer.REFUSAL if refused else _STOPS.get(words(result, "subtype"))
        status = number(result, "api_error_status") or status
        text = words(result, "result")
        return Said(
            ended=bool(result),
            text=text,
            error=(text or words(result, "subtype") or err[-2000:]) if failed else "",
            status=status if failed else None,
            retry_after_s=wait_s,
            stop=stop,
            denied=tuple(
                (words(d, "tool_name"), words(d, "tool_input", "file_path"))
                for d in items(result, "permission_denials")
            ),
            usage=_usage(result, spent, order),
            session=words(result, "session_id"),
        )


def _rules(order: Order) -> tuple[str, ...]:
    """The scope as Claude's rules have it; the files themselves, where a pattern is a folder."""
    return tuple(dict.fromkeys((*order.writable, *order.patterns)))


def _usage(result: object, spent: Mapping[str, object], order: Order) -> Usage:
    used = [dig(result, "usage")] if result else list(spent.values())
    models = dig(result, "modelUsage")
    cached = sum(number(each, "cache_read_input_tokens") for each in used)
    fresh = sum(number(each, "cache_creation_input_tokens") for each in used)
    return Usage(
        tokens_in=sum(number(each, "input_tokens") for each in used) + fresh + cached,
        tokens_out=sum(number(each, "output_tokens") for each in used),
        tokens_cached=cached,
        usd=money(result, "total_cost_usd"),
        calls=len(spent),
        model=next(iter(models), "") if isinstance(models, dict) else order.settings.model,
    )
