"""The judge: runs in, a decision out. Pure; the engine does what it says.

The engine asks ``decide`` again and again: with no candidate runs yet, after each batch of
runs it asked for, until the answer is terminal. So the first look, the confirmations, the
interleaved re-runs of the incumbent and the calibration of the baseline all go one way.
"""

from __future__ import annotations

from math import inf

from nightlab.errors import ConfigError
from nightlab.judge.case import Case, Judge, Noise, noise_of
from nightlab.judge.evidence import estimate, fair
from nightlab.judge.greedy import GreedyJudge
from nightlab.judge.guards import parse_guard, veto
from nightlab.judge.margin import PricedJudge
from nightlab.judge.sequential import Policy, SequentialJudge, simpler

__all__ = [
    "POLICIES",
    "Case",
    "Judge",
    "Noise",
    "Policy",
    "estimate",
    "fair",
    "noise_of",
    "open_judge",
    "parse_guard",
    "simpler",
    "veto",
]

POLICIES = ("default", "explore", "record", "greedy")

# Found on the benchmark (`python -m bench.judge`); docs/judging.md shows what each buys.
_SETTINGS = {
    "default": Policy(
        name="default",
        keep=(2.5, 1.5, 1.25, 0.75),
        drop=(0.9, 0.75, 0.5, 0.75),
        sceptic=0.3,
    ),
    "explore": Policy(name="explore", keep=(1.1, 0.5), drop=(0.75, 0.5), sceptic=0.1, check=False),
    "record": Policy(
        name="record",
        keep=(inf, inf, 2.63, 2.63, 2.63, 2.63),
        drop=(0.5, 0.5, 0.75, 1.0, 1.25, 1.5),
        pairs=True,
    ),
}


def open_judge(
    name: str = "default", *, calibration_runs: int | None = None, line_margin: float = 0.0
) -> Judge:
    """The judge of that name, one of ``POLICIES``; raises ConfigError for any other.

    ``calibration_runs`` (at least 1) replaces the policy's number of baseline runs, for
    studies whose runs are long; ``greedy`` always makes one. ``line_margin`` is what a change
    must gain per net line that it adds, in the objective's unit.
    """
    if line_margin > 0.0:
        return PricedJudge(open_judge(name, calibration_runs=calibration_runs), line_margin)
    if name == "greedy":
        return GreedyJudge()
    if name not in _SETTINGS:
        raise ConfigError(
            f"there is no judge called {name!r}",
            f"judges are: {', '.join(POLICIES)}",
            'write  use = "default"  under [judge] in nightlab.toml',
        )
    policy = _SETTINGS[name]
    if calibration_runs is not None:
        if calibration_runs < 1:
            raise ConfigError(
                f"calibration_runs = {calibration_runs} is not a number of runs",
                "the baseline needs at least one run, and two to know its noise",
                "write calibration_runs = 4",
            )
        policy = Policy(
            **{f: getattr(policy, f) for f in policy.__struct_fields__}
            | {"calibration_runs": calibration_runs}
        )
    return SequentialJudge(policy)
