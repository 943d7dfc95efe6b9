"""Whole nights, replayed through the real agent path; the debrief must tell what happened.

Every number is computed again here, from the lines of the journal alone.
"""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median
from typing import Any

import pytest

from tests.nights import replay
from tests.nights.replay import FAILING, NO_EXPERIMENT, NOT_KEPT, Night
from tests.support import git

# Each example that has a night.
EXAMPLES = sorted(
    path.stem
    for path in Path(__file__).parent.glob("nights/*.py")
    if (replay.EXAMPLES / path.stem).is_dir()
)
Event = dict[str, Any]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("example", EXAMPLES)
def test_the_debrief_of_a_night_tells_what_happened(example: str, tmp_path: Path) -> None:
    check(replay.play(replay.script(example, short=True), tmp_path / "night", within_s=840.0))


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
@pytest.mark.parametrize("example", EXAMPLES)
def test_the_debrief_of_a_whole_night_tells_what_happened(example: str, tmp_path: Path) -> None:
    script = replay.script(example, short=False)
    night = replay.play(script, tmp_path / "night", within_s=4 * 3600.0 - 60)
    check(night)
    if example != "digits":
        assert len(night.given) >= 40


def check(night: Night) -> None:
    """All that must hold of a night, whichever it was."""
    _nothing_is_lost_or_counted_twice(night)
    _each_step_became_what_it_is(night)
    _what_went_wrong_is_told(night)
    _the_branch_holds_the_keeps(night)
    _the_numbers_are_those_of_the_runs(night)


def _nothing_is_lost_or_counted_twice(night: Night) -> None:
    assert [e["seq"] for e in night.events] == list(range(1, len(night.events) + 1))
    tried = [step for step, event in night.answers() if event["answer"] != "overtaken"]
    assert sorted((*tried, *night.dropped)) == sorted(night.script.steps)
    numbers = [e["number"] for e in night.of("proposed")]
    assert numbers == list(range(1, len(numbers) + 1))
    for kind in ("committed", "judged", "settled"):
        assert sorted(e["number"] for e in night.of(kind)) == numbers, kind
    assert sorted(night.numbers().values()) == numbers[1:]
    started = [e["run"] for e in night.of("run_started")]
    assert started == list(range(1, len(started) + 1))
    assert sorted(e["run"]["id"] for e in night.of("run_finished")) == started
    fixes = [e for e in night.of("asked") if e["task"] == "fix"]
    assert len(fixes) == len(night.fixes)
    ended = night.of("session_ended")
    assert [e["reason"] for e in ended] == ["stopped"]


def _each_step_became_what_it_is(night: Night) -> None:
    numbers, verdicts = night.numbers(), _verdicts(night)
    claims = {e["number"]: e["claim"] for e in night.of("proposed")}
    for index, answer in night.answers():
        if answer["answer"] == "overtaken":
            continue
        step = night.script.steps[index]
        what = f"{index}: {step.description}: {answer}"
        if step.fails in NO_EXPERIMENT:
            assert answer["answer"] in NO_EXPERIMENT[step.fails], what
            continue
        assert answer["answer"] == "proposed", what
        number = numbers[index]
        claim = claims[number]
        assert claim["description"] == step.description
        assert claim["category"] == step.category
        assert claim["researcher"] == "command"
        outcomes = [r["outcome"] for r in _runs(night, number)]
        if step.fails in FAILING:
            assert verdicts[number] == "crash", what
            assert outcomes[-1] in FAILING[step.fails], (what, outcomes)
        elif step.fails in NOT_KEPT:
            assert verdicts[number] in ("discard", "inconclusive"), what
        elif step.fails == "mended":
            assert index in night.fixes
            assert [e["number"] for e in night.of("amended")].count(number) == 1, what
            assert verdicts[number] != "crash", (what, outcomes)
        else:
            assert verdicts[number] != "crash", (what, outcomes)
    if night.script.gain is not None:
        assert verdicts[numbers[night.script.gain]] == "keep", replay.tell(night)


def _what_went_wrong_is_told(night: Night) -> None:
    facts, verdicts, judged = night.facts, _verdicts(night), _judged(night)
    crashed = {n for n, verdict in verdicts.items() if verdict == "crash"}
    assert {n for c in facts["crashes"] for n in c["experiments"]} <= crashed
    assert sum(c["count"] for c in facts["crashes"]) == len(crashed)
    for cause in facts["crashes"]:
        for number in cause["experiments"]:
            last = _runs(night, number)[-1]
            assert last["outcome"] == cause["outcome"]
            assert last["detail"][:60] in cause["cause"] or cause["count"] > 1
    vetoed = {n for n, d in judged.items() if d["rule"] == "guard"}
    assert {n for g in facts["guards"] for n in g["experiments"]} == vetoed
    for index, number in night.numbers().items():
        if night.script.steps[index].fails == "guard":
            assert number in vetoed, judged[number]["reason"]
            lines = night.page.splitlines()  # one a guard
            assert any(f"exp {number}" in line for line in lines if "` vetoed " in line)
    refused = night.of("refused")
    assert facts["totals"]["refused"] == len(refused)
    answers = Counter(e["answer"] for e in night.of("asked"))
    given = {k: n for k, n in answers.items() if k not in ("proposed", "planned", "stopped")}
    assert facts["totals"]["answers"] == given
    for answer, n in given.items():
        assert f"{n} {answer.replace('_', ' ')}" in night.page
    rows = {r["experiment"]: r for r in facts["rows"]}
    assert {n: r["verdict"] for n, r in rows.items()} == verdicts
    assert all(rows[n]["reason"] == d["reason"] for n, d in judged.items())


