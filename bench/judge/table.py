"""Figures of many nights, with their errors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev

from bench.judge.night import Night
from nightlab.stats import e_bh, e_value

ALPHA = 0.05


@dataclass(frozen=True)
class Figures:
    """One policy in one world, per night; ``_ci`` is half of a 95 % interval. Effects in sigma.

    ``ratio`` is the true gain over greedy's at equal runs (None where greedy gains nothing).
    ``bias`` is the headline minus the truth over nights that kept something: greedy's headline
    is its recorded minimum, the others' the mean of the morning's fresh pairs.
    ``claims`` are nights whose headline is certified (e-value of the fresh pairs >= 20);
    ``certified`` are single keeps that e-BH certifies over the night. ``stopped`` runs were
    ended early, ``audited`` ones would have been and ran on; ``wrongly_stopped`` is the share of
    these that became keeps.
    """

    world: str
    policy: str
    nights: int
    gain: float
    gain_ci: float
    ratio: float | None
    ratio_ci: float | None
    kept: float
    false: float
    false_ci: float
    fdr: float
    recorded_bias: float
    bias: float
    bias_ci: float
    claims: float
    false_claims: float
    false_claims_ci: float
    certified: float
    false_certified: float
    runs_per_idea: float
    stopped: float
    audited: float
    wrongly_stopped: float | None

    def as_dict(self) -> dict[str, object]:
        """For ``--json``."""
        return asdict(self)


def certified(night: Night) -> list[float]:
    """True effects of the keeps that the night's e-values certify."""
    evidence = [
        (number, decision.evidence.e_value)
        for number, decision in night.decisions
        if decision.evidence.e_value is not None
    ]
    sure = {evidence[i][0] for i in e_bh([value for _, value in evidence], ALPHA)}
    return [kept.effect for kept in night.kept if kept.number in sure]


def claimed(night: Night) -> bool:
    """Whether the morning's fresh pairs certify that the final code beats the baseline."""
    return bool(night.fresh) and night.tau > 0 and e_value(night.fresh, night.tau) >= 1.0 / ALPHA


def figures(
    world: str, policy: str, nights: Sequence[Night], greedy: Sequence[Night] | None
) -> Figures:
    """Sum up; ``greedy`` are the same nights under the reference's rule."""
    gains = [night.gain for night in nights]
    ratio = ratio_ci = None
    if greedy is not None and abs(fmean(n.gain for n in greedy)) > 0.1:
        theirs = [night.gain for night in greedy]
        ratio = fmean(gains) / fmean(theirs)
        # Delta method for a ratio of paired means.
        spread = [mine - ratio * its for mine, its in zip(gains, theirs, strict=True)]
        ratio_ci = _half(spread) / abs(fmean(theirs))
    winners = [night for night in nights if night.kept]
    recorded = [night.recorded - night.gain for night in winners]
    bias = recorded if policy.startswith("greedy") else [fmean(n.fresh) - n.gain for n in winners]
    claims = [] if policy.startswith("greedy") else [night for night in nights if claimed(night)]
    wrong = [float(night in claims and night.gain <= 0.0) for night in nights]
    sure = [certified(night) for night in nights]
    audited = sum(night.audited for night in nights)
    return Figures(
        world=world,
        policy=policy,
        nights=len(nights),
        gain=fmean(gains),
        gain_ci=_half(gains),
        ratio=ratio,
        ratio_ci=ratio_ci,
        kept=fmean(len(night.kept) for night in nights),
        false=fmean(night.false for night in nights),
        false_ci=_half([night.false for night in nights]),
        fdr=fmean(night.false / max(1, len(night.kept)) for night in nights),
        recorded_bias=fmean(recorded) if recorded else 0.0,
        bias=fmean(bias) if bias else 0.0,
        bias_ci=_half(bias),
        claims=len(claims) / len(nights),
        false_claims=fmean(wrong),
        false_claims_ci=_half(wrong),
        certified=fmean(len(effects) for effects in sure),
        false_certified=fmean(sum(e <= 0 for e in effects) for effects in sure),
        runs_per_idea=sum(n.runs for n in nights) / sum(n.ideas for n in nights),
        stopped=fmean(night.stopped for night in nights),
        audited=audited / len(nights),
        wrongly_stopped=sum(n.wrong for n in nights) / audited if audited else None,
    )


def _half(values: Sequence[float]) -> float:
    return 1.96 * stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0


HEAD = (
    "| world | policy | true gain (σ) | × greedy | kept | false | headline − truth (σ) "
    "| false headlines | runs/idea |\n|---|---|---|---|---|---|---|---|---|"
)


def row(f: Figures) -> str:
    """One line of the Markdown table."""
    ratio = "—" if f.ratio is None else f"{f.ratio:.2f} ± {f.ratio_ci:.2f}"
    honest = (
        "(none)" if f.policy.startswith("greedy") else f"{f.false_claims:.3f} of {f.claims:.2f}"
    )
    return (
        f"| {f.world} | {f.policy} | {f.gain:.2f} ± {f.gain_ci:.2f} | {ratio} | {f.kept:.1f} "
        f"| {f.false:.2f} ± {f.false_ci:.2f} | {f.bias:+.2f} ± {f.bias_ci:.2f} | {honest} "
        f"| {f.runs_per_idea:.2f} |"
    )
