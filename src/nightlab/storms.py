"""Failure storms: the lab pauses, proves the machine with the incumbent, and goes on."""

from __future__ import annotations

import time

from nightlab import budget
from nightlab.engine import Engine
from nightlab.events import Paused, Resumed
from nightlab.model import Action, Arm, Decision, Outcome, Run, Want


class Storms:
    """Counts what fails in a row. ``lost_in_a_row`` are runs lost to the machine."""

    def __init__(self, engine: Engine) -> None:
        self.lost_in_a_row = 0
        self._engine = engine
        self._pauses = 0
        self._resume_at = 0.0

    def look(self) -> None:
        """Pause when too much failed in a row."""
        history = self._engine.history
        reason = budget.storm(history, self.lost_in_a_row)
        if not reason or history.paused is not None:
            return
        wait_s = budget.pause_s(self._pauses)
        if history.incumbent is None:
            self._pauses += 1
        # The machine's fault needs time; a researcher's crashes are told apart by a probe now.
        self._resume_at = time.monotonic() + (wait_s if self.lost_in_a_row else 0.0)
        self._engine.record(Paused(reason=reason))

    def probe(self) -> tuple[int, Want] | None:
        """While paused and nothing runs: the incumbent's run that must work, when it is time."""
        if time.monotonic() < self._resume_at:
            return None
        self._resume_at = time.monotonic() + budget.pause_s(self._pauses)
        self.lost_in_a_row = 0
        incumbent = self._engine.history.incumbent
        if incumbent is None:
            self._engine.record(Resumed())
            return None
        self._pauses += 1
        return incumbent.number, Want(arm=Arm.INCUMBENT, seed=incumbent.runs[0].seed)

    def ended(self, run: Run) -> list[int]:
        """Take a run's end; the experiments that were given up because of what it shows."""
        if run.outcome is Outcome.LOST:
            self.lost_in_a_row += 1
        elif run.outcome is not Outcome.STOPPED:
            self.lost_in_a_row = 0
        if self._engine.history.paused is None or run.outcome is not Outcome.OK:
            return []
        self._pauses = 0
        self._engine.record(Resumed())
        return self._give_up_on_lost()

    def _give_up_on_lost(self) -> list[int]:
        """The machine works, as the probe has shown: what is lost again and again is at fault."""
        given_up = []
        for experiment in self._engine.history.open():
            runs = (*experiment.runs, *experiment.checks)
            lost = sum(r.outcome is Outcome.LOST for r in runs)
            if lost >= budget.STORM_LOST and experiment.number > 1:
                why = f"{lost} of its runs could not be made, though the incumbent's can"
                decision = Decision(action=Action.INCONCLUSIVE, rule="lost", reason=why)
                self._engine.settle(experiment.number, decision)
                given_up.append(experiment.number)
        return given_up
