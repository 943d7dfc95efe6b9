"""Codex: `codex exec`, seen to work at 0.169.0."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

from nightlab.model import Usage
from nightlab.researchers.agents.seam import Order, Said, Start, number, objects, words

_PROVIDER_KEY = "NIGHTLAB_MODEL_KEY"
_UNWRITTEN = re.compile(r"^Failed to write file (/.*)$", re.MULTILINE)
_OPENAI = "https://api.openai.com/v1"


class Codex:
    """Edits by patch and shell: in a box the box confines both, else Codex's own profile does."""

    name = program = "codex"
    install = "npm install -g @openai/codex, then `codex login`"
    keys = ("OPENAI_API_KEY", "CODEX_API_KEY")
    base = "OPENAI_BASE_URL"
    hosts = ("api.openai.com", "chatgpt.com", "auth.openai.com")
    login = (".codex/auth.json",)
    cumulative = ("tokens_in", "tokens_out", "tokens_cached")
    hopeless = r"Reconnecting\.\.\. .*\b429\b"  # it obeys retry-after, however long that is

    def start(self, order: Order) -> Start:
        argv = [order.program, "exec"]
        argv += ["resume", order.session] if order.session else []
        argv += ["--json", "--skip-git-repo-check"]
        if order.settings.model:
            argv += ["-m", order.settings.model]
        for key, value in _config(order).items():
            argv += ["-c", f"{key}={value}"]
        home = order.home / ".codex"
        # Codex refuses to start from a home that lies below the folder of temporary files.
        env = {"CODEX_HOME": str(home)} | ({_PROVIDER_KEY: order.key} if order.key else {})
        return Start((*argv, "-"), env, {".codex/.made": ""})

    def read(self, out: str, err: str, order: Order) -> Said:
        session = text = error = ""
        ended, calls, usage = False, 0, Usage()
        for event in objects(out):
            kind, item = event.get("type"), event.get("item")
            if kind == "thread.started":
                session = words(event, "thread_id")
            elif kind == "item.completed":
                calls += 1
                if words(item, "type") == "agent_message":
                    text = words(item, "text")
            elif kind == "turn.completed":
                ended, error = True, ""
                usage = Usage(
                    tokens_in=number(event, "usage", "input_tokens"),
                    tokens_out=number(event, "usage", "output_tokens"),
                    tokens_cached=number(event, "usage", "cached_input_tokens"),
                    calls=calls,
                    model=order.settings.model,
                )
            elif kind == "turn.failed":
                ended, error = True, words(event, "error", "message") or "the turn failed"
            elif kind == "error":
                error = words(event, "message")
        denied = [("apply_patch", path) for path in _UNWRITTEN.findall(err)]
        denied += [("apply_patch", "")] * err.count("rejected: writing outside of the project")
        return Said(
            ended=ended,
            text=text,
            error=error or ("" if ended else err[-2000:]),
            denied=tuple(denied),
            usage=usage,
            session=session,
        )


def _config(order: Order) -> dict[str, str]:
    found = {
        "approval_policy": '"never"',
        "check_for_update_on_startup": "false",
        "analytics.enabled": "false",
        "features.plugins": "false",
        "features.apps": "false",
        "web_search": '"live"' if order.web else '"disabled"',
    }
    if order.boxed:
        found["sandbox_mode"] = '"danger-full-access"'
    else:
        places = {".": "write"} | dict.fromkeys(sorted(_others(order.tree, order.writable)), "read")
        rules = _table({":root": "read"} | {})[:-1] + f', ":workspace_roots" = {_table(places)}}}'
        found["default_permissions"] = '"nightlab"'
        found["permissions.nightlab.filesystem"] = rules
    if order.endpoint or order.key:
        provider = {"name": "nightlab", "base_url": order.endpoint or _OPENAI}
        provider |= {"wire_api": "responses"} | ({"env_key": _PROVIDER_KEY} if order.key else {})
        limits = "request_max_retries = 2, stream_max_retries = 2"
        found["model_provider"] = '"nightlab"'
        found["model_providers.nightlab"] = f"{_table(provider)[:-1]}, {limits}}}"
    return found


def _table(entries: dict[str, str]) -> str:
    """An inline table of TOML; its basic strings are JSON's."""
    return "{" + ", ".join(f"{json.dumps(k)} = {json.dumps(v)}" for k, v in entries.items()) + "}"


def _others(tree: Path, writable: tuple[str, ...]) -> Iterator[str]:
    """The outermost files and folders that hold nothing writable: one-file profiles fail."""
    keep = {os.path.normpath(name) for name in writable}
    folders = [""]
    while folders:
        here = folders.pop()
        for entry in os.scandir(tree / here):
            path = f"{here}/{entry.name}".lstrip("/")
            if entry.is_dir(follow_symlinks=False) and any(k.startswith(f"{path}/") for k in keep):
                folders.append(path)
            elif path not in keep:
                yield path
