"""For ever: ask, begin, run, judge, settle, learn. One thread drives; one more thinks.

The loop keeps the slots of the executor busy. Runs that the judge asked for go first, new
proposals after them. The researcher thinks in a thread of its own, one proposal ahead where
its thinking is slow beside a run, so that the device does not wait. Nothing but a bound, a
request or a person's signal ends it.
"""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from nightlab import budget, devices, inbox, integrity, nudges
from nightlab.budget import Bounds
from nightlab.engine import Engine
from nightlab.errors import NightlabError
from nightlab.events import Noted, SessionEnded, SessionStarted, Warned
from nightlab.executors import Executor
from nightlab.model import Action, Outcome, Verdict, Want
from nightlab.process import Finished
from nightlab.pulse import Pulse
from nightlab.researchers import Researcher
from nightlab.runs.attempt import Attempt
from nightlab.signals import SIGTERM, Signals
from nightlab.storms import Storms
from nightlab.thinking import Thinker

MOVED = (
    "this is another machine than before: its noise is learnt anew, the incumbent runs again "
    "first, and gains are not comparable across the move"
)
_TICK_S = 0.1
_INBOX_EVERY_S = 0.5
_THINK_AHEAD = 0.2  # of a run's length: a researcher slower than this thinks one ahead


@dataclass(frozen=True)
class Ending:
    """Why the loop ended: ``bound``, ``stopped``, ``interrupted``, ``exhausted``, ``baseline``."""

    reason: str
    detail: str


