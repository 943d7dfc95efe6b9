"""The sequential rule: calibrate, screen, confirm with interleaved incumbent runs, decide.

One rule with a few named numbers; ``default``, ``explore`` and ``record`` are settings of it.
``docs/judging.md`` derives it and shows what each setting costs and finds.
"""

from __future__ import annotations

from nightlab.judge.baseline import calibrate
from nightlab.judge.case import Case
from nightlab.judge.evidence import Look, look, say
from nightlab.judge.guards import veto
from nightlab.model import Action, Arm, Decision, Evidence, Outcome, Run, Value, Want

PANEL = 1_000_000  # seeds are 1, 2, 3, …: small numbers that a person can type again


class Policy(Value, frozen=True):
    """The numbers of the rule. Probabilities are one-sided.

    A candidate is kept at P(better) >= ``keep`` once it has ``least`` runs, dropped at
    P(better) < ``drop_screen`` after its first run and < ``drop`` after later ones, and
    called inconclusive after ``looks`` confirmations.
    """

    name: str
    calibration_runs: int = 4
    looks: int = 4
    least: int = 2
    keep: float = 0.95
    drop_screen: float = 0.5
    drop: float = 0.5
    refresh_every: int = 15


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
        return self._weigh(case, seen)

    def _first(self, case: Case, seen: Look | None) -> Decision:
        """Nothing of the candidate yet, or nothing to compare it with."""
        wants: tuple[Want, ...] = ()
        if not case.candidate:
            wants = (Want(arm=Arm.CANDIDATE, seed=screen_seed(case)),)
        seed = wants[0].seed if wants else case.candidate[0].seed
        if seen is None:
            wants = (Want(arm=Arm.INCUMBENT, seed=seed), *wants)
            return repeat("refresh", "the incumbent has no value to compare with", wants)
        if case.since_refresh >= self.policy.refresh_every and not seen.deterministic:
            wants = (Want(arm=Arm.INCUMBENT, seed=seed), *wants)
            return repeat(
                "refresh",
                f"the incumbent last ran {case.since_refresh} experiments ago: again, in case "
                "the machine drifted",
                wants,
            )
        return repeat("screen", "first look", wants)

    def _plain(self, case: Case, seen: Look) -> Decision:
        """Without noise a comparison is a comparison; but say so only of code run twice."""
        if seen.effect > 0:
            vetoed = veto(case)
            if vetoed:
                return end(Action.DISCARD, "guard", f"vetoed by {vetoed}", seen)
            if seen.n_candidate == 1 and seen.df < 5:  # noqa: PLR2004  few replicates so far
                wants = (Want(arm=Arm.CANDIDATE, seed=pair_seed(case)),)
                return repeat("replicate", "once more, to be sure that nothing is random", wants)
            return end(Action.KEEP, "deterministic", say(seen), seen)
        if seen.effect == 0 and simpler(case):
            vetoed = veto(case)
            if not vetoed:
                return end(Action.KEEP, "simplification", f"{say(seen)}, {lines(case)}", seen)
        return end(Action.DISCARD, "deterministic", say(seen), seen)

    def _weigh(self, case: Case, seen: Look) -> Decision:
        policy = self.policy
        confirmations = len(case.candidate) - 1
        chance = seen.comparison.p_better()
        vetoed = veto(case)
        if vetoed and chance >= policy.drop_screen:
            return end(Action.DISCARD, "guard", f"{say(seen)}; but vetoed by {vetoed}", seen)
        if chance >= policy.keep and seen.n_candidate >= policy.least and seen.df:
            return end(Action.KEEP, "confirmed", say(seen), seen, self._threshold(seen))
        if simpler(case) and seen.not_worse():
            reason = f"within noise ({say(seen)}) and {lines(case)}"
            return end(Action.KEEP, "simplification", reason, seen)
        floor = policy.drop if confirmations else policy.drop_screen
        if simpler(case):
            floor = min(floor, 0.15)  # a neutral change must not die of an unlucky first run
        if chance < floor:
            rule = "screen" if not confirmations else "confirm"
            return end(Action.DISCARD, rule, say(seen), seen, self._threshold(seen))
        if confirmations >= policy.looks:
            reason = f"{say(seen)}: neither better nor worse for sure"
            return end(Action.INCONCLUSIVE, "looks", reason, seen, self._threshold(seen))
        seed = pair_seed(case)
        # ABBA: who runs first alternates, so that a steady drift cancels over two pairs.
        pair = (Want(arm=Arm.CANDIDATE, seed=seed), Want(arm=Arm.INCUMBENT, seed=seed))
        wants = pair if confirmations % 2 == 0 else pair[::-1]
        return repeat("confirm", f"{say(seen)}: look {confirmations + 2}", wants, seen)

    def _threshold(self, seen: Look) -> float | None:
        return seen.needed(self.policy.keep)


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
    return Decision(action=action, rule=rule, reason=reason, evidence=seen.evidence(threshold))


def simpler(case: Case) -> bool:
    """Whether the change takes more lines away than it adds."""
    return case.lines_removed > case.lines_added


def lines(case: Case) -> str:
    """How much shorter the code became."""
    fewer = case.lines_removed - case.lines_added
    return f"{fewer} line{'s' if fewer != 1 else ''} fewer"


def screen_seed(case: Case) -> int:
    """One that the incumbent has run, in turn, so that no seed is fitted to."""
    seeds = sorted({run.seed for run in case.incumbent})
    return seeds[case.number % len(seeds)] if seeds else 1


def pair_seed(case: Case) -> int:
    """The next of the panel that this candidate has not run."""
    used = {run.seed for run in case.candidate}
    return next(seed for seed in range(1, PANEL) if seed not in used)
