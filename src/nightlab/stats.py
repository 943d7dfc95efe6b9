"""Statistics of few, expensive, noisy runs: numbers in, numbers out.

Differences are turned by the caller so that positive is better; every function here is
invariant to the unit of the metric. Probabilities and quantiles of the t distribution come
from scipy, loaded on first use and cached, because ``nightlab status`` must start quickly.
The formulas and their sources are explained for a reader in ``docs/judging.md``.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from functools import lru_cache
from statistics import NormalDist

from nightlab.model import Value

_NORMAL = NormalDist()


# --- quantiles ------------------------------------------------------------------------------


def normal_cdf(z: float) -> float:
    """P(Z <= z) of the standard normal, accurate in the far lower tail too."""
    return 0.5 * math.erfc(-z / math.sqrt(2.0))


@lru_cache(maxsize=4096)
def t_quantile(p: float, df: int) -> float:
    """The p-quantile of Student's t with ``df`` degrees of freedom (df >= 1, 0 < p < 1)."""
    from scipy.special import stdtrit  # noqa: PLC0415  heavy, loaded on use

    return float(stdtrit(df, p))


@lru_cache(maxsize=65536)
def _t_cdf(t: float, df: int) -> float:
    from scipy.special import stdtr  # noqa: PLC0415  heavy, loaded on use

    return float(stdtr(df, t))


def t_cdf(t: float, df: int) -> float:
    """P(T <= t) of Student's t with ``df`` degrees of freedom (df >= 1); t to three decimals.

    Rounding makes the cache work; it moves a probability by less than 2e-4.
    """
    return _t_cdf(round(t, 3), df)


def t_threshold(z: float, df: int) -> float:
    """The t quantile of the same upper tail as the normal quantile ``z``.

    Turns a constant that supposes a known sigma into one for a sigma estimated on ``df``
    degrees of freedom: t_{df}^{-1}(Phi(z)). Infinite z stays infinite.
    """
    if math.isinf(z):
        return z
    return -t_quantile(normal_cdf(-round(z, 4)), df)


# One-sided Pocock constants: the same threshold at each of K equally spaced looks gives the
# level in all. Pocock (1977), Biometrika 64, 191-199; recomputed by test_stats.
POCOCK = {
    0.05: {1: 1.645, 2: 1.875, 3: 1.992, 4: 2.067, 5: 2.122},
    0.01: {1: 2.326, 2: 2.531, 3: 2.633, 4: 2.698, 5: 2.756},
}


# --- noise ----------------------------------------------------------------------------------


class Group(Value, frozen=True):
    """Sufficient statistics of replicate runs of one code: count, mean, sum of squares about it."""

    n: int = 0
    mean: float = 0.0
    ss: float = 0.0

    def add(self, value: float) -> Group:
        """The group with one more value (Welford 1962, Technometrics 4, 419-420).

        Equal values leave ``ss`` exactly 0, which is how a deterministic task is recognised.
        """
        n = self.n + 1
        delta = value - self.mean
        mean = self.mean + delta / n if self.n else value
        return Group(n=n, mean=mean, ss=self.ss + delta * (value - mean) if self.n else 0.0)

    @property
    def sd(self) -> float | None:
        """Sample standard deviation; None for fewer than two values."""
        return math.sqrt(self.ss / (self.n - 1)) if self.n > 1 else None


def group(values: Iterable[float]) -> Group:
    """The group of the values."""
    whole = Group()
    for value in values:
        whole = whole.add(value)
    return whole


