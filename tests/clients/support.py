"""Starting a real coding agent against a server on loopback, quietly.

The least that makes each client work offline; nightlab's own adapters own the real settings.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PROMPT = "Change train.py so that it trains better."


@dataclass(frozen=True)
class Place:
    """Where an agent runs: its home, its temporary folder, the repository, the server."""

    home: Path
    tmp: Path
    repo: Path
    url: str

    @property
    def env(self) -> dict[str, str]:
        """Nothing of the person's own environment but the path to programs."""
        return {
            "HOME": str(self.home),
            "TMPDIR": str(self.tmp),
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "NO_PROXY": "*",
        }

    def write(self, name: str, value: object) -> None:
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value if isinstance(value, str) else json.dumps(value))


Start = tuple[list[str], dict[str, str]]


def claude(program: Path, place: Place, prompt: str) -> Start:
    command = [
        *(str(program), "-p", prompt, "--output-format", "json", "--model", "scripted"),
        *("--tools", "Read,Edit", "--allowedTools", "Edit(train.py)"),
        *("--permission-prompts", "none", "--setting-sources", "", "--strict-mcp-config"),
    ]
    return command, {
        "ANTHROPIC_BASE_URL": place.url,
        "ANTHROPIC_API_KEY": "none",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "CLAUDE_CODE_MAX_RETRIES": "2",
    }


def codex(program: Path, place: Place, prompt: str) -> Start:
    settings = {
        "model_provider": "scripted",
        "check_for_update_on_startup": False,
        "model_providers.scripted.name": "scripted",
        "model_providers.scripted.base_url": f"{place.url}/v1",
        "model_providers.scripted.env_key": "SCRIPTED_KEY",
        "model_providers.scripted.wire_api": "responses",
        "model_providers.scripted.request_max_retries": 2,
        "model_providers.scripted.stream_max_retries": 2,
        "analytics.enabled": False,
        "features.plugins": False,
        "features.apps": False,
        "sandbox_workspace_write.exclude_slash_tmp": True,
        "sandbox_workspace_write.exclude_tmpdir_env_var": True,
    }
    command = [
        *(str(program), "exec", "--json", "-s", "workspace-write", "-C", str(place.repo)),
        *("-m", "gpt-5.5", "--ephemeral"),
    ]
    for key, value in settings.items():
        command += ["-c", f"{key}={json.dumps(value)}"]
    return [*command, prompt], {"SCRIPTED_KEY": "none"}


def pi(program: Path, place: Place, prompt: str) -> Start:
    provider = {
        "baseUrl": f"{place.url}/v1",
        "apiKey": "none",
        "api": "openai-completions",
        "models": [{"id": "scripted"}],
    }
    place.write(".pi/agent/models.json", {"providers": {"scripted": provider}})
    place.write(".pi/agent/settings.json", {"retry": {"enabled": False}})
    command = [
        *(str(program), "-p", "--mode", "json", "--provider", "scripted", "--model", "scripted"),
        *("--tools", "read,edit", "--no-session", prompt),
    ]
    return command, {"PI_OFFLINE": "1"}


def gemini(program: Path, place: Place, prompt: str) -> Start:
    settings = {
        "security": {"auth": {"selectedType": "gemini-api-key"}, "folderTrust": {"enabled": False}},
        "privacy": {"usageStatisticsEnabled": False},
        "general": {"enableAutoUpdate": False, "maxAttempts": 2},
    }
    place.write(".gemini/settings.json", settings)
    command = [
        *(str(program), "-p", prompt, "-m", "gemini-scripted", "-o", "json"),
        *("--approval-mode", "auto_edit", "--skip-trust"),
    ]
    return command, {
        "GEMINI_API_KEY": "none",
        "GOOGLE_GEMINI_BASE_URL": place.url,
        "GEMINI_CLI_NO_RELAUNCH": "true",
    }


def opencode(program: Path, place: Place, prompt: str) -> Start:
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "options": {"baseURL": f"{place.url}/v1", "apiKey": "none"},
        "models": {"scripted": {}},
    }
    settings = {
        "provider": {"scripted": provider},
        "permission": {"edit": {"*": "deny", "train.py": "allow"}, "bash": "deny"},
    }
    quiet = ("AUTOUPDATE", "MODELS_FETCH", "LSP_DOWNLOAD", "DEFAULT_PLUGINS", "SHARE")
    command = [
        *(str(program), "run", "--format", "json", "--title", "t", "-m", "scripted/scripted"),
        prompt,
    ]
    environment = {f"OPENCODE_DISABLE_{word}": "1" for word in quiet}
    return command, environment | {"OPENCODE_CONFIG_CONTENT": json.dumps(settings)}


def aider(program: Path, place: Place, prompt: str) -> Start:
    limits = {"max_input_tokens": 100000, "max_output_tokens": 4000, "litellm_provider": "openai"}
    place.write("models.json", {"openai/scripted": limits})
    flags = "--yes-always --no-auto-commits --no-check-update --analytics-disable --no-pretty"
    quiet = "--map-tokens 0 --chat-history-file /dev/null --input-history-file /dev/null"
    command = [
        *(str(program), "--model", "openai/scripted", "--edit-format", "diff"),
        *("--message", prompt, "--file", "train.py", "--no-show-model-warnings"),
        *("--model-metadata-file", str(place.home / "models.json"), *flags.split()),
        *quiet.split(),
    ]
    return command, {"OPENAI_API_BASE": f"{place.url}/v1", "OPENAI_API_KEY": "none"}


def mini(program: Path, place: Place, prompt: str) -> Start:
    command = [
        *(str(program), "-m", "openai/scripted", "-t", prompt, "-y", "--exit-immediately"),
        *("-o", str(place.home / "trajectory.json"), "-c", "mini.yaml", "-c", "agent.step_limit=9"),
    ]
    return command, {
        "OPENAI_API_BASE": f"{place.url}/v1",
        "OPENAI_API_KEY": "none",
        "MSWEA_CONFIGURED": "true",
        "MSWEA_COST_TRACKING": "ignore_errors",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }


STARTS: dict[str, Callable[[Path, Place, str], Start]] = {
    "claude": claude,
    "codex": codex,
    "pi": pi,
    "gemini": gemini,
    "opencode": opencode,
    "aider": aider,
    "mini": mini,
}


def run(
    name: str, program: Path, place: Place, prompt: str = PROMPT, timeout_s: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run a client once, to its end."""
    command, environment = STARTS[name](program, place, prompt)
    return subprocess.run(
        command,
        cwd=place.repo,
        env=place.env | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
