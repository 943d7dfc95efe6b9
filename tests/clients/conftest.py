"""``client("claude")``: the program, or a skipped test that says how to install it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clients.install import CLIENTS, find
from tests.clients.support import Place

Client = Callable[[str], Path]


@pytest.fixture
def client() -> Client:
    def program(name: str) -> Path:
        found = find(name)
        if isinstance(found, str):
            pytest.skip(found)
        if CLIENTS[name].kind == "npm" and shutil.which("node") is None:
            pytest.skip(f"{name} needs node, which is not on this machine")
        return found

    return program


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A repository with train.py, and a home of its own beside it."""
    home, tmp, repo = (tmp_path / name for name in ("home", "tmp", "repo"))
    for folder in (home, tmp, repo):
        folder.mkdir()
    (repo / "train.py").write_text('LR = 0.1\nprint("loss:", LR)\n')
    (repo / "prepare.py").write_text("DATA = 1\n")
    for command in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "start"],
    ):
        subprocess.run(["git", *command], cwd=repo, check=True)
    return Place(home, tmp, repo, "")
