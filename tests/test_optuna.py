"""The embedded researcher proposes sensible moves, learns, and never repeats itself."""

from __future__ import annotations

import math
import random
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from nightlab.errors import ConfigError, Exhausted
from nightlab.model import Better, Change, Claim, Experiment, Objective, Proposal, Verdict
from nightlab.researchers import Context, Settings, open_researcher
from nightlab.researchers.constants import find
from nightlab.researchers.memory import Memory
from nightlab.researchers.optuna import OptunaResearcher

NAMES = ("LR", "WEIGHT_DECAY", "DROPOUT", "MOMENTUM", "BATCH_SIZE", "DEPTH", "ACT", "BIAS")
TEXT = (
    'LR = 0.1\nWEIGHT_DECAY = 0\nDROPOUT = 0.0\nMOMENTUM = 0.9\nBATCH_SIZE = 64\nDEPTH = 4\n'
    'ACT = "relu"\nBIAS = True\nprint(LR, WEIGHT_DECAY, DROPOUT, MOMENTUM, BATCH_SIZE, DEPTH, '
    'ACT, BIAS, "gelu")\n'
)  # fmt: skip
LOWER = Objective(metric="loss", better=Better.LOWER)
Loss = Callable[[Mapping[str, float | bool | str]], float | None]


class Night:
    """A small lab: a loss instead of a run, keep-if-lower instead of a judge."""

    def __init__(
        self,
        researcher: OptunaResearcher,
        loss: Loss,
        text: str = TEXT,
        better: Better = Better.LOWER,
    ) -> None:
        self.researcher, self.loss, self.better = researcher, loss, better
        self.files: dict[str, str] = {"train.py": text}
        value = loss(self.values(self.files))
        claim = Claim(description="baseline")
        self.incumbent = Experiment(1, "base", "c1", claim, verdict=Verdict.KEEP, value=value)
        self.history = [self.incumbent]
        researcher.learn(self.incumbent)

    @staticmethod
    def values(files: Mapping[str, str]) -> dict[str, float | bool | str]:
        return {c.name: c.value for c in find(files)}

    def context(self) -> Context:
        return Context(
            tag="t",
            number=len(self.history) + 1,
            objective=Objective(metric="loss", better=self.better),
            files=self.files,
            incumbent=self.incumbent,
        )

    def step(self) -> Proposal:
        proposal = self.researcher.propose(self.context())
        self.settle(proposal)
        return proposal

    def settle(self, proposal: Proposal) -> None:
        files = dict(self.files) | {p: t for p, t in proposal.files.items() if t is not None}
        value = self.loss(self.values(files))
        best = self.incumbent.value
        assert best is not None
        better = value is not None and (value - best) * self.better.sign > 0
        verdict = Verdict.CRASH if value is None else Verdict.KEEP if better else Verdict.DISCARD
        number = len(self.history) + 1
        claim = Claim(description=proposal.description, changes=proposal.changes)
        experiment = Experiment(
            number, self.incumbent.commit, f"c{number}", claim, verdict=verdict, value=value
        )
        self.history.append(experiment)
        self.researcher.learn(experiment)
        if better:
            self.incumbent, self.files = experiment, files


def bowl(values: Mapping[str, float | bool | str]) -> float:
    """Lowest at LR 0.03, DROPOUT 0.2; the other constants do nothing."""
    rate, drop = float(values["LR"]), float(values["DROPOUT"])
    return math.log10(rate / 0.03) ** 2 + 3 * (drop - 0.2) ** 2


def opened(seed: int = 0) -> OptunaResearcher:
    researcher = open_researcher(Settings(use="optuna", seed=seed))
    assert isinstance(researcher, OptunaResearcher)
    return researcher


