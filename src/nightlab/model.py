"""The nouns: frozen values that every layer shares, and that the journal stores.

Nothing here reads a file, a clock, a process or the environment. A number that is not
known is ``None``, never 0. Units are in the names: ``_s`` seconds, ``_bytes`` bytes.
Times (``at``, ``started_at``) are Unix seconds; durations come from a monotonic clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Literal

import msgspec


class Value(msgspec.Struct, frozen=True, forbid_unknown_fields=False, omit_defaults=True):
    """Base of every stored value: immutable, and tolerant of fields a later version adds."""


class Better(StrEnum):
    """Which way the objective improves."""

    LOWER = "lower"
    HIGHER = "higher"

    @property
    def sign(self) -> float:
        """+1 where higher is better, -1 where lower is: ``sign * value`` always wants up."""
        return 1.0 if self is Better.HIGHER else -1.0


class Outcome(StrEnum):
    """How one run ended."""

    OK = "ok"
    CRASHED = "crashed"
    OOM = "oom"
    TIMED_OUT = "timed_out"
    DIVERGED = "diverged"
    NO_METRIC = "no_metric"
    STOPPED = "stopped"
    HOPELESS = "hopeless"  # ended early by nightlab: it could not end as a keep
    LOST = "lost"

    @property
    def counts(self) -> bool:
        """False for runs that say nothing about the candidate (stopped by us, or lost)."""
        return self not in (Outcome.STOPPED, Outcome.LOST)


class Verdict(StrEnum):
    """What became of an experiment."""

    KEEP = "keep"
    DISCARD = "discard"
    INCONCLUSIVE = "inconclusive"
    CRASH = "crash"


class Purpose(StrEnum):
    """Why a run was made."""

    BASELINE = "baseline"  # calibration of the untouched code
    SCREEN = "screen"  # the first look at a candidate
    CONFIRM = "confirm"  # a further look at a candidate
    INCUMBENT = "incumbent"  # the incumbent again: interleaved with a candidate, or a refresh


class Arm(StrEnum):
    """Whose code a run executes in a comparison."""

    CANDIDATE = "candidate"
    INCUMBENT = "incumbent"


class Objective(Value, frozen=True):
    """The metric that counts, and its direction."""

    metric: str
    better: Better


class Guard(Value, frozen=True):
    """A limit on another metric that vetoes a keep.

    ``metric relation limit`` or, with ``of_baseline``, ``metric relation baseline * limit``.
    ``text`` is the person's own wording, for messages.
    """

    metric: str
    relation: Literal["<=", ">=", "<", ">"]
    limit: float
    of_baseline: bool
    text: str


class Study(Value, frozen=True):
    """What is fixed for the life of a study; a change of any of it makes another study.

    ``edit`` and ``data`` are paths relative to ``prefix``, which is the project's folder
    inside its git repository ("" at the top). ``command`` is run by ``/bin/sh -c`` in the
    project's folder of a fresh copy. ``data`` is untracked and linked into every copy;
    ``protect`` is untracked and must not change. With ``evaluate`` the study is *sealed*: that
    command, run in a second box on the artifact that training left, prints the metrics;
    ``hidden`` paths exist only there.
    """

    tag: str
    command: str
    edit: tuple[str, ...]
    budget_s: float
    objective: Objective
    kill_factor: float = 2.0
    guards: tuple[Guard, ...] = ()
    data: tuple[str, ...] = ()
    protect: tuple[str, ...] = ()
    evaluate: str = ""
    hidden: tuple[str, ...] = ()
    seed_env: str = "NIGHTLAB_SEED"
    prefix: str = ""

    @property
    def branch(self) -> str:
        return f"autoresearch/{self.tag}"

    def in_repo(self, path: str) -> str:
        """A path of the project as the repository has it; of "" the project's own prefix."""
        return f"{self.prefix}/{path}" if self.prefix else path

    @property
    def deadline_s(self) -> float:
        """Wall-clock seconds after which a run is killed."""
        return self.budget_s * self.kill_factor


class Answer(StrEnum):
    """What came of asking a researcher once. Told apart, counted, and never the night's end."""

    PROPOSED = "proposed"  # a proposal that became an experiment, or fixed one
    PLANNED = "planned"  # a planning call that gave ideas
    NO_EDIT = "no_edit"  # it ended without changing anything
    QUESTION = "question"  # it asked the person instead
    REFUSAL = "refusal"  # it would not
    OUT_OF_SCOPE = "out_of_scope"  # it changed what is not its to change, and nothing else
    BROKEN_SYNTAX = "broken_syntax"  # what it wrote does not parse
    DUPLICATE = "duplicate"  # an earlier experiment tried just that
    UNUSABLE = "unusable"  # an answer in no form that could be read
    LOOPED = "looped"  # it used up its turns or its budget
    HUNG = "hung"  # it used up its time
    DIED = "died"  # its program crashed or was killed
    DENIED = "denied"  # it had no permission to do its work
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    UNREACHABLE = "unreachable"
    NO_CREDIT = "no_credit"
    NO_AUTH = "no_auth"
    FAILED = "failed"  # anything else

    @property
    def passes(self) -> bool:
        """Whether waiting cures it: then nobody is to blame and it is no attempt."""
        return self in (Answer.RATE_LIMITED, Answer.OVERLOADED, Answer.UNREACHABLE)

    @property
    def locked_out(self) -> bool:
        """Whether only the person can cure it: another researcher goes on meanwhile."""
        return self in (Answer.NO_CREDIT, Answer.NO_AUTH)