def _the_branch_holds_the_keeps(night: Night) -> None:
    root, branch = night.root, f"autoresearch/{replay.TAG}"
    kept = [e["commit"] for e in night.of("settled") if e["verdict"] == "keep"][1:]
    assert git(root, "rev-list", "--reverse", f"{night.start}..{branch}").split() == kept
    touched = git(root, "log", "--format=", "--name-only", "--all").split()
    inside = set(git(root, "diff", "--name-only", night.start, branch).split())
    assert inside <= set(_study(night)["edit"])
    assert inside <= set(touched)
    assert git(root, "rev-parse", "main").strip() == night.start
    assert git(root, "diff", "--name-only", "HEAD") == ""
    for number in _verdicts(night):
        assert (
            git(root, "cat-file", "-t", f"refs/nightlab/{replay.TAG}/{number}").strip() == "commit"
        )


def _the_numbers_are_those_of_the_runs(night: Night) -> None:
    facts, verdicts = night.facts, _verdicts(night)
    runs = [e["run"] for e in night.of("run_finished")]
    totals = facts["totals"]
    assert totals["experiments"] == len(verdicts)
    for verdict in ("keep", "discard", "inconclusive", "crash"):
        assert totals[verdict] == list(verdicts.values()).count(verdict)
    assert totals["open"] == 0
    assert totals["runs"] == len(runs)
    assert totals["device_s"] == pytest.approx(sum(r.get("duration_s", 0.0) for r in runs))
    assert totals["wall_s"] == pytest.approx(night.events[-1]["at"] - night.events[0]["at"])
    kept = [n for n, verdict in verdicts.items() if verdict == "keep"]  # in their order
    sign = -1.0 if facts["better"] == "lower" else 1.0
    values = {n: _fair(night, n) for n in kept}
    for name, number in (("baseline", 1), ("incumbent", kept[-1])):
        told = facts[name]
        assert told["experiment"] == number
        assert told["n"] == len(values[number])
        assert told["mean"] == pytest.approx(fmean(values[number]))
    effects = {
        after: sign * (fmean(values[after]) - fmean(values[before]))
        for before, after in pairwise(kept)
    }
    assert {d["experiment"]: d["replaced"] for d in facts["discoveries"]} == dict(
        zip(kept[1:], kept, strict=False)
    )
    for found in facts["discoveries"]:
        assert found["effect"] == pytest.approx(effects[found["experiment"]])
    assert facts["gain"]["effect"] == pytest.approx(math.fsum(effects.values()))
    sigma, df = _noise(night)
    assert facts["noise"]["df"] == df
    assert facts["noise"]["sigma"] == pytest.approx(sigma)
    lucky = max(sign * v for n in _believed(night) for v in _values(night, n))
    first = _values(night, 1)[0]
    assert facts["naive"]["gain"] == pytest.approx(lucky - sign * first)
    _the_tallies_add_up(night)


def _the_tallies_add_up(night: Night) -> None:
    judged, verdicts = _judged(night), _verdicts(night)
    by: dict[str, list[int]] = {}
    for event in night.of("proposed")[1:]:
        by.setdefault(event["claim"].get("category") or "(no category)", []).append(event["number"])
    assert {t["name"]: t["tried"] for t in night.facts["categories"]} == {
        name: len(numbers) for name, numbers in by.items()
    }
    for tally in night.facts["categories"]:
        mine = by[tally["name"]]
        assert tally["keep"] == [verdicts[n] for n in mine].count("keep")
        effects = [judged[n].get("evidence", {}).get("effect") for n in mine]
        known = [effect for effect in effects if effect is not None]
        assert tally["median"] == (pytest.approx(median(known)) if known else None)


# --- the journal's lines, read again


def _study(night: Night) -> Event:
    study: Event = night.of("study_started")[0]["study"]
    return study


def _verdicts(night: Night) -> dict[int, str]:
    return {e["number"]: e["verdict"] for e in night.of("settled")}


def _judged(night: Night) -> dict[int, Event]:
    return {e["number"]: e["decision"] for e in night.of("judged")}


def _runs(night: Night, number: int) -> list[Event]:
    """The runs of an experiment's final commit: a fix begins anew."""
    amended = [e["seq"] for e in night.of("amended") if e["number"] == number]
    since = max(amended, default=0)
    ended = [e["run"] for e in night.of("run_finished") if e["seq"] > since]
    return [r for r in ended if r["experiment"] == number]


def _measured(night: Night, number: int) -> list[Event]:
    name = night.facts["metric"]
    counting = (r for r in _runs(night, number) if r["outcome"] == "ok" and not r.get("check"))
    return [r for r in counting if name in r.get("metrics", {})]


def _values(night: Night, number: int) -> list[float]:
    return [r["metrics"][night.facts["metric"]] for r in _measured(night, number)]


def _fair(night: Night, number: int) -> list[float]:
    """Without the run that selected it, where there are others."""
    every = _measured(night, number)
    fair = [r for r in every if r["purpose"] != "screen"] or every
    return [r["metrics"][night.facts["metric"]] for r in fair]


def _believed(night: Night) -> list[int]:
    """Experiments whose runs a loop that keeps the luckiest would have believed."""
    judged, verdicts = _judged(night), _verdicts(night)
    vetoed = {n for n, d in judged.items() if d["rule"] in ("guard", "check")}
    return [n for n, v in verdicts.items() if v != "crash" and n not in vetoed]


def _noise(night: Night) -> tuple[float, int]:
    """Pooled over all code that ran more than once, each about its own mean."""
    squares, df = 0.0, 0
    for number in _verdicts(night):
        values = _values(night, number)
        if len(values) > 1:
            mean = fmean(values)
            squares += math.fsum((v - mean) ** 2 for v in values)
            df += len(values) - 1
    return math.sqrt(squares / df), df