def test_every_proposal_is_new_small_and_described_in_words() -> None:
    night = Night(opened(), bowl)
    seen: set[tuple[object, ...]] = {tuple(night.values(night.files).values())}
    for number in range(40):
        before = night.values(night.files)
        proposal = night.researcher.propose(night.context())
        after = night.values({**night.files, **{k: str(v) for k, v in proposal.files.items()}})
        point = tuple(after.values())
        assert point not in seen
        seen.add(point)
        moved = {n for n in before if before[n] != after[n]}
        assert moved == {c.name for c in proposal.changes}
        assert len(moved) <= (2 if number < 10 else 5)
        assert all(f"{n} " in proposal.description for n in moved)
        assert proposal.category == "constants"
        assert proposal.researcher == "optuna"
        assert proposal.hypothesis.endswith(".")
        night.settle(proposal)


def test_the_description_reads_as_a_person_writes() -> None:
    night = Night(opened(), bowl)
    said = " ".join(night.step().description for _ in range(12))
    assert "DROPOUT 0 → 0." in said
    assert "ACT relu → gelu" in said
    assert "BIAS True → False" in said


@pytest.mark.parametrize("better", list(Better))
def test_a_night_of_forty_finds_most_of_the_gain_in_either_direction(better: Better) -> None:
    for seed in range(2):
        night = Night(opened(seed), lambda v: -better.sign * bowl(v), better=better)
        start = night.incumbent.value
        for _ in range(40):
            night.step()
        assert start is not None
        assert night.incumbent.value is not None
        assert abs(night.incumbent.value) < 0.15 * abs(start)


def test_the_same_seed_and_story_give_the_same_proposals_also_after_a_resume() -> None:
    night = Night(opened(7), bowl)
    for _ in range(30):
        night.step()
    resumed = opened(7)
    for experiment in night.history:
        resumed.learn(experiment)
    assert resumed.propose(night.context()) == night.researcher.propose(night.context())
    other = opened(8)
    for experiment in night.history:
        other.learn(experiment)
    assert other.propose(night.context()) != resumed.propose(replace(night.context(), number=99))


def test_it_never_proposes_what_is_still_under_way() -> None:
    night = Night(opened(), bowl)
    proposals = [night.researcher.propose(night.context()) for _ in range(20)]
    assert len({p.changes for p in proposals}) == 20


def test_crashes_steer_away_without_hiding_what_good_values_teach() -> None:
    def fragile(values: Mapping[str, float | bool | str]) -> float | None:
        return None if float(values["BATCH_SIZE"]) > 64 else bowl(values)

    crashes = 0
    for seed in range(2):
        night = Night(opened(seed), fragile)
        for _ in range(45):
            night.step()
        late = night.history[-30:]
        crashes += sum(e.verdict is Verdict.CRASH for e in late)
        assert night.incumbent.value is not None
        assert night.incumbent.value < 0.08
    # 60 proposals; one that guessed among BATCH_SIZE's five values would crash in a third.
    assert crashes <= 6


def test_constants_that_appear_and_vanish_do_not_break_it() -> None:
    night = Night(opened(), lambda v: math.log10(float(v["LR"]) / 0.03) ** 2)
    for _ in range(15):
        night.step()
    text = night.files["train.py"].replace("DROPOUT = ", "NEW_RATIO = 0.5\nOLD = ", 1)
    night.files = {"train.py": text + "print(NEW_RATIO)"}
    names = set()
    for _ in range(20):
        names |= {c.name for c in night.step().changes}
    assert "NEW_RATIO" in names
    assert "DROPOUT" not in names


def test_a_constant_that_changes_its_kind_does_not_break_it() -> None:
    night = Night(opened(), lambda v: 1.0)
    for _ in range(15):
        night.step()
    night.files = {"train.py": night.files["train.py"].replace("BIAS = True", "BIAS = 0.5")}
    for _ in range(15):
        night.step()


def test_experiments_of_other_researchers_are_taken_calmly() -> None:
    night = Night(opened(), bowl)
    for verdict in Verdict:
        number = len(night.history) + 1
        claim = Claim(description="an agent's", researcher="claude")
        strange = Experiment(number, "nowhere", f"c{number}", claim, verdict=verdict, value=0.1)
        night.history.append(strange)
        night.researcher.learn(strange)
    odd = (Change(name="LR", old=None, new=None), Change(name="GONE", old="a", new=math.inf))
    night.researcher.learn(Experiment(9, "", "", Claim(description="odd", changes=odd)))
    for _ in range(15):
        night.step()


