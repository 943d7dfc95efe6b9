import math
import random
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as reference

from nightlab import stats
from nightlab.stats import Pool

FLOATS = st.floats(-1e6, 1e6)


@given(st.floats(-8, 8))
def test_the_normal_distribution_agrees_with_scipy(z):
    assert stats.normal_cdf(z) == pytest.approx(reference.norm.cdf(z), rel=1e-9)


@given(st.floats(0.001, 0.999), st.integers(1, 200))
def test_the_t_distribution_agrees_with_scipy(p, df):
    assert stats.t_quantile(p, df) == pytest.approx(reference.t.ppf(p, df), rel=1e-6, abs=1e-9)
    assert stats.t_cdf(reference.t.ppf(p, df), df) == pytest.approx(p, abs=3e-4)


def test_a_threshold_passed_through_t_keeps_its_tail():
    for z in (1.645, 2.067, 2.7):
        for df in (1, 3, 12, 500):
            assert reference.t.sf(stats.t_threshold(z, df), df) == pytest.approx(
                reference.norm.sf(z), rel=2e-3
            )


def test_pocock_constants_hold_their_level_in_a_simulation():
    rng = np.random.default_rng(7)
    walks = np.cumsum(rng.standard_normal((400_000, 5)), axis=1) / np.sqrt(np.arange(1, 6))
    for alpha, constants in stats.POCOCK.items():
        for looks, constant in constants.items():
            crossed = (walks[:, :looks] >= constant).any(axis=1).mean()
            # Four standard errors of the simulation.
            assert crossed == pytest.approx(alpha, abs=4 * math.sqrt(alpha / 400_000))


@given(st.lists(FLOATS, min_size=2, max_size=30))
def test_a_group_has_the_mean_and_spread_of_its_values(values):
    whole = stats.group(values)
    assert whole.n == len(values)
    assert whole.mean == pytest.approx(statistics.fmean(values), abs=1e-6)
    assert whole.sd == pytest.approx(statistics.stdev(values), rel=1e-6, abs=1e-6)


@given(FLOATS, st.integers(2, 50))
def test_equal_values_have_exactly_no_noise(value, n):
    pool = stats.Pool()
    for _ in range(n):
        pool.add("a", value)
    assert pool.sigma == 0.0
    assert pool.df == n - 1


def test_a_spread_of_fewer_than_two_values_is_unknown_and_not_zero():
    assert stats.Group().sd is None
    assert stats.group([3.0]).sd is None
    pool = stats.Pool()
    pool.add(1, 5.0)
    pool.add(2, 9.0)
    assert pool.sigma is None
    assert pool.df == 0


@given(st.lists(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=6), min_size=1, max_size=8))
def test_the_pool_is_the_within_group_mean_square_in_whatever_order_values_come(groups):
    pool = stats.Pool()
    rows = [(key, value) for key, values in enumerate(groups) for value in values]
    random.Random(3).shuffle(rows)
    for key, value in rows:
        pool.add(key, value)
    df = sum(len(values) - 1 for values in groups)
    assert pool.df == df
    if df == 0:
        assert pool.sigma is None
        return
    ss = sum(sum((v - statistics.fmean(vs)) ** 2 for v in vs) for vs in groups)
    assert pool.sigma == pytest.approx(math.sqrt(ss / df), rel=1e-6, abs=1e-6)


def test_closing_a_group_keeps_its_noise():
    pool = stats.Pool()
    for value in (1.0, 2.0, 4.0):
        pool.add("a", value)
    before = (pool.sigma, pool.df)
    pool.close("a")
    pool.close("never seen")
    assert (pool.sigma, pool.df) == before


