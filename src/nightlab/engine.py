"""The operations on one study: begin, run, judge, settle, recover.

Every driver (the loop, and later the MCP tools) uses these and nothing else writes the
journal. Each act has its intent in the journal before it and its outcome after it, and is
idempotent, so that ``recover`` can complete or fail whatever a ``kill -9`` cut short.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import msgspec

from nightlab import cases, commits, early, intake, integrity, ledger, process, runs
from nightlab.config import Paths, Settings
from nightlab.devices import Slot
from nightlab.errors import ExecutorError, GitError, SandboxError, ScopeError, SealError
from nightlab.events import (
    Amended,
    AnyEvent,
    Committed,
    Event,
    Judged,
    Proposed,
    Rebased,
    Refused,
    RunFinished,
    RunStarted,
    Settled,
    Warned,
)
from nightlab.executors import Executor
from nightlab.git import Repo
from nightlab.history import History
from nightlab.journal import Journal
from nightlab.judge import Case, Judge, checks, simpler
from nightlab.model import (
    Action,
    Arm,
    Claim,
    Decision,
    Experiment,
    Proposal,
    Purpose,
    Run,
    Verdict,
    Want,
)
from nightlab.process import Finished
from nightlab.runs import Rig
from nightlab.runs.attempt import Attempt, tampered
from nightlab.sandboxes import Sandbox
from nightlab.seal import Protected

_INFRASTRUCTURE = (SandboxError, ExecutorError, GitError, OSError)
_VERDICTS = {
    Action.KEEP: Verdict.KEEP,
    Action.DISCARD: Verdict.DISCARD,
    Action.INCONCLUSIVE: Verdict.INCONCLUSIVE,
    Action.CRASH: Verdict.CRASH,
}


class Engine:
    """One study, opened for writing. Not thread-safe: one thread drives it.

    ``history`` is the fold of ``journal`` and is kept up to date by ``record``, which then tells
    ``listeners``: they are quick and do not raise. ``now`` gives Unix seconds; only for what
    people read, durations never come from it.
    """

    def __init__(
        self,
        *,
        paths: Paths,
        settings: Settings,
        repo: Repo,
        journal: Journal,
        history: History,
        executor: Executor,
        sandbox: Sandbox,
        judge: Judge,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.paths = paths
        self.settings = settings
        self.repo = repo
        self.journal = journal
        self.history = history
        self.executor = executor
        self.sandbox = sandbox
        self.judge = judge
        self.now = now
        self.study = history.study
        self.listeners: list[Callable[[AnyEvent], None]] = []
        self.rig = Rig(repo, paths, settings, self.study, executor, sandbox)
        self._protected = Protected(paths.root, history.started.protected)
        self._scope_at: tuple[str, dict[str, str]] = ("", {})

    def record(self, event: Event) -> None:
        """Append to the journal, durably, and fold. Raises JournalError; then nothing happened."""
        stamped = self.journal.append(_at(event, self.now()))
        known: AnyEvent = stamped  # type: ignore[assignment]  # every Event subclass is in it
        self.history.apply(known)
        for tell in self.listeners:
            tell(known)

    # -- propose

    def files_in_scope(self) -> dict[str, str]:
        """The texts that may change, as on the incumbent; paths relative to the project."""
        tip = self.history.tip
        if self._scope_at[0] != tip:
            self._scope_at = (tip, commits.files_in_scope(self.repo, self.study, tip))
        return dict(self._scope_at[1])

    def begin_baseline(self) -> int:
        """Experiment 1: the untouched code."""
        tree = self.repo.tree_of(self.history.base_commit)
        claim = Claim(description="baseline", researcher="nightlab", category="baseline")
        self.record(Proposed(number=1, parent=self.history.base_commit, tree=tree, claim=claim))
        self._commit(1)
        return 1

    def begin(self, proposal: Proposal, files: Mapping[str, str], base: str) -> int:
        """Check a proposal, commit it on the incumbent, and return its number.

        ``files`` and ``base`` are the texts and the commit that the researcher was shown; when
        the incumbent has moved since, the change is carried over. Raises ScopeError when it is
        refused; the refusal is in the journal, no experiment is.
        """
        parent = self.history.tip
        number = self.history.next_number()
        try:
            tree, claim, mark = intake.check(self.repo, self.history, proposal, files, base)
        except ScopeError as refusal:
            self.record(
                Refused(
                    description=commits.one_line(proposal.description),
                    reason=commits.one_line(f"{refusal.what}: {refusal.why}"),
                    researcher=proposal.researcher,
                )
            )
            raise
        self.record(
            Proposed(number=number, parent=parent, tree=tree, claim=claim, fingerprint=mark)
        )
        self._commit(number)
        return number

    def amend(self, number: int, proposal: Proposal, files: Mapping[str, str]) -> None:
        """Put a fix in the place of an open experiment's change; its runs start anew.

        ``files`` are the texts that the researcher was shown: the experiment's own. Raises
        ScopeError when the fix is refused; then nothing happened.
        """
        tree, claim, mark = intake.check_fix(self.repo, self.history, number, proposal, files)
        fixed = msgspec.structs.replace(self.history.experiments[number], claim=claim)
        # The commit is made first: until it is recorded, the experiment is what it was.
        commit = commits.of_proposal(self.repo, self.study, fixed, tree)
        self.record(Amended(number=number, tree=tree, commit=commit, claim=claim, fingerprint=mark))

    def _commit(self, number: int) -> None:
        experiment = self.history.experiments[number]
        tree = self.history.trees[number]
        commit = commits.of_proposal(self.repo, self.study, experiment, tree)
        self.record(Committed(number=number, commit=commit))

    # -- run

    def start_run(self, number: int, want: Want, slot: Slot) -> Attempt | None:
        """Start one run for experiment ``number``; None when it was lost to infrastructure.

        Raises SealError when a protected file is not what it was.
        """
        subject = self.history.experiments[number]
        if want.arm is Arm.INCUMBENT:
            subject = cases.opponent(self.history, subject) or subject
        started = RunStarted(
            run=0,
            experiment=subject.number,
            occasion=number,
            purpose=cases.purpose(number, want, subject),
            check=want.check,
            seed=want.seed,
            device=slot.name,
            commit=subject.commit,
        )
        return self.launch(started, lambda begun, at: Attempt(self.rig, begun, slot, at))

    def launch(
        self, started: RunStarted, begin: Callable[[RunStarted, float], Attempt]
    ) -> Attempt | None:
        """Write the intent of a run, numbered here, and ``begin`` it; None when it was lost.

        Raises SealError when a protected file is not what it was.
        """
        self._check_protected()
        run_id = self.history.last_run_id + 1
        started = msgspec.structs.replace(
            started, run=run_id, marker=runs.marker(self.paths, self.study.tag, run_id)
        )
        self.record(started)
        began_at = self.now()
        try:
            return begin(started, began_at)
        except _INFRASTRUCTURE as error:
            self._lost(started, began_at, f"{error}")
            return None

    def _check_protected(self) -> None:
        broken = self._protected.broken()
        if broken:
            raise SealError(
                f"{broken[0]} is not what it was when the study began",
                "[study] protect names it: results before and after would not compare",
                f"restore it, or start anew: nightlab run --tag {self.study.tag}b",
            )

    def finish_run(self, attempt: Attempt, finished: Finished | None, lost: str = "") -> Run | None:
        """Take the end of what an attempt ran (None: it was lost, with the reason).

        Returns the recorded run, or None when the attempt goes on with its evaluation.
        """
        started = attempt.started
        run: Run | None = None
        try:
            if finished is not None:
                run = attempt.finish(finished)
                if run is None:
                    return None
                if broken := self._protected.broken():
                    run = tampered(run, broken)
        except _INFRASTRUCTURE as error:
            lost = f"{error}"
        if run is None:
            run = runs.lost(started, attempt.began_at, commits.one_line(lost))
        self.record(RunFinished(run=run))
        if finished is not None and finished.survivors:
            pids = ", ".join(map(str, finished.survivors))
            self.record(Warned(text=f"run {started.run} left processes that do not die: {pids}"))
        attempt.clean_up()
        return run

    def glance(self, attempt: Attempt) -> None:
        """Follow a run's output, and stop it where it has become hopeless. Cheap; call often."""
        elapsed_s = attempt.listen()
        level, started = self.settings.early_stop, attempt.started
        incumbent = cases.opponent(self.history, self.history.experiments[started.occasion])
        if not level or attempt.early or started.purpose is not Purpose.SCREEN or not incumbent:
            return
        curve = attempt.track.curve(self.rig.curve_names)
        checks_passed = early.passed(early.usual_s(incumbent.runs), elapsed_s)
        news = (curve.name if curve else "", checks_passed, self.history.last_seq)
        if news == attempt.looked:  # nothing that could change the answer: a fit costs 0.8 ms
            return
        attempt.looked = news
        claim = self.history.experiments[started.experiment].claim
        attempt.early = early.find(
            self.history.early,
            curve,
            incumbent.runs,
            elapsed_s,
            level=level,
            audited=early.drawn(self.study.tag, started.run, self.settings.early_audit),
            simpler=simpler(claim),
            sigma=self.history.noise.overall[0],
        )
        if attempt.early is not None and not attempt.early.audited:
            attempt.job.stop()

    def _lost(self, started: RunStarted, began_at: float, why: str) -> Run:
        run = runs.lost(started, began_at, commits.one_line(why))
        self.record(RunFinished(run=run))
        folder = self.paths.run(self.study.tag, started.run)
        for box in (runs.EVALUATION, runs.TEST, ""):
            runs.clean_up(folder / box)
        return run

    # -- judge and settle

    def case(self, number: int) -> Case:
        """All that the judge may look at for one experiment."""
        return cases.of(self.history, number, covariate=self.settings.covariate)

    def decide(self, number: int) -> Decision:
        """Ask the judge, and whether a keep looks measured. Changes nothing."""
        case = self.case(number)
        given_up = early.given_up(case.candidate)
        if given_up is not None:
            return given_up
        decision = integrity.review(
            self.judge.decide(case),
            case,
            budget_s=self.study.budget_s,
            largest_gain=self.history.largest_gain,
            experiments=self.history.experiments.values(),
        )
        return checks.review(decision, case)

    def settle(self, number: int, decision: Decision) -> Verdict | None:
        """Carry a terminal decision out: trailers, refs, branch, ledger.

        None when a keep stood on an incumbent that has moved meanwhile: then it is rebased and
        must be run again. Raises GitError with everything still recoverable.
        """
        subject = self.history.experiments[number]
        moved = number > 1 and subject.parent != self.history.tip
        if decision.action is Action.KEEP and moved:
            rebased = self._rebase(subject)
            if rebased:
                return None
            decision = _conflicted(decision, self.history.incumbent)
        self.record(Judged(number=number, decision=decision))
        return self._settle(number)

    def _settle(self, number: int) -> Verdict:
        experiment = self.history.experiments[number]
        decision = experiment.decision
        if decision is None:
            raise ValueError(f"experiment {number} has no decision to settle")
        verdict = _VERDICTS[decision.action]
        tree = self.history.trees[number]
        commit = commits.of_verdict(self.repo, self.study, experiment, tree, verdict)
        self.record(Settled(number=number, verdict=verdict, commit=commit))
        if verdict is Verdict.KEEP:
            self.advance_branch()
            if self.settings.push and number > 1:
                unsent = commits.push(self.repo, self.history, self.settings.push)
                if unsent:
                    self.record(Warned(text=unsent))
        ledger.append(self.paths.ledger(self.study.tag), self.history, number)
        return verdict

    def advance_branch(self) -> None:
        """Move the study's branch to the incumbent; warn where that would disturb a person."""
        stays = commits.advance_branch(self.repo, self.history)
        if stays:
            self.record(Warned(text=stays))

    def _rebase(self, subject: Experiment) -> bool:
        """Put the same change on the incumbent of now; False when the two touch the same lines."""
        parent = self.history.tip
        old, new = subject.parent, subject.commit
        tree = commits.carry_over(self.repo, self.study, subject.claim, old, new, parent)
        if tree is None:
            return False
        moved = msgspec.structs.replace(subject, parent=parent)
        commit = commits.of_proposal(self.repo, self.study, moved, tree)
        self.record(Rebased(number=subject.number, parent=parent, tree=tree, commit=commit))
        return True

    # -- recover

    def recover(self) -> list[str]:
        """Complete or fail every intent without an outcome; say what was done, a line each.

        Safe to call again, and after a crash of itself.
        """
        done = []
        for started in list(self.history.pending.values()):
            killed = process.sweep(started.marker)
            self._lost(started, started.at, "nightlab ended before the run did")
            strays = f"; killed {len(killed)} stray processes" if killed else ""
            done.append(f"run {started.run} of experiment {started.experiment} is lost{strays}")
        for experiment in self.history.open():
            if not experiment.commit:
                self._commit(experiment.number)
                done.append(f"experiment {experiment.number} committed")
            elif experiment.decision is not None:
                verdict = self._settle(experiment.number)
                done.append(f"experiment {experiment.number} settled: {verdict}")
        if self.history.incumbent is not None:
            self.advance_branch()
        ledger.rewrite(self.paths.ledger(self.study.tag), self.history)
        return done


def _at(event: Event, at: float) -> Event:
    return msgspec.structs.replace(event, at=at)


def _conflicted(decision: Decision, incumbent: Experiment | None) -> Decision:
    number = incumbent.number if incumbent else 1
    return Decision(
        action=Action.INCONCLUSIVE,
        rule="conflict",
        reason=f"{decision.reason}; but it changes the same lines as experiment {number}, "
        "which was kept meanwhile",
        evidence=decision.evidence,
    )
