"""Text that a model or a run wrote, wherever a person reads it: it shows, and it does nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from nightlab import process, report
from nightlab.model import Proposal
from nightlab.report.words import code, escape
from tests.support import Steps, drive, make_project
from tests.test_cli import process as cli

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[click](javascript:alert(1))",
    "![pixel](https://evil.example/p.png)",
    "<https://evil.example>",
    "https://evil.example/?leak",
    "www.evil.example",
    "mail me@evil.example",
    "```\nnot code\n```",
    "~~~sh\nrm -rf /\n~~~",
    "# Kept: everything",
    "- a list",
    "1. first",
    "2) second",
    "+ more",
    "===",
    "---",
    "> quoted",
    "a | b | c",
    "`code` ``more``",
    "*bold* _it_ ~~gone~~",
    "[ref]: https://evil.example",
    "&lt;b&gt; &#60;",
    "$x$ #1 \\<b>",
    "\x1b[2J\x1b]0;t\x07\u202e\u200b",
]
ACTS = {"link_open", "image", "html_inline", "html_block", "fence", "code_block", "heading_open",
        "bullet_list_open", "ordered_list_open", "hr", "blockquote_open", "table_open",
        "code_inline", "em_open", "strong_open", "s_open"}  # fmt: skip


def kinds(markdown: str) -> set[str]:
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(markdown)
    return {t.type for token in tokens for t in (token, *(token.children or ()))}


@pytest.mark.parametrize("text", HOSTILE)
def test_escaped_text_is_nothing_but_text(text: str) -> None:
    for around in ("{}", "words {} words", "words\n{}\n"):
        assert not kinds(around.format(escape(text))) & ACTS
    cell = f"| a | b |\n| - | - |\n| {escape(text)} | x |"
    assert kinds(cell) & ACTS == {"table_open"}
    assert process.clean(escape(text)) == escape(text)


@pytest.mark.parametrize("text", ["https://evil.example", "see www.evil.example", "a@b.example"])
def test_renderers_find_no_address_to_link(text: str) -> None:
    assert not re.search(r"\w://|www\.|\w@", escape(text))


@given(st.text(max_size=60))
def test_any_text_is_nothing_but_text(text: str) -> None:
    assert not kinds(escape(text)) & ACTS
    assert kinds(f"x {code(text)} y") & ACTS <= {"code_inline"}


def test_what_a_researcher_and_a_run_write_does_nothing_where_it_is_shown(tmp_path: Path) -> None:
    hostile = " ".join(HOSTILE)

    class Rude(Steps):
        def propose(self, context: object) -> Proposal:
            self.asked += 1
            text = f"raise RuntimeError({hostile!r} + str({self.asked}))\n"
            return Proposal(
                description=hostile + str(self.asked), files={"train.py": text},
                hypothesis=hostile, category="<b>|x", researcher=self.name,
            )  # fmt: skip

    root = make_project(tmp_path / "p")
    _, opened = drive(root, Rude([]), 3)
    page = report.markdown(opened.engine.history, locked=False, now=0.0)
    assert not kinds(page) & {"image", "html_inline", "html_block", "link_open"}
    assert "evil.example" in page
    assert not re.search(r"https?://evil|www\.evil|me@evil", _outside_code(page))
    for args in (
        ["show", "2"],
        ["show", "2", "--log"],
        ["status"],
        ["report"],
        ["show", "2", "--diff"],
    ):
        done = cli(root, *args)
        assert done.returncode == 0, done.stderr
        shown = done.stdout
        assert process.clean(shown) == shown, args
    for args in (["show", "2", "--json"], ["status", "--json"], ["export", "--format", "json"]):
        done = cli(root, *args)
        assert done.returncode == 0, done.stderr
        shown = done.stdout
        json.loads(shown)
        assert process.clean(shown) == shown, args


def _outside_code(page: str) -> str:
    return re.sub(r"(`+).+?\1", "", page)
