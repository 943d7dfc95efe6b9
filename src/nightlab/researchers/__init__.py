"""The researcher seam: who proposes.

``propose`` gets a Context (built by ``nightlab.views``) and returns a Proposal; ``learn`` is
told of every settled experiment, in order, also of earlier nights when a study resumes.
A researcher writes no file of the project, runs nothing of it, and never sees the journal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Protocol

from nightlab.errors import ConfigError
from nightlab.model import Experiment, Objective, Proposal


@dataclass(frozen=True)
class Context:
    """What a researcher is given for one proposal.

    ``files`` are the files in scope as they are on the incumbent: path -> text.
    ``recent`` are settled experiments, newest last, bounded in number. ``notes`` are the
    person's nudges, newest last. ``refused`` says why earlier attempts at this very
    proposal were refused, oldest first.
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


@dataclass(frozen=True)
class Settings:
    """The ``[researcher]`` table: ``use``, the seed of its own randomness, values of a sweep."""

    use: str = "optuna"
    seed: int = 0
    values: Mapping[str, tuple[float | bool | str, ...]] = field(default_factory=dict)
    script: str = ""


# name -> where its maker lives: a callable that takes Settings. Loaded on use.
RESEARCHERS: dict[str, str] = {
    "optuna": "nightlab.researchers.optuna:OptunaResearcher",
    "sweep": "nightlab.researchers.sweep:SweepResearcher",
    "scripted": "nightlab.researchers.scripted:from_settings",
}


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
