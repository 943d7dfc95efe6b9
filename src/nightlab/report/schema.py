"""What a debrief says, as values. JSON-serialisable; text and plots are made from nothing else.

An *effect* or *gain* is in the objective's unit and turned so that positive is better. A
number that is not known is null, never 0. ``low`` and ``high`` bound a number at ``level``.
"""

from __future__ import annotations

from typing import Any

import msgspec

LEVEL = 0.9  # of every interval here


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """Base: immutable, every field always present in its JSON."""


class Ending(Fact, frozen=True):
    """``state`` is running, finished or stopped; ``reason`` as SessionEnded has it.

    ``reason`` is null while the study runs, or when the lab ended without a word.
    """

    state: str
    reason: str | None
    detail: str
    paused: str | None


class Totals(Fact, frozen=True):
    """How much was done. ``wall_s`` is from the first event to the last (or to now).

    ``tokens`` (in and out) and ``usd`` are what asking researchers cost. The price of ``unpriced``
    of their calls is not known; ``usd`` None: of none. They were ``asked`` so many times;
    ``answers`` counts by kind what came that was no change and no plan.
    """

    experiments: int
    keep: int
    discard: int
    inconclusive: int
    crash: int
    open: int
    refused: int
    runs: int
    lost_runs: int
    device_s: float
    wall_s: float
    sessions: int
    tokens: int = 0
    usd: float | None = None
    unpriced: int = 0
    asked: int = 0
    answers: dict[str, int] = {}


class EarlyStops(Fact, frozen=True):
    """Runs that were stopped as hopeless, and the audit: such runs that went on all the same.

    ``wrong`` of the ``audited`` ones became keeps.
    """

    stopped: int
    saved_s: float
    audited: int
    wrong: int


class Noise(Fact, frozen=True):
    """Of one run, pooled over all code that ran more than once; ``sigma`` null while unknown."""

    sigma: float | None
    df: int
    deterministic: bool


class Estimate(Fact, frozen=True):
    """One experiment's objective: the mean of the ``n`` runs that did not select it.

    ``screened`` is true where only the selecting run exists, so that the mean flatters.
    """

    experiment: int
    commit: str
    description: str
    mean: float | None
    sd: float | None
    n: int
    seeds: tuple[int, ...]
    screened: bool


class Gain(Fact, frozen=True):
    """Baseline to incumbent. Provisional: the runs that confirmed a keep also allowed it.

    ``fresh`` is false where a side has only runs that selected it. ``relative`` is the gain
    over the baseline's absolute value.
    """

    effect: float
    low: float | None
    high: float | None
    level: float
    relative: float | None
    fresh: bool


class Naive(Fact, frozen=True):
    """The luckiest single run against the baseline's first: what a plain loop would claim."""

    experiment: int
    run: int
    value: float
    gain: float


class Discovery(Fact, frozen=True):
    """A kept change against the incumbent that it replaced; ``share`` of the whole gain."""

    experiment: int
    replaced: int
    commit: str
    description: str
    category: str
    rule: str
    effect: float | None
    low: float | None
    high: float | None
    level: float
    runs: int
    share: float | None
    lines_added: int
    lines_removed: int


class Tally(Fact, frozen=True):
    """Experiments under one heading. ``alone`` counts those that changed nothing else.

    ``median`` is that of the effects the judge measured, ``largest`` the greatest of them.
    """

    name: str
    tried: int
    keep: int
    discard: int
    inconclusive: int
    crash: int
    alone: int
    median: float | None
    largest: float | None


class Attempt(Fact, frozen=True):
    """An experiment worth naming, with the judge's own numbers and sentence."""

    experiment: int
    verdict: str
    description: str
    effect: float | None
    low: float | None
    high: float | None
    runs: int
    reason: str


class Crashes(Fact, frozen=True):
    """Experiments that failed in the same way; ``experiments`` names the first few."""

    outcome: str
    cause: str
    count: int
    experiments: tuple[int, ...]


class GuardFacts(Fact, frozen=True):
    """A guard, or a check (its name and command), and the experiments it forbade to keep."""

    metric: str
    text: str
    vetoed: int
    experiments: tuple[int, ...]


class TradeOff(Fact, frozen=True):
    """Another metric, baseline to incumbent; ``clear`` when noise explains it with < 10 %."""

    metric: str
    baseline: float
    incumbent: float
    relative: float | None
    clear: bool | None
    sigma: float | None


