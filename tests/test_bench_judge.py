import importlib
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # bench is not installed
worlds = importlib.import_module("bench.judge.worlds")
night = importlib.import_module("bench.judge.night")
table = importlib.import_module("bench.judge.table")
sys.path.pop(0)

from nightlab.judge import open_judge  # noqa: E402  after bench, which needs the path


def nights(world, policy, count=40, series=()):
    judge = open_judge(policy)
    return [night.simulated(judge, world, seed, series) for seed in range(count)]


def test_every_bundled_world_can_be_read_and_played():
    for path in worlds.bundled():
        world = worlds.load(path)
        series = [0.1, -0.2, 0.3] if world.noise == "ledger" else ()
        found = night.simulated(open_judge(), world, 1, series)
        assert found.runs - found.stopped <= world.runs


def test_a_night_never_makes_more_runs_than_it_has_and_is_the_same_again():
    world = worlds.World(name="w", runs=57, good=0.2, null=0.3, crash=0.2)
    for policy in ("greedy", "default", "explore", "record"):
        one, two = nights(world, policy, 5), nights(world, policy, 5)
        assert one == two
        assert all(n.runs <= 57 for n in one)


def test_greedy_keeps_as_many_equal_edits_as_theory_says():
    # Records of n exchangeable values: H(n) - 1 beyond the first; H(100) - 1 = 4.19.
    world = worlds.World(name="null", runs=100)
    kept = [len(n.kept) for n in nights(world, "greedy", 300)]
    assert sum(kept) / 300 == pytest.approx(4.19, abs=0.45)


def test_the_default_keeps_far_fewer_equal_edits_than_greedy_and_claims_none():
    world = worlds.World(name="null", runs=100)
    found = nights(world, "default", 60)
    assert sum(len(n.kept) for n in found) / 60 < 1.5
    assert sum(table.claimed(n) for n in found) <= 3
    assert not any(table.certified(n) for n in nights(world, "record", 60))


def test_the_default_finds_real_gains_and_its_headline_is_fair():
    world = worlds.World(name="w", good=0.12, null=0.35, mean_good=2.0, mean_bad=2.0)
    greedy, mine = nights(world, "greedy", 60), nights(world, "default", 60)
    found = table.figures("w", "default", mine, greedy)
    assert found.ratio > 0.6
    assert abs(found.bias) < 3 * found.bias_ci
    assert table.figures("w", "greedy", greedy, greedy).bias > 1.0


def test_a_series_is_replayed_in_order_and_standardised(tmp_path):
    ledger = tmp_path / "a.tsv"
    ledger.write_text("trial\tloss\n" + "".join(f"{i}\t{i * 10}\n" for i in range(9)))
    series = worlds.read_series(ledger, "loss")
    assert sum(series) == pytest.approx(0.0)
    world = worlds.World(name="r", noise="ledger")
    machine = worlds.Machine(world, random.Random(1), series)
    drawn = [machine(1) for _ in range(9)]
    start = series.index(drawn[0])
    assert drawn == series[start:] + series[:start]


def test_the_effect_of_good_ideas_and_their_share_run_out_where_the_world_says_so():
    rng = random.Random(0)
    world = worlds.World(name="w", good=1.0, null=0.0, decay=2.0, headroom=10.0)
    early = [world.idea(rng, 0.0) for _ in range(2000)]
    late = [world.idea(rng, 4.0) for _ in range(2000)]
    assert sum(early) / 2000 == pytest.approx(1.0, abs=0.1)
    good = [effect for effect in late if effect > 0]
    assert len(good) / 2000 == pytest.approx(0.6, abs=0.05)
    assert sum(good) / len(good) == pytest.approx(0.135, abs=0.02)


def test_a_world_with_an_unknown_field_is_refused_by_name(tmp_path):
    path = tmp_path / "w.toml"
    path.write_text("[world]\ngod = 0.1\n")
    with pytest.raises(ValueError, match="god"):
        worlds.load(path)


def bench(*words):
    return subprocess.run(
        [sys.executable, "-m", "bench.judge", *words],
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}/src", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_strangers_world_and_one_policy_come_out_as_json(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("[world]\nruns = 40\nnights = 6\ngood = 0.3\nnull = 0.3\n")
    done = bench("--world", str(path), "--policy", "default", "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["world"] == "mine"
    assert figures["policy"] == "default"
    assert figures["nights"] == 6


def test_a_missing_ledger_is_skipped_aloud_and_an_unknown_policy_is_refused(tmp_path):
    world = ROOT / "bench/judge/worlds/3-null-drift.toml"
    done = bench("--world", str(world), "--ledgers", str(tmp_path), "--json")
    assert done.returncode == 0
    assert "skipped" in done.stderr
    assert done.stdout == ""
    assert bench("--policy", "lucky").returncode == 2
