"""The judge's contract: what it may look at, and what it answers."""

from __future__ import annotations

from typing import Protocol

from nightlab.model import Decision, Guard, Objective, Run, Value
from nightlab.stats import Pool


class Noise(Value, frozen=True):
    """The pooled noise of one run, in the objective's units.

    ``sigma`` is None while unknown (no replicate group yet). ``sigma == 0.0`` with
    ``df >= 1`` means that the task is deterministic. ``drift`` is the standard deviation
    between occasions that comes on top of ``sigma`` when runs of one code lie far apart in
    time (``stats.Pool.drift``); None while it was not measured. ``rho`` is the share of the
    variance that common seeds take out of a comparison (``stats.Pool.rho``).
    """

    sigma: float | None = None
    df: int = 0
    drift: float | None = None
    rho: float = 0.0

    @property
    def deterministic(self) -> bool:
        return self.sigma == 0.0 and self.df >= 1


def noise_of(pool: Pool) -> Noise:
    """What a pool of replicates says, as a judge takes it."""
    return Noise(sigma=pool.sigma, df=pool.df, drift=pool.drift, rho=pool.rho)


class Case(Value, frozen=True):
    """All that a judge may look at for one experiment. Runs are oldest first.

    ``number`` is 1 for the baseline, whose ``incumbent`` is empty. ``candidate`` and
    ``incumbent`` hold counting runs only (no stopped, no lost ones). An incumbent's run
    that was interleaved with this candidate has ``occasion == number``. ``nodes`` is by how many
    nodes of the syntax tree the code grew, None where that is not known.
    ``since_refresh`` counts experiments settled since the incumbent last ran. ``covariate`` names
    the metric that tells throughput, "" for a known name (``judge.covariate``). ``checks`` names
    the commands that a keep must pass, ``checked`` are their counting runs on the candidate.
    """

    number: int
    objective: Objective
    candidate: tuple[Run, ...] = ()
    incumbent: tuple[Run, ...] = ()
    baseline: tuple[Run, ...] = ()
    guards: tuple[Guard, ...] = ()
    noise: Noise = Noise()
    lines_added: int = 0
    lines_removed: int = 0
    nodes: int | None = None
    since_refresh: int = 0
    covariate: str = ""
    checks: tuple[str, ...] = ()
    checked: tuple[Run, ...] = ()


class Judge(Protocol):
    """The rule of a study. Pure and deterministic: the same case gives the same decision."""

    name: str

    def decide(self, case: Case) -> Decision:
        """Say what to do next with the experiment; REPEAT asks for runs (never an empty ask)."""
        ...
