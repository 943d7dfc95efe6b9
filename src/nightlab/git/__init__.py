"""Every git call. nightlab works beside the person's checkout, never in it.

Commits are made from a private index under ``.nightlab/`` with plumbing commands, so the
checkout, its index, its branch and its hooks are not involved, and no git command ever runs
in a folder that a run wrote to. Runs get a plain copy of the commit's files without
``.git``. Rejected: ``git worktree add``, which registers in the person's repository, runs
their hooks, and leaves a ``.git`` file that points a run at the repository.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nightlab import process
from nightlab.errors import GitError, NightlabError
from nightlab.git._environment import environment as _environment
from nightlab.git._guard import Guard
from nightlab.git._index import Indexes

_REF_ATTEMPTS = 5
_REMEMBERED = 256  # commits whose tree is known


def discover(folder: Path) -> Repo:
    """Find the repository that holds ``folder``. Raises GitError when there is none."""
    args = ("rev-parse", "--show-toplevel", "--git-common-dir", "--absolute-git-dir")
    done = process.call(("git", *args, "--show-prefix"), cwd=folder, env=_environment())
    if done.exit_code != 0:
        raise GitError(
            f"{folder} is not in a git repository",
            "nightlab keeps every experiment as a commit, so it needs one",
            "git init && git add -A && git commit -m 'start'",
        )
    # One answer a line, except where a path holds a newline itself.
    lines = done.stdout.decode("utf-8", "surrogateescape").removesuffix("\n").split("\n")
    if len(lines) != 4:
        return _discover_one_by_one(folder)
    top, common, git_dir, prefix = lines
    return Repo(Path(top), (folder / common).resolve(), Path(git_dir), prefix.rstrip("/"))


def _discover_one_by_one(folder: Path) -> Repo:
    """The slow way, for paths with a newline in them."""

    def ask(what: str) -> str:
        done = process.call(("git", "rev-parse", what), cwd=folder, env=_environment())
        return done.stdout.decode("utf-8", "surrogateescape").removesuffix("\n")

    common = (folder / ask("--git-common-dir")).resolve()
    prefix = ask("--show-prefix").rstrip("/")
    return Repo(Path(ask("--show-toplevel")), common, Path(ask("--absolute-git-dir")), prefix)


def create(folder: Path) -> Repo:
    """Make ``folder`` a repository of its own, with all its files in a first commit."""
    steps = (
        ("-c", "init.defaultBranch=main", "init", "-q"),
        ("add", "-A"),
        ("-c", "commit.gpgsign=false", "commit", "-q", "--no-verify", "-m", "start"),
    )
    for step in steps:
        argv = ("git", "-c", "core.hooksPath=/dev/null", *step)
        done = process.call(argv, cwd=folder, env=_environment())
        if done.exit_code != 0:
            said = done.stderr.decode("utf-8", "replace").strip().split("\n")[-1]
            raise GitError(f"git could not make a repository in {folder}", said, "git --version")
    return discover(folder)


def _call(argv: Sequence[str], **options: Any) -> process.Completed:
    """``process.call``, whose failures are git's: the machine's, not a proposal's."""
    try:
        return process.call(argv, **options)
    except GitError:
        raise
    except NightlabError as error:
        raise GitError(error.what, error.why, "git --version") from error