def codes_on_seeds(rho, codes, seeds, rng):
    shared = rng.standard_normal(seeds)
    return [
        {
            seed: 100.0 * code
            + math.sqrt(rho) * shared[seed]
            + math.sqrt(1 - rho) * rng.standard_normal()
            for seed in range(seeds)
            if rng.random() < 0.8
        }
        for code in range(codes)
    ]


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_correlation_over_seeds_is_found_whatever_the_codes_differ_by(rho):
    rng = np.random.default_rng(5)
    found = [
        stats.seed_correlation([c for c in codes_on_seeds(rho, 16, 4, rng) if len(c) > 1])[0]
        for _ in range(400)
    ]
    assert np.mean(found) == pytest.approx(rho, abs=0.1)


def test_correlation_of_too_little_or_constant_data_is_unknown():
    assert stats.seed_correlation([]) == (None, 0)
    assert stats.seed_correlation([{1: 2.0, 2: 3.0}]) == (None, 0)
    assert stats.seed_correlation([{1: 2.0, 2: 2.0}, {1: 1.0, 2: 1.0}])[0] is None
    assert stats.seed_correlation([{1: 2.0, 2: 3.0}, {3: 2.0, 4: 3.0}])[0] is None


def pooled(rows):
    pool = stats.Pool()
    for row in rows:
        pool.add(*row)
    return pool


def test_common_seeds_are_used_only_where_their_correlation_is_beyond_chance():
    rng = np.random.default_rng(3)
    used = {}
    for rho in (0.0, 0.9):
        used[rho] = [
            pooled(
                (code, value, code, seed)
                for code, seeds in enumerate(codes_on_seeds(rho, 12, 4, rng))
                for seed, value in seeds.items()
            ).rho
            for _ in range(100)
        ]
    assert np.mean(used[0.0]) < 0.08
    assert np.mean(used[0.9]) > 0.5


def test_a_reproduced_value_on_the_same_seed_is_no_replicate():
    pool = pooled([("a", 1.0, 1, 1), ("a", 2.0, 1, 2), ("a", 1.0, 2, 1), ("a", 1.0, 3, 1)])
    assert pool.df == 1
    assert pool.sigma == pytest.approx(math.sqrt(0.5))
    other = pooled([("a", 1.0, 1, 1), ("a", 1.5, 2, 1)])  # the same seed, another value
    assert other.df == 1


def test_drift_is_seen_where_occasions_differ_and_not_where_they_do_not():
    rng = np.random.default_rng(8)
    for drift, low, high in ((0.0, 0.0, 0.2), (3.0, 2.0, 4.0)):
        found = []
        for _ in range(60):
            rows = [("a", rng.standard_normal(), 1) for _ in range(4)]
            for occasion in range(2, 30):
                level = drift * rng.standard_normal()
                rows += [("a", level + rng.standard_normal(), occasion) for _ in range(2)]
            found.append(pooled(rows))
        assert low <= np.mean([pool.drift for pool in found]) <= high
        assert np.mean([pool.sigma for pool in found]) == pytest.approx(1.0, abs=0.1)


def test_the_pool_forgets_old_seeds_so_that_a_long_study_stays_small():
    pool = pooled((code, float(seed), code, seed) for code in range(500) for seed in range(3))
    assert len(pool._seeds) <= 17


def test_paired_comparison_agrees_with_scipy():
    differences = [0.3, -0.1, 0.5, 0.2, 0.25]
    mine = stats.paired(differences)
    theirs = reference.ttest_1samp(differences, 0.0, alternative="greater")
    assert mine.z == pytest.approx(theirs.statistic)
    assert 1 - mine.p_better() == pytest.approx(theirs.pvalue, abs=2e-4)
    low, high = theirs.confidence_interval(0.95)
    assert mine.interval(0.9)[0] == pytest.approx(low)  # one-sided 95 % = lower end of 90 %
    assert math.isinf(high)
    assert stats.paired([1.0]) is None


def test_a_comparison_without_noise_is_certain_and_one_without_degrees_of_freedom_is_not():
    assert stats.compare(1.0, 0.0, 3, 1, 1).p_better() == 1.0
    assert stats.compare(-1.0, 0.0, 3, 1, 1).p_better() == 0.0
    assert stats.compare(1.0, 0.0, 3, 1, 1).interval() == (1.0, 1.0)
    assert stats.compare(1.0, 1.0, 0, 1, 1).interval() == (-math.inf, math.inf)


