"""What is fixed for the life of a study, and the base of every stored value."""

from __future__ import annotations

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


class Objective(Value, frozen=True):
    """The metric that counts, and its direction.

    With ``expression`` nightlab computes it from the metrics that it names (``expression.parts``)
    and ignores what is printed under ``metric``.
    """

    metric: str
    better: Better
    expression: str = ""


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
    ``hidden`` paths exist only there. ``checks`` map a name to a command that must end with
    exit code 0 on the code of every keep; ``pareto`` declares metrics whose front is shown.
    """

    tag: str
    command: str
    edit: tuple[str, ...]
    budget_s: float
    objective: Objective
    kill_factor: float = 2.0
    guards: tuple[Guard, ...] = ()
    checks: dict[str, str] = {}
    pareto: tuple[Objective, ...] = ()
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
