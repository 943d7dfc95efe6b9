"""Calibration: the untouched code, run until its own noise is known."""

from __future__ import annotations

from nightlab.judge.case import Case
from nightlab.model import (
    Action,
    Arm,
    Decision,
    Evidence,
    Outcome,
    Want,
    values_of,
)
from nightlab.stats import group

_EQUAL_RUNS = 3  # that many equal values on different seeds: nothing in it is random


def calibrate(case: Case, runs: int) -> Decision:
    """Ask for the baseline's runs on seeds 1, 2, …; KEEP when its noise is known as far as asked.

    The first run alone, because a baseline that fails there ends the study (CRASH). A later
    failing run is not repeated; the noise is then known less well.
    """
    metric = case.objective.metric
    done = len(case.candidate)
    if not done:
        return _ask("first run of the untouched code", 1, 1)
    values = values_of(case.candidate, metric)
    failed = [
        run for run in case.candidate if run.outcome is not Outcome.OK or metric not in run.metrics
    ]
    if case.candidate[0] in failed:
        why = failed[0].detail or f"it ended as {failed[0].outcome}, without {metric}"
        return Decision(
            action=Action.CRASH,
            rule="baseline",
            reason=f"the untouched code does not give {metric}: {why}",
        )
    for guard in case.guards:
        if not values_of(case.candidate, guard.metric):
            return Decision(
                action=Action.CRASH,
                rule="baseline",
                reason=f"the untouched code prints no {guard.metric}, which a guard "
                f"({guard.metric} {guard.text}) needs: every change would be refused",
            )
    whole = group(values)
    equal = whole.ss == 0.0 and whole.n >= _EQUAL_RUNS
    if done < runs and not equal:
        last = min(runs, _EQUAL_RUNS) if done < _EQUAL_RUNS else runs
        return _ask(f"calibrating: run {done + 1} to {last} of {runs}", done + 1, last)
    evidence = Evidence(sigma=whole.sd, df=whole.n - 1, n_candidate=whole.n)
    if whole.sd is None:
        reason = f"{whole.mean:.6g} from one run: the noise is unknown so far"
    elif whole.sd == 0.0:
        reason = f"{whole.mean:.6g} in each of {whole.n} runs: no noise seen"
    else:
        reason = f"{whole.mean:.6g} ± {whole.sd:.2g} (sd of {whole.n} runs on different seeds)"
    if failed:
        reason += f"; {len(failed)} of {done} runs failed, so expect failures that mean nothing"
    return Decision(action=Action.KEEP, rule="baseline", reason=reason, evidence=evidence)


def _ask(reason: str, first: int, last: int) -> Decision:
    wants = tuple(Want(arm=Arm.CANDIDATE, seed=seed) for seed in range(first, last + 1))
    return Decision(action=Action.REPEAT, rule="calibrate", reason=reason, wants=wants)