class Loop:
    """One session of a lab. ``watch`` is called a few times a second with the loop itself."""

    def __init__(
        self,
        engine: Engine,
        researcher: Researcher,
        bounds: Bounds,
        watch: Callable[[Loop], None] | None = None,
        fallback: Callable[[], Researcher] | None = None,
    ) -> None:
        self.engine = engine
        self.history = engine.history
        self.researcher = researcher
        self.bounds = bounds
        self.active: list[Attempt] = []
        self.stopping: Ending | None = None
        self._stop_now = False
        self._watch = watch
        self._wants: dict[int, deque[Want]] = {}
        self.thinker = Thinker(engine, researcher, bounds, fallback)
        self._run_s = 0.0
        self._storms = Storms(engine)
        self._inbox_at = 0.0
        self._pulse = Pulse(engine.paths.live(engine.study.tag), bounds)

    @property
    def executor(self) -> Executor:
        return self.engine.executor

    def run(self) -> Ending:
        """Drive until something ends it. Everything that still runs is dead afterwards."""
        self._start_session()
        with Signals(self._signalled):
            try:
                ending = self._drive()
                self.thinker.close()
                self.engine.record(SessionEnded(reason=ending.reason, detail=ending.detail))
            except BaseException as error:
                self._end_badly(error)
                raise
            finally:
                self.executor.close()
                self._pulse.close()
                with suppress(NightlabError):  # the journal may be what failed
                    self.thinker.close()
        return ending

    @property
    def doing(self) -> str:
        """What the lab does now, in a sentence for screens."""
        history, thinker = self.history, self.thinker
        waits = history.held or history.paused
        if self.stopping is not None:
            return "finishing the run in flight, then stopping" if self.active else "stopping"
        if waits is not None:
            return f"paused: {waits.reason}"
        if history.incumbent is None:
            return "calibrating: the untouched code, again and again, to know its noise"
        if self.active:
            return f"running{', and the researcher thinks ahead' if thinker.thinking else ''}"
        if thinker.backing_off:
            return "waiting before the researcher is asked again"
        return (
            "a crash is being mended"
            if thinker.fixing
            else f"{thinker.name} thinks of the next experiment"
        )

    def stop(self, ending: Ending, *, now: bool = False) -> None:
        """Ask for the end: after the runs in flight, or with ``now`` by stopping them.

        Only notes the wish, for a signal handler may call it at any point; the loop acts.
        """
        self.stopping = ending
        self._stop_now = self._stop_now or now

    def _signalled(self, number: int, name: str) -> None:
        """Ctrl-C once: finish what runs. Twice, or SIGTERM: stop it now."""
        now = self.stopping is not None or number == SIGTERM
        self.stop(Ending("interrupted", name), now=now)

    # -- one turn

    def _drive(self) -> Ending:
        self.thinker.learn(*self.history.settled())
        while True:
            self._take_messages()
            if self._stop_now:  # each turn: an evaluation may have begun meanwhile
                for active in self.active:
                    active.job.stop()
            self._decide()
            ending = self._ending()
            if ending is not None:
                return ending
            if self.stopping is None:
                self._dispatch()
            self._pulse.beat(self.engine, self.active, self.doing)
            if self._watch is not None:
                self._watch(self)
            self._wait()

    def _ending(self) -> Ending | None:
        if self.active:
            return None
        if self.stopping is not None:
            return self.stopping
        baseline = self.history.baseline
        if baseline is not None and baseline.verdict is Verdict.CRASH:
            reason = baseline.decision.reason if baseline.decision else ""
            return Ending("baseline", reason)
        over = budget.left(self.bounds, self.history, self.engine.now())
        why = budget.stop_reason(self.bounds, self.history, self.engine.now())
        # Out of time: what is open waits for the next session. Out of experiments: it is finished.
        if why and (over.over or not self.history.trees):
            return Ending("bound", why)
        if self.thinker.exhausted and not self.history.trees:
            return Ending("exhausted", self.thinker.exhausted)
        return None

    def _take_messages(self) -> None:
        if time.monotonic() < self._inbox_at:
            return
        self._inbox_at = time.monotonic() + _INBOX_EVERY_S
        for path, message in inbox.waiting(self._inbox):
            if message.kind == "stop":
                self.stop(
                    Ending("stopped", f"asked by {message.author or 'a person'}"), now=message.now
                )
            elif event := nudges.event(self.history, message, path.name):
                self.engine.record(event)
                if isinstance(event, Noted):
                    self.thinker.wake()
            path.unlink(missing_ok=True)

    @property
    def _inbox(self) -> Path:
        return self.engine.paths.inbox(self.history.study.tag)

    def _decide(self) -> None:
        busy = {a.started.occasion for a in self.active}
        for experiment in self.history.open():
            number = experiment.number
            if number in busy or self._wants.get(number):
                continue
            decision = self.engine.decide(number)
            if decision.action is Action.REPEAT:
                self._wants[number] = deque(decision.wants)
            elif decision.action is Action.CRASH and self.thinker.mend(number):
                continue
            elif self.engine.settle(number, decision) is not None:
                self._wants.pop(number, None)
                self.thinker.learn(self.history.experiments[number])
                if number == 1 and self.history.incumbent is not None:
                    for text in integrity.about_baseline(self.engine.case(1)):
                        self.engine.record(Warned(text=text))
        self._storms.look()

    def _dispatch(self) -> None:
        if self.history.held is not None:
            return
        if self.history.paused is not None:
            probe = None if self.active else self._storms.probe()
            if probe is not None:
                self._start(*probe, self.executor.slots[0].name)
            return
        if budget.left(self.bounds, self.history, self.engine.now()).over:
            return
        for slot in self.executor.slots:
            if all(a.slot.name != slot.name for a in self.active):
                number = self._next_number()
                if number is None:
                    break
                self._start(number, self._wants[number].popleft(), slot.name)
        self._think_ahead()

    def _next_number(self) -> int | None:
        """The experiment whose run goes next: the oldest that waits, else a new one."""
        for waiting in sorted(self._wants):
            if self._wants[waiting]:
                return waiting
        number = self._begin()
        if number is None:
            return None
        self._wants[number] = deque(self.engine.decide(number).wants)
        return number if self._wants[number] else None

    def _start(self, number: int, want: Want, slot_name: str) -> None:
        slot = next(s for s in self.executor.slots if s.name == slot_name)
        active = self.engine.start_run(number, want, slot)
        if active is None:
            self._storms.lost_in_a_row += 1
        else:
            self.active.append(active)

    def _begin(self) -> int | None:
        """Begin the next experiment: the baseline, then whatever the researcher proposes."""
        if not self.history.experiments:
            return self.engine.begin_baseline()
        if self.history.incumbent is None:
            return None
        if budget.stop_reason(self.bounds, self.history, self.engine.now()):
            return None
        return self.thinker.take(wait_s=0.0 if self.active else _TICK_S)

    def _think_ahead(self) -> None:
        slow = self.thinker.seconds > _THINK_AHEAD * self._run_s
        rest = budget.left(self.bounds, self.history, self.engine.now())
        if self.active and slow and self.history.incumbent is not None and not rest.spent:
            self.thinker.ask()

    # -- runs that end

    def _wait(self) -> None:
        if not self.active:
            if self._idle():
                time.sleep(_TICK_S)
            return
        each_s = _TICK_S / len(self.active)
        for active in list(self.active):
            finished, lost = None, ""
            self.engine.glance(active)
            try:
                finished = active.job.poll(each_s)
                if finished is None:
                    continue
            except NightlabError as error:  # the machine's failure, never the candidate's
                lost = f"{error.what}: {error.why}"
            self._record(active, finished, lost)

    def _idle(self) -> bool:
        """Nothing to run, nothing to decide: only time can change that."""
        waiting = (self.history.held or self.history.paused) is not None
        waiting = waiting or self.thinker.backing_off or self.thinker.fixing
        return waiting or self._storms.lost_in_a_row > 0

    def _record(self, active: Attempt, finished: Finished | None, lost: str) -> None:
        run = self.engine.finish_run(active, finished, lost)
        if run is None:
            return  # its evaluation runs now, in the same slot
        self.active.remove(active)
        if run.outcome not in (Outcome.LOST, Outcome.STOPPED) and not run.check:
            self._run_s = run.duration_s
        for number in self._storms.ended(run):
            self._wants.pop(number, None)

    # -- the session

    def _start_session(self) -> None:
        for path, message in inbox.waiting(self._inbox):
            if message.kind in ("stop", "pause", "resume"):  # meant for a lab that is gone
                path.unlink(missing_ok=True)
        self.engine.record(
            SessionStarted(
                pid=os.getpid(),
                host=socket.gethostname(),
                researcher=self.researcher.name,
                judge=self.engine.judge.name,
                sandbox=self.engine.sandbox.name,
                slots=tuple(s.name for s in self.executor.slots),
                bounds=self.bounds.describe(),
                machine=devices.described(),
            )
        )
        if self.history.moved_to is not None and self.history.moved_to == self.history.last_seq:
            self.engine.record(Warned(text=MOVED))

    def _end_badly(self, error: BaseException) -> None:
        self.executor.close()
        try:
            self.engine.record(SessionEnded(reason="error", detail=str(error)[:500]))
        except NightlabError:
            return  # the journal is what failed; the next start recovers
