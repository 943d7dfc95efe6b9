"""Phases of program.md: read in the ways people write them, never silently misread."""

from __future__ import annotations

import pytest
from bench.context import Maker
from hypothesis import given
from hypothesis import strategies as st

from nightlab import phases, plateau
from nightlab.events import SessionEnded, SessionStarted
from nightlab.model import Verdict

PROGRAM = """\
# The study

Bring it down.

## Phase: tuning (20 experiments, one change)

Constants only.

### Not these

SEED

## Phase 2: architecture
until: 2h or plateau 10
rules: free hand, web

Structure.

## What is known

Nothing.
"""


def test_a_program_in_phases_is_read() -> None:
    read = phases.parse(PROGRAM)
    assert read.warnings == ()
    first, second = read.phases
    assert (first.name, first.experiments, first.free_hand, first.web) == (
        "tuning",
        20,
        False,
        False,
    )
    assert "### Not these" in first.text
    assert "SEED" in first.text
    assert (second.name, second.seconds, second.plateau) == ("architecture", 7200.0, 10)
    assert second.free_hand
    assert second.web
    assert "Bring it down." in read.text
    assert "Nothing." in read.text
    assert "Structure." not in read.text


@pytest.mark.parametrize(
    ("heading", "name", "bounds"),
    [
        ("## Phase: tuning (20 experiments)", "tuning", (20, None, None)),
        ("# PHASE 1 - tuning (20 exps, 90 min)", "tuning", (20, 5400.0, None)),
        ("### Phase 2 (3 experiments) ###", "2", (3, None, None)),
        ("## Phase II: a (b) c (1h30m or plateau of 7)", "a (b) c", (None, 5400.0, 7)),
        ("## Phase: x (15 experiments without a keep)", "x", (None, None, 15)),
        ("## phase — moonshots", "moonshots", (None, None, None)),
        ("   ## Phase 3: `deep` *work*", "`deep` *work*", (None, None, None)),
    ],
)
def test_the_ways_of_writing_a_heading(
    heading: str, name: str, bounds: tuple[int | None, float | None, int | None]
) -> None:
    read = phases.parse(heading)
    (phase,) = read.phases
    assert phase.name == name
    assert (phase.experiments, phase.seconds, phase.plateau) == bounds
    assert read.warnings == ()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("## Phase space plots", "cannot be read"),
        ("## Phase", "cannot be read"),
        ("## Phase: tuning (20 expermints)", "20 expermints"),
        ("## Phase: tuning (20 experiments", "brackets"),
        ("## Phase: a\nuntil: dawn\n", "dawn"),
        ("## Phase: a\n\n## Phase: b (3 experiments)", "'a' has no end"),
    ],
)
def test_what_looks_like_a_phase_and_cannot_be_read_is_a_warning(text: str, says: str) -> None:
    assert any(says in warning for warning in phases.parse(text).warnings)


def test_what_is_no_phase_is_none() -> None:
    text = "# Phases\n\nText on a phase: no.\n\n```\n## Phase: in code (2 experiments)\n```\n"
    assert phases.parse(text) == phases.Program(text.strip())


def test_a_sentence_that_begins_like_a_rule_stays_in_the_text() -> None:
    read = phases.parse("## Phase: a (2 experiments)\nRules: keep it short\n")
    assert "keep it short" in read.phases[0].text
    assert any("keep it short" in warning for warning in read.warnings)


@given(st.text(alphabet="#Phase: ()0123456789hmplateu\n`~,-or", max_size=200))
def test_no_text_makes_the_parser_fail_or_lose_a_line(text: str) -> None:
    read = phases.parse(text)
    kept = read.text + "".join(p.text for p in read.phases)
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            assert line.strip() in kept or line.strip() == ""


def test_a_phase_ends_at_its_number_of_experiments() -> None:
    read = phases.parse("## Phase: a (5 experiments)\n## Phase: b (3 experiments)\n## Phase: c\n")
    maker = Maker()
    seen = []
    for count in range(1, 12):
        history = maker.grow(count)
        now = phases.current(read.phases, history, history.last_at)
        assert now is not None
        seen.append((now.phase.name, now.experiments))
    assert seen[:6] == [("a", n) for n in range(5)] + [("b", 0)]
    assert seen[8:] == [("c", 0), ("c", 1), ("c", 2)]


def test_a_phase_ends_after_its_time_of_work_but_not_while_nobody_works() -> None:
    read = phases.parse("## Phase: a (1h)\n## Phase: b\n")
    maker = Maker()
    history = maker.grow(2)
    worked = history.lab_seconds

    def name(now: float) -> str:
        current = phases.current(read.phases, history, now)
        assert current is not None
        return current.phase.name

    assert name(history.last_at) == "a"
    assert name(history.last_at + 3600.0 - worked) == "b"
    maker.take(SessionEnded(reason="stopped"))
    assert name(history.last_at + 10 * 3600.0) == "a"
    maker._at += 10 * 3600.0
    maker.take(
        SessionStarted(
            pid=2, host="h", researcher="r", judge="default", sandbox="process", slots=("0",)
        )
    )
    assert name(history.last_at) == "a"


def plainly(bounds: phases.Phase, verdicts: list[Verdict]) -> int:
    """After how many experiments a phase ends, found one by one; -1: it goes on."""
    since = 0
    for done, verdict in enumerate(verdicts, start=1):
        since = 0 if verdict is Verdict.KEEP else since + 1
        if bounds.experiments is not None and done >= bounds.experiments:
            return done
        if bounds.plateau is not None and since >= bounds.plateau:
            return done
    return -1


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 5))
def test_the_end_of_a_phase_is_that_found_by_counting_one_by_one(
    experiments: int, stale: int, seed: int
) -> None:
    first = phases.Phase(name="a", number=1, experiments=experiments, plateau=stale)
    history = Maker(seed).grow(45)
    verdicts = [history.experiments[n].verdict for n in history.digest.order]
    end = plainly(first, [v for v in verdicts if v is not None])
    now = phases.current([first, phases.Phase(name="b", number=2)], history, history.last_at)
    assert now is not None
    assert (now.phase.name, now.experiments) == (
        ("a", len(verdicts)) if end < 0 else ("b", len(verdicts) - end)
    )


def test_the_plateau_goes_through_its_stages_and_a_keep_begins_anew() -> None:
    maker, seen = Maker(1), {}
    while len(seen) < 4 or maker.history.digest.since_keep:
        history = maker.grow(len(maker.history.experiments) + 1)
        at = plateau.stand(history)
        seen.setdefault(at.stage.name, at.since_keep)
        assert at.since_keep >= at.stage.after
        assert at.next_after is None or at.since_keep < at.next_after
        assert len(history.experiments) < 2000
    assert seen == {stage.name: stage.after for stage in plateau.STAGES}
    assert plateau.stand(maker.history).stage.name == "refine"
