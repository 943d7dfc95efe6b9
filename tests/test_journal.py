"""The journal: durable, one writer, torn tails set aside, damage refused."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from nightlab.errors import JournalError, LockedError
from nightlab.events import Noted, StudyStarted
from nightlab.history import fold
from nightlab.journal import Journal, is_locked, read
from nightlab.model import Better, Objective, Study

STUDY = Study(
    tag="t",
    command="true",
    edit=("train.py",),
    budget_s=1.0,
    objective=Objective(metric="loss", better=Better.LOWER),
)


def write(path: Path, notes: int = 3) -> None:
    with Journal(path) as journal:
        assert list(journal.events()) == []
        journal.append(StudyStarted(study=STUDY, base_commit="c" * 40))
        for number in range(notes):
            journal.append(Noted(text=f"note {number}"))


def test_what_was_appended_is_read_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "a journal" / "journal.jsonl"
    write(path)
    events = list(read(path))
    assert [e.seq for e in events] == [1, 2, 3, 4]
    assert [e.text for e in events[1:] if isinstance(e, Noted)] == ["note 0", "note 1", "note 2"]
    assert fold(events).study == STUDY


def test_a_torn_last_line_is_set_aside_and_appending_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    write(path)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"type":"noted","seq":5,"te')
    assert len(list(read(path))) == 4
    with Journal(path) as journal:
        assert len(list(journal.events())) == 4
        journal.append(Noted(text="after"))
    assert path.with_suffix(".torn").read_bytes() == b'{"type":"noted","seq":5,"te'
    assert path.read_bytes().startswith(whole)
    assert [e.seq for e in read(path)] == [1, 2, 3, 4, 5]


def test_every_way_of_tearing_the_last_line_loses_only_that_line(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    write(path, notes=1)
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for cut in range(first, len(whole)):
        path.write_bytes(whole[:cut])
        with Journal(path) as journal:
            assert len(list(journal.events())) == 1, cut
        assert path.read_bytes() == whole[:first]


@pytest.mark.parametrize(
    "damage",
    [
        lambda lines: [lines[0], b"not json", *lines[2:]],
        lambda lines: [lines[0], *lines[2:]],
        lambda lines: [lines[0], lines[1], lines[1], *lines[2:]],
        lambda lines: [lines[0], b'{"type":"unheard_of","seq":2}', *lines[2:]],
        lambda lines: [lines[0], b"\xff\xfe\x00", *lines[2:]],
        lambda lines: [lines[0], lines[1][:10], *lines[2:]],
    ],
    ids=["foreign line", "missing line", "doubled line", "unknown event", "binary", "torn middle"],
)
def test_damage_in_the_middle_is_refused_with_its_line(tmp_path: Path, damage: object) -> None:
    path = tmp_path / "journal.jsonl"
    write(path)
    lines = path.read_bytes().rstrip(b"\n").split(b"\n")
    path.write_bytes(b"\n".join(damage(lines)) + b"\n")  # type: ignore[operator]
    with pytest.raises(JournalError, match=r"line [23]") as caught:
        fold(read(path))
    assert all(caught.value.lines())


def test_a_journal_that_is_empty_or_foreign_says_so(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b"")
    with pytest.raises(JournalError, match="does not begin with a study"):
        fold(read(path))
    with pytest.raises(JournalError, match="cannot read"):
        fold(read(tmp_path / "missing"))


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.append(StudyStarted(study=STUDY, base_commit="c", format=99))
    with pytest.raises(JournalError, match="format 99"):
        fold(read(path))


def test_a_second_writer_is_told_who_holds_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path):
        assert is_locked(tmp_path / "lock")
        with pytest.raises(LockedError, match=f"process {os.getpid()}"):
            Journal(path)
    assert not is_locked(tmp_path / "lock")
    with Journal(path):
        pass


def test_the_lock_of_a_killed_writer_is_free(tmp_path: Path) -> None:
    code = f"""
        import os, signal, pathlib
        from nightlab.journal import Journal
        journal = Journal(pathlib.Path({str(tmp_path / "journal.jsonl")!r}))
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    assert done.returncode == -9
    assert not is_locked(tmp_path / "lock")
    with Journal(tmp_path / "journal.jsonl"):
        pass


def test_a_full_disk_cuts_back_to_the_last_whole_line(tmp_path: Path) -> None:
    """A file size limit is the honest stand-in for ENOSPC: the kernel writes a part, then fails."""
    path = tmp_path / "journal.jsonl"
    write(path)
    whole = path.read_bytes()
    code = f"""
        import pathlib, resource, signal
        from nightlab.errors import JournalError
        from nightlab.events import Noted
        from nightlab.journal import Journal
        journal = Journal(pathlib.Path({str(path)!r}))
        list(journal.events())
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, ({len(whole) + 20}, {len(whole) + 20}))
        try:
            journal.append(Noted(text="x" * 500))
        except JournalError as error:
            print(error.what)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert "cannot write the journal" in done.stdout
    assert path.read_bytes() == whole