class Pool:
    """Noise of one run, pooled over all replicates: a nested analysis of variance.

    Replicates of one code vary by ``sqrt(sum SS_g / sum (n_g - 1))``. Where ``add`` is told the
    occasion of each run, the part between occasions is compared with the part within them; if
    it is larger than chance allows (F test at 10 %), the machine drifts: ``sigma`` and ``df``
    are then those within occasions and ``drift`` is the rest. Searle, Casella & McCulloch 1992,
    Variance Components, ch. 3. ``add`` costs O(1).
    """

    def __init__(self) -> None:
        self._codes: dict[Hashable, Group] = {}
        self._occasions: dict[Hashable, dict[Hashable, Group]] = {}
        self._all = (0.0, 0)  # (sum of squares, df) about each code's mean
        self._near = (0.0, 0)  # about each code's mean on each occasion
        self._groups = self._count = 0  # codes on occasions, and runs in all
        self._seeds: dict[Hashable, dict[int, float]] = {}
        self._rho: float | None = None  # None: to be computed anew

    def add(
        self, key: Hashable, value: float, occasion: Hashable = None, seed: int | None = None
    ) -> None:
        """One more replicate of the code ``key``, run on ``occasion`` with ``seed``.

        The same value on the same seed is a reproduction, not a replicate: it does not count.
        """
        if seed is not None:
            seeds = self._seeds.setdefault(key, {})
            if seeds.get(seed) == value:
                return
            seeds[seed] = value
            if len(seeds) > 1:
                self._rho = None
                self._seeds[key] = self._seeds.pop(key)  # the last in order is the newest
                self._forget()
        self._all = _grow(self._all, self._codes, key, value)
        near = self._occasions.setdefault(key, {})
        self._groups += occasion not in near
        self._count += 1
        self._near = _grow(self._near, near, occasion, value)

    def close(self, key: Hashable) -> None:
        """Forget the details of ``key``, which gets no more runs: its noise stays counted.

        Not so where it is far wilder than all other code together (a mean square over 25
        times theirs; the 99.9 % point of F is below that from 1 and 8 degrees of freedom on): one
        unstable candidate, or one forged pair, must not blind the judge to all that follow.
        """
        code = self._codes.pop(key, Group())
        occasions = self._occasions.pop(key, {})
        rest_ss, rest_df = self._all[0] - code.ss, self._all[1] - (code.n - 1)
        if code.n > 1 and rest_df > 0 and code.ss / (code.n - 1) > _WILD * rest_ss / rest_df:
            self._all = (rest_ss, rest_df)
            near = occasions.values()
            self._near = (
                self._near[0] - sum(g.ss for g in near),
                self._near[1] - sum(g.n - 1 for g in near),
            )
            self._groups -= len(occasions)
            self._count -= code.n
            self._seeds.pop(key, None)
            self._rho = None
        if len(self._seeds.get(key, ())) < 2:
            self._seeds.pop(key, None)

    def restart(self, key: Hashable) -> None:
        """``key`` names other code from now on: what was run so far is a group of its own."""
        self._codes.pop(key, None)
        self._occasions.pop(key, None)
        self._seeds.pop(key, None)
        self._rho = None

    @property
    def sigma(self) -> float | None:
        """The standard deviation of one run; None while no code was run twice."""
        ss, df = self._near if self.drift else self._all
        # Additions of increments may leave a negative dust where all groups are constant.
        return math.sqrt(max(ss, 0.0) / df) if df else None

    @property
    def df(self) -> int:
        """Degrees of freedom of ``sigma``."""
        return (self._near if self.drift else self._all)[1]

    @property
    def overall(self) -> tuple[float | None, int]:
        """``sigma`` and ``df`` with drift left in: of runs that were not made side by side."""
        ss, df = self._all
        return (math.sqrt(max(ss, 0.0) / df) if df else None), df

    @property
    def drift(self) -> float:
        """The sd between occasions on top of ``sigma``; 0 where chance may explain it."""
        near_ss, near_df = self._near
        between_ss, between_df = self._all[0] - near_ss, self._all[1] - near_df
        if near_df < _DRIFT_DF or between_df < _DRIFT_DF or between_ss <= 0.0:
            return 0.0
        between, near = between_ss / between_df, max(near_ss, 0.0) / near_df
        if between <= near * _f_quantile(_DRIFT_SURE, between_df, near_df):
            return 0.0
        return math.sqrt((between - near) * self._groups / self._count)

    @property
    def rho(self) -> float:
        """The share of a run's variance that common seeds take out of a comparison; 0 to 0.95.

        The correlation over seeds of the codes that ran on two or more, less its own standard
        error, so that it is used only where it pays. ``seed_correlation`` has the formula.
        """
        if self._rho is None:
            codes = [seeds for seeds in self._seeds.values() if len(seeds) > 1]
            found, products = seed_correlation(codes)
            slack = 1.0 / math.sqrt(products) if products else 1.0
            self._rho = min(0.95, max(0.0, (found or 0.0) - slack))
        return self._rho

    def _forget(self) -> None:
        """Keep the seeds of the newest codes only: enough for rho, and memory stays flat."""
        many = [key for key, seeds in self._seeds.items() if len(seeds) > 1]
        for key in many[:-_RHO_CODES]:
            del self._seeds[key]


