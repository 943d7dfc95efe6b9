"""The replay of a journal: counts, incumbent, noise, and that order and grouping hold."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightlab import budget
from nightlab.budget import Bounds
from nightlab.errors import JournalError
from nightlab.events import (
    AnyEvent,
    Committed,
    Judged,
    Paused,
    Proposed,
    Resumed,
    RunFinished,
    RunStarted,
    Settled,
    StudyStarted,
)
from nightlab.history import History, fold
from nightlab.model import Action, Claim, Decision, Outcome, Purpose, Run, Verdict
from tests.test_journal import STUDY

Plan = list[tuple[Verdict, list[float | None]]]
plans = st.lists(
    st.tuples(
        st.sampled_from(list(Verdict)),
        st.lists(st.one_of(st.none(), st.floats(-5, 5)), min_size=1, max_size=4),
    ),
    max_size=12,
)


def events(plan: Plan) -> list[AnyEvent]:
    """A study as a journal would hold it; a value None is a run that crashed."""
    made: list[AnyEvent] = [StudyStarted(study=STUDY, base_commit="c0")]
    run_id = 0
    for number, (verdict, values) in enumerate(plan, start=1):
        commit = f"c{number}"
        claim = Claim(description=f"change {number}")
        made.append(Proposed(number=number, parent="p", tree=f"t{number}", claim=claim))
        made.append(Committed(number=number, commit=commit))
        for value in values:
            run_id += 1
            run = Run(
                id=run_id,
                experiment=number,
                occasion=number,
                purpose=Purpose.SCREEN,
                commit=commit,
                seed=run_id,
                device="cpu0",
                outcome=Outcome.CRASHED if value is None else Outcome.OK,
                metrics={} if value is None else {"loss": value},
                duration_s=2.0,
                traceback="x" * 50,
            )
            made.append(
                RunStarted(
                    run=run_id,
                    experiment=number,
                    occasion=number,
                    purpose=Purpose.SCREEN,
                    seed=1,
                    device="cpu0",
                    commit=commit,
                )
            )
            made.append(RunFinished(run=run))
        decision = Decision(action=Action(verdict.value), rule="r", reason="because")
        made.append(Judged(number=number, decision=decision))
        made.append(Settled(number=number, verdict=verdict, commit=f"{commit}+"))
    return made


@given(plans)
def test_the_fold_counts_what_happened(plan: Plan) -> None:
    history = fold(events(plan))
    assert history.counts.total == len(plan)
    for verdict in Verdict:
        assert getattr(history.counts, verdict.value) == sum(v is verdict for v, _ in plan)
    kept = [n for n, (v, _) in enumerate(plan, start=1) if v is Verdict.KEEP]
    assert history.incumbent_number == (kept[-1] if kept else None)
    assert history.tip == (f"c{kept[-1]}+" if kept else "c0")
    assert history.runs == sum(len(values) for _, values in plan)
    assert history.device_seconds == pytest.approx(2.0 * history.runs)
    assert history.open() == []
    assert history.pending == {}


@given(st.lists(st.lists(st.one_of(st.none(), st.floats(-5, 5)), min_size=1, max_size=4)))
def test_noise_is_pooled_within_codes_never_between(values: list[list[float | None]]) -> None:
    plan: Plan = [(Verdict.KEEP, group) for group in values]  # others may be left out as wild
    history = fold(events(plan))
    groups = [[v for v in values if v is not None] for _, values in plan]
    df = sum(len(g) - 1 for g in groups if g)
    assert history.noise.df == df
    if df:
        squares = sum(statistics.variance(g) * (len(g) - 1) for g in groups if len(g) > 1)
        assert history.noise.sigma == pytest.approx((squares / df) ** 0.5, abs=1e-9)
    else:
        assert history.noise.sigma is None


@given(plans, st.integers(0, 200))
def test_every_prefix_of_a_journal_folds(plan: Plan, cut: int) -> None:
    whole = events(plan)
    history = fold(whole[: max(1, cut)])
    for event in whole[max(1, cut) :]:
        history.apply(event)
    again = fold(whole)
    assert history.experiments == again.experiments
    assert history.counts == again.counts


def test_a_mean_is_of_the_runs_that_measured() -> None:
    history = fold(events([(Verdict.KEEP, [1.0, None, 3.0])]))
    assert history.experiments[1].value == 2.0
    crashed = fold(events([(Verdict.CRASH, [None])]))
    assert crashed.experiments[1].value is None


def test_tracebacks_leave_memory_when_an_experiment_settles() -> None:
    history = fold(events([(Verdict.CRASH, [None])]))
    assert history.experiments[1].runs[0].traceback == ""


def test_two_studies_in_one_journal_are_refused() -> None:
    made = events([])
    with pytest.raises(JournalError, match="second study"):
        fold([*made, *made])


def test_an_event_of_an_experiment_that_never_began_is_refused() -> None:
    made = events([])
    with pytest.raises(JournalError, match="never began"):
        fold([*made, Committed(seq=2, number=7, commit="c")])


def test_bounds_count_the_study_and_the_clock() -> None:
    history = fold(events([(Verdict.KEEP, [1.0])] * 3))
    assert budget.left(Bounds(max_experiments=5), history, 0.0).experiments == 2
    assert budget.stop_reason(Bounds(max_experiments=3), history, 0.0)
    assert budget.stop_reason(Bounds(max_experiments=4), history, 0.0) is None
    assert budget.stop_reason(Bounds(until=10.0), history, 10.0)
    assert budget.stop_reason(Bounds(until=10.0), history, 9.0) is None
    assert budget.stop_reason(Bounds(), history, 1e12) is None


def test_a_storm_is_seen_and_forgotten_on_resume() -> None:
    crashes: Plan = [(Verdict.CRASH, [None])] * budget.STORM_CRASHES
    history: History = fold(events(crashes))
    assert budget.storm(history, 0)
    history.apply(Paused(reason="storm"))
    assert history.paused
    history.apply(Resumed())
    assert budget.storm(history, 0) is None
    assert budget.storm(history, budget.STORM_LOST)


def test_pauses_grow_and_are_capped() -> None:
    waits = [budget.pause_s(n) for n in range(20)]
    assert waits == sorted(waits)
    assert waits[0] == 30.0
    assert waits[-1] == 1800.0
