"""A run in flight: training in its box and, in a sealed study, the evaluator in a second one."""

from __future__ import annotations

import os

import msgspec

from nightlab import runs
from nightlab.devices import Slot
from nightlab.events import RunStarted
from nightlab.executors import Job
from nightlab.model import Outcome, Run
from nightlab.process import Finished
from nightlab.runs import ArtifactError, Rig
from nightlab.seal import Seal


class Attempt:
    """One run from its start to its record.

    ``scope`` are the paths in scope, relative to the repository. ``job`` is the handle on
    what runs now. The constructor starts training; it raises ExecutorError, SandboxError,
    GitError or OSError when infrastructure does not let it.
    """

    def __init__(
        self, rig: Rig, started: RunStarted, slot: Slot, began_at: float, scope: tuple[str, ...]
    ) -> None:
        self.rig = rig
        self.started = started
        self.slot = slot
        self.began_at = began_at
        self._scope = scope
        self._trained: Run | None = None
        self._folder = rig.paths.run(rig.study.tag, started.run)
        runs.prepare(self._folder)
        self._copy_out("tree")
        order = runs.training(rig, started, slot, scope)
        self._seal = Seal(self._folder / "tree", except_for=scope)
        self.job: Job = rig.executor.start(order)

    @property
    def evaluating(self) -> bool:
        """Whether training is over and its artifact is being scored."""
        return self._trained is not None

    def finish(self, finished: Finished) -> Run | None:
        """Take the end of ``job``: the run's record, or None when evaluation has begun.

        Raises ExecutorError, SandboxError, GitError or OSError when infrastructure failed.
        """
        if self._trained is not None:
            return self._scored(self._trained, finished)
        study = self.rig.study
        run = runs.measure(self.started, self.began_at, finished, self._folder, study.objective)
        broken = self._seal.broken()
        if broken:
            return _tampered(run, broken)
        # Whatever training prints of the objective is a claim; the evaluator measures.
        may_evaluate = run.outcome in (Outcome.OK, Outcome.NO_METRIC, Outcome.DIVERGED)
        if not study.evaluate or not may_evaluate or finished.exit_code != 0:
            return run
        self._trained = run
        try:
            self._begin_evaluation()
        except ArtifactError as error:
            return _unscored(run, f"{error.what}: {error.why}")
        return None

    def _begin_evaluation(self) -> None:
        box = self._folder / runs.EVALUATION
        if os.path.lexists(box):  # training has made one
            runs.remove_tree(box)
        box.mkdir()
        self._copy_out(f"{runs.EVALUATION}/tree")
        order = runs.evaluation(self.rig, self.started, self.slot, self._scope)
        self.job = self.rig.executor.start(order)

    def _scored(self, trained: Run, finished: Finished) -> Run:
        objective = self.rig.study.objective
        box = self._folder / runs.EVALUATION
        scored = runs.measure(self.started, self.began_at, finished, box, objective)
        if scored.outcome in (Outcome.STOPPED, Outcome.LOST):
            return scored
        claims = {k: v for k, v in trained.metrics.items() if k != objective.metric}
        whole = msgspec.structs.replace(
            trained,
            outcome=scored.outcome,
            detail=scored.detail,
            traceback=scored.traceback,
            metrics=claims | scored.metrics,
            notes=scored.notes,
            evaluate_s=scored.duration_s,
        )
        if scored.outcome in (Outcome.OK, Outcome.DIVERGED):
            return whole
        return _unscored(whole, scored.detail)

    def _copy_out(self, name: str) -> None:
        rig = self.rig
        rig.repo.materialise(self.started.commit, self._folder / name)

    def clean_up(self) -> None:
        """Remove the copies, the artifact and whatever else the run left; its records stay."""
        for folder in (self._folder / runs.EVALUATION, self._folder):
            if folder.is_symlink() or not folder.is_dir():
                continue
            for path in list(folder.iterdir()):
                evaluation = path.name == runs.EVALUATION and not path.is_symlink()
                if not evaluation and not runs.is_record(path):
                    runs.remove_tree(path)


def _tampered(run: Run, broken: list[str]) -> Run:
    names = ", ".join(broken[:3]) + (" …" if len(broken) > 3 else "")
    flag = f"it changed {names}, which is sealed"
    return msgspec.structs.replace(
        run,
        outcome=Outcome.NO_METRIC,
        metrics={},
        flags=(*run.flags, flag),
        detail=f"{flag}: what it printed does not count",
    )


def _unscored(run: Run, why: str) -> Run:
    return msgspec.structs.replace(
        run, outcome=Outcome.NO_METRIC, detail=f"the evaluator could not score it: {why}"
    )
