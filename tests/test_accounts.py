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
