"""Finalization: baseline against final on fresh seeds, and what each kept change is worth. Pure.

``make_plan`` decides once what will be measured; ``step`` says, from the plan and the runs so
far, what comes next, down to the result. Who runs and who writes is ``nightlab.finalize``.
"""

from __future__ import annotations

from nightlab.final.decide import Clean, Decide, Measure, expected, step
from nightlab.final.plan import TooLittleError, make_plan, pairs_for
from nightlab.final.state import Finalization
from nightlab.final.values import (
    BASELINE,
    CLEANED,
    FINAL,
    NOT_TESTED,
    TEST,
    Cleaned,
    Closed,
    Contest,
    Effect,
    Kept,
    Last,
    Plan,
    Result,
    Side,
    Stage,
    Status,
    Turn,
    Word,
    without,
)

__all__ = [
    "BASELINE",
    "CLEANED",
    "FINAL",
    "NOT_TESTED",
    "TEST",
    "Clean",
    "Cleaned",
    "Closed",
    "Contest",
    "Decide",
    "Effect",
    "Finalization",
    "Kept",
    "Last",
    "Measure",
    "Plan",
    "Result",
    "Side",
    "Stage",
    "Status",
    "TooLittleError",
    "Turn",
    "Word",
    "expected",
    "make_plan",
    "pairs_for",
    "step",
    "without",
]
