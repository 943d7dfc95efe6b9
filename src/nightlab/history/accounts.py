"""What asking researchers has cost, and what came of it. Pure: a fold of Asked events."""

from __future__ import annotations

import msgspec

from nightlab.events import Asked
from nightlab.model import Answer, Usage

_TOLD = 20  # answers that are remembered in full


def total(a: Usage, b: Usage) -> Usage:
    """Both together. Money is known where one of them knows it: the sum is then a lower bound."""
    usd = None if a.usd is None and b.usd is None else (a.usd or 0.0) + (b.usd or 0.0)
    return Usage(
        tokens_in=a.tokens_in + b.tokens_in,
        tokens_out=a.tokens_out + b.tokens_out,
        tokens_cached=a.tokens_cached + b.tokens_cached,
        usd=usd,
        seconds=a.seconds + b.seconds,
        calls=a.calls + b.calls,
        model=b.model or a.model,
    )


class Accounts(msgspec.Struct):
    """The books of a study.

    ``spent`` is all of it, ``by_experiment`` what each experiment's own calls cost (proposing
    and fixing), ``by_researcher`` the same by who was asked; ``answers`` counts what came, and
    ``recent`` holds the last few, newest last. ``silent_usd`` counts calls whose price is unknown.
    """

    spent: Usage = Usage()
    by_experiment: dict[int, Usage] = {}
    by_researcher: dict[str, Usage] = {}
    answers: dict[Answer, int] = {}
    asked: int = 0
    silent_usd: int = 0
    recent: list[Asked] = []

    def take(self, event: Asked) -> None:
        """Book one call."""
        self.asked += 1
        self.spent = total(self.spent, event.usage)
        if event.usage.usd is None and event.usage.tokens:
            self.silent_usd += 1
        who = event.researcher
        self.by_researcher[who] = total(self.by_researcher.get(who, Usage()), event.usage)
        if event.number is not None and event.usage != Usage():
            before = self.by_experiment.get(event.number, Usage())
            self.by_experiment[event.number] = total(before, event.usage)
        self.answers[event.answer] = self.answers.get(event.answer, 0) + 1
        self.recent = [*self.recent[1 - _TOLD :], event]
