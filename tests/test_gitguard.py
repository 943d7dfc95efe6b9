"""git's own settings: the person's filters run, what a run planted does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nightlab import git as nightgit
from nightlab.errors import SealError
from nightlab.history import fold
from nightlab.journal import read
from nightlab.model import Outcome
from tests.support import CONFIG, Steps, drive, git, lr, make_project

PROCESS = '[sandbox]\nuse = "process"\n'


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return folder


def config(path: Path, *entries: str) -> None:
    for entry in entries:
        key, _, value = entry.partition("=")
        git(path.parent, "config", "--file", str(path), "--add", key, value)


def _filter(root: Path, _: Path) -> None:
    config(root / ".git" / "config", "filter.evil.smudge=touch ran; cat")


def _attributes(root: Path, _: Path) -> None:
    (root / ".git" / "info").mkdir(exist_ok=True)
    (root / ".git" / "info" / "attributes").write_text("* filter=mine\n")


def _process(root: Path, _: Path) -> None:
    git(root, "config", "filter.mine.process", "evil")


def _personal(_: Path, home: Path) -> None:
    config(home / ".gitconfig", "core.fsmonitor=evil")


def _xdg(_: Path, home: Path) -> None:
    (home / ".config" / "git").mkdir(parents=True)
    config(home / ".config" / "git" / "config", "core.attributesFile=/tmp/evil")


def _xdg_attributes(_: Path, home: Path) -> None:
    (home / ".config" / "git").mkdir(parents=True)
    (home / ".config" / "git" / "attributes").write_text("* filter=mine\n")


def _included(root: Path, _: Path) -> None:
    """A file that the person's configuration includes, and that was not there."""
    config(root / ".git" / "extra", "filter.mine.smudge=evil")


def _include(root: Path, home: Path) -> None:
    config(home / "evil", "core.sshCommand=evil")
    config(root / ".git" / "config", f"include.path={home / 'evil'}")


def _lazy_fetch(root: Path, _: Path) -> None:
    config(root / ".git" / "config", "protocol.ext.allow=always")


def _line_ends(root: Path, _: Path) -> None:
    config(root / ".git" / "config", "core.autocrlf=true")


def _worktree(root: Path, _: Path) -> None:
    config(root / ".git" / "config", "extensions.worktreeConfig=true")
    config(root / ".git" / "config.worktree", "filter.mine.smudge=evil")


PLANTS = [_filter, _attributes, _process, _personal, _xdg, _xdg_attributes, _included, _include,
          _lazy_fetch, _line_ends, _worktree]  # fmt: skip


@pytest.mark.parametrize("plant", PLANTS)
def test_a_planted_setting_stops_the_next_copy(
    tmp_path: Path, home: Path, plant: Callable[[Path, Path], None]
) -> None:
    root = make_project(tmp_path / "p")
    config(root / ".git" / "config", "filter.mine.smudge=cat", "include.path=extra")
    repo = nightgit.discover(root)
    repo.materialise(repo.head(), tmp_path / "first")
    plant(root, home)
    with pytest.raises(SealError, match="not what it was") as raised:
        repo.materialise(repo.head(), tmp_path / "second")
    assert all(raised.value.lines())
    assert not (tmp_path / "second").exists()
    again = nightgit.discover(root)  # the person has been told, and starts nightlab again
    again.check_settings()


def test_what_else_a_person_configures_meanwhile_disturbs_nothing(
    tmp_path: Path, home: Path
) -> None:
    root = make_project(tmp_path / "p")
    repo = nightgit.discover(root)
    repo.materialise(repo.head(), tmp_path / "first")
    git(root, "config", "user.name", "Somebody")
    git(root, "remote", "add", "origin", "https://example.org/x.git")
    config(home / ".gitconfig", "alias.co=checkout", "core.editor=vi")
    (root / ".git" / "config").touch()
    repo.materialise(repo.head(), tmp_path / "second")


def test_a_setting_put_back_is_a_setting_unchanged(tmp_path: Path, home: Path) -> None:
    root = make_project(tmp_path / "p")
    before = (root / ".git" / "config").read_bytes()
    repo = nightgit.discover(root)
    repo.check_settings()
    _filter(root, home)
    with pytest.raises(SealError):
        repo.check_settings()
    with pytest.raises(SealError):
        repo.check_settings()
    (root / ".git" / "config").write_bytes(before)
    repo.check_settings()


def test_filters_of_the_persons_own_run_as_git_lfs_needs_it(tmp_path: Path, home: Path) -> None:
    root = make_project(tmp_path / "p")
    (root / ".gitattributes").write_text("*.big filter=large\n")
    git(root, "config", "filter.large.clean", "echo pointer")
    git(root, "config", "filter.large.smudge", "sed s/pointer/content/")
    (root / "data.big").write_text("content\n")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "large")
    assert git(root, "show", "HEAD:data.big") == "pointer\n"
    repo = nightgit.discover(root)
    for name in ("one", "two"):
        repo.materialise(repo.head(), tmp_path / name)
        assert (tmp_path / name / "data.big").read_text() == "content\n"


def test_a_replaced_object_is_not_what_a_run_gets(tmp_path: Path) -> None:
    """refs/replace would let a run put its own evaluator in the place of the committed one."""
    root = make_project(tmp_path / "p")
    (root / "forged.py").write_text("# forged\n")
    forged = git(root, "hash-object", "-w", "forged.py").strip()
    true = git(root, "rev-parse", "HEAD:prepare.py").strip()
    git(root, "replace", true, forged)
    assert git(root, "show", "HEAD:prepare.py") == "# forged\n"
    repo = nightgit.discover(root)
    repo.materialise(repo.head(), tmp_path / "copy")
    assert (tmp_path / "copy" / "prepare.py").read_text() == "# fixed\n"


@pytest.mark.parametrize("sealed", [False, True], ids=["reported", "sealed"])
def test_a_run_that_plants_a_filter_stops_the_study_and_the_filter_never_runs(
    tmp_path: Path, home: Path, *, sealed: bool
) -> None:
    more = 'evaluate = "{python} prepare.py"\n' if sealed else ""
    root = make_project(tmp_path / "p", toml=CONFIG + more, more=PROCESS)
    if sealed:
        (root / "prepare.py").write_text("print('val_loss: 1.0')\n")
        git(root, "commit", "-qam", "evaluator")
    marker = tmp_path / "ran"
    plant = (
        f"open({str(root / '.git/config')!r}, 'a').write("
        f'\'[filter "evil"]\\nsmudge = "touch {marker}; cat"\\n\')\n'
        f"open({str(root / '.git/info/attributes')!r}, 'w').write('* filter=evil\\n')\n"
    )
    (root / ".git" / "info").mkdir(exist_ok=True)
    attack = ("rng =", f"{plant}LR = 0.03\nrng =")
    with pytest.raises(SealError, match="attributes is not what it was"):
        drive(root, Steps([attack, lr(0.05)]), 3)
    assert not marker.exists()
    history = fold(read(next((root / ".nightlab").glob("*/journal.jsonl"))))
    assert history.last_run_id in history.pending  # told by the next start: lost, made again
    assert Outcome.OK not in {r.outcome for r in history.experiments[2].runs}
