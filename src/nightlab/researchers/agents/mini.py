"""mini-swe-agent: a shell and nothing else; seen to work at 2.4.6. It confines nothing itself."""

from __future__ import annotations

import json
from pathlib import Path

from nightlab.model import Answer, Usage
from nightlab.researchers.agents.seam import (
    PROVIDER_KEYS,
    PROVIDERS,
    Order,
    Said,
    Start,
    dig,
    items,
    money,
    number,
    words,
)

_TRAJECTORY = ".nightlab/trajectory.json"


class Mini:
    """Edits by shell commands: only a box keeps it to the files in scope."""

    name = program = "mini"
    install = "uv tool install mini-swe-agent --with mcp"
    keys = PROVIDER_KEYS
    base = "OPENAI_API_BASE"
    hosts = PROVIDERS
    login = ()
    cumulative = ()
    hopeless = ""

    def start(self, order: Order) -> Start:
        task = f"Read the file {order.brief} first (cat it), then do what it says."
        argv = [order.program, "-y", "--exit-immediately", "-t", task, "-c", "mini.yaml"]
        argv += ["-c", f"agent.step_limit={order.settings.max_turns}", "-l", "0"]
        argv += ["-o", str(order.home / _TRAJECTORY)]
        model = order.settings.model
        if model:
            argv += ["-m", f"openai/{model}" if order.endpoint and "/" not in model else model]
        env = {
            "MSWEA_CONFIGURED": "true", "MSWEA_COST_TRACKING": "ignore_errors",
            "MSWEA_MODEL_RETRY_STOP_AFTER_ATTEMPT": "2", "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        }  # fmt: skip
        if order.endpoint:
            env["OPENAI_API_BASE"] = order.endpoint
        if order.key:
            env["OPENAI_API_KEY"] = order.key
        return Start(tuple(argv), env, {_TRAJECTORY: ""}, stdin=False)

    def read(self, out: str, err: str, order: Order) -> Said:
        found = _load(order.home / _TRAJECTORY)
        status = words(found, "info", "exit_status")
        messages = items(found, "messages")
        usages = [dig(m, "extra", "response", "usage") for m in messages]
        cached = sum(number(u, "prompt_tokens_details", "cached_tokens") for u in usages)
        ended = status in ("Submitted", "LimitsExceeded")
        texts = [words(m, "content") for m in messages if words(m, "role") == "assistant"]
        claimed = [text for text in texts if "```nightlab" in text]
        return Said(
            ended=ended,
            text=next(reversed(claimed or texts), words(found, "info", "submission")),
            error="" if ended else f"{status} {(err or out)[-2000:]}".strip(),
            stop=Answer.LOOPED if status == "LimitsExceeded" else None,
            usage=Usage(
                tokens_in=sum(number(u, "prompt_tokens") for u in usages),
                tokens_out=sum(number(u, "completion_tokens") for u in usages),
                tokens_cached=cached,
                usd=money(found, "info", "model_stats", "instance_cost") or None,
                calls=number(found, "info", "model_stats", "api_calls"),
                model=order.settings.model,
            ),
        )


def _load(path: Path) -> object:
    from nightlab.researchers.agents.tree import text_of  # noqa: PLC0415  used here alone

    try:
        return json.loads(text_of(path) or "{}")
    except (ValueError, RecursionError):
        return {}
