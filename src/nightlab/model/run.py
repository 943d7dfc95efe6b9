"""One execution of a command, and what it left."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from nightlab.model.study import Value


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


class Purpose(StrEnum):
    """Why a run was made."""

    BASELINE = "baseline"  # calibration of the untouched code
    SCREEN = "screen"  # the first look at a candidate
    CONFIRM = "confirm"  # a further look at a candidate
    INCUMBENT = "incumbent"  # the incumbent again: interleaved with a candidate, or a refresh
    CHECK = "check"  # a command of [checks] on a candidate's code: no measurement
    FINAL = "final"  # of a finalization: no experiment's evidence


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
    ``cpu_s`` and ``peak_memory_bytes`` are of the whole process tree, ``peak_gpu_bytes`` what
    it held on its GPUs, sampled once a second.
    ``detail`` is one line that says why the outcome is what it is ("" for ok); ``notes``
    say what was odd about the printed metrics, ``flags`` what it did that it must not do.
    ``evaluate_s`` is the time of the sealed evaluation, which ``duration_s`` does not hold.
    ``check`` names the check whose command ran, for the purpose of that name.
    ``curve`` is what was printed on the way; of settled experiments only the incumbent
    and the last few hold it in memory.
    """

    id: int
    experiment: int
    occasion: int
    purpose: Purpose
    commit: str
    seed: int
    device: str
    outcome: Outcome
    metrics: dict[str, float] = msgspec.field(default_factory=dict)
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
    check: str = ""
    curve: Curve | None = None
    early: Early | None = None
    peak_gpu_bytes: int | None = None


def values_of(runs: Iterable[Run], metric: str) -> list[float]:
    """The metric in the runs that ended ok and measured it, in their order.

    Nothing stands for a missing one.
    """
    return [r.metrics[metric] for r in runs if r.outcome is Outcome.OK and metric in r.metrics]
