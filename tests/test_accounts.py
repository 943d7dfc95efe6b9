"""The books and the backlog: folds of what was asked and thought of."""

from __future__ import annotations

from nightlab.events import Asked, Committed, IdeaAdded, IdeaChanged, Proposed, StudyStarted
from nightlab.history import History, fold
from nightlab.model import Answer, Claim, Idea, IdeaState, Usage
from tests.test_journal import STUDY


def history(*more: object) -> History:
    started = StudyStarted(study=STUDY, base_commit="c0")
    return fold([started, *more])  # type: ignore[list-item]


def asked(answer: Answer, usage: Usage, number: int | None = None, who: str = "claude") -> Asked:
    return Asked(task="propose", researcher=who, answer=answer, usage=usage, number=number)


def test_what_failed_calls_cost_is_booked_too() -> None:
    books = history(
        asked(Answer.PROPOSED, Usage(tokens_in=100, tokens_out=10, usd=0.5, calls=3), 2),
        asked(Answer.REFUSAL, Usage(tokens_in=50, tokens_out=5, usd=0.25, calls=1)),
        asked(Answer.PROPOSED, Usage(tokens_in=10, tokens_out=1, calls=1), 2, who="llm"),
    ).accounts
    assert books.spent.tokens == 176
    assert books.spent.usd == 0.75
    assert books.spent.calls == 5
    assert books.silent_usd == 1
    assert books.by_experiment[2].tokens == 121
    assert books.by_researcher["claude"].tokens == 165
    assert books.answers == {Answer.PROPOSED: 2, Answer.REFUSAL: 1}


def test_money_that_nobody_knows_is_not_zero() -> None:
    books = history(asked(Answer.PROPOSED, Usage(tokens_in=5))).accounts
    assert books.spent.usd is None


def test_ideas_wait_in_order_of_priority_then_of_age_until_one_is_tried_or_vetoed() -> None:
    first = Idea(id=1, text="warm up", priority=1.0)
    urgent = Idea(id=2, text="look for bugs", priority=5.0)
    third = Idea(id=3, text="depth", priority=1.0)
    added = [IdeaAdded(idea=i) for i in (first, urgent, third)]
    study = history(*added)
    assert [i.id for i in study.backlog.open()] == [2, 1, 3]
    assert study.backlog.next_id() == 4
    vetoed = Idea(id=1, text="warm up", state=IdeaState.VETOED)
    claim = Claim(description="mended a clamp", idea=2)
    proposed = Proposed(number=1, parent="c0", tree="t", claim=claim)
    study = history(*added, IdeaChanged(idea=vetoed), proposed, Committed(number=1, commit="c1"))
    assert [i.id for i in study.backlog.open()] == [3]
    assert study.backlog.ideas[2].experiments == (1,)
    assert study.backlog.ideas[2].state is IdeaState.TAKEN


def test_the_books_say_what_each_keep_cost() -> None:
    from nightlab import costs

    study = history(
        asked(Answer.PROPOSED, Usage(tokens_in=90, tokens_out=10, usd=0.5, seconds=3.0), 2),
        asked(Answer.NO_EDIT, Usage(tokens_in=50, usd=0.25, seconds=1.0)),
    )
    found = costs.of_study(study)
    assert (found["tokens"], found["tokens_in"], found["usd"]) == (150, 140, 0.75)
    assert found["thinking_seconds"] == 4.0
    assert found["answers"] == {"no_edit": 1, "proposed": 1}
    assert found["per_keep"] is None
    study.counts.keep, study.incumbent_number = 3, 2  # the baseline and two more
    study.device_seconds = 60.0
    assert costs.of_study(study)["per_keep"] == {
        "tokens": 75,
        "usd": 0.375,
        "thinking_seconds": 2.0,
        "device_seconds": 30.0,
    }


def test_money_is_null_where_tokens_have_no_price_and_zero_where_nothing_was_asked() -> None:
    from nightlab import costs

    assert costs.of_study(history())["usd"] == 0.0
    unpriced = history(asked(Answer.PROPOSED, Usage(tokens_in=5)))
    assert costs.of_study(unpriced)["usd"] is None
    assert costs.of_study(unpriced)["unpriced"] == 1


