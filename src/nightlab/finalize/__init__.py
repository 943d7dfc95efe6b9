"""Finalization: the operations. What to measure, and what it means, is ``nightlab.final``.

One finalization is a plan in the journal, the runs that it asks for, and its result. Killed
at any instant, the same call goes on where it was: the plan stands, every run that ended is
counted once, one that had not is made again.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nightlab import commits, final, inbox, seal, views
from nightlab.devices import Slot
from nightlab.engine import Engine
from nightlab.errors import (
    EXIT_NO_KEEP,
    ExecutorError,
    GitError,
    NightlabError,
    SealError,
)
from nightlab.events import FinalCleaned, FinalDecided, Finalised, FinalStarted, RunStarted
from nightlab.final import (
    BASELINE,
    Clean,
    Cleaned,
    Closed,
    Decide,
    Finalization,
    Last,
    Measure,
    Plan,
    Stage,
    Turn,
)
from nightlab.finalize import trees
from nightlab.judge import noise_of
from nightlab.model import Outcome, Purpose, Run
from nightlab.process import Finished
from nightlab.runs.attempt import Attempt
from nightlab.runs.tested import TestedAttempt, long_rig, planned_rig
from nightlab.signals import Signals

_TICK_S = 0.1
_INBOX_EVERY_S = 0.5
_LOST_IN_A_ROW = 3


class NoKeepError(NightlabError):
    """There is nothing to finalize."""

    exit_code = EXIT_NO_KEEP


@dataclass(frozen=True)
class Wish:
    """What a person asks for: None and False leave it to the plan."""

    pairs: int | None = None
    device_s: float | None = None
    again: bool = False


class Finalizer:
    """One finalization of an opened study. ``watch`` is told of the plan and of every run.

    It gets ``(finalization, turn, run)``; turn and run are None for the plan itself, run alone
    is None for a run that has just begun.
    """

    def __init__(
        self,
        engine: Engine,
        wish: Wish = Wish(),
        watch: Callable[[Finalization, Turn | None, Run | None], None] | None = None,
    ) -> None:
        self.engine = engine
        self.history = engine.history
        self.wish = wish
        self._watch = watch
        self._active: list[tuple[Turn, Attempt]] = []
        self._lost = 0
        self._inbox_at = 0.0
        self._stopping = False

    def run(self) -> Finalization:
        """Measure, decide, make the branch; a finalization that is over is returned as it is.

        A signal or a request to stop ends the runs in flight and raises KeyboardInterrupt; the
        next call goes on. Raises NoKeepError, TooLittleError, GitError when the branch is not
        ours to move, SealError when a sealed file has changed, and ExecutorError when the
        machine does not run anything.
        """
        f = self.history.final
        if f is None or self.wish.again:
            f = self._start()
        elif f.closed is not None:
            return f
        self._pin(f)
        self._tell(f, None, None)
        with Signals(self._signalled):
            try:
                self._drive(f)
            finally:
                self.engine.executor.close()
            self._close(f)
        return f

    def _signalled(self, _number: int, _name: str) -> None:
        self._stopping = True

    # -- the plan

    def _start(self) -> Finalization:
        engine, history = self.engine, self.history
        incumbent = history.incumbent
        if incumbent is None or not views.keeps(history):
            raise NoKeepError(
                f"study {history.study.tag} has kept nothing to finalize",
                "a finalization compares what was kept with the untouched code",
                "nightlab run   (goes on looking)",
            )
        blocked = self._blocked()
        if blocked:
            raise GitError(*blocked)
        noise = noise_of(history.noise)
        plan = final.make_plan(
            number=len(history.finals) + 1,
            baseline=history.base_commit,
            final=history.tip,
            experiment=incumbent.number,
            objective=history.study.objective,
            kept=trees.kept_changes(engine.repo, history),
            used_seeds=history.seeds,
            lot=secrets.randbits(32),
            sigma=noise.sigma,
            df=noise.df,
            rho=noise.rho,
            gain=views.gain(history),
            run_s=self._run_s(),
            spent_s=history.device_seconds,
            pairs=self.wish.pairs or engine.settings.final.pairs,
            device_s=self.wish.device_s,
            last=self._last(),
            guards=history.study.guards,
            checks=tuple(history.study.checks),
        )
        engine.record(FinalStarted(plan=plan))
        return history.finals[-1]

    def _last(self) -> Last:
        """What ``[final]`` asks for, once the rest is over."""
        wanted, study = self.engine.settings.final, self.history.study
        return Last(
            command=wanted.command or study.command,
            budget_s=wanted.budget_s or study.budget_s,
            is_long=wanted.is_long,
            test=wanted.test,
            hidden=wanted.hidden,
            digests=seal.digests(self.engine.paths.root, wanted.hidden),
            readings=sum(any(_reads_test(r) for r in f.runs) for f in self.history.finals),
        )

    def _run_s(self) -> float:
        """What a run takes: the mean of the incumbent's and the baseline's."""
        known = (self.history.incumbent, self.history.baseline)
        took = [
            r.duration_s + (r.evaluate_s or 0.0)
            for e in known
            if e is not None
            for r in e.runs
            if r.outcome is Outcome.OK
        ]
        return sum(took) / len(took) if took else self.history.study.budget_s

    def _pin(self, f: Finalization) -> None:
        """Keep the trees of the ablation reachable. Idempotent."""
        study, number = self.history.study, f.plan.number
        refs = [
            (trees.ref(study, number, final.without(k.experiment)), k.without, None)
            for k in f.plan.kept
            if k.without
        ]
        if refs:
            self.engine.repo.update_refs(refs)

    # -- measuring

    def _drive(self, f: Finalization) -> None:
        while f.result is None:
            self._obey()
            if self._stopping:
                self._stop(f)
            now = final.step(f)
            if isinstance(now, Measure):
                self._fill(f, now.turns)
            elif not self._active:
                self._act(f, now)
                continue
            self._wait(f)

    def _act(self, f: Finalization, now: Clean | Decide) -> None:
        if isinstance(now, Decide):
            self.engine.record(FinalDecided(result=now.result))
            return
        repo, history, plan = self.engine.repo, self.history, f.plan
        chain, dropped, notes = trees.clean(repo, history, f, now.dropped)
        commit = ""
        if dropped:
            tree = chain[-1][1] if chain else repo.tree_of(plan.baseline)
            if tree == repo.tree_of(plan.baseline):
                commit = plan.baseline
            else:
                at = history.started.at
                commit = repo.commit_tree(tree, [plan.baseline], "cleaned\n", at)
                name = trees.ref(history.study, plan.number, "cleaned")
                repo.update_refs([(name, commit, None)])
        cleaned = Cleaned(dropped=dropped, commit=commit, notes=(*now.notes, *notes))
        self.engine.record(FinalCleaned(cleaned=cleaned))

    def _fill(self, f: Finalization, turns: Sequence[Turn]) -> None:
        """Start a run on every free slot."""
        for slot in self.engine.executor.slots:
            if all(a.slot.name != slot.name for _, a in self._active):
                turn = self._next(f, turns, slot)
                if turn is not None:
                    self._begin(f, turn, slot)

    def _next(self, f: Finalization, turns: Sequence[Turn], slot: Slot) -> Turn | None:
        """A turn for the slot. All turns of one seed go to one slot, one after another."""
        busy = {turn.seed for turn, _ in self._active}
        names = {s.name for s in self.engine.executor.slots}
        homes = {r.seed: r.device for r in f.runs if r.device in names}
        for turn in turns:
            if turn.seed not in busy and homes.get(turn.seed, slot.name) == slot.name:
                return turn
        return None

    def _begin(self, f: Finalization, turn: Turn, slot: Slot) -> None:
        number = 1 if turn.arm == BASELINE else f.plan.experiment
        started = RunStarted(
            run=0,
            experiment=number,
            occasion=number,
            purpose=Purpose.FINAL,
            seed=turn.seed,
            device=slot.name,
            commit=f.commit_of(turn.arm),
            check=f.plan.checks[turn.seed - 1] if turn.stage is Stage.CHECK else "",
            turn=turn,
        )
        attempt = self.engine.launch(started, self._maker(f.plan, turn, slot))
        if attempt is None:
            self._was_lost("it could not be started")
            return
        self._active.append((turn, attempt))
        self._tell(f, turn, None)

    def _maker(self, plan: Plan, turn: Turn, slot: Slot) -> Callable[[RunStarted, float], Attempt]:
        rig = planned_rig(self.engine.rig, plan)
        if turn.stage is not Stage.FULL:
            return lambda begun, at: Attempt(rig, begun, slot, at)
        if not plan.last.test:
            return lambda begun, at: Attempt(long_rig(rig, plan), begun, slot, at)
        broken = seal.Protected(self.engine.paths.root, plan.last.digests).broken()
        if broken:
            raise SealError(
                f"{broken[0]} is not what it was when the finalization began",
                "[final] hidden names it: readings before and after would not compare",
                "restore it, or start anew: nightlab finalize --again",
            )
        return lambda begun, at: TestedAttempt(rig, begun, slot, at, plan)

    def _wait(self, f: Finalization) -> None:
        for turn, attempt in list(self._active):
            finished, lost = None, ""
            try:
                finished = attempt.job.poll(_TICK_S / len(self._active))
                if finished is None:
                    continue
            except NightlabError as error:  # the machine's failure, never the code's
                lost = f"{error.what}: {error.why}"
            self._take(f, turn, attempt, finished, lost)

    def _take(
        self, f: Finalization, turn: Turn, attempt: Attempt, finished: Finished | None, lost: str
    ) -> None:
        run = self.engine.finish_run(attempt, finished, lost)
        if run is None:
            return  # its evaluation runs now, in the same slot
        self._active.remove((turn, attempt))
        self._tell(f, turn, run)
        if run.outcome is Outcome.LOST:
            self._was_lost(run.detail)
        else:
            self._lost = 0

    def _was_lost(self, why: str) -> None:
        self._lost += 1
        if self._lost >= _LOST_IN_A_ROW:
            raise ExecutorError(
                f"{self._lost} runs in a row could not be made",
                why,
                "nightlab doctor, then nightlab finalize   (goes on where it was)",
            )
        time.sleep(_TICK_S)

    def _obey(self) -> None:
        """Notes wait for the lab; a request to stop is for us."""
        if time.monotonic() < self._inbox_at:
            return
        self._inbox_at = time.monotonic() + _INBOX_EVERY_S
        for path, message in inbox.waiting(self.engine.paths.inbox(self.history.study.tag)):
            if message.kind == "stop":
                path.unlink(missing_ok=True)
                self._stopping = True

    def _stop(self, f: Finalization) -> None:
        """End what runs, on record, and then ourselves."""
        while self._active:
            for _, attempt in self._active:  # each time: an evaluation may have begun meanwhile
                attempt.job.stop()
            self._wait(f)
        raise KeyboardInterrupt

    def _tell(self, f: Finalization, turn: Turn | None, run: Run | None) -> None:
        if self._watch is not None:
            self._watch(f, turn, run)

    # -- the outcome

    def _close(self, f: Finalization) -> None:
        """Commits, patches, the branch. Idempotent: all of it is made of recorded facts."""
        engine, study = self.engine, self.history.study
        made = trees.final_commits(engine.repo, self.history, f)
        folder = engine.paths.final(study.tag) / "patches"
        trees.write_patches(engine.repo, folder, f.plan.baseline, made)
        tip = made[-1].commit if made else f.plan.baseline
        engine.repo.update_refs([(trees.ref(study, f.plan.number, "tip"), tip, None)])
        told = self._move_branch(tip) if made else "no change is left to put on a branch"
        name = "" if told else trees.branch(study)
        closed = Closed(branch=name, commit=tip, told=(told,) if told else ())
        engine.record(Finalised(closed=closed))

    def _move_branch(self, tip: str) -> str:
        repo, name = self.engine.repo, trees.branch(self.history.study)
        at = repo.resolve(f"refs/heads/{name}")
        if at == tip:
            return ""
        blocked = self._blocked()
        if blocked:
            return f"{blocked[0]}: the result is {tip[:7]} (git branch NAME {tip[:7]})"
        try:
            repo.update_refs([(f"refs/heads/{name}", tip, at or "0" * len(tip))])
        except GitError as error:  # a person was quicker
            return f"{name} stays where it is: {commits.one_line(error.why)}"
        return ""

    def _blocked(self) -> tuple[str, str, str] | None:
        """What, why and cure where the branch is not ours to make or move; None where it is."""
        repo, name = self.engine.repo, trees.branch(self.history.study)
        full = f"refs/heads/{name}"
        at = repo.resolve(full)
        aside = f"git branch -m {name} {name}-mine"
        ours = {f.closed.commit for f in self.history.finals if f.closed is not None}
        if at is not None and at not in ours:
            return f"the branch {name} is at {at[:7]}", "nightlab did not put it there", aside
        if full in repo.checked_out_branches():
            return f"the branch {name} is checked out", "it would move under your files", aside
        return None


def _reads_test(run: Run) -> bool:
    return any(name.startswith(final.TEST) for name in run.metrics)
