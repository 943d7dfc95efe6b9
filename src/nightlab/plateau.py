"""What to ask for when nothing helps any more: a policy as data. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from nightlab.history import History


@dataclass(frozen=True)
class Stage:
    """``after`` so many experiments since the last keep, this is what a researcher is asked for."""

    name: str
    after: int
    asks: str


STAGES = (
    Stage("refine", 0, "Build on what was kept: refine it, or remove what it made superfluous."),
    Stage(
        "change category",
        10,
        "Leave the categories that were tried last: take one with few experiments, or a new one.",
    ),
    Stage(
        "restart",
        20,
        "Start again from a near miss: take one of those listed below, ask why it fell short, and "
        "propose it changed, or two of them together.",
    ),
    Stage(
        "moonshot",
        35,
        "Small steps are exhausted. Take an idea from the literature or from first principles "
        "that changes how the problem is solved, bold but still one testable change.",
    ),
)


@dataclass(frozen=True)
class Plateau:
    """Where a study stands: the stage, and the settled experiments since the last keep."""

    stage: Stage
    since_keep: int

    @property
    def next_after(self) -> int | None:
        """Without a keep, the next stage begins after so many experiments; None in the last."""
        return next((s.after for s in STAGES if s.after > self.since_keep), None)


def stand(history: History) -> Plateau:
    """The stage that the experiments since the last keep call for."""
    since = history.digest.since_keep
    return Plateau([s for s in STAGES if s.after <= since][-1], since)