@given(
    st.lists(st.floats(-5, 5), min_size=1, max_size=10),
    st.floats(0.01, 100),
    st.floats(0.1, 10),
)
def test_e_values_do_not_depend_on_the_unit(differences, unit, tau):
    for rule in (stats.e_value, stats.symmetric_e_value):
        scaled = rule([d * unit for d in differences], tau * unit)
        assert scaled == pytest.approx(rule(differences, tau), rel=1e-6)


@given(
    st.lists(st.floats(-5, 5), min_size=1, max_size=10),
    st.integers(0, 9),
    st.floats(0.01, 5),
)
def test_a_better_pair_is_never_less_evidence(differences, index, more):
    better = list(differences)
    better[index % len(better)] += more
    assert stats.e_value(better, 1.0) >= stats.e_value(differences, 1.0) * (1 - 1e-12)


def ever_crosses(rule, draws, alpha=0.05):
    return sum(
        any(rule(row[:n], 1.0) >= 1 / alpha for n in range(1, len(row) + 1)) for row in draws
    ) / len(draws)


def test_e_values_hold_their_level_however_often_one_looks():
    draws = np.random.default_rng(1).standard_normal((3000, 15)).tolist()
    assert ever_crosses(stats.e_value, draws) <= 0.05
    assert ever_crosses(stats.symmetric_e_value, draws) <= 0.05


def test_the_symmetric_e_value_holds_its_level_where_the_gaussian_one_does_not():
    draws = np.random.default_rng(2).standard_t(1, (3000, 15)).tolist()  # Cauchy
    assert ever_crosses(stats.e_value, draws) > 0.2
    assert ever_crosses(stats.symmetric_e_value, draws) <= 0.05


def test_a_jump_of_the_machine_is_no_evidence():
    assert stats.e_value([50.0, 0.1, -0.1], 1.0) > 1e9
    assert stats.symmetric_e_value([50.0, 0.1, -0.1], 1.0) < 1.0


def test_e_values_without_pairs_say_nothing():
    assert stats.e_value([], 1.0) == 1.0
    assert stats.symmetric_e_value([], 1.0) == 1.0


def test_e_bh_certifies_the_largest_set_that_it_may():
    assert stats.e_bh([], 0.05) == []
    assert stats.e_bh([19.9]) == []
    assert stats.e_bh([20.0]) == [0]
    assert stats.e_bh([20.0, 1.0]) == []
    assert stats.e_bh([1.0, 40.0]) == [1]
    assert stats.e_bh([20.0, 20.0, 20.0]) == [0, 1, 2]


def test_one_wild_candidate_does_not_blind_the_judge_to_what_follows():
    pool = Pool()
    for seed, value in enumerate((1.00, 1.01, 0.99, 1.005), 1):
        pool.add("baseline", value, "baseline", seed)
    before, df = pool.overall
    pool.add("wild", 0.97, "wild", 1)
    pool.add("wild", 7.0, "wild", 2)
    assert pool.overall[0] > 50 * before
    pool.close("wild")
    assert pool.overall == (pytest.approx(before), df)
    assert pool.sigma == pytest.approx(before)


def test_a_candidate_as_noisy_as_the_rest_stays_counted():
    pool = Pool()
    for seed, value in enumerate((1.00, 1.01, 0.99, 1.005), 1):
        pool.add("baseline", value, "baseline", seed)
    pool.add("usual", 0.97, "usual", 1)
    pool.add("usual", 0.99, "usual", 2)
    pool.close("usual")
    assert pool.overall[1] == 4


def test_rebased_code_is_a_group_of_its_own():
    pool = Pool()
    for value in (1.0, 1.01):
        pool.add(7, value, 7)
    pool.restart(7)
    for value in (0.5, 0.51):
        pool.add(7, value, 7)
    assert pool.overall == (pytest.approx(0.01 / 2**0.5), 2)
