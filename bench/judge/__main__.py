"""``python -m bench.judge``: the table of docs/judging.md."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

from bench.judge import tables
from bench.judge.night import Night, simulated
from bench.judge.table import HEAD, Figures, figures, row
from bench.judge.worlds import World, bundled, load, read_series
from nightlab.errors import ConfigError
from nightlab.judge import POLICIES, open_judge

# The policies' numbers were found on other seeds and in a separate, vectorised simulation:
# every night of the table is one that they were not tuned on.
HELD_OUT = 10_000


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; exit code 0, or 2 with a line on stderr for bad arguments."""
    parser = argparse.ArgumentParser(prog="python -m bench.judge", description=__doc__)
    parser.add_argument("--short", action="store_true", help="few nights: a smoke test")
    parser.add_argument("--world", type=Path, action="append", help="a world's TOML file")
    parser.add_argument("--policy", action="append", help=f"one of {', '.join(POLICIES)}")
    parser.add_argument("--nights", type=int, help="nights per world and policy")
    parser.add_argument("--seed", type=int, default=HELD_OUT, help="the first night's seed")
    parser.add_argument(
        "--ledgers",
        type=Path,
        default=Path(__file__).resolve().parents[3] / "shared" / "ledgers",
        help="folder of the real series that worlds replay",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    options = parser.parse_args(argv)
    policies = options.policy or ["greedy", "explore", "default", "record"]
    try:
        for name in policies:
            open_judge(name)
        worlds = [load(path) for path in options.world or bundled()]
    except (ConfigError, OSError, ValueError) as error:
        print(f"bench.judge: {error}", file=sys.stderr)
        return 2
    began = time.perf_counter()
    if not options.json:
        print(HEAD)
    for world in worlds:
        for found in compare(world, policies, options):
            print(json.dumps(found.as_dict()) if options.json else row(found), flush=True)
    if not options.world:
        for line in tables.report(policies, short=options.short, as_json=options.json):
            print(line, flush=True)
    if not options.json:
        print(f"\n{time.perf_counter() - began:.0f} s")
    return 0


def compare(world: World, policies: list[str], options: argparse.Namespace) -> list[Figures]:
    """Every policy on the same nights; greedy always runs, as the measure of the others."""
    series: tuple[float, ...] = ()
    if world.noise == "ledger":
        path = options.ledgers / world.ledger
        if not path.is_file():
            print(f"skipped {world.name}: {path} is not there (--ledgers DIR)", file=sys.stderr)
            return []
        series = tuple(read_series(path, world.column))
    count = options.nights or (max(4, world.nights // 40) if options.short else world.nights)

    def nights(policy: str) -> list[Night]:
        judge = open_judge(policy)
        seeds = range(options.seed, options.seed + count)
        return [simulated(judge, world, seed, series) for seed in seeds]

    greedy = nights("greedy")
    found = [
        figures(world.name, p, greedy if p == "greedy" else nights(p), greedy) for p in policies
    ]
    if world.devices > 1:
        # The reference's loop by the same clock: it thinks, then runs, on one device.
        slots = round(world.runs / world.devices / (1.0 + world.thinking))
        alone = replace(world, devices=1, thinking=0.0, runs=slots)
        seeds = range(options.seed, options.seed + count)
        serial = [simulated(open_judge("greedy"), alone, seed) for seed in seeds]
        found.insert(0, figures(world.name, "greedy, serial", serial, greedy))
    return found


if __name__ == "__main__":
    sys.exit(main())
