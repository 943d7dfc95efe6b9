"""aider: one message, SEARCH/REPLACE blocks; seen to work at 0.86.2. It confines nothing itself."""

from __future__ import annotations

import json
import re

from nightlab.model import Usage
from nightlab.researchers.agents.seam import PROVIDER_KEYS, PROVIDERS, Order, Said, Start

_N = r"(\d[\d,]*(?:\.\d+)?k?)"
_TOKENS = re.compile(
    rf"Tokens: {_N} sent,(?: {_N} cache write,)?(?: {_N} cache hit,)? {_N} received\."
    r"(?: Cost: \$(\d+(?:\.\d+)?) message)?"
)
_UNWRITTEN = re.compile(r"^Unable to write file (\S+):", re.MULTILINE)
_FAILED = re.compile(r"^litellm\.(\w+): (.*)$", re.MULTILINE)
_METADATA = ".nightlab/models.json"
_LIMITS = {"max_input_tokens": 128000, "max_output_tokens": 8192, "litellm_provider": "openai"}


class Aider:
    """Edits what the model's text says, also files that it was told to leave: the box holds."""

    name = program = "aider"
    install = "uv tool install aider-chat"
    keys = PROVIDER_KEYS
    base = "OPENAI_API_BASE"
    hosts = PROVIDERS
    login = ()
    cumulative = ()
    hopeless = ""

    def start(self, order: Order) -> Start:
        argv = [order.program, "--message-file", str(order.brief), "--yes-always"]
        argv += ["--no-git", "--no-check-update", "--analytics-disable", "--no-pretty"]
        argv += [
            "--no-show-model-warnings",
            "--no-show-release-notes",
            "--no-suggest-shell-commands",
        ]
        argv += ["--no-detect-urls", "--map-tokens", "0", "--edit-format", "diff"]
        argv += ["--chat-history-file", "/dev/null", "--input-history-file", "/dev/null"]
        argv += ["--no-gitignore", "--no-auto-lint"]
        for name in order.writable:
            argv += ["--file", name]
        files = {}
        if order.settings.model:
            argv += ["--model", _named(order)]
        if order.settings.model and order.endpoint:  # else it looks for a price list elsewhere
            files[_METADATA] = json.dumps({_named(order): _LIMITS})
            argv += ["--model-metadata-file", str(order.home / _METADATA)]
        env = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        if order.endpoint:
            env["OPENAI_API_BASE"] = order.endpoint
        if order.key:
            env["OPENAI_API_KEY"] = order.key
        return Start(tuple(argv), env, files, stdin=False)

    def read(self, out: str, err: str, order: Order) -> Said:
        del err  # it prints everything to its output
        tokens_in = tokens_out = cached = calls = 0
        usd: float | None = None
        for sent, written, hit, received, cost in _TOKENS.findall(out):
            calls += 1
            tokens_in += _count(sent) + _count(written) + _count(hit)
            cached += _count(hit)
            tokens_out += _count(received)
            usd = usd if not cost else (usd or 0.0) + float(cost)
        failures = _FAILED.findall(out)
        failed = failures and not calls
        text = out[: out.rfind("Tokens: ")] if calls else ""
        return Said(
            ended=calls > 0 or bool(failures),
            text=re.split(r"^Added .* to the chat\.$", text, flags=re.MULTILINE)[-1],
            denied=tuple(("write", path) for path in _UNWRITTEN.findall(out)),
            error=f"{failures[-1][0]}: {failures[-1][1]}"
            if failed
            else ""
            if calls
            else out[-2000:],
            usage=Usage(tokens_in, tokens_out, cached, usd, 0.0, calls, order.settings.model),
        )


def _named(order: Order) -> str:
    """A local server's model is reached as OpenAI's are."""
    model = order.settings.model
    return f"openai/{model}" if order.endpoint and not model.startswith("openai/") else model


def _count(text: str) -> int:
    """The number in "2.1k", "950" or ""."""
    text = text.replace(",", "")
    if not text:
        return 0
    return round(float(text[:-1]) * 1000) if text.endswith("k") else int(float(text))
