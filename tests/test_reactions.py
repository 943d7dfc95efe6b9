"""Every answer of a researcher is told apart and answered, and none ends the night."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightlab import inbox
from nightlab.budget import Bounds
from nightlab.errors import ResearcherError
from nightlab.events import Asked, IdeaAdded, Refused, Warned
from nightlab.history import History
from nightlab.journal import read
from nightlab.judge import open_judge
from nightlab.lab import open_study
from nightlab.loop import Ending, Loop
from nightlab.model import Answer, Experiment, Idea, IdeaState, Proposal, Usage, Verdict
from nightlab.reactions import HAND_OVER_AFTER, PATIENCE_S, Step, next_step, told
from nightlab.researchers import Context, Plan, Researcher, Settings, open_researcher
from nightlab.testing.contracts import alive, fresh_sleep
from tests.support import Steps, lr, make_project

LAST = (Answer.PROPOSED, Answer.PLANNED, Answer.STOPPED)  # nothing follows
GAVE_NOTHING = [a for a in Answer if a not in LAST]
BLAMELESS = (Answer.OVERTAKEN,)
FAULTS = [a for a in GAVE_NOTHING if not a.passes and not a.locked_out and a not in BLAMELESS]


def step(*answers: Answer, **options: object) -> tuple[Step, float]:
    chosen = {"draw": 0.5, "fallback": True, "idea": False} | options
    found = next_step(answers, **chosen)  # type: ignore[arg-type]
    return found.step, found.wait_s


# -- the policy


@pytest.mark.parametrize("answer", FAULTS)
def test_the_first_fault_is_answered_at_once_with_its_reason(answer: Answer) -> None:
    assert step(answer) == (Step.ASK, 0.0)
    if answer is not Answer.FAILED:
        assert "(so and so)" in told(answer, "so and so")


def test_a_proposal_that_the_incumbent_overtook_is_nobody_s_fault() -> None:
    """The lab asked ahead: however often that happens, the researcher is simply asked again."""
    assert step(*[Answer.OVERTAKEN] * 20) == (Step.ASK, 0.0)
    before = [Answer.NO_EDIT] * (HAND_OVER_AFTER - 1)
    assert step(*before, *[Answer.OVERTAKEN] * 5)[0] is not Step.HAND_OVER
    assert step(*[Answer.OVERTAKEN] * 5, Answer.NO_EDIT) == step(Answer.NO_EDIT)


def test_after_a_second_fault_the_backlog_s_next_idea_is_put_in_front() -> None:
    assert step(Answer.NO_EDIT, Answer.QUESTION, idea=True) == (Step.IDEA, 0.0)
    assert step(Answer.NO_EDIT, Answer.QUESTION, idea=False) == (Step.ASK, 0.0)


def test_faults_in_a_row_hand_over_where_there_is_a_fallback_and_slow_down_where_there_is_none() -> (
    None
):
    row = [Answer.LOOPED] * HAND_OVER_AFTER
    assert step(*row[1:])[0] is not Step.HAND_OVER
    assert step(*row)[0] is Step.HAND_OVER
    assert step(Answer.HUNG, Answer.HUNG)[0] is Step.HAND_OVER  # each took a whole call's time
    waits = [step(*([Answer.LOOPED] * n), fallback=False)[1] for n in range(1, 40)]
    assert waits[:3] == [0.0, 0.0, 0.0]
    assert waits == sorted(waits)
    assert waits[-1] == 300.0


@pytest.mark.parametrize("answer", [Answer.NO_CREDIT, Answer.NO_AUTH])
def test_no_credit_hands_over_at_once_and_is_tried_again_ever_later(answer: Answer) -> None:
    assert step(answer)[0] is Step.HAND_OVER
    assert step(answer, fallback=False)[0] is Step.WAIT
    probes = [step(answer, hand_overs=n)[1] for n in range(6)]
    assert probes[0] == 600.0
    assert probes == sorted(probes)
    assert probes[-1] == 3600.0


def test_a_rate_limit_waits_as_long_as_it_asks_and_a_little_longer() -> None:
    assert step(Answer.RATE_LIMITED, retry_after_s=30.0, draw=0.0) == (Step.WAIT, 30.0)
    assert step(Answer.RATE_LIMITED, retry_after_s=30.0, draw=0.5) == (Step.WAIT, 31.5)


def test_a_long_wait_is_bridged_by_the_fallback_and_a_server_s_typo_is_not_obeyed() -> None:
    answer, wait_s = step(Answer.RATE_LIMITED, retry_after_s=PATIENCE_S + 60.0)
    assert answer is Step.HAND_OVER
    assert wait_s >= PATIENCE_S + 60.0
    assert step(Answer.RATE_LIMITED, retry_after_s=1e9)[1] < 7 * 3600.0


@given(
    st.lists(st.sampled_from(GAVE_NOTHING), min_size=1, max_size=60),
    st.floats(0.0, 1.0, exclude_max=True),
    st.booleans(),
    st.booleans(),
    st.one_of(st.none(), st.floats(0.0, 1e12)),
    st.integers(0, 1000),
)
def test_whatever_comes_there_is_a_next_step_within_bounds(
    row: list[Answer],
    draw: float,
    fallback: bool,
    idea: bool,
    retry_after_s: float | None,
    hand_overs: int,
) -> None:
    found = next_step(
        row,
        draw=draw,
        fallback=fallback,
        idea=idea,
        retry_after_s=retry_after_s,
        hand_overs=hand_overs,
    )
    assert 0.0 <= found.wait_s <= 6 * 3600.0 + 10.0
    assert fallback or found.step is not Step.HAND_OVER
    assert idea or found.step is not Step.IDEA
    if found.step in (Step.WAIT, Step.HAND_OVER):
        assert found.wait_s > 0.0


@given(st.integers(1, 60))
def test_equal_jitter_keeps_half_of_the_wait_and_spreads_the_rest(times: int) -> None:
    row = [Answer.OVERLOADED] * times
    low, high = (next_step(row, draw=d, fallback=False, idea=False).wait_s for d in (0.0, 0.999))
    assert low * 1.99 < high <= low * 2
    assert high <= 600.0


# -- nights


class Thinking(Steps):
    """A researcher that reads words; each item is raised, or is an edit."""

    def __init__(self, script: Sequence[object], name: str = "agent") -> None:
        super().__init__([lr(0.03)], name=name)
        self.script = list(script)
        self.planned = 0

    def propose(self, context: Context) -> Proposal:
        self.contexts = [*(self.contexts or []), context]
        item = self.script[min(self.asked, len(self.script) - 1)]
        self.asked += 1
        if isinstance(item, Exception):
            raise item
        if isinstance(item, Proposal):
            return item
        text = item(context.files["train.py"])  # type: ignore[operator]
        words = f"{self.name} {self.asked}"
        usage = Usage(tokens_in=100, tokens_out=10, usd=0.01, calls=1)
        return Proposal(
            description=words, files={"train.py": text}, researcher=self.name, usage=usage
        )

    def plan(self, context: Context) -> Plan:
        self.planned += 1
        return Plan(())


class Clock:
    """A clock on which a minute passes at every look."""

    def __init__(self, each_s: float = 60.0) -> None:
        self.now_s, self.each_s = 0.0, each_s

    def __call__(self) -> float:
        self.now_s += self.each_s
        return self.now_s


def night(
    root: Path,
    researcher: Researcher,
    experiments: int,
    *,
    fallback: Callable[[], Researcher] | None = None,
    clock: Callable[[], float] | None = None,
    bounds: Bounds | None = None,
    before: Callable[[History], Sequence[object]] = lambda _h: (),
) -> tuple[Ending, History]:
    opened = open_study(root, tag="t", judge=open_judge("greedy"))
    with opened.engine.journal:
        for event in before(opened.engine.history):
            opened.engine.record(event)  # type: ignore[arg-type]
        bounds = bounds or Bounds(max_experiments=experiments)
        loop = Loop(opened.engine, researcher, bounds, fallback=fallback)
        if clock is not None:
            loop.thinker.clock = clock
        return loop.run(), opened.engine.history


def asked(root: Path) -> list[Asked]:
    return [e for e in read(root / ".nightlab" / "t" / "journal.jsonl") if isinstance(e, Asked)]


def test_a_night_survives_every_answer_there_is(tmp_path: Path) -> None:
    """One after another, each followed by a proposal; all booked, none judged."""
    script: list[object] = []
    for n, answer in enumerate(GAVE_NOTHING):
        spent = Usage(tokens_in=7, calls=1)
        script.append(ResearcherError("nothing", "so it is", answer=answer, usage=spent))
        script.append(lr(0.2 + n / 100))
    script += [
        Proposal(description="out of scope", files={"prepare.py": "x = 1\n"}),
        Proposal(description="broken", files={"train.py": "def (:\n"}),
        Proposal(description="nothing", files={}),
        "no proposal at all",
        ZeroDivisionError("a bug"),
        lr(0.01),
    ]
    researcher = Thinking(script)
    root = make_project(tmp_path / "p")
    ending, history = night(root, researcher, len(GAVE_NOTHING) + 2, clock=Clock())
    assert ending.reason == "bound"
    found = asked(root)
    came = [a.answer for a in found if a.task == "propose"]
    assert [a for a in came if a is not Answer.PROPOSED][: len(GAVE_NOTHING)] == GAVE_NOTHING
    assert came.count(Answer.PROPOSED) == len(GAVE_NOTHING) + 1
    tail = came[-6:]
    assert tail[:3] == [Answer.OUT_OF_SCOPE, Answer.BROKEN_SYNTAX, Answer.NO_EDIT]
    assert tail[3:] == [Answer.FAILED, Answer.FAILED, Answer.PROPOSED]
    assert history.counts.crash == 0
    assert history.accounts.spent.tokens == 7 * len(GAVE_NOTHING) + 110 * (len(GAVE_NOTHING) + 1)
    assert history.accounts.by_experiment[2].usd == 0.01
    assert all(a.number is not None for a in found if a.answer is Answer.PROPOSED)


def test_the_researcher_is_told_why_and_forgets_it_after_a_proposal(tmp_path: Path) -> None:
    failed = ResearcherError("it asked", "which optimizer?", answer=Answer.QUESTION)
    researcher = Thinking([failed, lr(0.03), lr(0.3)])
    night(make_project(tmp_path / "p"), researcher, 3)
    assert researcher.contexts is not None
    assert "nobody is there to answer" in researcher.contexts[1].refused[0]
    assert "which optimizer?" in researcher.contexts[1].refused[0]
    assert "nobody is there to answer" in researcher.contexts[1].brief
    assert researcher.contexts[2].refused == ()


def test_the_backlog_s_idea_is_put_in_front_and_its_experiment_is_marked(tmp_path: Path) -> None:
    failed = ResearcherError("no edit", answer=Answer.NO_EDIT)
    researcher = Thinking([failed, failed, lr(0.03)])
    ideas = [IdeaAdded(idea=Idea(id=1, text="halve the depth", source="person", priority=2.0))]
    _, history = night(make_project(tmp_path / "p"), researcher, 2, before=lambda _h: ideas)
    assert researcher.contexts is not None
    assert researcher.contexts[2].refused[-1].endswith("halve the depth")
    assert history.experiments[2].claim.idea == 1
    assert history.backlog.ideas[1].state is IdeaState.TAKEN


def test_no_credit_falls_back_warns_once_and_comes_back(tmp_path: Path) -> None:
    """Nothing to pay with for a while: the fallback goes on, having learnt everything."""
    broke = ResearcherError("no credit", "402", answer=Answer.NO_CREDIT)
    researcher = Thinking([lr(0.2), *[broke] * 3, lr(0.3)])
    second = Steps([lr(0.4 + n / 50) for n in range(40)], name="second")
    root = make_project(tmp_path / "p")
    _, history = night(root, researcher, 24, fallback=lambda: second, clock=Clock(100.0))
    by = [e.claim.researcher for e in history.experiments.values()]
    assert by[1] == "agent"
    assert by[2] == "second"
    assert "agent" in by[3:], by  # probed, and back again
    texts = [w.text for w in _all(root, Warned)]
    assert sum("agent gives none (no credit); second goes on." in t for t in texts) == 1
    assert "agent proposes again" in texts
    assert second.learned is not None
    assert [e.number for e in second.learned][:2] == [1, 2]
    assert researcher.learned is not None
    assert len(researcher.learned) == len(history.settled())
    assert [a.answer for a in asked(root)].count(Answer.NO_CREDIT) == 3


def test_a_fallback_that_runs_dry_leaves_the_first_to_be_waited_for(tmp_path: Path) -> None:
    from nightlab.researchers.scripted import ScriptedResearcher

    broke = ResearcherError("no access", "401", answer=Answer.NO_AUTH)
    researcher = Thinking([broke, broke, lr(0.2)])
    root = make_project(tmp_path / "p")
    ending, history = night(
        root, researcher, 2, fallback=lambda: ScriptedResearcher([]), clock=Clock()
    )
    assert ending.reason == "bound"
    assert history.experiments[2].claim.researcher == "agent"


def test_a_fallback_that_cannot_be_made_is_told_of_and_the_night_goes_on(tmp_path: Path) -> None:
    broke = ResearcherError("no access", "401", answer=Answer.NO_AUTH)
    researcher = Thinking([broke, lr(0.2)])
    root = make_project(tmp_path / "p")

    def make() -> Researcher:
        return open_researcher(Settings(use="llm"))

    _, history = night(root, researcher, 2, fallback=make, clock=Clock())
    assert history.counts.total == 2
    assert any("there is no fallback" in w.text for w in _all(root, Warned))


def test_failures_of_the_embedded_optimizer_are_not_booked_as_cost(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p")
    _, history = night(root, Steps([lambda t: t, lr(0.03)]), 2)
    assert len(_all(root, Refused)) >= 1
    assert asked(root) == []
    assert history.accounts.asked == 0


def _all(root: Path, kind: type) -> list[object]:
    return [e for e in read(root / ".nightlab" / "t" / "journal.jsonl") if isinstance(e, kind)]


# -- bounds


def test_money_and_tokens_and_device_time_end_the_night_in_words(tmp_path: Path) -> None:
    edits = [lr(0.2 + n / 50) for n in range(30)]
    for number, (bounds, says) in enumerate(
        [
            (Bounds(max_usd=0.025), "0.025 USD is reached (0.03 were spent)"),
            (Bounds(max_tokens=200), "200 tokens is reached (220 were used)"),
            (Bounds(max_device_s=0.05), "device hours is reached"),
        ]
    ):
        root = make_project(tmp_path / str(number))
        ending, history = night(root, Thinking(edits), 0, bounds=bounds)
        assert ending.reason == "bound"
        assert says in ending.detail
        if bounds.max_device_s is None:
            assert not history.trees  # what was begun was judged: that costs no call
        again, _ = night(root, Thinking(edits), 0, bounds=bounds)
        assert again == ending  # the study's books, not the session's


def test_a_call_is_told_what_it_may_cost(tmp_path: Path) -> None:
    researcher = Thinking([lr(0.2), lr(0.3)])
    bounds = Bounds(max_experiments=3, max_usd=1.0, max_tokens=5000)
    night(make_project(tmp_path / "p"), researcher, 0, bounds=bounds)
    assert researcher.contexts is not None
    assert [(c.usd_left, c.tokens_left) for c in researcher.contexts[:2]] == [
        (1.0, 5000),
        (pytest.approx(0.99), 4890),
    ]


def test_a_price_that_nobody_knows_is_told_where_money_is_bounded(tmp_path: Path) -> None:
    spent = Usage(tokens_in=5, calls=1)
    proposals = [
        Proposal(description=f"p{n}", files={"train.py": f"print('val_loss:', {n})\n"}, usage=spent)
        for n in (3, 4)
    ]
    root = make_project(tmp_path / "p")
    night(root, Thinking(proposals), 0, bounds=Bounds(max_experiments=3, max_usd=1.0))
    assert sum("use --max-tokens" in w.text for w in _all(root, Warned)) == 1


# -- a long thought


class Hanging(Thinking):
    """Thinks until it is closed."""

    def __init__(self) -> None:
        super().__init__([])
        self.closed = threading.Event()
        self.thinks = threading.Event()

    def propose(self, context: Context) -> Proposal:
        self.thinks.set()
        self.closed.wait(60)
        raise ResearcherError("it was closed")

    def close(self) -> None:
        self.closed.set()


def test_a_stop_during_a_long_thought_ends_the_lab_promptly_and_closes_the_researcher(
    tmp_path: Path,
) -> None:
    root = make_project(tmp_path / "p")
    researcher = Hanging()
    stopped_at: list[float] = []

    def stop() -> None:
        researcher.thinks.wait(60)
        stopped_at.append(time.monotonic())
        inbox.send(root / ".nightlab" / "t" / "inbox", "stop")

    threading.Thread(target=stop, daemon=True).start()
    ending, history = night(root, researcher, 5)
    assert time.monotonic() - stopped_at[0] < 5.0
    assert ending.reason == "stopped"
    assert researcher.closed.is_set()
    assert history.counts.total == 1


@pytest.mark.parametrize("how", ["stop", "interrupt"])
def test_an_agent_at_work_is_dead_when_the_lab_has_ended(tmp_path: Path, how: str) -> None:
    """A real program that thinks for ever, and its child in a session of its own."""
    marker = fresh_sleep()
    script = tmp_path / "agent.sh"
    script.write_text(f"setsid sleep {marker} &\nsleep {marker}\n")
    root = make_project(tmp_path / "p", more='[sandbox]\nuse = "process"\n')
    agent = open_researcher(Settings(use="command", command=f"sh {script}"))
    ended_after: list[float] = []

    def end() -> None:
        while not alive(marker):
            time.sleep(0.05)
        ended_after.append(time.monotonic())
        if how == "stop":
            inbox.send(root / ".nightlab" / "t" / "inbox", "stop")
        else:
            os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=end, daemon=True).start()
    ending, _ = night(root, agent, 5)
    assert time.monotonic() - ended_after[0] < 8.0
    assert ending.reason == ("stopped" if how == "stop" else "interrupted")
    assert alive(marker) == []


def test_a_verdict_is_never_a_researcher_s_failure(tmp_path: Path) -> None:
    failed = ResearcherError("overloaded", "529", answer=Answer.OVERLOADED)
    researcher = Thinking([failed, failed, failed, lr(0.03)])
    _, history = night(make_project(tmp_path / "p"), researcher, 2, clock=Clock())
    found: list[Experiment] = history.settled()
    assert [e.verdict for e in found] == [Verdict.KEEP, Verdict.KEEP]
