"""What a finalization will measure: decided once, before its first run."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from nightlab.errors import UsageError
from nightlab.final.values import Kept, Plan
from nightlab.model import Objective
from nightlab.stats import t_quantile

FEWEST, MOST = 3, 12  # pairs
_UNKNOWN = 6  # pairs where no noise or no gain is known to plan with
_POWER = 0.9
_TAIL = 0.975  # of the planned two-sided interval
_BLOCKS = (6, 5, 4)  # seeds of the ablation: with fewer, nothing could be called nothing
_RECHECK = 5  # seeds at least on which a cleaned tree is verified
_FULL = 2  # seeds of full-length training
_TESTED = 3  # seeds of the test split where training is not longer than ever
_SHARE = 0.12  # of the study's device time
_FLOOR_S = 600.0  # device time below which nobody minds
_SLACK = 1.5  # a run may take longer than those before
_FIRST_SEED = 1001


class TooLittleError(UsageError):
    """The device time that was asked for does not pay for the least that says anything."""


def pairs_for(gain: float | None, sigma: float | None, rho: float = 0.0) -> int:
    """Pairs that show ``gain`` at 95 % with 90 % power, bounded by ``FEWEST`` and ``MOST``.

    n >= (t(.975, n-1) + t(.9, n-1))^2 tau^2 / gain^2, tau^2 = 2 sigma^2 (1 - rho): Chow, Shao &
    Wang 2008, Sample Size Calculations in Clinical Research, ch. 3.
    """
    if sigma is None or gain is None:
        return _UNKNOWN
    if sigma == 0.0:
        return FEWEST
    if gain <= 0.0:
        return MOST
    ratio = 2.0 * sigma**2 * (1.0 - rho) / gain**2
    for n in range(FEWEST, MOST):
        if n >= (t_quantile(_TAIL, n - 1) + t_quantile(_POWER, n - 1)) ** 2 * ratio:
            return n
    return MOST


def make_plan(
    *,
    number: int,
    baseline: str,
    final: str,
    experiment: int,
    objective: Objective,
    kept: Sequence[Kept],
    used_seeds: Collection[int],
    lot: int,
    sigma: float | None,
    df: int,
    rho: float,
    gain: float | None,
    run_s: float,
    spent_s: float,
    pairs: int | None = None,
    device_s: float | None = None,
    command: str = "",
    budget_s: float = 0.0,
    is_long: bool = False,
    test: str = "",
    hidden: Sequence[str] = (),
    hidden_digests: dict[str, str] | None = None,
    readings: int = 0,
) -> Plan:
    """The plan. ``pairs`` and ``device_s`` are a person's wishes, else they are computed.

    By default the bound is 12 % of the device time that the study has used (``spent_s``),
    but enough for the pairs, and at least ten minutes; what the last stage takes comes on
    top. The changes with the smallest effects are ablated first. Raises TooLittleError.
    """
    n = pairs or pairs_for(gain, sigma, rho)
    full_s = budget_s if is_long else run_s
    full = _FULL if is_long else min(n, _TESTED) if test else 0
    last_s = 2 * full * full_s
    pairs_s = 2 * n * run_s
    if device_s is None:
        device_s = max(_SHARE * spent_s, _SLACK * pairs_s, _FLOOR_S) + _SLACK * last_s
    if device_s < pairs_s:  # fewer pairs, and no more than they
        n = int(device_s / (2 * run_s))
        if n < FEWEST:
            least_h = 2 * FEWEST * run_s / 3600
            raise TooLittleError(
                f"{device_s / 3600:.3g} hours of device time are less than {FEWEST} pairs take",
                f"a run takes about {run_s:.3g} s, a pair two of them",
                f"nightlab finalize --device-hours {math.ceil(least_h * 100) / 100:g}",
            )
    if last_s > device_s - 2 * n * run_s:
        full, last_s = 0, 0.0
    rest = int((device_s - 2 * n * run_s - last_s) / run_s) if run_s > 0 else 10_000
    ready = sorted(
        (k for k in kept if k.without),
        key=lambda k: (k.effect if k.effect is not None else 0.0, k.experiment),
    )
    recheck = max(n, _RECHECK)
    blocks, many = _ablation(rest - 3 * recheck, len(ready))
    total = n + blocks + recheck + full
    seeds = (s for s in range(_FIRST_SEED, _FIRST_SEED + total + len(used_seeds) + 1))
    fresh = [s for s in seeds if s not in used_seeds][:total]
    return Plan(
        number=number,
        baseline=baseline,
        final=final,
        experiment=experiment,
        objective=objective,
        pairs=n,
        seeds=tuple(fresh),
        lot=lot,
        sigma=sigma,
        df=df,
        gain=gain,
        kept=tuple(kept),
        ablated=tuple(k.experiment for k in ready[:many]),
        blocks=blocks,
        recheck=recheck,
        full=full,
        run_s=run_s,
        full_s=full_s,
        device_s=device_s,
        command=command,
        budget_s=budget_s,
        is_long=is_long,
        test=test,
        hidden=tuple(hidden),
        hidden_digests=hidden_digests or {},
        readings=readings,
    )


def _ablation(runs: int, changes: int) -> tuple[int, int]:
    """(seeds, changes) of the ablation that ``runs`` pay for: all changes if that can be."""
    if not changes:
        return 0, 0
    for blocks in _BLOCKS:
        if blocks * (1 + changes) <= runs:
            return blocks, changes
    blocks = _BLOCKS[-1]
    many = runs // blocks - 1
    return (blocks, many) if many >= 1 else (0, 0)