class Repo:
    """A repository, as seen from one project in it.

    ``top`` is its working tree, ``git_dir`` its common git folder (objects and refs),
    ``head_dir`` that of this working tree (its HEAD), ``prefix`` the project's folder
    inside it ("" at the top).

    Paths in and out of the methods are relative to ``top`` and use "/". Every method
    raises GitError when git refuses.
    """

    def __init__(self, top: Path, git_dir: Path, head_dir: Path, prefix: str = "") -> None:
        self.top = top
        self.git_dir = git_dir
        self.head_dir = head_dir
        self.prefix = prefix
        self._base_env = _environment()
        # A gc that detaches itself would outlive its call.
        settings = ["core.hooksPath=/dev/null", "core.fsmonitor=false", "gc.auto=0"]
        # What the fsynced journal speaks of must be there after a power cut, too.
        settings += ["core.fsync=committed", "core.fsyncObjectFiles=true"]
        self._safe = tuple(word for setting in settings for word in ("-c", setting))
        self._indexes = Indexes(git_dir / "nightlab")
        self._guard = Guard(git_dir, head_dir, self._list_settings)
        self._trees: dict[str, str] = {}  # commit or tree -> tree
        self._listed: tuple[str, dict[str, str]] = ("", {})

    def keep_indexes_in(self, folder: Path) -> None:
        """Where the private index files are to lie; before anything is written."""
        self._indexes = Indexes(folder)

    # -- reading

    def head(self) -> str:
        """The commit that the checkout is on. Raises GitError in a repository without one."""
        done = self._call("rev-parse", "--verify", "-q", "HEAD^{commit}", head=True, ok=(0, 1))
        if done.exit_code != 0:
            raise GitError(
                f"the repository {self.top} has no commit yet",
                "a study starts from a commit",
                "git add -A && git commit -m 'start'",
            )
        return done.stdout.decode().strip()

    def resolve(self, ref: str) -> str | None:
        """The commit a ref points to, None if it does not exist."""
        done = self._call("rev-parse", "--verify", "-q", f"{ref}^{{commit}}", ok=(0, 1, 128))
        return done.stdout.decode().strip() if done.exit_code == 0 else None

    def tree_of(self, commit: str) -> str:
        """The tree of a commit (or of a tree: itself)."""
        found = self._trees.pop(commit, "")
        if not found:
            found = self._text("rev-parse", "--verify", "-q", f"{commit}^{{tree}}").strip()
        self._remember(commit, found)
        return found

    def _remember(self, commit: str, tree: str) -> None:
        self._trees[commit] = tree  # the last in order is the last used
        while len(self._trees) > _REMEMBERED:
            del self._trees[next(iter(self._trees))]

    def files(self, commit: str) -> list[str]:
        """Every regular file of the commit; links and submodules are not among them."""
        modes = self._modes(self.tree_of(commit))
        return [path for path, mode in modes.items() if mode.startswith("100")]

    def read(self, commit: str, paths: Sequence[str]) -> dict[str, str]:
        """The text of files at a commit; bytes that are not UTF-8 survive as surrogates.

        A path that the commit does not have is absent from the answer.
        """
        asked = b"".join(f"{commit}:{p}\n".encode("utf-8", "surrogateescape") for p in paths)
        if any("\n" in p for p in paths):
            return {p: t for p in paths if (t := self._read_one(commit, p)) is not None}
        out = self._call("cat-file", "--batch", input_bytes=asked).stdout
        found: dict[str, str] = {}
        at = 0
        for path in paths:
            end = out.index(b"\n", at)
            header = out[at:end]
            at = end + 1
            if header.endswith(b" missing"):
                continue
            size = int(header.rsplit(b" ", 1)[1])
            found[path] = out[at : at + size].decode("utf-8", "surrogateescape")
            at += size + 1
        return found

    def _read_one(self, commit: str, path: str) -> str | None:
        done = self._call("cat-file", "blob", f"{commit}:{path}", ok=(0, 128))
        return done.stdout.decode("utf-8", "surrogateescape") if done.exit_code == 0 else None

    def diff(self, old: str, new: str) -> str:
        """The patch from one commit or tree to another, for people: plain, with file names."""
        args = ("diff", "--no-color", "--no-ext-diff", "--no-textconv", old, new)
        return self._call(*args).stdout.decode("utf-8", "replace")

    def diffs(self, pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
        """The patches of (old, new) commits in one call, by the new one; none for an empty one."""
        args = ("diff-tree", "--stdin", "-r", "-p", "--no-color", "--no-ext-diff", "--no-textconv")
        asked = "".join(f"{new} {old}\n" for old, new in pairs).encode()
        found: dict[str, list[str]] = {}
        lines: list[str] = []
        known = {new for _, new in pairs}
        text = self._call(*args, input_bytes=asked).stdout.decode("utf-8", "replace")
        for line in text.split("\n"):
            if line in known:  # no line of a patch is only a commit
                lines = found.setdefault(line, [])
            else:
                lines.append(line)
        return {commit: "\n".join(lines) for commit, lines in found.items()}

    def uncommitted(self) -> list[str]:
        """Tracked files of the checkout that differ from its HEAD, and untracked ones."""
        args = ("status", "--porcelain", "-z", "--untracked-files=normal", "--no-renames")
        done = self._call(f"--work-tree={self.top}", *args, head=True)
        text = done.stdout.decode("utf-8", "surrogateescape")
        return [entry[3:] for entry in text.split("\0") if entry]

    def checked_out_branches(self) -> set[str]:
        """Full names of the branches that the checkout or a linked worktree is on."""
        text = self._text("worktree", "list", "--porcelain")
        return {line[7:] for line in text.split("\n") if line.startswith("branch ")}

    # -- writing objects and refs; the checkout stays as it is

    def write_tree(self, parent: str, files: Mapping[str, str | None]) -> str:
        """The tree of ``parent`` with ``files`` set (text) or removed (None).

        Executable bits of existing files are kept.
        """
        tree = self.tree_of(parent)
        modes = self._modes(tree)
        lines = b""
        for path, text in files.items():
            raw = path.encode("utf-8", "surrogateescape")
            if b"\0" in raw:  # would be read as a second entry
                raise GitError(f"{path!r} cannot be a path", "it holds a NUL", "git fsck")
            if text is None:
                lines += b"0 " + b"0" * len(tree) + b"\t" + raw + b"\0"
                continue
            data = text.encode("utf-8", "surrogateescape")
            blob = self._call("hash-object", "-w", "--stdin", input_bytes=data).stdout.strip()
            # A link is never written through: what a proposal gives is a file.
            mode = b"100755" if modes.get(path) == "100755" else b"100644"
            lines += mode + b" " + blob + b"\t" + raw + b"\0"
        index = self._indexes.copy_of(self._index(tree))
        self._call("update-index", "-z", "--index-info", input_bytes=lines, index=index)
        new = self._call("write-tree", index=index).stdout.decode().strip()
        self._indexes.holds(index, new)
        self._remember(new, new)
        return new

    def _modes(self, tree: str) -> dict[str, str]:
        """The mode of every file; kept for the last tree asked, which is the incumbent's."""
        if self._listed[0] != tree:
            out = self._call("ls-tree", "-r", "-z", "--full-tree", tree).stdout
            modes = {}
            for entry in out.split(b"\0"):
                head, _, name = entry.partition(b"\t")
                if name:
                    modes[name.decode("utf-8", "surrogateescape")] = head[:6].decode()
            self._listed = (tree, modes)
        return self._listed[1]

    def _index(self, tree: str) -> Path:
        """A private index file that holds the tree."""
        index = self._indexes.find(tree)
        if index is None:
            index = self._indexes.free()
            self._call("read-tree", tree, index=index)
            self._indexes.holds(index, tree)
        return index

    def commit_tree(self, tree: str, parents: Sequence[str], message: str, at: float) -> str:
        """Make a commit object. The same arguments give the same hash, so recovery repeats it."""
        date = f"@{int(at)} +0000"
        env = {"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}
        args = ["commit-tree", tree]
        for parent in parents:
            args += ["-p", parent]
        done = self._call(*args, input_bytes=message.encode("utf-8", "replace"), env=env)
        commit = done.stdout.decode().strip()
        self._remember(commit, tree)
        return commit

    def update_refs(self, updates: Sequence[tuple[str, str, str | None]]) -> None:
        """Move refs in one transaction: (full name, new commit, expected old commit).

        Old None: whatever it is now. Old "0"*40: it must not exist. Raises GitError and moves none
        when an expectation fails.
        """
        lines = "".join(
            f"update {name} {new}" + (f" {old}" if old is not None else "") + "\n"
            for name, new, old in updates
        )
        args = ("update-ref", "--stdin", "-m", "nightlab")
        for attempt in range(_REF_ATTEMPTS):
            done = self._call(*args, input_bytes=lines.encode(), ok=(0, 128))
            if done.exit_code == 0:
                return
            said = done.stderr.decode("utf-8", "replace").strip()
            # Another git of the person's (a gc, a fetch) holds a ref's lock for a moment.
            if "Unable to create" not in said or attempt == _REF_ATTEMPTS - 1:
                raise GitError(f"git could not move a ref in {self.top}", said, "git fsck")
            time.sleep(0.2 * 2**attempt)

    def push(self, remote: str, branch: str, *, timeout_s: float) -> None:
        """Send a branch to a remote of the person's: forwards only, asking nobody anything.

        Raises GitError when it is refused or takes too long, SealError as ``check_settings``.
        """
        self.check_settings()
        full = f"refs/heads/{branch}"
        # Nobody is there to be asked for a password; helpers and keys that ask nobody still work.
        env = {"SSH_ASKPASS_REQUIRE": "never", "GIT_ASKPASS": "true"}
        self._call(
            "push",
            "--quiet",
            "--no-follow-tags",
            "--recurse-submodules=no",
            "--",
            remote,
            f"{full}:{full}",
            env=env,
            timeout_s=timeout_s,
        )

    def merge(self, base: str, ours: str, theirs: str) -> str | None:
        """The tree of ``theirs`` with the changes from ``base`` to ``ours`` on top.

        None when both changed the same lines. Works with every git: one three-way merge a file.
        """
        names = self._call("diff-tree", "-r", "-z", "--name-only", "--no-renames", base, ours)
        paths = [p.decode("utf-8", "surrogateescape") for p in names.stdout.split(b"\0") if p]
        sides = [self.read(commit, paths) for commit in (ours, base, theirs)]
        merged: dict[str, str | None] = {}
        for path in paths:
            mine, old, other = (side.get(path) for side in sides)
            if other in (old, mine):
                merged[path] = mine
            elif mine is None or old is None or other is None:
                return None
            else:
                text = self._merge_file(mine, old, other, self._indexes.folder / "merge")
                if text is None:
                    return None
                merged[path] = text
        return self.write_tree(theirs, merged)

    def _merge_file(self, mine: str, old: str, other: str, scratch: Path) -> str | None:
        scratch.mkdir(parents=True, exist_ok=True)
        files = [scratch / name for name in ("mine", "old", "other")]
        for file, text in zip(files, (mine, old, other), strict=True):
            file.write_bytes(text.encode("utf-8", "surrogateescape"))
        done = self._call("merge-file", "-p", "-q", *map(str, files), ok=tuple(range(256)))
        for file in files:
            file.unlink()
        scratch.rmdir()
        return done.stdout.decode("utf-8", "surrogateescape") if done.exit_code == 0 else None

    def check_settings(self) -> None:
        """Raises SealError when git's settings changed since the first call: a run may have.

        Those only that decide which programs git starts and what bytes it writes.
        """
        self._guard.check()

    def _list_settings(self) -> bytes:
        return self._call("config", "--list", "-z", "--show-origin", head=True).stdout

    def materialise(self, commit: str, folder: Path) -> None:
        """Write the files of a commit or tree into a new ``folder``, without ``.git``.

        The person's filters (git-lfs) run. Raises SealError when ``check_settings`` does.
        """
        self.check_settings()
        index = self._index(self.tree_of(commit))
        folder.mkdir(parents=True, exist_ok=False)
        args = (f"--work-tree={folder}", "checkout-index", "-a", "-q")
        self._call(*args, index=index, cwd=folder)

    # -- the one place where git starts

    def _text(self, *args: str) -> str:
        return self._call(*args).stdout.decode("utf-8", "surrogateescape")

    def _call(
        self,
        *args: str,
        input_bytes: bytes | None = None,
        env: Mapping[str, str] | None = None,
        index: Path | None = None,
        cwd: Path | None = None,
        head: bool = False,
        ok: tuple[int, ...] = (0,),
        timeout_s: float = 600,
    ) -> process.Completed:
        environment = self._base_env | dict(env or {})
        if index is not None:
            environment["GIT_INDEX_FILE"] = str(index)
        done = _call(
            ("git", f"--git-dir={self.head_dir if head else self.git_dir}", *self._safe, *args),
            cwd=cwd or (self.top if head else self.git_dir),
            env=environment,
            input_bytes=input_bytes,
            timeout_s=timeout_s,
        )
        if done.exit_code not in ok:
            said = done.stderr.decode("utf-8", "replace").strip().split("\n")[-1]
            verb = next(a for a in args if not a.startswith("-"))
            raise GitError(f"git {verb} failed in {self.top}", said, "git fsck")
        return done
