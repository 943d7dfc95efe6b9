"""What a researcher that reads has beside it: a desk with a copy of the project, words, a record.

Never the checkout. One that reads nothing (the embedded ones) costs nothing here.
"""

from __future__ import annotations

import contextlib
import shutil
from functools import partial
from pathlib import Path

from nightlab import contexts
from nightlab._removal import remove_tree
from nightlab.brief import DEFAULT_TOKENS
from nightlab.brief.record import Record
from nightlab.config import STATE_NAME
from nightlab.engine import Engine
from nightlab.errors import GitError
from nightlab.git import Repo
from nightlab.model import Experiment
from nightlab.researchers import Desk, Researcher, Thoughtful


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
        self._engine = engine
        self._words: contexts.Words | None = None
        self._record = Record(paths.study(self._study.tag) / "record")

    def at(self, commit: str, researcher: Researcher) -> Desk:
        """A desk whose copies are of ``commit``, with the record of all experiments beside them.

        In the loop's thread; what it returns is for the researcher's.
        """
        record: tuple[Path, ...] = ()
        if isinstance(researcher, Thoughtful):
            with contextlib.suppress(OSError):  # a full disk costs the record, not the night
                record = self._record.refresh(self._engine.history)
        return Desk(self._folder, partial(self._checkout, commit, record), self._sandbox)

    def words(self, researcher: Researcher) -> contexts.Words | None:
        """What its contexts are made with; None for one that reads none. In the loop's thread."""
        if not isinstance(researcher, Thoughtful):
            return None
        if self._words is None:
            engine = self._engine
            tokens = int(engine.settings.researcher.get("context_tokens", DEFAULT_TOKENS))
            self._words = contexts.Words(
                engine.paths, tokens=tokens, diff=self._diff, now=engine.now
            )
        return self._words

    def news(self) -> list[str]:
        """What the person should know of program.md and knowledge/, each told once."""
        return self._words.news() if self._words is not None else []

    def close(self) -> None:
        """End what works in the background."""
        if self._words is not None:
            self._words.close()

    def _diff(self, experiment: Experiment) -> str:
        try:
            return self._engine.repo.diff(experiment.parent, experiment.commit)
        except GitError:
            return ""

    def _checkout(self, commit: str, record: tuple[Path, ...], path: Path) -> None:
        """Fill the empty folder ``path`` with the project's files. Raises GitError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path.mkdir(parents=True, exist_ok=True)
        path.rmdir()  # refuses to mix with what lies there
        study = self._study
        if not study.prefix:
            self._repo.materialise(commit, path)
        else:
            whole = path.with_name(f"{path.name}.whole")
            remove_tree(whole)
            self._repo.materialise(commit, whole)
            (whole / study.prefix).rename(path)
            remove_tree(whole)
        # Neither training nor who writes it sees what it is judged on.
        for name in (*study.hidden, *self._engine.settings.final.hidden):
            remove_tree(path / name)
        if record:
            (path / STATE_NAME).mkdir(exist_ok=True)
            for file in record:
                shutil.copy(file, path / STATE_NAME)
