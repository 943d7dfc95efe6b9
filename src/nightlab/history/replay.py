"""A study in memory: what each event of its journal changes."""

from __future__ import annotations

import msgspec

from nightlab.early import Lessons
from nightlab.errors import JournalError
from nightlab.events import (
    Amended,
    AnyEvent,
    Asked,
    Committed,
    FinalCleaned,
    FinalDecided,
    Finalised,
    FinalStarted,
    IdeaAdded,
    IdeaChanged,
    Imported,
    Judged,
    Noted,
    Paused,
    Proposed,
    Rebased,
    Refused,
    Resumed,
    RunFinished,
    RunStarted,
    SessionEnded,
    SessionStarted,
    Settled,
    StudyStarted,
    Warned,
)
from nightlab.final import Finalization
from nightlab.history.accounts import Accounts
from nightlab.history.backlog import Backlog
from nightlab.history.digest import Digest
from nightlab.model import Experiment, Outcome, Run, Verdict, values_of
from nightlab.stats import Pool


class Counts(msgspec.Struct):
    """Settled experiments by verdict."""

    keep: int = 0
    discard: int = 0
    inconclusive: int = 0
    crash: int = 0

    @property
    def total(self) -> int:
        return self.keep + self.discard + self.inconclusive + self.crash


class History:
    """A study as far as its journal tells it. Only ``apply`` changes it.

    ``experiments`` maps numbers to Experiments in order. ``pending`` maps run ids to
    RunStarted events without their RunFinished. ``noise`` pools the objective over every
    group of runs of the same code.
    """

    def __init__(self, started: StudyStarted) -> None:
        self.study = started.study
        self.base_commit = started.base_commit
        self.started = started
        self.session: SessionStarted | None = None
        self.ended: SessionEnded | None = None
        self.sessions = 0
        self.experiments: dict[int, Experiment] = {}
        self.trees: dict[int, str] = {}  # of open experiments only: for recovery
        self.pending: dict[int, RunStarted] = {}
        self.incumbent_number: int | None = None
        self.kept: dict[str, int] = {}  # commit -> the kept experiment that it is
        self.counts = Counts()
        self.noise = Pool()
        self.judged_noise: tuple[float, int] | None = None  # as the last decision used it
        self.notes: list[Noted] = []
        self.warnings: list[Warned] = []
        self.refused = 0
        self.refusals: list[Refused] = []  # since the last proposal that was accepted
        self.paused: Paused | None = None  # by a storm of failures
        self.held: Paused | None = None  # by a person
        self.runs = 0
        self.last_run_id = 0
        self.runs_by_outcome: dict[Outcome, int] = {}
        self.device_seconds = 0.0
        self.crashes_in_a_row = 0
        self.since_refresh = 0
        self.largest_gain: float | None = None  # of any kept change, in the objective's unit
        self.machine = started.machine
        self.moved_to: int | None = None  # the seq of the session that began on another machine
        self.runs_before_move = 0  # runs up to this id were made on another machine
        self.last_seq = started.seq
        self.last_at = started.at
        self.tried: dict[str, int] = {}  # tree -> the experiment that tried it
        self.fixes: dict[int, int] = {}  # of open experiments: how often each was amended
        self.accounts = Accounts()
        self.early = Lessons()
        self.backlog = Backlog()
        self.finals: list[Finalization] = []
        self.seeds: set[int] = set()  # of every run that was ever started
        self.planned_at = 0  # experiments there were when a plan was last asked for
        self.digest = Digest()
        self.fingerprints: dict[str, int] = {}  # of a change -> the experiment that tried it
        self.messages: set[str] = set()  # from the inbox, by name: each is taken once
        self.priors: dict[str, Imported] = {}  # other loops' ledgers, by digest
        self.lab_seconds = 0.0  # that labs have worked on the study

    @property
    def incumbent(self) -> Experiment | None:
        """The accepted experiment now; None before the baseline is settled."""
        return None if self.incumbent_number is None else self.experiments[self.incumbent_number]

    @property
    def baseline(self) -> Experiment | None:
        """Experiment 1, open or settled."""
        return self.experiments.get(1)

    @property
    def tip(self) -> str:
        """The commit that the study's branch should point to."""
        incumbent = self.incumbent
        return self.base_commit if incumbent is None else incumbent.commit

    def open(self) -> list[Experiment]:
        """Experiments without a verdict, in order of number."""
        return [self.experiments[n] for n in sorted(self.trees)]

    def next_number(self) -> int:
        return len(self.experiments) + 1

    def settled(self) -> list[Experiment]:
        """Experiments with a verdict, in order of number."""
        return [e for e in self.experiments.values() if e.verdict is not None]

    def apply(self, event: AnyEvent) -> None:
        """Take one event in. Raises JournalError when it does not follow from those before."""
        if isinstance(event, StudyStarted):
            raise JournalError(
                f"line {event.seq} of the journal starts a second study",
                "two journals were joined, or one was edited by hand",
                "move the study's folder under .nightlab/ away and start a new one",
            )
        # Each event type has a method named by its tag below.
        handler = getattr(self, f"_{type(event).__struct_config__.tag}")
        worked = self.session is not None and self.ended is None
        if worked and not isinstance(event, SessionStarted):
            self.lab_seconds += max(0.0, event.at - self.last_at)
        try:
            handler(event)
        except KeyError as missing:
            raise JournalError(
                f"line {event.seq} of the journal speaks of {missing}, which never began",
                "lines are missing, or the journal was edited by hand",
                "restore the journal from a copy, or start a new study with --tag",
            ) from missing
        self.last_seq = event.seq
        self.last_at = event.at

    def lab_seconds_at(self, now: float) -> float:
        """How long labs have worked on the study by Unix second ``now``: nights, not days."""
        works = self.session is not None and self.ended is None
        return self.lab_seconds + (max(0.0, now - self.last_at) if works else 0.0)

    # One method per event type, named by its tag.

    def _session_started(self, event: SessionStarted) -> None:
        self.session, self.ended = event, None
        self.sessions += 1
        self.paused = self.held = None  # whoever starts a lab wants it to work
        if _is_another(self.machine, event.machine):
            # Numbers of two machines do not compare: noise and incumbent are measured anew.
            self.moved_to, self.runs_before_move = event.seq, self.last_run_id
            self.noise, self.judged_noise = Pool(), None
        self.machine = event.machine or self.machine

    def _session_ended(self, event: SessionEnded) -> None:
        self.ended = event

    def _proposed(self, event: Proposed) -> None:
        self.experiments[event.number] = Experiment(
            number=event.number,
            parent=event.parent,
            commit="",
            claim=event.claim,
            started_at=event.at,
        )
        self.trees[event.number] = event.tree
        self.tried.setdefault(event.tree, event.number)
        self._fingerprint(event.fingerprint, event.number)
        self.backlog.follow(event.number, event.claim)
        self.refusals = []

    def _committed(self, event: Committed) -> None:
        self._replace(event.number, commit=event.commit)

    def _rebased(self, event: Rebased) -> None:
        self._replace(
            event.number, parent=event.parent, commit=event.commit, runs=(), checks=(), value=None
        )
        self.trees[event.number] = event.tree
        self.noise.restart(event.number)

    def _amended(self, event: Amended) -> None:
        self._replace(
            event.number, commit=event.commit, claim=event.claim, runs=(), checks=(), value=None
        )
        self.trees[event.number] = event.tree
        self.tried.setdefault(event.tree, event.number)
        self._fingerprint(event.fingerprint, event.number)
        self.fixes[event.number] = self.fixes.get(event.number, 0) + 1
        self.noise.restart(event.number)

    @property
    def final(self) -> Finalization | None:
        """The last finalization, under way or over; None where there was none."""
        return self.finals[-1] if self.finals else None

    def _run_started(self, event: RunStarted) -> None:
        self.seeds.add(event.seed)
        _ = self.experiments[event.experiment]
        self.pending[event.run] = event
        self.last_run_id = max(self.last_run_id, event.run)

    def _run_finished(self, event: RunFinished) -> None:
        run = event.run
        experiment = self.experiments[run.experiment]
        started = self.pending.pop(run.id)
        if run.check:  # no measurement: it takes time and says yes or no
            self.device_seconds += run.duration_s
            if started.turn is not None:
                self.finals[-1].take(started.turn, run)
            elif started.commit == experiment.commit:
                self._replace(run.experiment, checks=(*experiment.checks, run))
            return
        self.runs += 1
        self.runs_by_outcome[run.outcome] = self.runs_by_outcome.get(run.outcome, 0) + 1
        self.device_seconds += run.duration_s
        if started.turn is not None:
            self.finals[-1].take(started.turn, run)
            return
        if started.commit != experiment.commit:
            return  # it was rebased meanwhile: a run of older code is on record, not in evidence
        runs = (*experiment.runs, run)
        metric = self.study.objective.metric
        if run.outcome is Outcome.OK and metric in run.metrics:
            self.noise.add(run.experiment, run.metrics[metric], run.occasion, run.seed)
        values = values_of(runs, metric)
        mean = sum(values) / len(values) if values else None
        self._replace(run.experiment, runs=runs, value=mean)
        if run.experiment == self.incumbent_number:
            self.since_refresh = 0

    def _judged(self, event: Judged) -> None:
        evidence = event.decision.evidence
        if evidence.sigma is not None:
            self.judged_noise = (evidence.sigma, evidence.df)
        self._replace(event.number, decision=event.decision)

    def _settled(self, event: Settled) -> None:
        before = self.incumbent
        if before is not None:
            settled = msgspec.structs.replace(self.experiments[event.number], verdict=event.verdict)
            self.early.take(settled, before, self.study.objective)
        self._replace(event.number, verdict=event.verdict, commit=event.commit, settled_at=event.at)
        self._lean(event.number, curve=True)
        self.trees.pop(event.number, None)
        self.fixes.pop(event.number, None)
        verdict = event.verdict
        setattr(self.counts, verdict.value, getattr(self.counts, verdict.value) + 1)
        self.crashes_in_a_row = self.crashes_in_a_row + 1 if verdict is Verdict.CRASH else 0
        self.since_refresh += 1
        if verdict is Verdict.KEEP:
            if before is not None:
                self._lean(before.number, curve=False)
            self.incumbent_number = event.number
            self.kept[event.commit] = event.number
            self.since_refresh = 0
            decision = self.experiments[event.number].decision
            if decision and decision.evidence.effect is not None:
                self.largest_gain = max(self.largest_gain or 0.0, decision.evidence.effect)
        else:
            self.noise.close(event.number)
        self.digest.take(self.experiments[event.number], self.lab_seconds)
        for number in self.digest.order[-1 - _CURVES : -_CURVES]:
            if number != self.incumbent_number:
                self._lean(number, curve=False)

    def _lean(self, number: int, *, curve: bool) -> None:
        runs = tuple(_lean(run, curve=curve) for run in self.experiments[number].runs)
        self._replace(number, runs=runs)

    def _refused(self, event: Refused) -> None:
        self.refused += 1
        self.refusals = [*self.refusals[-9:], event]

    def _asked(self, event: Asked) -> None:
        self.accounts.take(event)
        if event.task == "plan" and not event.answer.passes:
            self.planned_at = len(self.experiments)

    def _idea_added(self, event: IdeaAdded) -> None:
        self.backlog.take(event.idea)
        self.messages.add(event.message)

    def _idea_changed(self, event: IdeaChanged) -> None:
        self.backlog.take(event.idea)
        self.messages.add(event.message)

    def _noted(self, event: Noted) -> None:
        self.notes.append(event)
        self.messages.add(event.message)

    def _imported(self, event: Imported) -> None:
        self.priors[event.digest] = event

    def _paused(self, event: Paused) -> None:
        if event.message:
            self.held = event
            self.messages.add(event.message)
        else:
            self.paused = event

    def _resumed(self, event: Resumed) -> None:
        if event.message:
            self.held = None
            self.messages.add(event.message)
        else:
            self.paused, self.crashes_in_a_row = None, 0

    def _warned(self, event: Warned) -> None:
        self.warnings = [*self.warnings[-49:], event]

    def _final_started(self, event: FinalStarted) -> None:
        self.finals.append(Finalization(event.plan))

    def _final_cleaned(self, event: FinalCleaned) -> None:
        self.finals[-1].cleaned = event.cleaned

    def _final_decided(self, event: FinalDecided) -> None:
        self.finals[-1].result = event.result

    def _finalised(self, event: Finalised) -> None:
        self.finals[-1].closed = event.closed

    def _fingerprint(self, fingerprint: str, number: int) -> None:
        if fingerprint:
            self.fingerprints[fingerprint] = number  # the latest says most about the code of now

    def _replace(self, number: int, **changes: object) -> None:
        self.experiments[number] = msgspec.structs.replace(self.experiments[number], **changes)


_CURVES = 4  # experiments settled last that keep their curves, to be shown
_MACHINE = ("platform", "machine", "cpus", "gpus", "driver")


def _is_another(before: dict[str, str], now: dict[str, str]) -> bool:
    """Whether two descriptions are of different machines; a new kernel does not make one."""
    return bool(before and now) and any(before.get(k) != now.get(k) for k in _MACHINE)


def _lean(run: Run, *, curve: bool) -> Run:
    """A settled experiment's run: its traceback, and a curve nobody looks at, stay on disk.

    A night of ten thousand must not hold them in memory.
    """
    if not run.traceback and (curve or run.curve is None):
        return run
    return msgspec.structs.replace(run, traceback="", curve=run.curve if curve else None)
