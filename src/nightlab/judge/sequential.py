"""The sequential rule: calibrate, screen, confirm with interleaved incumbent runs, decide.

One rule with a few named numbers; ``default``, ``explore`` and ``record`` are settings of it.
``docs/judging.md`` derives it and shows what each setting costs and finds.
"""

from __future__ import annotations

import math
import zlib
from itertools import count

from msgspec import structs

from nightlab.judge.baseline import calibrate
from nightlab.judge.case import Case
from nightlab.judge.evidence import Look, fair, look, say
from nightlab.judge.guards import veto
from nightlab.model import Action, Arm, Claim, Decision, Evidence, Outcome, Run, Value, Want
from nightlab.stats import t_threshold

_PATIENCE = 10.0  # experiments
_PATIENT_WITH_INCUMBENT = 2  # runs of it that may fail beside one candidate
_FAILS = "the incumbent itself fails beside it: look at the machine"


class Policy(Value, frozen=True):
    """The numbers of the rule, in standard errors of a normal distribution.

    ``keep[j]`` is what the effect must reach after j confirmations (j = 0: the screening run
    alone), ``drop[j]`` what it must not fall below; after the last one a candidate in between
    is inconclusive. ``sceptic`` raises ``keep`` by ``sceptic * log(1 + since / 10)``, ``since``
    being the experiments since the last keep: where ideas have stopped to help, a lucky one
    needs more evidence. Each number is passed through the t distribution of the noise's df.

    ``check``: no keep without a run of the incumbent beside the candidate's. ``pairs``: every
    confirmation is such a pair, so that the keep can carry a certificate.
    """

    name: str
    keep: tuple[float, ...]
    drop: tuple[float, ...]
    sceptic: float = 0.0
    check: bool = True
    pairs: bool = False
    calibration_runs: int = 4
    refresh_every: int = 20


