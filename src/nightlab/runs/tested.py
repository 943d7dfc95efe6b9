"""A run of a finalization: an attempt and, where there is a test command, a third box for it."""

from __future__ import annotations

import dataclasses

import msgspec

from nightlab import runs
from nightlab._removal import remove_tree
from nightlab.config import Final
from nightlab.devices import Slot
from nightlab.events import RunStarted
from nightlab.final import NOT_TESTED, TEST, Plan
from nightlab.model import Outcome, Run
from nightlab.process import Finished
from nightlab.runs import ArtifactError, Rig
from nightlab.runs.attempt import Attempt


def planned_rig(rig: Rig, plan: Plan) -> Rig:
    """The rig with what the plan hides, whatever nightlab.toml says by now."""
    table = Final(test=plan.last.test, hidden=plan.last.hidden)
    return dataclasses.replace(rig, settings=dataclasses.replace(rig.settings, final=table))


def long_rig(rig: Rig, plan: Plan) -> Rig:
    """The rig with the command and the budget of the last stage."""
    study = msgspec.structs.replace(
        rig.study, command=plan.last.command, budget_s=plan.last.budget_s
    )
    return dataclasses.replace(rig, study=study)


class TestedAttempt(Attempt):
    """Training, the study's own evaluation, then the test command on the same artifact.

    What it prints of the objective is in the run's metrics under ``test:name``. A test that
    fails leaves the run as it was, without those, and a note.
    """

    __test__ = False  # no test suite, whatever its name says

    def __init__(
        self, rig: Rig, started: RunStarted, slot: Slot, began_at: float, plan: Plan
    ) -> None:
        super().__init__(long_rig(rig, plan), started, slot, began_at)
        study = self.rig.study
        study = msgspec.structs.replace(
            study, evaluate=plan.last.test, hidden=(*study.hidden, *plan.last.hidden)
        )
        settings = dataclasses.replace(rig.settings, final=Final(test=plan.last.test))
        self._test = dataclasses.replace(rig, study=study, settings=settings)
        self._measured: Run | None = None

    def finish(self, finished: Finished) -> Run | None:
        if self._measured is not None:
            self.rig.repo.check_settings()
            return self._tested(self._measured, finished)
        run = super().finish(finished)
        if run is None or run.outcome is not Outcome.OK:
            return run
        self._measured = run
        box = self._folder / runs.TEST
        remove_tree(box)
        box.mkdir()
        self._copy_out(f"{runs.TEST}/tree")
        try:
            order = runs.evaluation(self._test, self.started, self.slot, self._scope, runs.TEST)
        except ArtifactError as error:
            return _not_tested(run, f"{error.what}: {error.why}")
        self.job = self._test.executor.start(order)
        return None

    def _tested(self, run: Run, finished: Finished) -> Run:
        objective = self.rig.study.objective
        box = self._folder / runs.TEST
        tested = runs.measure(self.started, self.began_at, finished, box, objective)
        if tested.outcome in (Outcome.STOPPED, Outcome.LOST):
            return tested
        took_s = (run.evaluate_s or 0.0) + tested.duration_s
        run = msgspec.structs.replace(run, evaluate_s=took_s)
        if tested.outcome is not Outcome.OK:
            return _not_tested(run, tested.detail or tested.outcome.value)
        metrics = {TEST + name: value for name, value in tested.metrics.items()}
        return msgspec.structs.replace(run, metrics=run.metrics | metrics)

    def clean_up(self) -> None:
        runs.clean_up(self._folder / runs.TEST)
        super().clean_up()


def _not_tested(run: Run, why: str) -> Run:
    note = f"{NOT_TESTED}: {why}"
    return msgspec.structs.replace(run, notes=(*run.notes, note))
