"""How long one researcher is borne with: its failures in a row, and what follows from them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from nightlab import reactions
from nightlab.model import Answer, Idea
from nightlab.reactions import Next, Step
from nightlab.researchers import Researcher

_REMEMBERED = 50
_TOLD = 8


class Patience:
    """The failures in a row of one researcher. ``clock`` is monotonic, in seconds.

    ``told`` are the reasons for it, oldest first; ``idea`` is the backlog's idea that was put
    in front of it. ``away``: another researcher goes on; once ``waits`` is over, this one is
    tried again.
    """

    def __init__(
        self, clock: Callable[[], float], draw: Callable[[], float] = random.random
    ) -> None:
        self.told: tuple[str, ...] = ()
        self.idea: int | None = None
        self.away = False
        self._clock = clock
        self._draw = draw
        self._answers: list[Answer] = []
        self._ask_again_at = 0.0
        self._hand_overs = 0

    @property
    def failures(self) -> int:
        return len(self._answers)

    @property
    def waits(self) -> bool:
        """Whether it is too early to ask again."""
        return self._clock() < self._ask_again_at

    def wake(self) -> None:
        """Wait no longer."""
        self._ask_again_at = 0.0

    def failed(
        self,
        answer: Answer,
        detail: str,
        *,
        fallback: bool,
        idea: Idea | None,
        retry_after_s: float | None,
    ) -> Next:
        """Take an answer that was no proposal; ``detail`` "" where the reason is told elsewhere."""
        self._answers = [*self._answers[1 - _REMEMBERED :], answer]
        found = reactions.next_step(
            self._answers,
            draw=self._draw(),
            fallback=fallback,
            idea=idea is not None,
            retry_after_s=retry_after_s,
            hand_overs=self._hand_overs,
        )
        if self.away and fallback:  # a probe that failed, whatever for
            found = Next(Step.HAND_OVER, found.wait_s)
        self.away = found.step is Step.HAND_OVER
        self._hand_overs += self.away
        self._ask_again_at = self._clock() + found.wait_s
        reason = reactions.told(answer, detail) if detail else ""
        self._tell(reason)
        if found.step is Step.IDEA and idea is not None and idea.id != self.idea:
            self.idea = idea.id
            self._tell(f"follow idea {idea.id} of the backlog now: {idea.text}")
        return found

    def _tell(self, reason: str) -> None:
        if reason:
            self.told = (*self.told, reason)[-_TOLD:]

    def succeeded(self) -> bool:
        """Forget the failures. True when another researcher had gone on meanwhile."""
        was_away = self.away
        self.told, self.idea, self.away = (), None, False
        self._answers, self._ask_again_at, self._hand_overs = [], 0.0, 0
        return was_away


@dataclass
class Mind:
    """A researcher, and how long it is borne with."""

    researcher: Researcher
    patience: Patience
