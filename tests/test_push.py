"""[git] push: the branch goes to a remote after each keep, and a remote never stops a night."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from nightlab import commits, config
from nightlab.errors import ConfigError
from nightlab.history import History
from tests.support import CONFIG, TRAIN, Steps, drive, git, lr, make_project

PUSH = '\n[git]\npush = "origin"\n'
BRANCH = "refs/heads/autoresearch/mar5"


def night(tmp_path: Path, *, hook: str = "", more: str = PUSH) -> tuple[Path, Path, History]:
    """(project, bare remote, history) of a night with one keep and one discard."""
    bare = tmp_path / "bare.git"
    bare.mkdir()
    git(bare, "init", "-q", "--bare")
    if hook:
        path = bare / "hooks" / "pre-receive"
        path.parent.mkdir(exist_ok=True)
        path.write_text(hook)
        path.chmod(0o755)
    root = make_project(tmp_path / "p", more=more, noise=0.0001)
    git(root, "remote", "add", "origin", str(bare))
    _, opened = drive(root, Steps([lr(0.03), lr(0.9)]), 3, tag="mar5")
    return root, bare, opened.engine.history


def test_key_git_push_sends_the_branch_after_a_keep(tmp_path: Path) -> None:
    _, bare, history = night(tmp_path)
    assert git(bare, "rev-parse", BRANCH).strip() == history.tip == history.experiments[2].commit
    assert git(bare, "for-each-ref", "--format=%(refname)").split() == [BRANCH]
    assert history.warnings == []


def test_nothing_is_pushed_unless_asked_for(tmp_path: Path) -> None:
    _, bare, _ = night(tmp_path, more="")
    assert git(bare, "for-each-ref") == ""


def test_a_remote_that_refuses_is_a_warning_and_the_night_goes_on(tmp_path: Path) -> None:
    _, bare, history = night(tmp_path, hook="#!/bin/sh\necho no thanks >&2\nexit 1\n")
    assert history.counts.total == 3
    assert git(bare, "for-each-ref") == ""
    (warning,) = history.warnings
    assert "autoresearch/mar5 was not pushed to origin" in warning.text


def test_a_remote_that_is_ahead_is_never_overwritten(tmp_path: Path) -> None:
    bare = tmp_path / "bare.git"
    bare.mkdir()
    git(bare, "init", "-q", "--bare")
    other = make_project(tmp_path / "other", train=TRAIN + "# theirs\n")
    git(other, "push", "-q", str(bare), f"main:{BRANCH}")
    theirs = git(bare, "rev-parse", BRANCH)
    root = make_project(tmp_path / "p", more=PUSH, noise=0.0001)
    git(root, "remote", "add", "origin", str(bare))
    git(root, "config", "remote.origin.push", f"+{BRANCH}:{BRANCH}")  # even where git is told to
    _, opened = drive(root, Steps([lr(0.03)]), 2, tag="mar5")
    assert git(bare, "rev-parse", BRANCH) == theirs
    assert "was not pushed" in opened.engine.history.warnings[0].text


def test_a_remote_that_hangs_costs_a_bounded_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commits, "PUSH_TIMEOUT_S", 1.0)
    began = time.monotonic()
    _, _, history = night(tmp_path, hook="#!/bin/sh\nexec sleep 300\n")
    assert time.monotonic() - began < 60
    assert history.counts.total == 3
    assert "was not done after 1 s" in history.warnings[0].text


def test_a_remote_that_is_not_there_is_a_warning(tmp_path: Path) -> None:
    _, _, history = night(tmp_path, more=PUSH.replace("origin", "upstream"))
    assert "was not pushed to upstream" in history.warnings[0].text


@pytest.mark.parametrize("name", ["--force", "-f", "https://x.invalid/y", "ext::sh -c id", "a b"])
def test_only_the_name_of_a_remote_is_taken(tmp_path: Path, name: str) -> None:
    (tmp_path / config.CONFIG_NAME).write_text(
        CONFIG.format(python="python") + f"\n[git]\npush = {name!r}\n"
    )
    with pytest.raises(ConfigError, match="push"):
        config.load(tmp_path)
