"""One attempted change, and what became of it."""

from __future__ import annotations

from enum import StrEnum

from nightlab.model.asking import Claim
from nightlab.model.run import Run
from nightlab.model.study import Value


class Verdict(StrEnum):
    """What became of an experiment."""

    KEEP = "keep"
    DISCARD = "discard"
    INCONCLUSIVE = "inconclusive"
    CRASH = "crash"


class Arm(StrEnum):
    """Whose code a run executes in a comparison."""

    CANDIDATE = "candidate"
    INCUMBENT = "incumbent"


class Want(Value, frozen=True):
    """A run the judge asks for: whose code, on which seed; with ``check`` that check's command."""

    arm: Arm
    seed: int
    check: str = ""


class Evidence(Value, frozen=True):
    """The numbers behind a decision, in the objective's own units.

    ``effect`` is the candidate minus the incumbent, turned so that positive is better;
    ``low`` and ``high`` bound it at ``level`` (0.9 means 90 %). ``sigma`` and ``df`` are
    the pooled noise of one run used here; None where noise is unknown.
    """

    effect: float | None = None
    low: float | None = None
    high: float | None = None
    level: float = 0.9
    z: float | None = None
    threshold: float | None = None
    sigma: float | None = None
    df: int = 0
    n_candidate: int = 0
    n_incumbent: int = 0
    e_value: float | None = None


class Action(StrEnum):
    """What a judge may answer."""

    KEEP = "keep"
    DISCARD = "discard"
    INCONCLUSIVE = "inconclusive"
    CRASH = "crash"
    REPEAT = "repeat"


class Decision(Value, frozen=True):
    """A judge's answer: what to do, by which rule, on what evidence, in one sentence.

    ``wants`` is not empty exactly when ``action`` is REPEAT.
    """

    action: Action
    rule: str
    reason: str
    evidence: Evidence = Evidence()
    wants: tuple[Want, ...] = ()


class Experiment(Value, frozen=True):
    """One attempted change, as far as it has come.

    ``number`` counts from 1; experiment 1 is the untouched baseline. ``commit`` is the one
    that ``refs/nightlab/<tag>/<number>`` points to. ``verdict`` is None while it is open.
    ``value`` is the mean of the objective over its counting runs, None without any.
    ``checks`` are runs of ``[checks]`` commands on its code, which measure nothing.
    """

    number: int
    parent: str
    commit: str
    claim: Claim
    runs: tuple[Run, ...] = ()
    checks: tuple[Run, ...] = ()
    decision: Decision | None = None
    verdict: Verdict | None = None
    value: float | None = None
    started_at: float = 0.0
    settled_at: float | None = None