class Drift(Fact, frozen=True):
    """How re-runs of the same code moved with time: positive is better. ``t`` on ``df``."""

    per_hour: float
    total: float
    t: float
    df: int
    significant: bool


class Step(Fact, frozen=True):
    """One recommendation: ``why`` from the facts, ``do``, and a command where there is one."""

    kind: str
    do: str
    why: str
    command: str | None = None


class Row(Fact, frozen=True):
    """One experiment in the appendix."""

    experiment: int
    verdict: str
    value: float | None
    runs: int
    effect: float | None
    description: str
    reason: str


class Part(Fact, frozen=True):
    """A metric that a composite objective is made of."""

    metric: str
    baseline: float | None
    incumbent: float | None


class FrontPoint(Fact, frozen=True):
    """An experiment on the Pareto front; ``dominated_within_noise_by`` may be as good in all."""

    experiment: int
    commit: str
    verdict: str
    description: str
    values: dict[str, float]
    runs: int
    dominated_within_noise_by: int | None


class Certificate(Fact, frozen=True):
    """A keep and the e-value of its fresh pairs, null without one."""

    experiment: int
    e_value: float | None
    certified: bool


class Certificates(Fact, frozen=True):
    """The keeps that are claims at false discovery rate ``level``, of ``tested`` experiments."""

    level: float
    tested: int
    certified: tuple[int, ...]
    keeps: tuple[Certificate, ...]


class Declared(Fact, frozen=True):
    """What was declared beside a plain objective; ``expression`` is "" without a composite.

    ``pareto`` is empty unless ``[pareto]`` declares metrics.
    """

    expression: str
    parts: tuple[Part, ...]
    checks: tuple[GuardFacts, ...]
    pareto: tuple[FrontPoint, ...]


class Setting(Fact, frozen=True):
    """What somebody needs to do it again."""

    command: str
    prefix: str
    edit: tuple[str, ...]
    budget_s: float
    kill_factor: float
    seed_env: str
    guards: tuple[str, ...]
    base_commit: str
    branch: str
    researcher: str | None
    judge: str | None
    sandbox: str | None
    slots: tuple[str, ...]
    version: str
    machine: dict[str, str]


class Span(Fact, frozen=True):
    """The part of a study that a debrief is of: what came after Unix second ``at``.

    ``words`` say the moment. ``whole`` where the baseline itself was measured in it: ``start``
    of the facts is the baseline then, and else the incumbent of that moment.
    """

    at: float
    words: str
    whole: bool


class Stretch(Fact, frozen=True):
    """A phase of program.md as it went: from experiment ``first`` to ``last``, in order of number.

    ``last`` is null while it goes on; ``first`` is the next experiment where none was settled yet.
    """

    name: str
    first: int
    last: int | None


class Facts(Fact, frozen=True):
    """The whole debrief, or that of a part: ``since`` is null for all of a study.

    Of a part are the totals, what was kept and what was not, and the gain, counted from
    ``start``. Noise, drift, certificates, the Pareto front and the next steps are the study's.
    """

    tag: str
    metric: str
    better: str
    declared: Declared
    certificates: Certificates
    started_at: float
    ending: Ending
    totals: Totals
    early: EarlyStops
    noise: Noise
    baseline: Estimate | None
    incumbent: Estimate | None
    gain: Gain | None
    naive: Naive | None
    discoveries: tuple[Discovery, ...]
    top_share: float | None
    chance_keeps: float | None
    categories: tuple[Tally, ...]
    moves: tuple[Tally, ...]
    losses: tuple[Attempt, ...]
    near_misses: tuple[Attempt, ...]
    crashes: tuple[Crashes, ...]
    guards: tuple[GuardFacts, ...]
    trade_offs: tuple[TradeOff, ...]
    drift: Drift | None
    steps: tuple[Step, ...]
    rows: tuple[Row, ...]
    rows_left_out: int
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    setting: Setting
    finalized: str | None = None  # the verdict of a finalization of this incumbent
    since: Span | None = None
    start: Estimate | None = None  # what the gain is counted from
    phases: tuple[Stretch, ...] = ()

    def json(self) -> dict[str, Any]:
        """Plain values, for ``json.dumps``."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain
