"""knowledge/: what documents say is found and cited; what is broken costs only itself."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nightlab import knowledge
from nightlab.knowledge import Library
from nightlab.knowledge.pages import PASSAGE_CHARS, Report, passages
from tests.pdfs import pdf

WAIT_S = 60.0


def library(folder: Path, **documents: bytes) -> Library:
    """A library of documents; ``__`` in a name stands for its dot."""
    (folder / "knowledge").mkdir(exist_ok=True)
    for name, content in documents.items():
        (folder / "knowledge" / name.replace("__", ".")).write_bytes(content)
    return Library(folder / "knowledge", folder / ".nightlab" / "knowledge.sqlite")


def cites(found: Library, *words: str) -> list[str]:
    return [p.cite for p in found.search(words)]


def test_pages_headings_and_lines_are_cited(tmp_path: Path) -> None:
    found = library(
        tmp_path,
        thesis__pdf=pdf([["Nothing here."], ["The warmup stabilises the segmentation loss."]]),
        notes__md=b"# Intro\n\nHello.\n\n## On dropout\n\nDropout hurts small networks.\n",
        old__txt="Zerlegung der Gewichte, größer als üblich.".encode("cp1252"),
    )
    assert found.refresh(WAIT_S)
    assert found.problems() == []
    assert cites(found, "segmentation warmup") == ["[thesis.pdf p. 2]"]
    assert cites(found, "does dropout hurt?") == ["[notes.md § On dropout]"]
    assert cites(found, "größer") == ["[old.txt line 1]"]
    assert "größer" in found.search(["Gewichte"])[0].text
    assert found.search(["stabilised"])[0].cite == "[thesis.pdf p. 2]"  # stems are words alike


def test_chinese_is_found_by_any_two_signs_of_it(tmp_path: Path) -> None:
    text = "学习率预热能稳定关系型缺陷分割的训练。warmup 有用"
    found = library(tmp_path, a__md=text.encode(), b__md="完全不同的内容，讲天气。".encode())
    assert found.refresh(WAIT_S)
    (passage,) = found.search(["怎样预热学习率？"])
    assert (passage.cite, passage.text) == ("[a.md line 1]", text)
    assert cites(found, "warmup") == ["[a.md line 1]"]


def test_without_documents_nothing_is_made_and_nothing_found(tmp_path: Path) -> None:
    found = Library(tmp_path / "knowledge", tmp_path / ".nightlab" / "k.sqlite")
    assert found.refresh()
    assert found.search(["anything"]) == []
    assert not (tmp_path / ".nightlab").exists()


def test_changed_new_and_removed_documents_are_seen(tmp_path: Path) -> None:
    found = library(tmp_path, a__md=b"alpha particles", b__md=b"beta particles")
    assert found.refresh(WAIT_S)
    assert sorted(cites(found, "particles")) == ["[a.md line 1]", "[b.md line 1]"]
    (tmp_path / "knowledge" / "a.md").write_bytes(b"gamma particles, now longer")
    (tmp_path / "knowledge" / "b.md").unlink()
    (tmp_path / "knowledge" / "c.md").write_bytes(b"delta particles")
    assert found.refresh(WAIT_S)
    assert cites(found, "alpha") == cites(found, "beta") == []
    assert sorted(cites(found, "particles")) == ["[a.md line 1]", "[c.md line 1]"]


def encrypted(page: str) -> bytes:
    import io

    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(pdf([[page]]))))
    writer.encrypt("secret", algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def test_broken_encrypted_empty_and_binary_documents_are_reported_and_cost_only_themselves(
    tmp_path: Path,
) -> None:
    whole = pdf([["A sound page on pruning."]] * 3)
    found = library(
        tmp_path,
        sound__pdf=whole,
        torn__pdf=whole[: len(whole) // 3],
        noise__pdf=b"%PDF-1.7\n" + random.Random(0).randbytes(20_000),
        nothing__pdf=b"",
        locked__pdf=encrypted("pruning in secret"),
        blank__pdf=pdf([[]]),
        binary__txt=b"pruning\0\0\0" * 100,
    )
    os.mkfifo(tmp_path / "knowledge" / "pipe.md")
    (tmp_path / "knowledge" / "loop").symlink_to(tmp_path / "knowledge")
    (tmp_path / "knowledge" / os.fsdecode(b"caf\xe9.md")).write_text("odd name, pruning")
    assert found.refresh(WAIT_S)
    assert "[sound.pdf p. 1]" in cites(found, "pruning")
    assert any("caf" in cite for cite in cites(found, "odd name"))
    told = "\n".join(found.problems())
    for name in ("torn", "noise", "nothing", "locked", "blank", "binary"):
        assert f"knowledge/{name}." in told
    assert "sound" not in told
    assert "encrypted" in told
    assert found.news()
    assert found.news() == []


def test_a_query_is_only_words(tmp_path: Path) -> None:
    found = library(tmp_path, a__md=b"the optimizer and the tokenizer")
    assert found.refresh(WAIT_S)
    for query in ('"', "optimizer AND", "NEAR(optimizer", "text: optimizer*", "a'b\"c OR --", "\0"):
        found.search([query])
    assert cites(found, 'NOT "optimizer') == ["[a.md line 1]"]
    assert found.search([]) == found.search(["the and"]) == []


def test_a_reader_that_is_killed_leaves_the_document_for_a_second_try_and_no_third(
    tmp_path: Path,
) -> None:
    found = library(tmp_path, a__md=b"alpha", hang__md=b"omega")
    index = tmp_path / ".nightlab" / "knowledge.sqlite"
    index.parent.mkdir()
    # The same program, but reading hang.md ends it as a kill would.
    dying = (
        "import os, sys\nfrom pathlib import Path\nfrom nightlab.knowledge import index\n"
        "real = index.passages\n"
        "index.passages = lambda p, r: os._exit(9) if p.name == 'hang.md' else real(p, r)\n"
        "index.main(Path(sys.argv[1]), Path(sys.argv[2]))\n"
    )
    run = [sys.executable, "-c", dying, str(found.root), str(index)]
    assert subprocess.run(run, check=False).returncode == 9
    assert cites(found, "alpha") == ["[a.md line 1]"]
    assert found.problems() == []
    assert found._stale(look=True)
    assert subprocess.run(run, check=False).returncode == 9
    assert not found._stale(look=True)
    assert "hang.md" in found.problems()[0]
    # It changes, and is read.
    (found.root / "hang.md").write_bytes(b"omega, mended")
    assert found.refresh(WAIT_S)
    assert cites(found, "omega") == ["[hang.md line 1]"]
    assert found.problems() == []


def test_a_damaged_index_is_made_anew(tmp_path: Path) -> None:
    found = library(tmp_path, a__md=b"alpha")
    index = tmp_path / ".nightlab" / "knowledge.sqlite"
    index.parent.mkdir()
    index.write_bytes(b"this is no database at all" * 100)
    assert found.search(["alpha"]) == []
    assert found.refresh(WAIT_S)
    assert cites(found, "alpha") == ["[a.md line 1]"]


def test_an_index_that_cannot_be_written_is_said_and_not_tried_for_ever(tmp_path: Path) -> None:
    (tmp_path / "in_the_way").write_text("")
    (tmp_path / "knowledge").mkdir()
    (tmp_path / "knowledge" / "a.md").write_text("alpha")
    found = Library(tmp_path / "knowledge", tmp_path / "in_the_way" / "k.sqlite")
    assert not found.refresh(WAIT_S)
    assert "not searched" in found.news()[0]
    assert not found.refresh()
    assert found.search(["alpha"]) == []


def test_a_project_with_modules_of_its_own_is_not_imported(tmp_path: Path) -> None:
    """The reader must not run a stray sqlite3.py or pypdf.py of the project."""
    found = library(tmp_path, a__pdf=pdf([["alpha"]]))
    for folder in (tmp_path, tmp_path / "knowledge", tmp_path / ".nightlab"):
        folder.mkdir(exist_ok=True)
        for name in ("sqlite3", "pypdf", "logging"):
            (folder / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    assert found.refresh(WAIT_S)
    assert cites(found, "alpha") == ["[a.pdf p. 1]"]
    assert not (tmp_path / "ran").exists()


def test_passages_are_bounded_and_lose_no_word(tmp_path: Path) -> None:
    words = [f"word{n}" for n in range(5000)]
    (tmp_path / "a.md").write_text(" ".join(words) + "\n\n" + "x" * 5000)
    pieces = [text for _, text in passages(tmp_path / "a.md", Report())]
    assert max(map(len, pieces)) <= PASSAGE_CHARS
    assert " ".join(pieces).split()[: len(words)] == words


@pytest.mark.parametrize(
    "raw",
    [
        "größer ü 模型".encode(),
        "größer ü 模型".encode("utf-16"),
        b"\xef\xbb\xbf" + "größer ü 模型".encode(),
    ],
)
def test_encodings_are_told_apart(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(raw)
    ((_, text),) = passages(tmp_path / "a.txt", Report())
    assert text == "größer ü 模型"


def test_a_thesis_of_300_pages_is_indexed_in_the_background_and_searched_at_once(
    tmp_path: Path,
) -> None:
    rng = random.Random(0)
    vocabulary = ["".join(rng.choices("abcdefghijklm", k=rng.randint(3, 9))) for _ in range(5000)]
    pages = [[" ".join(rng.choices(vocabulary, k=12)) for _ in range(45)] for _ in range(300)]
    pages[122][7] = "Relational attention needs a long warmup for thin defects."
    found = library(tmp_path, thesis__pdf=pdf(pages))
    began = time.monotonic()
    assert not found.refresh()
    assert time.monotonic() - began < 1.0  # the loop's thread goes on
    assert found.refresh(WAIT_S)
    began = time.monotonic()
    assert cites(found, "warmup for thin defects", *vocabulary[:30])[0] == "[thesis.pdf p. 123]"
    assert time.monotonic() - began < 0.5


def test_identifiers_are_words() -> None:
    found = knowledge.terms_of_code("MATRIX_LR = useRope(head_dim)\nx = 3\n")
    assert {"matrix", "rope", "head", "dim"} <= found
    assert "x" not in found


def test_this_python_can_search() -> None:
    assert knowledge.full_text()
    assert sqlite3.threadsafety >= 1
