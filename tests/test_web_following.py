"""A journal followed as it grows, is torn, cut back, replaced, damaged: the page's table is right."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from bench.ui import Writer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nightlab.config import Paths
from nightlab.errors import JournalError
from nightlab.journal import Tail, read
from nightlab.web.answers import encode
from nightlab.web.following import Followed
from tests.web_support import Page


class File(io.BytesIO):
    pass


def written(experiments: int) -> bytes:
    file = File()
    Writer(file).grow(experiments)
    return file.getvalue()


JOURNAL = written(30)


def told(study: Followed, page: Page | None = None) -> dict[str, Any]:
    found = study.rows(page.epoch, page.seq) if page else study.rows()
    decoded: dict[str, Any] = json.loads(encode(found))
    return decoded


def whole(folder: Path) -> dict[int, dict[str, Any]]:
    """The rows as a server sees them that has just started."""
    fresh, page = Followed("0", folder, "bench"), Page()
    fresh.poll(60)
    page.take(told(fresh))
    return page.rows


def place(folder: Path) -> Path:
    path = Paths(folder).journal("bench")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(cuts=st.lists(st.integers(1, len(JOURNAL)), max_size=12), looks=st.data())
def test_differences_add_up_to_the_whole_wherever_the_journal_is_torn(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], looks: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("s")
    path = place(folder)
    path.write_bytes(b"")
    study, page = Followed("0", folder, "bench"), Page()
    for at, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(JOURNAL)], strict=True):
        with path.open("ab") as file:
            file.write(JOURNAL[at:end])
        if looks.draw(st.booleans()):
            study.poll(60)
            if looks.draw(st.booleans()):
                page.take(told(study, page))
    study.poll(60)
    page.take(told(study, page))
    assert page.rows == whole(folder)
    assert len(page.rows) == 30
    assert study.error is None
    assert not study.loading


def test_a_difference_is_only_what_changed(tmp_path: Path) -> None:
    path, lines = place(tmp_path), JOURNAL.splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-30]))
    study = Followed("0", tmp_path, "bench")
    study.poll(60)
    page = Page()
    page.take(told(study))
    with path.open("ab") as file:
        file.write(b"".join(lines[-30:]))
    study.poll(60)
    difference = told(study, page)
    assert not difference["full"]
    assert 0 < len(difference["columns"]["n"]) < 10
    page.take(difference)
    assert page.rows == whole(tmp_path)


def test_another_journal_in_its_place_is_read_anew(tmp_path: Path) -> None:
    path = place(tmp_path)
    path.write_bytes(JOURNAL)
    study, page = Followed("0", tmp_path, "bench"), Page()
    study.poll(60)
    page.take(told(study))
    before = study.epoch
    other = tmp_path / "other"
    other.write_bytes(written(40)[: len(JOURNAL) * 3])
    other.replace(path)
    study.poll(60)
    assert study.epoch != before
    difference = told(study, page)
    assert difference["full"]
    page.take(difference)
    assert page.rows == whole(tmp_path)


@pytest.mark.parametrize("keep", [0, 1, 40])
def test_a_journal_that_is_cut_back_is_read_anew(tmp_path: Path, keep: int) -> None:
    path, lines = place(tmp_path), JOURNAL.splitlines(keepends=True)
    path.write_bytes(JOURNAL)
    study, page = Followed("0", tmp_path, "bench"), Page()
    study.poll(60)
    page.take(told(study))
    os.truncate(path, sum(map(len, lines[:keep])))
    study.poll(60)
    page.take(told(study, page))
    assert page.rows == (whole(tmp_path) if keep else {})
    with path.open("ab") as file:
        file.write(b"".join(lines[keep:]))
    study.poll(60)
    page.take(told(study, page))
    assert len(page.rows) == 30
    assert page.rows == whole(tmp_path)


def test_a_longer_journal_written_into_the_same_file_is_read_anew(tmp_path: Path) -> None:
    path = place(tmp_path)
    path.write_bytes(JOURNAL)
    study, page = Followed("0", tmp_path, "bench"), Page()
    study.poll(60)
    page.take(told(study))
    inode, before = path.stat().st_ino, study.epoch
    with path.open("r+b") as file:  # neither replaced nor shorter at any look
        file.write(written(40).replace(b"tokenizer alone", b"tokenizer in peace"))
    assert path.stat().st_ino == inode
    study.poll(60)
    page.take(told(study, page))
    assert study.epoch != before
    assert len(page.rows) == 40
    assert page.rows == whole(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        b'{"type":"nonsense","seq":9}\n',
        b"\xff\xfe\n",
        b"\n",
        b"[" * 50_000 + b"\n",
        JOURNAL.splitlines(keepends=True)[0],
        b'{"type":"final_decided"}\n',
    ],
)
def test_a_damaged_journal_is_an_error_until_it_is_mended(tmp_path: Path, damage: bytes) -> None:
    path, lines = place(tmp_path), JOURNAL.splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:50]))
    study, page = Followed("0", tmp_path, "bench"), Page()
    study.poll(60)
    page.take(told(study))
    with path.open("ab") as file:
        file.write(damage + lines[50])
    study.poll(60)
    assert study.error is not None
    assert study.status()["error"]["what"]
    page.take(told(study, page))
    assert page.rows == {}
    with pytest.raises(JournalError), study.read():
        pass
    path.write_bytes(b"".join(lines[:60]))
    study.poll(60)
    assert study.error is None
    page.take(told(study, page))
    assert page.rows == whole(tmp_path)


def test_an_event_that_cannot_follow_is_an_error_and_not_the_end_of_the_server(
    tmp_path: Path,
) -> None:
    path, lines = place(tmp_path), JOURNAL.splitlines(keepends=True)
    cleaned = b'{"type":"final_cleaned","seq":51,"at":1,"cleaned":{"dropped":[],"tree":"t"}}\n'
    path.write_bytes(b"".join(lines[:50]) + cleaned)
    study = Followed("0", tmp_path, "bench")
    study.poll(60)
    assert study.error is not None


def test_a_tail_reads_what_read_reads(tmp_path: Path) -> None:
    path = place(tmp_path)
    path.write_bytes(JOURNAL + b'{"type":"noted"')
    tail, found = Tail(path), []
    anew, events = tail.read()
    assert anew
    while events:
        found += events
        anew, events = tail.read()
        assert not anew
    assert found == list(read(path))


def test_a_line_longer_than_a_piece_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nightlab.journal._CHUNK_BYTES", 64)
    path = place(tmp_path)
    path.write_bytes(JOURNAL)
    tail, found = Tail(path), 0
    while events := tail.read()[1]:
        found += len(events)
    assert found == JOURNAL.count(b"\n")


def test_a_study_that_vanishes_is_gone(tmp_path: Path) -> None:
    path = place(tmp_path)
    path.write_bytes(JOURNAL)
    study = Followed("0", tmp_path, "bench")
    study.poll(60)
    path.unlink()
    study.poll(60)
    assert study.gone


def test_a_free_lock_of_a_killed_lab_is_asked_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place(tmp_path).write_bytes(JOURNAL)
    Paths(tmp_path).lock("bench").write_text('{"pid": 1}')
    asked = []
    monkeypatch.setattr("nightlab.journal.is_locked", lambda path: bool(asked.append(path)))
    study = Followed("0", tmp_path, "bench")
    for _ in range(5):
        study.poll(60)
    assert len(asked) == 1
    assert not study.running
    Paths(tmp_path).lock("bench").write_text('{"pid": 22}')
    study.poll(60)
    assert len(asked) == 2
