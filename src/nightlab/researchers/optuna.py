"""The embedded researcher: tunes the constants it finds, with no key and no network.

With a dozen constants and thirty experiments there is no time to sample the whole space, so:

1. **cover**: every constant is moved by a decent step, two at a time, once one way and once
   the other, around the incumbent; whoever helps shows early;
2. **follow**: after a keep the same move is made once more, further;
3. **guide**: then TPE (Optuna's multivariate sampler) proposes a point from everything seen,
   and the incumbent takes over a few of its constants; in every other proposal cover goes on.

Everything is computed anew for each proposal from the observations, in a bounded window and
in the constants' own scales, so a resumed study, a moved incumbent, and constants that
appeared or vanished are all the same case. See ``bench/researcher.py`` for what it wins.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
)

from nightlab.errors import Exhausted
from nightlab.model import Better, Change, Experiment, Proposal, Verdict
from nightlab.researchers import Context, Settings
from nightlab.researchers.constants import Constant, apply, spoken, survey
from nightlab.researchers.memory import Assignment, Memory
from nightlab.researchers.spaces import Scale, Space

_STEP = 0.2  # of a space's width: a factor of 2.5 for a learning rate of a hundredfold range
_MOVED = 2  # constants that a covering proposal moves
_GUIDED = (2, 6)  # how many constants a guided proposal takes over: from 2 to 5
_TRIES = 32

_Random = np.random.Generator


@dataclass(frozen=True)
class _Situation:
    """What one proposal starts from: the incumbent's values and where each may go."""

    values: Assignment
    spaces: Mapping[str, Space]
    random: _Random
    better: Better


@dataclass(frozen=True)
class _Idea:
    values: Assignment
    hypothesis: str


class OptunaResearcher:
    """Proposes new values for constants in the files in scope.

    ``propose`` raises Exhausted where there is no constant or every point has been tried, and
    ConfigError for a ``# nightlab:`` comment that cannot be understood. Proposals depend on
    the settings' seed, the context, and what was learned; on nothing else.
    """

    name = "optuna"

    def __init__(self, settings: Settings) -> None:
        self._seed = settings.seed
        self._memory = Memory()
        self._follow: Experiment | None = None
        optuna.logging.set_verbosity(optuna.logging.ERROR)

    def learn(self, experiment: Experiment) -> None:
        self._memory.learn(experiment)
        if experiment.claim.changes and experiment.verdict is Verdict.KEEP:
            self._follow = experiment

    def propose(self, context: Context) -> Proposal:
        constants = _constants(context)
        values: Assignment = {c.name: c.value for c in constants}
        self._memory.anchor(context.incumbent, values, context.objective.better)
        now = _Situation(
            values=values,
            spaces={c.name: self._roomy(c) for c in constants},
            random=np.random.default_rng(
                [self._seed, context.number, len(context.refused), len(self._memory.pending)]
            ),
            better=context.objective.better,
        )
        for idea in self._ideas(now):
            if idea.values != values and self._memory.is_new(idea.values):
                self._memory.proposed(idea.values)
                return self._proposal(context, values, idea)
        raise Exhausted(
            f"every value of the {len(constants)} constants worth trying has been tried",
            f"they are {', '.join(values)}",
            "nightlab report",
        )
