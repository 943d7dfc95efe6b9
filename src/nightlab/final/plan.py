"""What a finalization will measure: decided once, before its first run."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from itertools import count, islice

from nightlab.errors import UsageError
from nightlab.final.values import Kept, Last, Plan
from nightlab.model import Guard, Objective
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
    last: Last = Last(),  # noqa: B008  a frozen value
    guards: Sequence[Guard] = (),
    checks: Sequence[str] = (),
) -> Plan:
    """The plan. ``pairs`` and ``device_s`` are a person's wishes, else they are computed.

    By default the bound is 12 % of the device time that the study has used (``spent_s``),
    but enough for the pairs, and at least ten minutes; what the last stage takes comes on
    top. The changes with the smallest effects are ablated first. Raises TooLittleError.
    """
    wanted = pairs or pairs_for(gain, sigma, rho)
    n, full, full_s, device_s = _bounded(wanted, device_s, last, run_s, spent_s)
    rest = int((device_s - 2 * full * full_s) / run_s) - 2 * n
    ready = _weakest_first(kept)
    recheck = max(n, _RECHECK)
    blocks, many = _ablation(rest - 3 * recheck, len(ready))
    total = n + blocks + recheck + full
    unused = (seed for seed in count(_FIRST_SEED) if seed not in used_seeds)
    return Plan(
        number=number,
        baseline=baseline,
        final=final,
        experiment=experiment,
        objective=objective,
        pairs=n,
        seeds=tuple(islice(unused, total)),
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
        last=last,
        guards=tuple(guards),
        checks=tuple(checks),
    )


def _weakest_first(kept: Sequence[Kept]) -> list[Kept]:
    """The changes that can be taken out."""
    ready = [k for k in kept if k.without]
    return sorted(ready, key=lambda k: (k.effect or 0.0, k.experiment))


def _bounded(
    n: int, device_s: float | None, last: Last, run_s: float, spent_s: float
) -> tuple[int, int, float, float]:
    """(pairs, seeds and seconds a run of the last stage, device time), which fit together."""
    full_s = last.budget_s if last.is_long else run_s
    full = _FULL if last.is_long else min(n, _TESTED) if last.test else 0
    if device_s is None:
        least_s = max(_SHARE * spent_s, _SLACK * 2 * n * run_s, _FLOOR_S)
        return n, full, full_s, least_s + _SLACK * 2 * full * full_s
    if device_s < 2 * n * run_s:  # fewer pairs, and no more than they
        n = int(device_s / (2 * run_s))
        if n < FEWEST:
            least_h = 2 * FEWEST * run_s / 3600
            raise TooLittleError(
                f"{device_s / 3600:.3g} hours of device time are less than {FEWEST} pairs take",
                f"a run takes about {run_s:.3g} s, a pair two of them",
                f"nightlab finalize --device-hours {_rounded_up(least_h)}",
            )
    if 2 * full * full_s > device_s - 2 * n * run_s:
        full = 0
    return n, full, full_s, device_s


def _rounded_up(hours: float) -> str:
    """With two digits, and never less."""
    unit = 10.0 ** (math.floor(math.log10(hours)) - 1)
    return f"{math.ceil(hours / unit) * unit:.2g}"


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
