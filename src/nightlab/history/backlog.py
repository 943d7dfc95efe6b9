"""The backlog of ideas: what to try next, by whom it was thought of, what became of it. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from nightlab.model import Claim, Idea, IdeaState


class Backlog:
    """All ideas of a study by id. Only ``take`` and ``follow`` change it."""

    def __init__(self) -> None:
        self.ideas: dict[int, Idea] = {}

    def __len__(self) -> int:
        return len(self.ideas)

    def next_id(self) -> int:
        return max(self.ideas, default=0) + 1

    def open(self) -> list[Idea]:
        """Ideas that wait, the most urgent first, older before younger."""
        waiting = (i for i in self.ideas.values() if i.state is IdeaState.OPEN)
        return sorted(waiting, key=lambda idea: (-idea.priority, idea.id))

    def __iter__(self) -> Iterator[Idea]:
        return iter(self.ideas.values())

    def take(self, idea: Idea) -> None:
        """Add an idea, or put it in the place of the one with its id."""
        self.ideas[idea.id] = idea

    def follow(self, number: int, claim: Claim) -> None:
        """An experiment was proposed; it may be of an idea that waits."""
        idea = self.ideas.get(claim.idea or 0)
        if idea is not None and number not in idea.experiments:
            self.ideas[idea.id] = msgspec.structs.replace(
                idea, state=IdeaState.TAKEN, experiments=(*idea.experiments, number)
            )
