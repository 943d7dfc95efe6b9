"""A person tends the backlog while the lab runs or before: ideas, priorities, vetoes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nightlab import inbox, nudges, phases
from nightlab.config import Paths
from nightlab.events import IdeaAdded, IdeaChanged, StudyStarted, Warned
from nightlab.history import History, fold
from nightlab.inbox import Message
from nightlab.journal import read
from nightlab.model import Idea, IdeaState
from tests.support import Steps, drive, lr, make_project
from tests.test_cli import nightlab
from tests.test_journal import STUDY


def study() -> History:
    history = History(StudyStarted(study=STUDY, base_commit="c0", seq=1))
    history.apply(IdeaAdded(seq=2, idea=Idea(id=4, text="wider head", priority=2.0)))
    return history


def test_a_persons_idea_goes_first_and_is_taken_once() -> None:
    history = study()
    message = Message("idea", text="cosine \n decay", author="ada")
    event = nudges.event(history, message, "m1")
    assert isinstance(event, IdeaAdded)
    assert (event.idea.id, event.idea.text, event.idea.source) == (5, "cosine decay", "person")
    history.apply(event)
    assert [idea.id for idea in history.backlog.open()] == [5, 4]
    assert nudges.event(history, message, "m1") is None
    given = nudges.event(history, Message("idea", text="late", priority=-1.0), "m2")
    assert isinstance(given, IdeaAdded)
    assert given.idea.priority == -1.0


def test_priorities_and_vetoes_change_what_waits() -> None:
    history = study()
    event = nudges.event(history, Message("priority", idea=4, priority=7.5), "m1")
    assert isinstance(event, IdeaChanged)
    history.apply(event)
    assert history.backlog.ideas[4].priority == 7.5
    event = nudges.event(history, Message("veto", idea=4), "m2")
    assert isinstance(event, IdeaChanged)
    history.apply(event)
    assert history.backlog.ideas[4].state is IdeaState.VETOED
    assert history.backlog.open() == []
    assert isinstance(nudges.event(history, Message("veto", idea=9), "m3"), Warned)
    assert nudges.event(history, Message("stop"), "m4") is None


def test_messages_of_another_version_or_damaged_ones_do_no_harm(tmp_path: Path) -> None:
    old = {"kind": "idea", "text": "from before", "now": False, "author": "a"}
    (tmp_path / "1.json").write_text(json.dumps(old))
    (tmp_path / "2.json").write_text(json.dumps({**old, "priority": "much", "idea": None}))
    (tmp_path / "3.json").write_text(json.dumps({**old, "idea": "twelve"}))
    (tmp_path / "4.json").write_text(json.dumps({**old, "priority": True}).replace("true", "NaN"))
    found = [message for _, message in inbox.waiting(tmp_path)]
    assert [message.priority for message in found] == [None, None, None]
    assert not (tmp_path / "3.json").exists()


def test_notes_from_the_command_line_reach_the_lab_and_status_shows_them(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p")
    (root / "program.md").write_text(
        "## Phase: tuning (1 experiment)\n\n## Phase: bold\nrules: web\n\n## Phase of moon\n"
    )
    drive(root, Steps([lr(0.05)]), 1)
    nightlab(root, "note", "--idea", "gate the residual", "--priority", "3", check=0)
    nightlab(root, "note", "--idea", "cosine decay", check=0)
    drive(root, Steps([lr(0.05)]), 2)
    nightlab(root, "note", "--priority", "1=9", check=0)
    told = nightlab(root, "note", "--veto", "2", "--json", check=0)
    assert json.loads(told.stdout)["kind"] == "veto"
    drive(root, Steps([lr(0.06), lr(0.07)]), 3)
    (tag,) = Paths(root).tags()
    history = fold(read(Paths(root).journal(tag)))
    assert [idea.text for idea in history.backlog.open()] == ["gate the residual"]
    status = json.loads(nightlab(root, "status", "--json", check=0).stdout)
    assert status["backlog"]["open"] == 1
    assert status["backlog"]["top"][0]["priority"] == 9.0
    assert status["phase"]["name"] == "bold"
    assert status["phase"]["rules"] == ["one change", "web"]
    assert status["plateau"]["stage"] == "refine"
    text = nightlab(root, "status", check=0).stdout
    assert "gate the residual" in text
    assert "bold (2 of 2)" in text
    assert "Phase of moon" in text


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--priority", "3"], "of which idea"),
        (["--priority", "1=much"], "ID=N"),
        (["--priority", "x=1"], "ID=N"),
        (["--priority", "nan", "--idea", "x"], "ID=N"),
        (["--veto", "1"], "no idea 1"),
        (["--priority", "7=1"], "no idea 7"),
        (["words", "--idea", "x"], "one thing at a time"),
        (["words", "--priority", "2"], "only ideas"),
        (["--idea", "x" * 5000], "5000 characters"),
    ],
)
def test_mistakes_are_told_before_anything_is_sent(
    tmp_path: Path, args: list[str], says: str
) -> None:
    root = make_project(tmp_path / "p")
    (root / ".nightlab" / "t").mkdir(parents=True)
    from nightlab.journal import Journal

    with Journal(Paths(root).journal("t")) as journal:
        list(journal.events())
        journal.append(StudyStarted(study=STUDY, base_commit="c" * 40))
    done = nightlab(root, "note", *args, check=2)
    assert says in done.stderr
    assert list(inbox.waiting(Paths(root).inbox("t"))) == []


@pytest.mark.parametrize("name", ["digits", "gpt"])
def test_the_examples_have_phases_that_end(name: str) -> None:
    page = Path(__file__).parent.parent / "examples" / name / "program.md"
    found = phases.parse(page.read_text(encoding="utf-8"))
    assert len(found.phases) == 3
    assert found.warnings == ()