def test_what_is_left_of_money_tokens_and_device_time() -> None:
    from nightlab.budget import Bounds, left, stop_reason

    study = history(asked(Answer.PROPOSED, Usage(tokens_in=90, tokens_out=10, usd=0.5)))
    study.device_seconds = 1800.0
    rest = left(Bounds(max_usd=2.0, max_tokens=150, max_device_s=7200.0), study, 0.0)
    assert (rest.usd, rest.tokens, rest.device_seconds) == (1.5, 50, 5400.0)
    assert not rest.spent
    for bounds, says in (
        (Bounds(max_usd=0.5), "0.5 USD"),
        (Bounds(max_tokens=100), "100 tokens"),
        (Bounds(max_device_s=1800.0), "0.5 device hours"),
    ):
        assert left(bounds, study, 0.0).spent
        assert says in str(stop_reason(bounds, study, 0.0))
        assert says in bounds.describe()


def test_a_plan_is_due_after_so_many_experiments_and_once_when_a_plateau_begins() -> None:
    from nightlab import planning

    study = history()
    assert planning.due(study, 15) == ""

    def at(count: int, kept: int, planned: int, every: int = 15) -> str:
        study.experiments = dict.fromkeys(range(1, count + 1))  # type: ignore[assignment]
        study.incumbent_number, study.planned_at = kept, planned
        return planning.due(study, every)

    assert at(10, 1, 0) == ""
    assert "10 experiments without a keep" in at(11, 1, 0)
    assert at(12, 1, 11) == ""  # once a plateau
    assert "15 experiments since" in at(26, 20, 11)
    assert at(40, 1, 0, every=0) == ""
    assert "without a keep" in at(35, 25, 30)


def test_a_plan_becomes_a_backlog_without_doubles() -> None:
    from nightlab import planning

    person = Idea(id=1, text="Warm up.", source="person", priority=1.0)
    old = Idea(id=2, text="depth", source="agent", priority=1.0)
    study = history(IdeaAdded(idea=person), IdeaAdded(idea=old))
    ideas = [
        Idea(id=1, text="wider\x1b[2J", priority=float("nan"), after=(1, 99)),
        Idea(id=1, text="warm  UP", priority=9.0),
        Idea(id=1, text="Depth", priority=4.0),
        Idea(id=1, text="wider [2J", priority=2.0),
        Idea(id=1, text="   "),
        *(Idea(id=1, text=f"more {n}") for n in range(50)),
    ]
    found = tuple(
        planning.events(ideas, [1, 2, 2, 77], study.backlog, source="agent", experiments=[1])
    )
    added = [e.idea for e in found if isinstance(e, IdeaAdded)]
    changed = [e.idea for e in found if isinstance(e, IdeaChanged)]
    assert len(added) <= planning.MOST_IDEAS
    assert [i.id for i in added] == list(range(3, 3 + len(added)))
    assert added[0].text == "wider [2J"
    assert (added[0].priority, added[0].after, added[0].source) == (0.0, (1,), "agent")
    assert sum(i.text.startswith("wider") for i in added) == 1
    assert next((i.id, i.priority, i.state) for i in changed if i.state is IdeaState.OPEN) == (
        2,
        4.0,
        IdeaState.OPEN,
    )
    assert [i.id for i in changed if i.state is IdeaState.VETOED] == [2]  # never a person's


def test_cost_reads_as_what_there_was_of_it() -> None:
    from nightlab import costs
    from nightlab.cli import words

    assert words.cost(costs.of_study(history())) == "0.0 s of device time"
    spent = Usage(tokens_in=90, tokens_out=10, tokens_cached=40, usd=0.5, seconds=3.0)
    study = history(asked(Answer.PROPOSED, spent))
    assert words.cost(costs.of_study(study)) == (
        "0.50 USD; 100 tokens (40 cached); 3.0 s of thinking; 0.0 s of device time"
    )
    unpriced = history(asked(Answer.PROPOSED, Usage(tokens_in=5)))
    assert words.cost(costs.of_study(unpriced)).startswith("price not known; 5 tokens")
