"""The nouns: frozen values that every layer shares, and that the journal stores.

Nothing here reads a file, a clock, a process or the environment. A number that is not
known is ``None``, never 0. Units are in the names: ``_s`` seconds, ``_bytes`` bytes.
Times (``at``, ``started_at``) are Unix seconds; durations come from a monotonic clock.
"""

from __future__ import annotations

from nightlab.model.asking import (
    Answer,
    Change,
    Claim,
    Idea,
    IdeaState,
    Prior,
    Proposal,
    Usage,
)
from nightlab.model.decision import (
    Action,
    Arm,
    Decision,
    Evidence,
    Experiment,
    Verdict,
    Want,
)
from nightlab.model.run import (
    Curve,
    Early,
    Outcome,
    Purpose,
    Run,
    values_of,
)
from nightlab.model.study import (
    Better,
    Guard,
    Objective,
    Study,
    Value,
)

__all__ = [
    "Action",
    "Answer",
    "Arm",
    "Better",
    "Change",
    "Claim",
    "Curve",
    "Decision",
    "Early",
    "Evidence",
    "Experiment",
    "Guard",
    "Idea",
    "IdeaState",
    "Objective",
    "Outcome",
    "Prior",
    "Proposal",
    "Purpose",
    "Run",
    "Study",
    "Usage",
    "Value",
    "Verdict",
    "Want",
    "values_of",
]