def test_a_small_space_ends() -> None:
    night = Night(opened(), lambda v: 1.0, "BIAS = True\nGATED = False\nprint(BIAS, GATED)\n")
    for _ in range(3):
        night.step()
    with pytest.raises(Exhausted, match="has been tried"):
        night.step()


def test_a_program_without_constants_says_what_is_missing() -> None:
    for text in ("print(1)\n", "LR = (", "LR = 0.1  # nightlab: fixed\nprint(LR)\n"):
        with pytest.raises(Exhausted) as caught:
            opened().propose(Context("t", 2, LOWER, {"train.py": text}))
        assert all(caught.value.lines())


def test_a_comment_that_cannot_be_followed_is_a_config_error() -> None:
    with pytest.raises(ConfigError):
        opened().propose(Context("t", 2, LOWER, {"train.py": "LR = 1.0  # nightlab: any\n"}))


def test_a_persons_bounds_are_never_left() -> None:
    text = "LR = 0.1  # nightlab: 0.05..0.2 log\nprint(LR)\n"
    night = Night(opened(), lambda v: float(v["LR"]), text)
    for _ in range(12):
        night.step()
        assert 0.05 <= float(night.values(night.files)["LR"]) <= 0.2
    assert night.values(night.files)["LR"] == 0.05


def test_an_incumbent_may_leave_the_first_guess_of_a_range() -> None:
    night = Night(
        opened(), lambda v: abs(math.log10(float(v["LR"]) / 1e-4)), "LR = 0.1\nprint(LR)\n"
    )
    for _ in range(30):
        night.step()
    assert float(night.values(night.files)["LR"]) < 3e-4  # the first guess ended at 0.01


def test_assignments_are_rebuilt_along_the_commits_after_a_resume() -> None:
    night = Night(opened(3), bowl)
    for _ in range(40):
        night.step()
    live, resumed = night.researcher._memory, Memory()
    for experiment in night.history:
        resumed.learn(experiment)
    resumed.anchor(night.incumbent, night.values(night.files), Better.LOWER)
    assert [o.values for o in resumed.observations] == [o.values for o in live.observations]
    assert any(e.verdict is Verdict.KEEP for e in night.history[1:])


def test_memory_and_time_stay_flat_over_ten_thousand_experiments() -> None:
    rng = random.Random(0)
    researcher = opened()
    files = {"train.py": TEXT}
    base = Experiment(1, "b", "c1", Claim(description="b"), verdict=Verdict.KEEP, value=1.0)
    researcher.learn(base)
    took: dict[int, float] = {}
    for number in range(2, 6001):
        changes = (Change(name="LR", old=0.1, new=round(rng.uniform(0.01, 1), 6)),)
        claim = Claim(description="x", changes=changes)
        value = rng.random()
        researcher.learn(
            Experiment(number, "c1", f"c{number}", claim, verdict=Verdict.DISCARD, value=value)
        )
        if number in (600, 6000):
            for again in range(5):
                context = Context("t", number + again, LOWER, files, base)
                started = time.perf_counter()
                researcher.propose(context)
                took[number] = min(took.get(number, 9.0), time.perf_counter() - started)
    assert len(researcher._memory.observations) <= 300
    assert took[6000] < 5 * took[600]


def test_importing_nightlab_does_not_load_optuna_and_proposing_prints_nothing() -> None:
    code = (
        "import sys, nightlab, nightlab.researchers as r\n"
        "assert not {'optuna', 'libcst'} & set(sys.modules)\n"
        "from nightlab.model import *\n"
        "x = r.open_researcher(r.Settings())\n"
        "o = Objective(metric='a', better=Better.LOWER)\n"
        "f = {'t.py': 'LR = 0.1\\nMOM = 0.5\\nprint(LR, MOM)'}\n"
        "e = Experiment(1, 'b', 'c', Claim(description=''), verdict=Verdict.KEEP, value=1.0)\n"
        "x.learn(e)\n"
        "for n in range(30): x.propose(r.Context('t', n, o, f, e))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
