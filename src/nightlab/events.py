"""The event types of the journal: facts in the past tense, one a line.

An intent (Proposed, RunStarted, Judged) is appended before its act and the outcome
(Committed, RunFinished, Settled) after it, so that an intent without its outcome is what
``recover`` looks for.
"""

from __future__ import annotations

import re

import msgspec

from nightlab.final import Cleaned, Closed, Plan, Result, Turn
from nightlab.model import (
    Answer,
    Better,
    Claim,
    Decision,
    Idea,
    Prior,
    Purpose,
    Run,
    Study,
    Usage,
    Verdict,
)

FORMAT = 1  # of the journal; a higher number is refused, a lower one upgraded here


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag=_snake):
    """One line of the journal. ``seq`` counts from 1 without a gap; ``at`` is Unix seconds."""

    seq: int = 0
    at: float = 0.0


class StudyStarted(Event, frozen=True):
    """The first line: what the study is, and the commit it starts from.

    ``protected`` maps each file that ``[study] protect`` covers to its digest.
    """

    study: Study
    base_commit: str
    format: int = FORMAT
    version: str = ""
    machine: dict[str, str] = {}
    protected: dict[str, str] = {}


class SessionStarted(Event, frozen=True):
    """A lab began to work: who proposes, who judges, in which box, where, with what bounds."""

    pid: int
    host: str
    researcher: str
    judge: str
    sandbox: str
    slots: tuple[str, ...]
    bounds: str = ""
    machine: dict[str, str] = {}


class SessionEnded(Event, frozen=True):
    """The lab stopped, and why: a bound, a request, an interrupt, an error."""

    reason: str
    detail: str = ""


class Proposed(Event, frozen=True):
    """Intent to commit: ``tree`` holds the proposal's files on top of ``parent``.

    ``fingerprint`` is of the change itself (``nightlab.novelty``), whatever it stands on.
    """

    number: int
    parent: str
    tree: str
    claim: Claim
    fingerprint: str = ""


class Committed(Event, frozen=True):
    """``refs/nightlab/<tag>/<number>`` points to ``commit``."""

    number: int
    commit: str


class Rebased(Event, frozen=True):
    """The incumbent had moved: the same change now stands on ``parent``; its runs start anew."""

    number: int
    parent: str
    tree: str
    commit: str


class Amended(Event, frozen=True):
    """The researcher fixed its own crash: the same experiment, another tree, runs anew."""

    number: int
    tree: str
    commit: str
    claim: Claim
    fingerprint: str = ""


class RunStarted(Event, frozen=True):
    """Intent to run. ``marker`` is in the environment of every process of the run.

    ``check`` names the check whose command runs in place of the study's.
    ``turn`` is its place in a finalization, None for an experiment's run.
    """

    run: int
    experiment: int
    occasion: int
    purpose: Purpose
    seed: int
    device: str
    commit: str
    marker: str = ""
    check: str = ""
    turn: Turn | None = None


class RunFinished(Event, frozen=True):
    """A run's end, whatever it was."""

    run: Run


class Judged(Event, frozen=True):
    """A decision that ends an experiment; an intent to settle it."""

    number: int
    decision: Decision


class Settled(Event, frozen=True):
    """The experiment is closed; ``commit`` carries the verdict in its trailers."""

    number: int
    verdict: Verdict
    commit: str


class Refused(Event, frozen=True):
    """A proposal that never became an experiment, and why."""

    description: str
    reason: str
    researcher: str = ""


class Asked(Event, frozen=True):
    """A researcher was asked once: what for (propose, fix, plan), what came, what it cost.

    ``number`` is the experiment that came of it or that it was to fix, None without one.
    """

    task: str
    researcher: str
    answer: Answer
    usage: Usage = Usage()
    number: int | None = None
    detail: str = ""


class IdeaAdded(Event, frozen=True):
    """An idea joined the backlog; ``message`` as in Noted, where a person sent it."""

    idea: Idea
    author: str = ""
    message: str = ""


class IdeaChanged(Event, frozen=True):
    """An idea as it is from now on: another priority, other words, vetoed."""

    idea: Idea
    author: str = ""
    message: str = ""


class Noted(Event, frozen=True):
    """A person's nudge. ``message`` is its file's name in the inbox: it is taken once."""

    text: str
    author: str = ""
    message: str = ""


class Imported(Event, frozen=True):
    """Another loop's ledger became prior knowledge: ideas to try again, never measurements.

    ``digest`` is the SHA-256 of the file: importing it again replaces what it said before.
    ``rows`` and ``counts`` (by its own verdicts) are of the whole ledger, ``ideas`` its pick.
    """

    source: str
    digest: str
    form: str
    metric: str
    better: Better
    rows: int
    counts: dict[str, int] = {}
    ideas: tuple[Prior, ...] = ()


class Paused(Event, frozen=True):
    """The lab waits, and says why. A person's pause has the ``message`` that asked for it."""

    reason: str
    author: str = ""
    message: str = ""


class Resumed(Event, frozen=True):
    """The lab works again: a storm is over, or with a ``message`` a person's pause."""

    author: str = ""
    message: str = ""


class Warned(Event, frozen=True):
    """Something a person should know: infrastructure that failed, a branch that could not move."""

    text: str


class FinalStarted(Event, frozen=True):
    """A finalization began: what it will measure, all of it planned."""

    plan: Plan


class FinalCleaned(Event, frozen=True):
    """The ablation is over: what is dropped, and the tree without it."""

    cleaned: Cleaned


class FinalDecided(Event, frozen=True):
    """What the finalization found; an intent to make its branch and its patches."""

    result: Result


class Finalised(Event, frozen=True):
    """The finalization is over: its commits are made, its branch is where it belongs."""

    closed: Closed


AnyEvent = (
    StudyStarted
    | SessionStarted
    | SessionEnded
    | Proposed
    | Committed
    | Rebased
    | Amended
    | RunStarted
    | RunFinished
    | Judged
    | Settled
    | Refused
    | Asked
    | IdeaAdded
    | IdeaChanged
    | Noted
    | Imported
    | Paused
    | Resumed
    | Warned
    | FinalStarted
    | FinalCleaned
    | FinalDecided
    | Finalised
)
