"""A run in flight: training in its box and, in a sealed study, the evaluator in a second one."""

from __future__ import annotations

import msgspec

from nightlab import early, integrity, runs
from nightlab._removal import remove_tree
from nightlab.curves import Track
from nightlab.devices import Slot
from nightlab.events import RunStarted
from nightlab.executors import Job
from nightlab.model import Early, Outcome, Run
from nightlab.process import Finished
from nightlab.runs import ArtifactError, Rig
from nightlab.seal import Seal


class Attempt:
    """One run from its start to its record.

    ``job`` is the handle on what runs now. The constructor starts training; it raises
    ExecutorError, SandboxError, GitError or OSError when infrastructure does not let it.
    """

    def __init__(self, rig: Rig, started: RunStarted, slot: Slot, began_at: float) -> None:
        self.rig = rig
        self.started = started
        self.slot = slot
        self.began_at = began_at
        self.early: Early | None = None  # set by whoever finds the run hopeless
        self.track = Track()
        self.looked: tuple[str, int, int] | None = None  # on what early stop was last asked
        self._trained: Run | None = None
        self._folder = rig.paths.run(rig.study.tag, started.run)
        runs.prepare(self._folder)
        self._copy_out("tree")
        # Of this very commit: a candidate may have added files that the incumbent has not.
        self._scope = runs.in_scope(self._folder / "tree", rig.study)
        order = runs.training(rig, started, slot, self._scope)
        self._seal = Seal(self._folder / "tree", except_for=self._scope)
        self.job: Job = rig.executor.start(order)

    def finish(self, finished: Finished) -> Run | None:
        """Take the end of ``job``: the run's record, or None when evaluation has begun.

        Raises ExecutorError, SandboxError, GitError or OSError when infrastructure failed,
        SealError when git's settings have changed.
        """
        self.rig.repo.check_settings()
        if self._trained is not None:
            return self._evaluated(self._trained, finished)
        study = self.rig.study
        if self.started.check:
            run = runs.checked(self.started, self.began_at, finished, self._folder)
            broken = self._seal.broken()
            return tampered(run, broken) if broken else run
        run = runs.measure(self.started, self.began_at, finished, self._folder, study.objective)
        run = msgspec.structs.replace(run, notes=(*run.notes, *self._late(run)))
        run = self._followed(run)
        broken = self._seal.broken()
        if broken:
            return tampered(run, broken)
        # Whatever training prints of the objective is a claim; the evaluator measures.
        may_evaluate = run.outcome in (Outcome.OK, Outcome.NO_METRIC, Outcome.DIVERGED)
        if not study.evaluate or not may_evaluate or finished.exit_code != 0:
            return run
        self._trained = run
        try:
            self._begin_evaluation()
        except ArtifactError as error:
            return _not_evaluated(run, f"{error.what}: {error.why}")
        return None

    def listen(self) -> float:
        """Take what training has printed since the last call; returns its seconds so far."""
        elapsed_s = self.job.elapsed_s()
        if self._trained is None:
            self.track.feed(self.job.news(), elapsed_s)
        return elapsed_s

    def _followed(self, run: Run) -> Run:
        """The run with its curve and, where it was stopped for it, the outcome that says so."""
        self.listen()
        curve = self.track.curve(self.rig.curve_names)
        run = msgspec.structs.replace(run, curve=curve, early=self.early)
        if self.early is None or self.early.audited or run.outcome is not Outcome.STOPPED:
            return run
        why = early.told(self.early, curve.name if curve else "output")
        return msgspec.structs.replace(run, outcome=Outcome.HOPELESS, detail=why)

    def _begin_evaluation(self) -> None:
        box = self._folder / runs.EVALUATION
        remove_tree(box)  # where nothing confines it, training may have made one
        box.mkdir()
        self._copy_out(f"{runs.EVALUATION}/tree")
        order = runs.evaluation(self.rig, self.started, self.slot, self._scope)
        self.job = self.rig.executor.start(order)

    def _evaluated(self, trained: Run, finished: Finished) -> Run:
        objective = self.rig.study.objective
        box = self._folder / runs.EVALUATION
        evaluated = runs.measure(self.started, self.began_at, finished, box, objective)
        if evaluated.outcome in (Outcome.STOPPED, Outcome.LOST):
            return evaluated
        claims = {k: v for k, v in trained.metrics.items() if k != objective.metric}
        whole = msgspec.structs.replace(
            trained,
            outcome=evaluated.outcome,
            detail=evaluated.detail,
            traceback=evaluated.traceback,
            metrics=claims | evaluated.metrics,
            notes=(*evaluated.notes, *self._late(trained)),
            evaluate_s=evaluated.duration_s,
        )
        if evaluated.outcome in (Outcome.OK, Outcome.DIVERGED):
            return whole
        return _not_evaluated(whole, evaluated.detail)

    def _late(self, run: Run) -> tuple[str, ...]:
        late = integrity.overrun(run.duration_s, self.rig.study.budget_s)
        return (late,) if late and run.outcome is Outcome.OK else ()

    def _copy_out(self, name: str) -> None:
        rig = self.rig
        rig.repo.materialise(self.started.commit, self._folder / name)

    def clean_up(self) -> None:
        """Remove the copies and whatever else the run left; log and result stay."""
        runs.clean_up(self._folder / runs.EVALUATION)
        runs.clean_up(self._folder)


def tampered(run: Run, broken: list[str]) -> Run:
    """The record of a run that changed what is sealed: nothing it measured counts."""
    names = ", ".join(broken[:3]) + (" …" if len(broken) > 3 else "")
    flag = f"it changed {names}, which is sealed"
    return msgspec.structs.replace(
        run,
        outcome=Outcome.NO_METRIC,
        metrics={},
        flags=(*run.flags, flag),
        detail=f"{flag}: what it printed does not count",
    )


def _not_evaluated(run: Run, why: str) -> Run:
    return msgspec.structs.replace(
        run, outcome=Outcome.NO_METRIC, detail=f"the evaluator could not evaluate it: {why}"
    )