class Usage(Value, frozen=True):
    """What asking a researcher cost. ``tokens_in`` holds ``tokens_cached``; ``usd`` None: unknown.

    ``seconds`` is wall-clock time of thinking; ``calls`` counts requests to a model.
    """

    tokens_in: int = 0
    tokens_out: int = 0
    tokens_cached: int = 0
    usd: float | None = None
    seconds: float = 0.0
    calls: int = 0
    model: str = ""

    @property
    def tokens(self) -> int:
        return self.tokens_in + self.tokens_out


class IdeaState(StrEnum):
    """What became of an idea in the backlog."""

    OPEN = "open"
    TAKEN = "taken"  # an experiment of it exists
    VETOED = "vetoed"  # a person, or a later plan, does not want it


class Idea(Value, frozen=True):
    """A line of the backlog: a hypothesis that nobody has tried yet, or since.

    ``id`` counts from 1. ``priority`` is higher for sooner; ``expects`` and ``cost`` are the
    proposer's own words. ``source`` is "person", or the researcher that planned it.
    ``after`` names experiments that it combines or tests again.
    """

    id: int
    text: str
    category: str = ""
    priority: float = 0.0
    expects: str = ""
    cost: str = ""
    source: str = ""
    after: tuple[int, ...] = ()
    state: IdeaState = IdeaState.OPEN
    experiments: tuple[int, ...] = ()


class Change(Value, frozen=True):
    """One constant's move, as the embedded researcher makes it: ``LR 0.1 → 0.032``."""

    name: str
    old: float | bool | str | None
    new: float | bool | str | None


class Proposal(Value, frozen=True):
    """A claim before any measurement: a hypothesis and the files as they would be.

    ``files`` maps a path in scope (relative to the project) to its whole new text, or to
    None where the file is removed. It is not stored in the journal: git holds it.
    ``expects`` is what the researcher believes the effect will be, ``idea`` the id of the
    backlog's idea that it follows, ``told`` what it did that it may not, which was undone;
    ``scratchpad`` replaces the researcher's memory where it is not None.
    """

    description: str
    files: dict[str, str | None]
    hypothesis: str = ""
    category: str = ""
    researcher: str = ""
    changes: tuple[Change, ...] = ()
    expects: str = ""
    idea: int | None = None
    usage: Usage = Usage()
    told: tuple[str, ...] = ()
    scratchpad: str | None = None


class Claim(Value, frozen=True):
    """What the journal keeps of a proposal; the text itself is in the commit."""

    description: str
    hypothesis: str = ""
    category: str = ""
    researcher: str = ""
    changes: tuple[Change, ...] = ()
    lines_added: int = 0
    lines_removed: int = 0
    expects: str = ""
    idea: int | None = None


class Curve(Value, frozen=True):
    """What a run printed of one metric on its way: (seconds since its start, value), in order."""

    name: str
    points: tuple[tuple[float, float], ...]


class Early(Value, frozen=True):
    """A run that looked hopeless: when, and its chance of ending better than the incumbent.

    ``audited``: it was let run on all the same, to measure how often that judgement is wrong.
    """

    at_s: float
    chance: float
    audited: bool


class Run(Value, frozen=True):
    """One execution of the command.

    ``experiment`` is the experiment whose code ran; ``occasion`` the one for whose sake
    (an incumbent's run interleaved with candidate 17 has ``occasion`` 17).
    ``metrics`` holds what was read, finite numbers only; a missing metric is absent.
    ``cpu_s`` and ``peak_memory_bytes`` are of the whole process tree.
    ``detail`` is one line that says why the outcome is what it is ("" for ok); ``notes``
    say what was odd about the printed metrics, ``flags`` what it did that it must not do.
    ``evaluate_s`` is the time of the sealed evaluation, which ``duration_s`` does not hold.
    ``curve`` is what was printed on the way; settled experiments other than the incumbent
    hold none in memory.
    """

    id: int
    experiment: int
    occasion: int
    purpose: Purpose
    commit: str
    seed: int
    device: str
    outcome: Outcome
    metrics: dict[str, float] = {}
    started_at: float = 0.0
    duration_s: float = 0.0
    cpu_s: float | None = None
    peak_memory_bytes: int | None = None
    exit_code: int | None = None
    detail: str = ""
    traceback: str = ""
    notes: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    evaluate_s: float | None = None
    curve: Curve | None = None
    early: Early | None = None


def values_of(runs: Iterable[Run], metric: str) -> list[float]:
    """The metric in the runs that ended ok and measured it, in their order.

    Nothing stands for a missing one.
    """
    return [r.metrics[metric] for r in runs if r.outcome is Outcome.OK and metric in r.metrics]


class Want(Value, frozen=True):
    """A run the judge asks for: whose code, on which seed."""

    arm: Arm
    seed: int


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
    """

    number: int
    parent: str
    commit: str
    claim: Claim
    runs: tuple[Run, ...] = ()
    decision: Decision | None = None
    verdict: Verdict | None = None
    value: float | None = None
    started_at: float = 0.0
    settled_at: float | None = None
