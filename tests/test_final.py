"""The decisions of a finalization, by simulation: what is claimed, dropped and left."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Sequence

import pytest
from scipy import stats as scipy_stats

from nightlab.final import (
    BASELINE,
    CLEANED,
    FINAL,
    Clean,
    Cleaned,
    Decide,
    Finalization,
    Kept,
    Last,
    Measure,
    Result,
    Stage,
    Status,
    TooLittleError,
    Turn,
    Word,
    expected,
    make_plan,
    pairs_for,
    step,
    without,
)
from nightlab.model import Better, Guard, Objective, Outcome, Purpose, Run
from nightlab.report import finalized

OBJECTIVE = Objective("loss", Better.LOWER)


def plan_of(changes: int, **options: object) -> Finalization:
    """A finalization of so many kept changes; a run takes one second."""
    kept = [
        Kept(
            experiment=n,
            parent=f"c{n - 1}",
            commit=f"c{n}",
            description=f"change {n}",
            effect=float(n),
            without=f"w{n}",
        )
        for n in range(2, changes + 2)
    ]
    settings: dict[str, object] = {
        "number": 1,
        "baseline": "base",
        "final": "tip",
        "experiment": changes + 1,
        "objective": OBJECTIVE,
        "kept": kept,
        "used_seeds": {1, 2, 1002},
        "lot": 7,
        "sigma": 1.0,
        "df": 8,
        "rho": 0.0,
        "gain": 3.0,
        "run_s": 1.0,
        "spent_s": 0.0,
    }
    return Finalization(make_plan(**settings | options))  # type: ignore[arg-type]


def run_of(
    turn: Turn,
    number: int,
    value: float | None,
    seconds: float = 1.0,
    beside: dict[str, float] | None = None,
) -> Run:
    return Run(
        id=number,
        experiment=1 if turn.arm == BASELINE else 2,
        occasion=1,
        purpose=Purpose.FINAL,
        commit="c",
        seed=turn.seed,
        device="cpu",
        outcome=Outcome.CRASHED if value is None else Outcome.OK,
        metrics={} if value is None else {"loss": value} | (beside or {}),
        duration_s=seconds,
    )


def play(
    f: Finalization,
    measure: Callable[[Turn, set[int]], float | None],
    seconds: float = 1.0,
    beside: Callable[[Turn, set[int]], dict[str, float]] = lambda _turn, _has: {},
) -> Result:
    """Drive to the end; ``measure`` is told the turn and the changes that its code has.

    ``beside`` gives the run's other metrics.
    """
    everything = {k.experiment for k in f.plan.kept}
    while True:
        now = step(f)
        if isinstance(now, Decide):
            f.result = now.result
            return now.result
        if isinstance(now, Clean):
            left = everything - set(now.dropped)
            commit = "" if not now.dropped else "cleaned" if left else "base"
            f.cleaned = Cleaned(dropped=now.dropped, commit=commit, notes=now.notes)
            continue
        turn = now.turns[0]
        has = {
            BASELINE: set[int](),
            FINAL: everything,
            CLEANED: everything - set(f.cleaned.dropped if f.cleaned else ()),
        } | {without(n): everything - {n} for n in everything}
        has_it, number = has[turn.arm], len(f.runs) + 1
        value = measure(turn, has_it)
        f.take(turn, run_of(turn, number, value, seconds, beside(turn, has_it)))


def noisy(
    rng: random.Random, effects: dict[int, float], sigma: float = 1.0, shared: float = 0.0
) -> Callable[[Turn, set[int]], float]:
    """Losses about 10 less the effects; ``shared`` of the variance belongs to the seed."""
    of_seed: dict[int, float] = {}

    def measure(turn: Turn, has: set[int]) -> float:
        level = of_seed.setdefault(turn.seed, rng.gauss(0, sigma * shared**0.5))
        noise = rng.gauss(0, sigma * (1 - shared) ** 0.5)
        return 10.0 - sum(effects.get(n, 0.0) for n in has) + level + noise

    return measure


@pytest.mark.parametrize("shared", [0.0, 0.7])
@pytest.mark.parametrize("changes", [1, 3])
def test_changes_that_do_nothing_are_rarely_called_a_win(changes: int, shared: float) -> None:
    """At most 5 % by design; 200 nights at 5 % give more than 19 with probability 0.2 %."""
    rng = random.Random(changes + 10 * int(10 * shared))
    wins = 0
    for _ in range(200):
        f = plan_of(changes, gain=2.5, lot=rng.randrange(1 << 32))
        wins += play(f, noisy(rng, {}, shared=shared)).word is Word.WIN
    assert wins <= 19


@pytest.mark.slow
def test_changes_that_do_nothing_are_a_win_in_at_most_one_of_twenty_nights() -> None:
    rng = random.Random(3)
    nights = 4000
    won = sum(
        play(plan_of(2, gain=2.5, lot=n), noisy(rng, {})).word is Word.WIN for n in range(nights)
    )
    assert won / nights <= 0.05


def test_the_gain_that_was_planned_for_is_shown_nine_times_of_ten() -> None:
    rng = random.Random(1)
    nights = 150
    won = 0
    for n in range(nights):
        f = plan_of(1, gain=1.8, device_s=30.0, lot=n)
        assert not f.plan.blocks
        won += play(f, noisy(rng, {2: 1.8})).word is Word.WIN
    assert won >= 0.82 * nights  # 0.9 less three standard errors of 150 nights


def test_pairs_follow_the_gain_and_stay_in_bounds() -> None:
    assert pairs_for(None, 1.0) == pairs_for(1.0, None) == 6
    assert pairs_for(1.0, 0.0) == 3
    assert pairs_for(-1.0, 1.0) == 12
    found = [pairs_for(gain, 1.0) for gain in (0.1, 1.0, 1.5, 2.0, 3.0, 10.0)]
    assert found == sorted(found, reverse=True)
    assert (found[0], found[-1]) == (12, 3)
    assert pairs_for(2.0, 1.0, rho=0.8) < pairs_for(2.0, 1.0)


def test_the_claim_is_the_paired_t_interval_and_both_tests() -> None:
    rng = random.Random(5)
    f = plan_of(1, pairs=6, device_s=20.0)
    result = play(f, noisy(rng, {2: 2.0}))
    claim = result.claim
    arms = {
        arm: [f.value(Turn(Stage.VERIFY, arm, s), "loss") for s in claim.seeds]
        for arm in (BASELINE, FINAL)
    }
    test = scipy_stats.ttest_rel(arms[BASELINE], arms[FINAL])
    interval = test.confidence_interval(0.95)
    assert claim.p == pytest.approx(test.pvalue)
    assert (claim.low, claim.high) == pytest.approx((interval.low, interval.high))
    assert claim.p_wilcoxon == pytest.approx(
        scipy_stats.wilcoxon(arms[BASELINE], arms[FINAL]).pvalue
    )
    assert claim.mine.mean == pytest.approx(statistics.mean(arms[FINAL]))
    assert claim.mine.sd == pytest.approx(statistics.stdev(arms[FINAL]))
    assert "p = " in result.reason
    assert "95 % interval" in result.reason


def test_no_two_stages_share_a_seed_and_none_was_used_before() -> None:
    plan = plan_of(3, last=Last(test="t")).plan
    seeds = [s for stage in Stage for s in plan.seeds_of(stage)]
    assert len(seeds) == len(set(seeds)) > 15
    assert not {1, 2, 1002} & set(seeds)


def test_the_arms_of_a_seed_run_side_by_side_in_an_order_drawn_by_lot() -> None:
    firsts = set()
    for lot in range(8):
        now = step(plan_of(1, lot=lot, pairs=6))
        assert isinstance(now, Measure)
        seeds = [turn.seed for turn in now.turns]
        assert seeds[::2] == seeds[1::2]
        firsts |= {turn.arm for turn in now.turns[::2]}
    assert firsts == {BASELINE, FINAL}


def test_a_change_that_does_nothing_is_dropped_and_one_that_helps_is_not() -> None:
    rng = random.Random(8)
    dropped = [0, 0]
    for n in range(40):
        result = play(plan_of(2, lot=n), noisy(rng, {3: 4.0}))
        dropped[0] += 2 in result.dropped
        dropped[1] += 3 in result.dropped
    assert dropped[0] >= 12  # about half: what is dropped has to pass two tests
    assert dropped[1] == 0


def test_all_changes_gone_means_that_nothing_is_left() -> None:
    result = play(plan_of(1), lambda turn, _: 10.0 + 0.01 * (turn.seed % 3))
    assert result.chosen == BASELINE
    assert result.word is Word.NO_WIN
    assert "adds anything" in result.reason


def test_changes_that_stand_in_for_each_other_all_stay() -> None:
    rng = random.Random(2)
    result = play(plan_of(2), lambda _, has: 10.0 - (5.0 if has else 0.0) + rng.gauss(0, 0.1))
    assert [e.status for e in result.effects] == [Status.NOTHING, Status.NOTHING]
    assert result.chosen == FINAL
    assert result.dropped == ()
    assert result.word is Word.WIN
    assert "together" in result.notes[0]


def test_a_cleaned_tree_that_is_worse_is_not_taken() -> None:
    """Two of three stand in for each other; without both of them it is worse."""

    def measure(turn: Turn, has: set[int]) -> float:
        return 10.0 - 5.0 * bool(has & {2, 3}) - 2.0 * (4 in has) + 0.01 * (turn.seed % 5)

    result = play(plan_of(3), measure)
    assert result.chosen == FINAL
    assert result.dropped == ()
    assert any("worse" in note for note in result.notes)
    assert result.claim.arm == FINAL


def test_without_noise_a_comparison_is_a_comparison() -> None:
    f = plan_of(2, sigma=0.0, gain=1.0)
    assert f.plan.pairs == 3
    result = play(f, lambda _, has: 10.0 - 1.0 * (2 in has))
    assert result.word is Word.WIN
    assert (result.claim.low, result.claim.high, result.claim.p) == (1.0, 1.0, None)
    assert result.dropped == (3,)
    assert result.chosen == CLEANED
    same = play(plan_of(1, sigma=0.0), lambda _turn, _has: 10.0)
    assert same.word is Word.NO_WIN


@pytest.mark.parametrize("arm", [BASELINE, FINAL])
def test_a_failed_run_forbids_the_word(arm: str) -> None:
    rng = random.Random(4)
    measure = noisy(rng, {2: 9.0}, 0.1)
    f = plan_of(1, device_s=20.0)
    bad = Turn(Stage.VERIFY, arm, f.plan.seeds[1])
    result = play(f, lambda turn, has: None if turn == bad else measure(turn, has))
    assert result.word is Word.INCOMPLETE
    assert "1 run failed" in result.reason


def test_a_change_without_which_it_does_not_run_stays() -> None:
    rng = random.Random(4)
    measure = noisy(rng, {2: 3.0}, 0.1)
    result = play(plan_of(2), lambda t, has: None if t.arm == without(3) else measure(t, has))
    assert result.effects[1].status is Status.NEEDED
    assert result.effects[0].status is Status.HELPS
    assert result.dropped == ()


VRAM = Guard("vram", "<=", 1.2, of_baseline=True, text="<= baseline * 1.2")


@pytest.mark.parametrize(
    ("vram", "word"), [(150.0, Word.VETOED), (110.0, Word.WIN), (None, Word.VETOED)]
)
def test_a_guard_that_breaks_on_fresh_seeds_takes_the_word_away(
    vram: float | None, word: Word
) -> None:
    def beside(_turn: Turn, has: set[int]) -> dict[str, float]:
        if not has:
            return {"vram": 100.0}
        return {} if vram is None else {"vram": vram}

    f = plan_of(1, guards=(VRAM,))
    result = play(f, noisy(random.Random(4), {2: 9.0}, 0.1), beside=beside)
    assert result.word is word
    assert ("guard vram" in result.reason) == (word is Word.VETOED) == bool(result.veto)
    assert "better by" in result.reason
    assert result.claim.is_win  # what was measured is told as it is


def test_a_loss_with_a_broken_guard_is_a_loss_that_says_so() -> None:
    f = plan_of(1, guards=(VRAM,), device_s=20.0)
    result = play(
        f,
        noisy(random.Random(4), {2: -9.0}, 0.1),
        beside=lambda _, has: {"vram": 300.0 if has else 100.0},
    )
    assert result.word in (Word.WORSE, Word.NO_WIN)
    assert (result.veto != "") == (result.chosen != BASELINE)


def test_a_cleaned_tree_that_breaks_a_guard_is_not_taken() -> None:
    """What adds nothing to the objective may be what keeps the guard."""
    f = plan_of(2, guards=(VRAM,))
    measure = noisy(random.Random(4), {2: 9.0}, 0.5)
    result = play(f, measure, beside=lambda _, has: {"vram": 300.0 if has == {2} else 100.0})
    assert f.cleaned is not None
    assert f.cleaned.dropped == (3,)
    assert result.chosen == FINAL
    assert result.word is Word.WIN
    assert any("cleaned tree breaks guard vram" in note for note in result.notes)


def test_a_cleaned_tree_that_fails_a_check_is_not_measured_further() -> None:
    f = plan_of(2, checks=("style", "tests", "more"))
    measure = noisy(random.Random(4), {2: 9.0}, 0.5)
    result = play(
        f, lambda t, has: None if (t.stage, t.seed) == (Stage.CHECK, 2) else measure(t, has)
    )
    assert result.chosen == FINAL
    assert result.word is Word.WIN
    assert any("check tests fails" in note for note in result.notes)
    made = [turn for turn in f.measured if turn.arm == CLEANED]
    assert made == [Turn(Stage.CHECK, CLEANED, 1), Turn(Stage.CHECK, CLEANED, 2)]


def test_a_win_at_a_further_attempt_says_so() -> None:
    measure = noisy(random.Random(4), {2: 3.0}, 0.1)
    assert not any("several looks" in note for note in play(plan_of(1), measure).notes)
    assert any("several looks" in note for note in play(plan_of(1, number=2), measure).notes)


def test_a_simplification_that_changes_nothing_stays() -> None:
    f = plan_of(1)
    kept = Kept(
        experiment=2, parent="a", commit="b", description="less", without="w", lines_removed=9
    )
    f = plan_of(0, kept=[kept])
    result = play(f, noisy(random.Random(1), {}, 0.3, shared=0.9))
    assert result.effects[0].status is Status.UNCLEAR
    assert "simpler" in result.effects[0].why
    assert result.chosen == FINAL


@pytest.mark.parametrize("better", [Better.LOWER, Better.HIGHER])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_neither_scale_nor_direction_changes_a_decision(better: Better, scale: float) -> None:
    def found(objective: Objective, times: float) -> tuple[object, ...]:
        measure = noisy(random.Random(6), {2: 2.0, 3: 0.0})
        f = plan_of(2, objective=objective, sigma=abs(times), gain=3 * abs(times))
        result = play(f, lambda turn, has: times * measure(turn, has))
        return result.word, result.chosen, result.dropped, [e.status for e in result.effects]

    sign = 1.0 if better is Better.LOWER else -1.0
    assert found(Objective("loss", better), sign * scale) == found(OBJECTIVE, 1.0)


def test_the_smallest_effects_are_ablated_first_when_time_is_short() -> None:
    whole = plan_of(5).plan
    assert whole.ablated == (2, 3, 4, 5, 6)
    short = plan_of(5, device_s=6 + 15 + 13.0, pairs=3).plan
    assert short.ablated == (2, 3)
    assert short.blocks == 4
    none = plan_of(5, device_s=12.0, pairs=3).plan
    assert none.ablated == ()
    f = Finalization(none)
    result = play(f, noisy(random.Random(1), {2: 5.0}, 0.1))
    assert result.word is Word.WIN
    assert any("no device time to ablate" in note for note in result.notes)


def test_less_time_than_three_pairs_take_is_refused_with_what_would_do() -> None:
    with pytest.raises(TooLittleError) as caught:
        plan_of(1, device_s=5.0)
    assert caught.value.hint.startswith("nightlab finalize --device-hours 0.0")
    assert plan_of(1, pairs=12, device_s=9.0).plan.pairs == 4


def test_runs_that_take_longer_than_thought_end_in_an_honest_half() -> None:
    f = plan_of(2, device_s=8.0, pairs=4)
    result = play(f, noisy(random.Random(1), {2: 9.0}, 0.1), seconds=2.0)
    assert result.word is Word.INCOMPLETE
    assert "2 of 4 planned pairs" in result.reason
    assert result.spent_s <= 8.0


def test_an_ablation_that_time_did_not_allow_is_said_to_be_that() -> None:
    """Planned, for runs seemed short; then the pairs took all there was."""
    f = plan_of(2, device_s=40.0, pairs=4)
    assert f.plan.ablated
    result = play(f, noisy(random.Random(1), {2: 9.0}, 0.1), seconds=5.0)
    assert result.word is Word.WIN
    assert {e.why for e in result.effects} == {"no device time for it"}
    assert any("no device time to ablate experiment 2, 3" in note for note in result.notes)
    assert "No change was measured by itself" in told_of(f)


def test_a_table_of_tested_changes_says_how_they_were_tested() -> None:
    f = plan_of(2, device_s=1000.0, pairs=4)
    play(f, noisy(random.Random(1), {2: 9.0}, 0.1), seconds=1.0)
    assert "Each change that was tested was taken out" in told_of(f)


def told_of(f: Finalization) -> str:
    return " ".join(text for _, text in finalized._said(f))


def test_full_length_training_that_undoes_the_gain_is_said() -> None:
    def measure(turn: Turn, has: set[int]) -> float:
        gain = 2.0 if turn.stage is not Stage.FULL else -0.5
        return 10.0 - gain * bool(has) + 0.01 * (turn.seed % 3)

    f = plan_of(1, last=Last(is_long=True, budget_s=3.0, command="long"))
    result = play(f, measure)
    assert result.full is not None
    assert result.full.effect == pytest.approx(-0.5, abs=0.1)
    assert any("short runs only" in note for note in result.notes)


def test_what_is_expected_shrinks_to_nothing() -> None:
    f = plan_of(2)
    runs, seconds = expected(f)
    assert runs == seconds == 2 * f.plan.pairs + 3 * f.plan.blocks + 3 * f.plan.recheck
    play(f, noisy(random.Random(1), {2: 5.0}))
    assert f.cleaned is not None
    assert expected(f)[0] == 0


def test_what_was_lost_or_stopped_is_measured_again_and_no_turn_twice() -> None:
    f = plan_of(1)
    now = step(f)
    assert isinstance(now, Measure)
    turn = now.turns[0]
    run = run_of(turn, 1, None)
    for outcome in (Outcome.LOST, Outcome.STOPPED):
        f.take(
            turn, Run(**{n: getattr(run, n) for n in run.__struct_fields__} | {"outcome": outcome})
        )
        again = step(f)
        assert isinstance(again, Measure)
        assert again.turns[0] == turn
    f.take(turn, run_of(turn, 2, 5.0))
    f.take(turn, run_of(turn, 3, 6.0))
    assert f.value(turn, "loss") == 5.0


def test_the_same_runs_give_the_same_result_in_any_order() -> None:
    first = plan_of(2)
    result = play(first, noisy(random.Random(9), {2: 2.0}))
    second = plan_of(2)
    runs: Sequence[tuple[Turn, Run]] = list(first.measured.items())
    for turn, run in random.Random(1).sample(runs, len(runs)):
        second.take(turn, run)
    second.cleaned = first.cleaned
    now = step(second)
    assert isinstance(now, Decide)
    assert now.result == result
