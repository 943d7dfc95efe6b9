"""git: beside the person's checkout, never in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nightlab import git as nightgit
from nightlab.errors import GitError
from tests.support import git, make_project

ODD_NAMES = ["a space", "a'quote\"", "new\nline", "ünï-códe 模型", "-dash", "$(touch x)"]


def snapshot(folder: Path) -> tuple[str, str, str, bytes]:
    """All that a person would notice of their checkout."""
    status = git(folder, "status", "--porcelain")
    head = git(folder, "rev-parse", "HEAD") + git(folder, "symbolic-ref", "HEAD")
    staged = git(folder, "diff", "--cached")
    return status, head, staged, (folder / "train.py").read_bytes()


def test_a_change_is_committed_beside_a_dirty_checkout(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p")
    (root / "train.py").write_text("dirty = True\n")
    (root / "staged.txt").write_text("s")
    git(root, "add", "staged.txt")
    before = snapshot(root)
    repo = nightgit.discover(root)
    head = repo.head()
    tree = repo.write_tree(head, {"train.py": "LR = 1\n", "new/dir.py": "x = 1\n"})
    commit = repo.commit_tree(tree, [head], "a change\n", 1_700_000_000.0)
    repo.update_refs([("refs/nightlab/t/2", commit, None)])
    assert snapshot(root) == before
    assert git(root, "show", "refs/nightlab/t/2:train.py") == "LR = 1\n"
    assert git(root, "show", "refs/nightlab/t/2:new/dir.py") == "x = 1\n"
    assert git(root, "show", "refs/nightlab/t/2:prepare.py") == "# fixed\n"


def test_the_same_commit_made_twice_is_the_same_commit(tmp_path: Path) -> None:
    repo = nightgit.discover(make_project(tmp_path / "p"))
    tree = repo.write_tree(repo.head(), {"train.py": "x\n"})
    twice = {repo.commit_tree(tree, [repo.head()], "m\n", 1.5e9) for _ in range(2)}
    assert len(twice) == 1


def test_materialise_writes_the_files_and_no_git_folder(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p")
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    git(root, "add", "-A")
    git(root, "commit", "-qm", "more")
    repo = nightgit.discover(root)
    repo.materialise(repo.head(), tmp_path / "copy")
    names = sorted(p.name for p in (tmp_path / "copy").iterdir())
    assert names == ["nightlab.toml", "prepare.py", "run.sh", "train.py"]
    assert os.access(tmp_path / "copy" / "run.sh", os.X_OK)


def test_removing_a_file_and_keeping_an_executable_bit(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p")
    (root / "train.py").chmod(0o755)
    git(root, "commit", "-qam", "x")
    repo = nightgit.discover(root)
    changed = {"train.py": "print(1)\n", "prepare.py": None}
    tree = repo.write_tree(repo.head(), changed)
    listed = git(root, "ls-tree", tree)
    assert listed.startswith("100755 blob")
    assert "prepare.py" not in listed


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_folder_and_file_names_work(tmp_path: Path, name: str) -> None:
    root = make_project(tmp_path / name)
    (root / name).write_text("odd = 1\n")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "odd")
    repo = nightgit.discover(root)
    head = repo.head()
    assert repo.top == root
    assert name in repo.files(head)
    assert repo.read(head, [name, "absent"]) == {name: "odd = 1\n"}
    tree = repo.write_tree(head, {name: "odd = 2\n"})
    repo.materialise(tree, tmp_path / "copy")
    assert (tmp_path / "copy" / name).read_text() == "odd = 2\n"


def test_bytes_that_are_not_utf8_survive_an_edit(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p")
    raw = b"# caf\xe9 \x80\r\nLR = 0.1\r\n"
    (root / "train.py").write_bytes(raw)
    git(root, "commit", "-qam", "latin")
    repo = nightgit.discover(root)
    text = repo.read(repo.head(), ["train.py"])["train.py"]
    edited = {"train.py": text.replace("0.1", "0.2")}
    tree = repo.write_tree(repo.head(), edited)
    repo.materialise(tree, tmp_path / "copy")
    assert (tmp_path / "copy" / "train.py").read_bytes() == raw.replace(b"0.1", b"0.2")


def test_a_merge_carries_a_change_over_and_refuses_a_conflict(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p", train="A = 1\n\n\n\nB = 1\n")
    repo = nightgit.discover(root)
    base = repo.head()

    def commit(text: str) -> str:
        tree = repo.write_tree(base, {"train.py": text})
        return repo.commit_tree(tree, [base], "m\n", 1.0)

    theirs = commit("A = 2\n\n\n\nB = 1\n")
    apart = repo.merge(base, commit("A = 1\n\n\n\nB = 2\n"), theirs)
    assert apart is not None
    assert repo.read(apart, ["train.py"])["train.py"] == "A = 2\n\n\n\nB = 2\n"
    assert repo.merge(base, commit("A = 3\n\n\n\nB = 1\n"), theirs) is None


def test_a_ref_moves_only_from_where_it_was_expected(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p")
    repo = nightgit.discover(root)
    head = repo.head()
    repo.update_refs([("refs/heads/autoresearch/t", head, "0" * 40)])
    other = repo.commit_tree(repo.tree_of(head), [head], "m\n", 1.0)
    with pytest.raises(GitError):
        repo.update_refs([("refs/heads/autoresearch/t", other, "0" * 40)])
    assert repo.resolve("refs/heads/autoresearch/t") == head
    assert repo.resolve("refs/heads/none") is None


def test_hooks_and_git_variables_of_the_caller_do_not_reach_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_project(tmp_path / "p")
    for hook in ("post-checkout", "reference-transaction", "post-index-change"):
        path = root / ".git" / "hooks" / hook
        path.write_text(f"#!/bin/sh\ntouch {tmp_path}/hooked\n")
        path.chmod(0o755)
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_INDEX_FILE", "/nowhere/index")
    repo = nightgit.discover(root)
    tree = repo.write_tree(repo.head(), {"train.py": "y\n"})
    repo.materialise(tree, tmp_path / "copy")
    commit = repo.commit_tree(tree, [repo.head()], "m\n", 1.0)
    repo.update_refs([("refs/nightlab/t/9", commit, None)])
    assert not (tmp_path / "hooked").exists()


def test_no_repository_and_no_commit_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(GitError, match="not in a git repository") as caught:
        nightgit.discover(tmp_path)
    assert "git init" in caught.value.hint
    git(tmp_path, "init", "-q")
    with pytest.raises(GitError, match="no commit yet"):
        nightgit.discover(tmp_path).head()


def test_a_linked_worktree_has_its_own_head(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p")
    git(root, "worktree", "add", "-q", "-b", "side", str(tmp_path / "side"))
    (tmp_path / "side" / "train.py").write_text("side = 1\n")
    git(tmp_path / "side", "commit", "-qam", "side")
    repo = nightgit.discover(tmp_path / "side")
    assert repo.head() == git(tmp_path / "side", "rev-parse", "HEAD").strip()
    assert repo.head() != nightgit.discover(root).head()
    assert repo.checked_out_branches() == {"refs/heads/main", "refs/heads/side"}


def test_a_night_of_many_commits_on_one_incumbent_works(tmp_path: Path) -> None:
    """More trees than are remembered pass by while the parent stays the same."""
    repo = nightgit.discover(make_project(tmp_path / "p"))
    base = repo.head()
    tree = repo.tree_of(base)
    for number in range(300):
        repo.commit_tree(tree, [base], f"{number}\n", 1.0)
    assert repo.tree_of(base) == tree
    assert repo.write_tree(base, {"train.py": "x = 1\n"}) != tree
    assert repo.tree_of(base) == tree