class SequentialJudge:
    """A policy at work. Pure: the same case gives the same decision."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.name = policy.name

    def decide(self, case: Case) -> Decision:
        if case.number == 1:
            return calibrate(case, self.policy.calibration_runs)
        failed = failure(case)
        if failed:
            return failed
        seen = look(case)
        if seen is None or not seen.n_candidate:
            return self._first(case, seen)
        if seen.deterministic:
            return self._plain(case, seen)
        decision = self._weigh(case, seen)
        if decision.action is not Action.REPEAT:
            evidence = structs.replace(decision.evidence, e_value=seen.certificate())
            decision = structs.replace(decision, evidence=evidence)
        return decision

    def _first(self, case: Case, seen: Look | None) -> Decision:
        """Nothing of the candidate yet, or nothing to compare it with."""
        wants: tuple[Want, ...] = ()
        if not case.candidate:
            wants = (Want(arm=Arm.CANDIDATE, seed=screen_seed(case)),)
        seed = wants[0].seed if wants else case.candidate[0].seed
        if seen is None:
            wants = (Want(arm=Arm.INCUMBENT, seed=seed), *wants)
            if case.noise.sigma is None and not case.incumbent:
                # Nothing at all is known, as on another machine: calibrate, with the incumbent.
                seeds = range(1, self.policy.calibration_runs + 1)
                again = tuple(Want(arm=Arm.INCUMBENT, seed=seed) for seed in seeds)
                return repeat("calibrate", "the incumbent again, to know the noise here", again)
            if beside(case) >= _PATIENT_WITH_INCUMBENT:
                return Decision(action=Action.INCONCLUSIVE, rule="incumbent", reason=_FAILS)
            return repeat("refresh", "the incumbent has no value to compare with", wants)
        if not seen.deterministic and not beside(case):
            why = ""
            if self.policy.check and not fair(case.incumbent):
                why = "the incumbent is known from one lucky run only"
            elif case.since_refresh >= self.policy.refresh_every:
                why = f"the incumbent last ran {case.since_refresh} experiments ago"
            if why:
                seed = next_seed(case.candidate, case.incumbent)
                both = Want(arm=Arm.INCUMBENT, seed=seed), Want(arm=Arm.CANDIDATE, seed=seed)
                wants = both if wants else both[:1]
                return repeat("refresh", f"{why}: once more, beside the candidate", wants)
        return repeat("screen", "first look", wants)

    def _plain(self, case: Case, seen: Look) -> Decision:
        """Without noise a comparison is a comparison; but say so only of code run twice."""
        if seen.effect > 0:
            vetoed = veto(case)
            if vetoed:
                return end(Action.DISCARD, "guard", f"vetoed by {vetoed}", seen)
            if seen.n_candidate == 1 and seen.df < 5:
                wants = (Want(arm=Arm.CANDIDATE, seed=confirm_seed(case)),)
                return repeat("replicate", "once more, to be sure that nothing is random", wants)
            return end(Action.KEEP, "deterministic", say(seen), seen)
        if seen.effect == 0 and simpler(case):
            vetoed = veto(case)
            if not vetoed:
                return end(Action.KEEP, "simplification", f"{say(seen)}, {lines(case)}", seen)
        return end(Action.DISCARD, "deterministic", say(seen), seen)

    def _weigh(self, case: Case, seen: Look) -> Decision:
        if seen.sigma is None:  # nothing was ever run twice: a pair tells more than a guess
            if seen.effect > 0:
                return repeat("noise", f"{say(seen)}: a pair, to learn it", pair(case), seen)
            return end(Action.DISCARD, "screen", say(seen), seen)
        confirmations = min(len(case.candidate), len(self.policy.keep)) - 1
        keep, drop = self._limits(case, confirmations, seen.df)
        z = seen.comparison.z
        vetoed = veto(case) if z >= drop else None
        if vetoed:
            return end(Action.DISCARD, "guard", f"{say(seen)}; but vetoed by {vetoed}", seen)
        if z >= keep:
            if self.policy.check and not seen.fresh:
                if beside(case) >= _PATIENT_WITH_INCUMBENT:
                    return end(Action.INCONCLUSIVE, "incumbent", f"{say(seen)}; but {_FAILS}", seen)
                reason = f"{say(seen)}: both again, side by side, in case the machine drifted"
                return repeat("check", reason, self._pair(case), seen)
            return end(
                Action.KEEP, "confirmed" if confirmations else "clear", say(seen), seen, keep
            )
        if simpler(case):
            if seen.not_worse():
                reason = f"within noise ({say(seen)}) and {lines(case)}"
                return end(Action.KEEP, "simplification", reason, seen, keep)
            drop = min(drop, -1.0)  # an equal result must not die of one unlucky run
        if z < drop:
            rule = "confirm" if confirmations else "screen"
            why = f"{say(seen)}: too little to look again" if z > 0.0 else say(seen)
            return end(Action.DISCARD, rule, why, seen, keep)
        if len(case.candidate) >= len(self.policy.keep):
            needed = f"a keep needs {keep:.1f}"
            return end(Action.INCONCLUSIVE, "looks", f"{say(seen)}; {needed}", seen, keep)
        return repeat("confirm", f"{say(seen)}: confirm", self._more(case), seen)

    def _more(self, case: Case) -> tuple[Want, ...]:
        """A confirmation: a pair where drift was measured or a certificate is wanted."""
        if self.policy.pairs or case.noise.drift:
            return self._pair(case)
        return (Want(arm=Arm.CANDIDATE, seed=confirm_seed(case)),)

    def _pair(self, case: Case) -> tuple[Want, ...]:
        """Candidate and incumbent on a seed new to both.

        Who runs first is drawn by lot (a checksum, so that the same case asks the same): the
        difference of equal codes is then symmetric about 0 however the machine drifts.
        """
        both = pair(case)
        lot = zlib.crc32(f"{case.number}:{len(case.candidate)}".encode()) & 1
        return both if lot else both[::-1]

    def _limits(self, case: Case, confirmations: int, df: int) -> tuple[float, float]:
        """What z must reach for a keep, and must not fall below."""
        accepted = case.incumbent[0].experiment if case.incumbent else 1
        since = max(case.number - accepted - 1, 0)
        lift = self.policy.sceptic * math.log1p(since / _PATIENCE)
        limits = (self.policy.keep[confirmations] + lift, self.policy.drop[confirmations])
        if df < 1:
            return limits
        keep, drop = (t_threshold(z, df) for z in limits)
        return keep, drop


def failure(case: Case) -> Decision | None:
    """A run of the candidate that did not end well ends the experiment.

    Also after good runs: code that fails on one seed in three costs a night its runs.
    """
    metric = case.objective.metric
    for index, run in enumerate(case.candidate):
        if run.outcome is Outcome.OK and metric in run.metrics:
            continue
        how = told(run, metric)
        if index:
            how = f"run {index + 1} (seed {run.seed}) after {index} good: {how}"
        return Decision(
            action=Action.CRASH,
            rule="crash" if not index else "unstable",
            reason=how,
            evidence=Evidence(n_candidate=index),
        )
    return None


def told(run: Run, metric: str) -> str:
    """How a run failed, in a person's words."""
    word = {
        Outcome.CRASHED: "crashed",
        Outcome.OOM: "ran out of memory",
        Outcome.TIMED_OUT: "ran out of time",
        Outcome.DIVERGED: "diverged",
    }.get(run.outcome, f"printed no {metric}")
    return f"{word}: {run.detail}" if run.detail else word


