"""README and docs agree with the code, and with each other."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from nightlab import events, views
from nightlab.history import fold
from nightlab.model import Verdict
from tests.test_history import events as made

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("examples/*/*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_and_pictures_exist(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        there = (page.parent / name) if name else page
        assert there.exists(), f"{page.name} links to {target}"
        if anchor:
            heads = re.findall(r"^#+ (.*)$", there.read_text(), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in heads}
            assert anchor in slugs, f"{page.name} links to {target}"


def test_every_command_in_the_readme_exists_with_its_flags() -> None:
    reference = (ROOT / "docs" / "cli.md").read_text()
    text = (ROOT / "README.md").read_text()
    found = re.findall(r"nightlab ([a-z]+)((?: --?[a-z-]+)*)", text)
    verbs = [(v, f) for v, f in found if re.search(rf"^## .*\b{v}\b", reference, re.MULTILINE)]
    assert {"init", "run", "status", "show", "report", "note", "stop"} <= {v for v, _ in verbs}
    for verb, flags in verbs:
        for flag in flags.split():
            assert flag in reference, f"nightlab {verb} {flag}"
    targets = re.findall(r"^make ([a-z-]+)|`make ([a-z-]+)`", text, re.MULTILINE)
    makefile = (ROOT / "Makefile").read_text()
    for name in {a or b for a, b in targets}:
        assert f"\n{name}:" in makefile, f"make {name}"


def test_no_placeholder_is_left() -> None:
    for page in PAGES:
        assert not re.search(r"\b[A-Z]+_(?:CAPTION|PARAGRAPH|FIGURES)\b", page.read_text()), page


def test_agents_md_is_short() -> None:
    assert (ROOT / "AGENTS.md").read_text().count("\n") <= 120


def test_json_page_names_every_key_and_every_event() -> None:
    page = (ROOT / "docs" / "json.md").read_text()
    history = fold(made([(Verdict.KEEP, [1.0, 1.1]), (Verdict.DISCARD, [2.0])]))
    status = views.status(history, locked=False, now=0.0)
    for key, value in status.items():
        assert f"`{key}`" in page, key
        for inner in value if isinstance(value, dict) else ():
            assert f"`{inner}`" in page, f"{key}.{inner}"
    for key in next(iter(views.rows(history))):
        assert f"`{key}`" in page, key
    types = [t for t in vars(events).values() if isinstance(t, type)]
    tags = [t.__struct_config__.tag for t in types if issubclass(t, events.Event)]
    for tag in tags:
        if tag != "event":
            assert f"`{tag}`" in page, tag


def test_status_is_json_and_survives_a_round_trip() -> None:
    history = fold(made([(Verdict.KEEP, [1.0])]))
    text = msgspec.json.encode(views.status(history, locked=True, now=5.0))
    assert msgspec.json.decode(text)["state"] == "running"
