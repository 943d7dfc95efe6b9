"""``nightlab skill``: what is written for agents, into files that may be a person's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest

from nightlab.config import Paths
from nightlab.journal import Journal
from tests.support import make_project

EVERY = [x for name in ("claude", "codex", "gemini", "opencode") for x in ("--agent", name)]


def skill(
    folder: Path, *args: str, check: int = 0, stdin: str = "", home: Path | None = None
) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "nightlab", "skill", *args, "-C", str(folder)],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(home or folder.parent)},
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == check, done.stdout + done.stderr
    return json.loads(done.stdout) if "--json" in args else done.stdout


def tree(folder: Path) -> dict[str, str]:
    files = (p for p in folder.rglob("*") if p.is_file() and ".nightlab" not in p.parts)
    return {str(p.relative_to(folder)): p.read_text() for p in files if ".git/" not in str(p)}


def test_install_writes_what_each_agent_needs_and_uninstall_leaves_nothing(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p")
    before = tree(root)
    dry = skill(root, "install", *EVERY, "--dry-run", "--json")
    assert tree(root) == before
    done = skill(root, "install", *EVERY, "--json")
    assert dry["steps"] == done["steps"]
    assert all("\n+" in step["diff"] for step in dry["steps"])
    assert {step["state"] for step in done["steps"]} == {"written"}
    for folder in (".claude", ".agents", ".gemini", ".opencode"):
        text = (root / folder / "skills/nightlab/SKILL.md").read_text()
        assert text.startswith("---\nname: nightlab\ndescription:")
        assert "start autoresearch" in text
        assert "开始自动实验" in text
    settings = json.loads((root / ".claude/settings.json").read_text())
    assert settings["permissions"]["allow"] == ["mcp__nightlab"]
    assert "Edit(/.nightlab/**)" in settings["permissions"]["deny"]
    server = json.loads((root / ".mcp.json").read_text())["mcpServers"]["nightlab"]
    assert server["args"][-1] == "mcp"
    codex = tomllib.loads((root / ".codex/config.toml").read_text())["mcp_servers"]["nightlab"]
    assert codex["default_tools_approval_mode"] == "approve"
    assert codex["tool_timeout_sec"] > 60
    assert json.loads((root / ".gemini/settings.json").read_text())["mcpServers"]["nightlab"][
        "trust"
    ]
    again = skill(root, "install", *EVERY, "--json")
    assert {step["state"] for step in again["steps"]} == {"there"}
    skill(root, "uninstall")
    assert tree(root) == before
    assert not (root / ".claude").exists()


MINE = {
    ".mcp.json": '{\n\t"mcpServers": {\n\t\t"other": {"command": "x"}\n\t}\n}\n',
    ".claude/settings.json": json.dumps(
        {
            "permissions": {"allow": ["mcp__nightlab", "Bash(ls)"], "deny": []},
            "hooks": {"Stop": [{"hooks": [{"type": "command", "command": "mine"}]}]},
            "é": "ü",
        },
        indent=4,
        ensure_ascii=False,
    )
    + "\n",
    ".codex/config.toml": '# mine\nmodel = "gpt"\n[mcp_servers.other]\ncommand = "x"',
    "opencode.json": '{\n  "mcp": {}\n}\n',
}


def test_a_person_s_files_keep_all_that_is_theirs(tmp_path: Path) -> None:
    for name, text in MINE.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / ".mcp.json").chmod(0o600)
    skill(tmp_path, "install", *EVERY)
    settings = json.loads((tmp_path / ".claude/settings.json").read_text())
    assert settings["hooks"]["Stop"][0]["hooks"][0]["command"] == "mine"
    assert len(settings["hooks"]["Stop"]) == 2
    assert '    "é": "ü"' in (tmp_path / ".claude/settings.json").read_text()
    assert "\t\t" in (tmp_path / ".mcp.json").read_text()
    assert (tmp_path / ".mcp.json").stat().st_mode & 0o777 == 0o600
    toml = tomllib.loads((tmp_path / ".codex/config.toml").read_text())
    assert set(toml["mcp_servers"]) == {"other", "nightlab"}
    skill(tmp_path, "uninstall")
    for name, text in MINE.items():
        left = (tmp_path / name).read_text()
        if name.endswith(".json"):
            assert json.loads(left) == json.loads(text), name  # also the rule that was theirs
        else:
            assert left.strip() == text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (".mcp.json", '{"mcpServers": {"nightlab": {"command": "mine"}}}'),
        (".mcp.json", '// a comment\n{"mcpServers": {}}'),
        (".mcp.json", '{"mcpServers": {}, "mcpServers": {"a": {}}}'),
        (".mcp.json", '{"mcpServers": []}'),
        (".mcp.json", "[1]"),
        (".mcp.json", "\udcff"),
        (".mcp.json", "[" * 100_000),
        (".claude/settings.json", '{"permissions": {"allow": "all"}, "hooks": 1}'),
        (".claude/skills/nightlab/SKILL.md", "mine"),
        (".codex/config.toml", "mcp_servers = {}"),
        (".codex/config.toml", "[mcp_servers.nightlab]\ncommand = 'mine'"),
        (".codex/config.toml", "mcp_servers = 3"),
        (".codex/config.toml", "= broken"),
    ],
)
def test_what_cannot_be_merged_is_left_alone_and_told(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    agent = "codex" if "codex" in name else "claude"
    found = skill(tmp_path, "install", "--agent", agent, "--json", check=1)
    refused = [step for step in found["steps"] if step["state"] == "refused"]
    assert refused
    assert all(step["path"] == str(path) and step["why"] for step in refused)
    assert any("nightlab" in step["why"] or "install again" in step["why"] for step in refused)
    assert any(step["state"] == "written" for step in found["steps"])
    if agent == "codex" or name != ".claude/settings.json":
        assert path.read_bytes() == text.encode("utf-8", "surrogateescape")


def test_uninstall_keeps_what_was_changed_since(tmp_path: Path) -> None:
    skill(tmp_path, "install", "--agent", "claude", "--agent", "codex")
    text = tmp_path / ".claude/skills/nightlab/SKILL.md"
    text.write_text(text.read_text() + "\nmine\n")
    (tmp_path / ".codex/config.toml").unlink()
    found = skill(tmp_path, "uninstall", "--json", check=1)
    kept = [step["path"] for step in found["steps"] if step["state"] == "kept"]
    assert kept == [str(tmp_path / ".codex/config.toml"), str(text)]
    assert text.read_text().endswith("mine\n")
    assert not (tmp_path / ".mcp.json").exists()


def test_for_a_person_everywhere_and_nobody_unknown(tmp_path: Path) -> None:
    home, folder = tmp_path / "home", tmp_path / "p"
    home.mkdir()
    folder.mkdir()
    told = skill(folder, "install", "--scope", "user", home=home)
    assert "claude mcp add --scope user nightlab" in told
    assert (home / ".claude/skills/nightlab/SKILL.md").exists()
    assert tree(folder) == {}
    skill(folder, "install", "--agent", "clod", check=2)
    skill(folder, "uninstall", "--scope", "user", home=home)
    assert not (home / ".claude").exists()


# -- the stop hook


def hook(root: Path, **asked: Any) -> Any:
    began = time.monotonic()
    said = skill(root, "stop-hook", stdin=json.dumps({"cwd": str(root), **asked}))
    assert time.monotonic() - began < 5
    return json.loads(said) if said.strip() else None


def mark(root: Path, **fields: Any) -> None:
    body = {"tag": "t", "client_pid": os.getpid(), "begun": 2, "settled": 2, "stopping": False}
    path = Paths(root).study("t") / "client.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(body | fields))


def test_the_stop_hook_holds_its_own_open_session_and_never_for_ever(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p")
    assert hook(root) is None  # no study
    mark(root)
    assert hook(root) is None  # a server that is gone
    with Journal(Paths(root).journal("t")):
        held = hook(root, stop_hook_active=False)
        assert held["decision"] == "block"
        assert "begin_experiment" in held["reason"]
        assert hook(root, stop_hook_active=True) is None  # it did nothing since
        mark(root, begun=3)
        held = hook(root, stop_hook_active=True)
        assert "await_experiment" in held["reason"]
        mark(root, begun=3, settled=3, stopping=True)
        assert hook(root, stop_hook_active=True) is None  # finish, or a bound
        mark(root, begun=4, client_pid=1)
        assert hook(root) is None  # another agent's session in the same folder
        (Paths(root).study("t") / "client.json").write_text("{")
        assert hook(root) is None


@pytest.mark.parametrize("said", ["", "{", "[]", '{"cwd": 3}', '{"cwd": "/nowhere"}', "[" * 10**5])
def test_the_stop_hook_lets_go_where_it_understands_nothing(tmp_path: Path, said: str) -> None:
    assert skill(tmp_path, "stop-hook", stdin=said) == ""


def test_a_dry_run_shows_the_very_lines_that_it_would_write(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p")
    (root / ".mcp.json").write_text('{"mcpServers": {"other": {"command": "x"}}}\n')
    said = skill(root, "install", "--dry-run")
    assert '"nightlab": {' in said
    assert "  +name: nightlab" in said
    assert '"other"' in said  # what stands around it
    parts = [line for line in said.splitlines() if line.endswith(" would be written")]
    assert sum("permissions.deny" in line for line in parts) > 1
    assert len(parts) == len(set(parts))  # each rule by its name
    skill(root, "install")
    assert "  -name: nightlab" in skill(root, "uninstall", "--dry-run")