_RHO_CODES = 16
_DRIFT_DF = 3  # fewer degrees of freedom on either side say nothing about drift
_DRIFT_SURE = 0.9
_WILD = 25.0


def _grow(
    sums: tuple[float, int], groups: dict[Hashable, Group], key: Hashable, value: float
) -> tuple[float, int]:
    old = groups.get(key, Group())
    new = groups[key] = old.add(value)
    return sums[0] + new.ss - old.ss, sums[1] + (new.n > 1)


@lru_cache(maxsize=4096)
def _f_quantile(p: float, dfn: int, dfd: int) -> float:
    from scipy.special import fdtri  # noqa: PLC0415  heavy, loaded on use

    return float(fdtri(dfn, dfd, p))


def seed_correlation(codes: Sequence[dict[int, float]]) -> tuple[float | None, int]:
    """Correlation of runs of different codes on the same seed, and the products it rests on.

    ``codes`` map seed to value, two seeds or more each. Products of the residuals about each
    code's mean, over their expectation under a two-way layout with a random seed effect, over
    the pooled within-code variance. None without two codes that share a seed, or no variance.
    """
    ss, df = 0.0, 0
    residuals = []
    for seeds in codes:
        mean = math.fsum(seeds.values()) / len(seeds)
        residuals.append({seed: value - mean for seed, value in seeds.items()})
        ss += sum(r * r for r in residuals[-1].values())
        df += len(seeds) - 1
    top = bottom = 0.0
    products = 0
    for i, mine in enumerate(residuals):
        for its in residuals[:i]:
            common = mine.keys() & its.keys()
            n, m = len(mine), len(its)
            weight = 1.0 - 1.0 / n - 1.0 / m + len(common) / (n * m)
            top += sum(mine[seed] * its[seed] for seed in sorted(common))
            bottom += len(common) * weight
            products += len(common)
    if bottom <= 0.0 or ss <= 0.0:
        return None, products
    return max(-1.0, min(1.0, top / bottom / (ss / df))), products


# --- comparisons ----------------------------------------------------------------------------


class Comparison(Value, frozen=True):
    """A difference of two arms: positive is better. ``se`` is its standard error on ``df``."""

    effect: float
    se: float
    df: int
    n: int

    @property
    def z(self) -> float:
        """Effect in standard errors; +-infinity (0 for no effect) where there is no noise."""
        if self.se > 0.0:
            return self.effect / self.se
        return math.copysign(math.inf, self.effect) if self.effect else 0.0

    def p_better(self) -> float:
        """P(true effect > 0), flat prior, Student's t: Gosset 1908; Box & Tiao 1973, ch. 2."""
        z = self.z
        if math.isinf(z):
            return 1.0 if z > 0 else 0.0
        return t_cdf(z, self.df) if self.df >= 1 else normal_cdf(z)

    def interval(self, level: float = 0.9) -> tuple[float, float]:
        """Two-sided interval of the effect; infinite where df is 0 and there is noise."""
        if self.se == 0.0:
            return self.effect, self.effect
        if self.df < 1:
            return -math.inf, math.inf
        half = t_quantile(0.5 + level / 2.0, self.df) * self.se
        return self.effect - half, self.effect + half


