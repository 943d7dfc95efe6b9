"""The researcher seam: who proposes.

``propose`` gets a Context (built by ``nightlab.views``) and returns a Proposal; ``learn`` is
told of every settled experiment, in order, also of earlier nights when a study resumes.
A researcher writes no file of the project, runs nothing of it, and never sees the journal.
One that works with files (a coding agent) does so at its desk, on a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Protocol, runtime_checkable

from nightlab.errors import ConfigError
from nightlab.model import Experiment, Idea, Objective, Outcome, Proposal, Usage
from nightlab.sandboxes import Sandbox


class Task(StrEnum):
    """What a researcher is asked for."""

    PROPOSE = "propose"
    FIX = "fix"
    PLAN = "plan"


@dataclass(frozen=True)
class Failure:
    """How the experiment that is to be fixed failed. ``log_tail`` is a stranger's text: data.

    ``attempt`` counts from 1 to ``most``.
    """

    number: int
    description: str
    outcome: Outcome
    detail: str
    traceback: str = ""
    log_tail: tuple[str, ...] = ()
    peak_memory_bytes: int | None = None
    attempt: int = 1
    most: int = 1


@dataclass(frozen=True)
class Desk:
    """Where a researcher that works with files may do so.

    ``folder`` is the study's own, kept between calls (an agent's home lies there);
    ``checkout(path)`` fills an empty folder with the project as it is on the incumbent (for a
    fix: as the failed experiment left it), without ``.git``. Callable from the researcher's
    thread. ``sandbox`` confines a program that works there.
    """

    folder: Path
    checkout: Callable[[Path], None]
    sandbox: Sandbox


@dataclass(frozen=True)
class Context:
    """What a researcher is given for one proposal.

    ``files`` are the files in scope as they are on the incumbent (for a fix: as the failed
    experiment left them): path -> text. ``recent`` are settled experiments, newest last,
    bounded in number. ``notes`` are the person's nudges, newest last. ``refused`` says why
    earlier attempts at this very proposal were refused, oldest first. ``brief`` is the whole of
    it in words for a language model, rendered within ``tokens`` tokens (``nightlab.brief``);
    researchers that read no words ignore it. ``scratchpad`` is the researcher's own memory.
    ``usd_left`` and ``tokens_left`` bound what this one call may cost; None: no such bound.
    """

    tag: str
    number: int
    objective: Objective
    files: Mapping[str, str]
    incumbent: Experiment | None = None
    recent: tuple[Experiment, ...] = ()
    notes: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    program: str = ""
    sigma: float | None = None
    task: Task = Task.PROPOSE
    edit: tuple[str, ...] = ()
    failure: Failure | None = None
    brief: str = ""
    scratchpad: str = ""
    web: bool = False
    desk: Desk | None = None
    usd_left: float | None = None
    tokens_left: int | None = None


class Researcher(Protocol):
    """Who proposes one bounded change at a time."""

    name: str

    def propose(self, context: Context) -> Proposal:
        """Return one proposal against ``context.files``.

        Raises Exhausted when nothing is left to propose, ResearcherError when this
        attempt gave none (the loop tries again with back-off).
        """
        ...

    def learn(self, experiment: Experiment) -> None:
        """Be told of a settled experiment. Never raises for any outcome."""
        ...


@runtime_checkable
class Thoughtful(Protocol):
    """What a researcher that reads words can do besides; all of it is optional to a Researcher.

    ``propose`` then also understands ``Task.FIX`` (a new proposal in place of the failed one)
    and uses ``context.brief``.
    """

    def plan(self, context: Context) -> Plan:
        """Read wider and say what to try next. Raises ResearcherError when no plan came."""
        ...


@runtime_checkable
class Closing(Protocol):
    """A researcher that has something to stop: a program, a connection."""

    def close(self) -> None:
        """Stop what is thought of now, at once: nothing that it started is alive afterwards.

        Called from another thread than ``propose``, which then raises ResearcherError. Once.
        """
        ...


@runtime_checkable
class Waiting(Protocol):
    """A researcher that somebody else speaks through: it is asked to propose when ready only."""

    @property
    def ready(self) -> bool:
        """Whether ``propose`` would answer at once. Called often, from the loop's thread."""
        ...


def is_ready(researcher: Researcher) -> bool:
    """Whether a researcher can be asked now; all but a Waiting one always can."""
    return not isinstance(researcher, Waiting) or researcher.ready


@dataclass(frozen=True)
class Plan:
    """A backlog as a researcher would have it: ideas best first (their ids do not count).

    ``vetoed`` are ids of ideas in the backlog that are not worth trying any more;
    ``scratchpad`` replaces the researcher's memory where it is not None.
    """

    ideas: tuple[Idea, ...]
    vetoed: tuple[int, ...] = ()
    scratchpad: str | None = None
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True)
class Settings:
    """The ``[researcher]`` table: who, with which seed, sweep values, model, bounds of one call."""

    use: str = "optuna"
    seed: int = 0
    values: Mapping[str, tuple[float | bool | str, ...]] = field(default_factory=dict)
    script: str = ""
    model: str = ""
    endpoint: str = ""
    key_env: str = ""
    command: str = ""
    timeout_s: float = 900.0
    max_turns: int = 40
    resume: bool = False
    env: tuple[str, ...] = ()
    agent: str = ""
    price: Mapping[str, float] = field(default_factory=dict)


# name -> where its maker lives: a callable that takes Settings. Loaded on use.
RESEARCHERS: dict[str, str] = {
    "optuna": "nightlab.researchers.optuna:OptunaResearcher",
    "sweep": "nightlab.researchers.sweep:SweepResearcher",
    "scripted": "nightlab.researchers.scripted:from_settings",
    "llm": "nightlab.researchers.llm:LlmResearcher",
    "hybrid": "nightlab.researchers.hybrid:HybridResearcher",
    **dict.fromkeys(
        ("claude", "codex", "gemini", "opencode", "aider", "mini", "pi", "command"),
        "nightlab.researchers.agents:from_settings",
    ),
}


EMBEDDED = ("optuna", "sweep", "scripted")  # they need no model and no fallback


def open_researcher(settings: Settings) -> Researcher:
    """Make the named researcher. Raises ConfigError for an unknown name."""
    where = RESEARCHERS.get(settings.use)
    if where is None:
        raise ConfigError(
            f"no researcher is called {settings.use!r}",
            f"nightlab knows {', '.join(RESEARCHERS)}",
            'set [researcher] use = "optuna" in nightlab.toml',
        )
    module, _, attribute = where.partition(":")
    maker: Callable[[Settings], Researcher] = getattr(import_module(module), attribute)
    return maker(settings)
