"""Worlds: where ideas come from and how noisy a run is. All effects and noise in units of sigma.

A world is a TOML file with one table ``[world]`` of the fields of ``World``; a field that is
left out keeps its default. A file that a judge was never tuned on is as good as ours.
"""

from __future__ import annotations

import math
import random
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path


@dataclass(frozen=True)
class World:
    """Parameters of a simulated night.

    Ideas: a share ``good`` helps by Exp(``mean_good``), a share ``null`` does nothing, the
    rest harms by Exp(``mean_bad``). As the true gain g grows, the size of the next good
    effect is multiplied by exp(-g / ``decay``) and the share of good ideas by
    max(0, 1 - g / ``headroom``); 0 switches either off (ideas never run out).

    Noise of one run, sd 1: ``gaussian``, ``student`` (3 degrees of freedom, scaled to sd 1),
    or ``ledger`` (values of a real series, replayed in order from a random place; its column
    ``column``, its overall sd is the unit). ``rho`` is the share of the variance that a seed
    explains in whatever code runs on it; ``walk`` is the sd of a random walk of the machine
    per run; a share ``crash`` of the ideas fails at once. With ``blur`` a run prints its loss on
    its way: after a share f of its time, what it will measure, give or take ``blur`` (1 - f); 0:
    it prints nothing, and early stop has nothing to look at.

    With ``devices`` above 1 the night goes by the clock: that many runs at a time, and a researcher
    who thinks for ``thinking`` run lengths of each idea, one ahead.

    A night is ``runs`` device runs long, calibration included, and repeated ``nights`` times.
    """

    name: str
    runs: int = 100
    nights: int = 400
    good: float = 0.0
    null: float = 1.0
    mean_good: float = 1.0
    mean_bad: float = 1.0
    decay: float = 0.0
    headroom: float = 0.0
    noise: str = "gaussian"
    ledger: str = ""
    column: str = "val_bpb"
    rho: float = 0.0
    walk: float = 0.0
    crash: float = 0.0
    devices: int = 1
    thinking: float = 0.0
    blur: float = 0.0

    def idea(self, rng: random.Random, gained: float) -> float | None:
        """The true effect of the next idea (positive helps); None for one that crashes."""
        if self.crash and rng.random() < self.crash:
            return None
        share, size = self.good, self.mean_good
        if self.headroom:
            share *= max(0.0, 1.0 - gained / self.headroom)
        if self.decay:
            size *= math.exp(-max(gained, 0.0) / self.decay)
        draw = rng.random()
        if draw < share:
            return rng.expovariate(1.0) * size
        if draw < share + self.null:
            return 0.0
        return -rng.expovariate(1.0) * self.mean_bad


class Machine:
    """The noise of one night: call it once per run, in the order in which they happen."""

    def __init__(self, world: World, rng: random.Random, series: Sequence[float] = ()) -> None:
        self._world = world
        self._rng = rng
        self._seeds: dict[int, float] = {}
        self._level = 0.0
        self._series = self._replay(series) if world.noise == "ledger" else None

    def __call__(self, seed: int) -> float:
        """The noise of the next run, on ``seed``."""
        if self._series is not None:
            return next(self._series)
        rng, world = self._rng, self._world
        own = rng.gauss(0.0, 1.0) if world.noise == "gaussian" else _student(rng)
        if world.rho:
            if seed not in self._seeds:
                self._seeds[seed] = rng.gauss(0.0, 1.0)
            own = math.sqrt(1.0 - world.rho) * own + math.sqrt(world.rho) * self._seeds[seed]
        if world.walk:
            self._level += rng.gauss(0.0, world.walk)
        return own + self._level

    def _replay(self, series: Sequence[float]) -> Iterator[float]:
        at = self._rng.randrange(len(series))
        while True:
            yield series[at % len(series)]
            at += 1


def _student(rng: random.Random) -> float:
    """Student's t with 3 degrees of freedom, divided by its sd (sqrt 3)."""
    chi = sum(rng.gauss(0.0, 1.0) ** 2 for _ in range(3))
    return rng.gauss(0.0, 1.0) / math.sqrt(chi / 3.0) / math.sqrt(3.0)


def read_series(path: Path, column: str) -> list[float]:
    """A column of a tab-separated ledger, standardised to mean 0 and sd 1, in file order."""
    head, *rows = path.read_text(encoding="utf-8").splitlines()
    at = head.split("\t").index(column)
    values = [float(row.split("\t")[at]) for row in rows if row.strip()]
    mean = math.fsum(values) / len(values)
    sd = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))
    return [(v - mean) / sd for v in values]


def load(path: Path) -> World:
    """A world from its TOML file. Raises ValueError, naming the field, for an unknown one."""
    table = tomllib.loads(path.read_text(encoding="utf-8")).get("world", {})
    known = {field.name for field in fields(World)}
    unknown = sorted(set(table) - known)
    if unknown:
        raise ValueError(f"{path}: no field {unknown[0]!r}; fields are {', '.join(sorted(known))}")
    if table.get("noise", "gaussian") not in {"gaussian", "student", "ledger"}:
        raise ValueError(f"{path}: noise is gaussian, student or ledger")
    if table.get("devices", 1) > 1 and (table.get("noise") == "ledger" or table.get("crash")):
        raise ValueError(f"{path}: a world of several devices has no ledger and no crashes")
    return World(**{"name": path.stem, **table})


def bundled() -> list[Path]:
    """The worlds of the published table, in its order."""
    return sorted((Path(__file__).parent / "worlds").glob("*.toml"))