def compare(
    gain: float, sigma: float, df: int, n_candidate: int, n_incumbent: int, *, rho: float = 0.0
) -> Comparison:
    """Two means with pooled noise: se = sigma sqrt((1/n_c + 1/n_i)(1 - rho)).

    ``rho`` is the correlation over common seeds; use it only where the arms share seeds.
    """
    spread = (1.0 / n_candidate + 1.0 / n_incumbent) * (1.0 - rho)
    return Comparison(effect=gain, se=sigma * math.sqrt(spread), df=df, n=n_candidate)


def paired(differences: Sequence[float]) -> Comparison | None:
    """Paired t: mean of the differences, se from their own spread; None for fewer than two."""
    whole = group(differences)
    if whole.n < 2 or whole.sd is None:
        return None
    return Comparison(
        effect=whole.mean, se=whole.sd / math.sqrt(whole.n), df=whole.n - 1, n=whole.n
    )


# --- evidence that may be looked at any time ------------------------------------------------


def e_value(differences: Sequence[float], tau: float) -> float:
    """Mixture e-value for "the candidate is not better", from differences of fresh pairs.

    E = 2 v^(-1/2) exp(S^2 / 2v) Phi(S / sqrt v), S = sum d/tau, v = 1 + n: the likelihood
    ratio against mean 0, mixed over a half-normal alternative. Robbins 1970, Ann. Math.
    Stat. 41, 1397; Howard et al. 2021, Ann. Stat. 49, 1055. Gaussian with sd ``tau``
    (inflate an estimated one). It may be looked at after every pair: P(ever >= 1/a) <= a.
    """
    return _half_normal_mixture(math.fsum(differences) / tau, float(len(differences)))


def symmetric_e_value(differences: Sequence[float], tau: float) -> float:
    """The same mixture, self-normalised: valid for any symmetric noise, whatever its size.

    v = 1 + sum (d/tau)^2, for E[exp(l d - l^2 d^2 / 2)] <= 1 when d is symmetric about 0:
    de la Pena 1999, Ann. Probab. 27, 537. One jump of the machine, however large, cannot
    fake evidence; ``tau`` only sets the scale of the alternative, never the level.
    """
    scaled = [d / tau for d in differences]
    return _half_normal_mixture(math.fsum(scaled), math.fsum(d * d for d in scaled))


def _half_normal_mixture(s: float, information: float) -> float:
    v = 1.0 + information
    exponent = min(s * s / (2.0 * v), 700.0)  # beyond it only the float ends, not the evidence
    return 2.0 / math.sqrt(v) * math.exp(exponent) * normal_cdf(s / math.sqrt(v))


def e_bh(e_values: Sequence[float], alpha: float = 0.05) -> list[int]:
    """Indices that the e-Benjamini-Hochberg rule certifies at false discovery rate ``alpha``.

    The largest k with E_(k) >= m / (k alpha), under any dependence. Wang & Ramdas 2022,
    J. R. Stat. Soc. B 84, 822.
    """
    order = sorted(range(len(e_values)), key=lambda i: -e_values[i])
    for k in range(len(order), 0, -1):
        if e_values[order[k - 1]] >= len(order) / (k * alpha):
            return sorted(order[:k])
    return []


# --- tests of a finalization ----------------------------------------------------------------


def t_p_value(t: float, df: int) -> float:
    """Two-sided p-value of Student's t, exact far into the tails (``t_cdf`` is rounded)."""
    from scipy.special import stdtr  # noqa: PLC0415  heavy, loaded on use

    return min(1.0, 2.0 * float(stdtr(df, -abs(t))))


def wilcoxon_p_value(differences: Sequence[float]) -> float | None:
    """Two-sided p-value of the signed-rank test (Wilcoxon 1945), zero differences left out.

    Exact for few pairs without ties; at n pairs it is never below 2^(1 - n). None without a
    difference that is not zero.
    """
    if not any(differences):
        return None
    from scipy.stats import wilcoxon  # noqa: PLC0415  heavy, loaded on use

    return float(wilcoxon(differences).pvalue)
