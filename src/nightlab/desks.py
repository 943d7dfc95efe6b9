"""The desk at which a researcher works with files: a copy of the project, never the checkout."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from nightlab import runs
from nightlab.engine import Engine
from nightlab.git import Repo
from nightlab.researchers import Desk


class Desks:
    """Desks of one study, for one researcher's thread.

    A Repo is not for two threads, so this has one of its own with its own private indexes.
    """

    def __init__(self, engine: Engine) -> None:
        paths, repo, self._study = engine.paths, engine.repo, engine.study
        self._folder = paths.study(self._study.tag) / "desk"
        self._sandbox = engine.sandbox
        self._repo = Repo(repo.top, repo.git_dir, repo.head_dir, repo.prefix)
        self._repo.keep_indexes_in(paths.indexes(self._study.tag) / "desk")

    def at(self, commit: str) -> Desk:
        """A desk whose copies are of ``commit``."""
        return Desk(self._folder, partial(self._checkout, commit), self._sandbox)

    def _checkout(self, commit: str, path: Path) -> None:
        """Fill the empty folder ``path`` with the project's files. Raises GitError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path.mkdir(parents=True, exist_ok=True)
        path.rmdir()  # refuses to mix with what lies there
        study = self._study
        if not study.prefix:
            self._repo.materialise(commit, path)
        else:
            whole = path.with_name(f"{path.name}.whole")
            runs.remove_tree(whole)
            self._repo.materialise(commit, whole)
            (whole / study.prefix).rename(path)
            runs.remove_tree(whole)
        for name in study.hidden:  # neither training nor who writes it sees what it is judged on
            runs.remove_tree(path / name)