def repeat(rule: str, reason: str, wants: tuple[Want, ...], seen: Look | None = None) -> Decision:
    """Ask for runs."""
    evidence = seen.evidence() if seen else Evidence()
    return Decision(action=Action.REPEAT, rule=rule, reason=reason, evidence=evidence, wants=wants)


def end(
    action: Action, rule: str, reason: str, seen: Look, threshold: float | None = None
) -> Decision:
    """Decide for good."""
    evidence = seen.evidence(threshold if threshold is None or math.isfinite(threshold) else None)
    return Decision(action=action, rule=rule, reason=reason, evidence=evidence)


def beside(case: Case) -> int:
    """Runs of the incumbent that were made for this candidate, however they ended."""
    return sum(run.occasion == case.number for run in case.incumbent)


def simpler(case: Case | Claim) -> bool:
    """Whether the change leaves fewer lines, and a smaller syntax tree where one is known.

    Lines alone could be saved by writing two in one.
    """
    return case.lines_removed > case.lines_added and (case.nodes is None or case.nodes < 0)


def lines(case: Case) -> str:
    """How much shorter the code became."""
    fewer = case.lines_removed - case.lines_added
    tree = f" and {-case.nodes} syntax-tree nodes" if case.nodes else ""
    return f"{fewer} line{'s' if fewer != 1 else ''}{tree} fewer"


def _measured_seeds(runs: tuple[Run, ...]) -> set[int]:
    """Seeds on which these runs ended well: a candidate is not blamed for the others."""
    return {run.seed for run in runs if run.outcome is Outcome.OK}


def screen_seed(case: Case) -> int:
    """One that the incumbent has run, in turn, so that no seed is fitted to."""
    seeds = sorted(_measured_seeds(case.incumbent))
    return seeds[case.number % len(seeds)] if seeds else 1


def confirm_seed(case: Case) -> int:
    """One that only the incumbent has run, so that old runs make pairs; else a new one."""
    mine = {run.seed for run in case.candidate}
    waiting = sorted(_measured_seeds(case.incumbent) - mine)
    return waiting[0] if waiting else next_seed(case.candidate)


def pair(case: Case) -> tuple[Want, Want]:
    """The candidate and the incumbent on a seed that is new to both."""
    seed = next_seed(case.candidate, case.incumbent)
    return Want(arm=Arm.CANDIDATE, seed=seed), Want(arm=Arm.INCUMBENT, seed=seed)


def next_seed(*arms: tuple[Run, ...]) -> int:
    """The first of the panel (1, 2, 3 and so on) that none of the arms has run."""
    used = {run.seed for runs in arms for run in runs}
    return next(seed for seed in count(1) if seed not in used)
