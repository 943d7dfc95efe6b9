"""README and docs agree with the code, and with each other."""

from __future__ import annotations

import ast
import itertools
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
import typer
from typer.exceptions import TyperException

from nightlab import config, events, views
from nightlab.cli import app
from nightlab.errors import NightlabError
from nightlab.history import fold
from nightlab.model import Verdict
from tests.support import CONFIG
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


# -- commands


class Fence(NamedTuple):
    page: str
    kind: str
    text: str


def fences() -> list[Fence]:
    found = []
    for page in PAGES:
        for kind, text in re.findall(
            r"^```(\w*)[^\n]*\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL
        ):
            found.append(Fence(str(page.relative_to(ROOT)), kind, text))
    return found


def inline() -> list[tuple[str, str]]:
    """(page, text) of what stands in backticks outside fences; a line may break in it."""
    found = []
    for page in PAGES:
        text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        name = str(page.relative_to(ROOT))
        found += [(name, " ".join(code.split())) for code in re.findall(r"`([^`]+)`", text)]
    return found


def commands() -> list[tuple[str, str]]:
    """(page, what follows the word nightlab) of every command line that a page shows."""
    found = []
    for fence in fences():
        if fence.page == "docs/cli.md" and "[OPTIONS]" in fence.text:
            continue
        for line in fence.text.splitlines():
            for rest in re.findall(r"(?:^|[\s/'(])nightlab ([a-z-].*)", line):
                word = rest.split()[0]
                if fence.kind == "sh" or word in VERBS:
                    found.append((fence.page, re.split(r"\s#|\s{2,}", rest)[0]))
    for page, code in inline():
        named = re.findall(r"(?:^|[\s'(])nightlab ([a-z-].*)", code)
        found += [(page, c) for c in named if code.startswith("nightlab ") or c.split()[0] in VERBS]
    return found


GROUP: Any = typer.main.get_command(app)
VERBS = set(GROUP.commands)
PLACEHOLDERS = {"N": "1", "TAG": "mar5", "PATH": "x", "FILE": "x", "DIR": ".", "VERB": "install"}


def words_of(command: str) -> list[str]:
    """The words of one command, without what the shell does with it afterwards."""
    try:
        words = _split(command)
    except ValueError:  # the whole stood in quotes: ssh box 'nightlab status'
        words = _split(command[:-1])
    return [PLACEHOLDERS.get(word, word) for word in words]


def _split(command: str) -> list[str]:
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    return list(itertools.takewhile(lambda word: not set(word) <= set("|&;<>()"), lexer))


def refusal(command: str) -> str:
    """Why the command line refuses these words; "" where it takes them."""
    words = words_of(command)
    if words[0] in ("--help", "--version", "-h") or words[-1] in ("--help", "-h"):
        return "" if words[0].startswith("-") or words[0] in VERBS else "no such verb"
    if words[0] not in VERBS:
        return "no such verb"
    verb = GROUP.commands[words[0]]
    try:
        verb.make_context(words[0], words[1:], parent=typer.Context(GROUP))
    except TyperException as error:
        said = error.format_message()
        named = said.startswith("Missing argument") or (words[-1] in said and "requires" in said)
        return "" if named else said  # "`note --idea`" speaks of a flag
    return ""


def test_every_command_that_a_page_shows_is_one_that_the_command_line_takes() -> None:
    shown = commands()
    assert len(shown) > 150
    assert {c.split()[0] for p, c in shown if p == "README.md"} >= {
        *("init", "run", "status", "show", "report", "note", "pause", "stop", "finalize", "skill"),
    }
    wrong = [(page, c, why) for page, c in shown if (why := refusal(c))]
    assert wrong == []


def test_a_wrong_command_would_be_found() -> None:
    for wrong in ("rum", "run --untill 07:00", "status --limit 3", "show seventeen", "stop --soon"):
        assert refusal(wrong), wrong


def test_every_verb_is_told_of_outside_the_reference_and_so_is_what_is_not_there_yet() -> None:
    told = {c.split()[0] for page, c in commands() if page != "docs/cli.md"}
    assert VERBS - told == set()


def test_the_first_screen_and_the_readme_tell_of_the_same_night() -> None:
    screen = re.findall(r"nightlab (\w+)", (GROUP.callback.__doc__ or "").split("No script")[0])
    text = (ROOT / "README.md").read_text()
    lines = text.split("five lines")[1].split("```")[1]
    assert re.findall(r"nightlab (\w+)", lines) == screen == ["init", "run", "report", "finalize"]
    assert len(lines.strip().splitlines()) - 1 == 5  # the fence's own line is not one


def test_targets_of_make_that_a_page_names_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    text = "\n".join(page.read_text() for page in PAGES if page.parent.name != "examples")
    for name in set(re.findall(r"^make ([a-z-]+)|`make ([a-z-]+)`", text, re.MULTILINE)):
        if (target := name[0] or name[1]) not in ("bench-", ""):
            assert f"\n{target}:" in makefile, f"make {target}"


# -- nightlab.toml


def merged(text: str) -> dict[str, Any]:
    table = tomllib.loads(CONFIG.format(python="python"))
    for name, section in tomllib.loads(text).items():
        assert isinstance(section, dict), f"{name} stands in no table"
        table[name] = {**table.get(name, {}), **section}
    return table


def test_every_piece_of_toml_loads() -> None:
    pieces = [f for f in fences() if f.kind == "toml"]
    assert len(pieces) > 10
    for piece in pieces:
        try:
            config.parse(merged(piece.text))
        except NightlabError as error:
            pytest.fail(f"{piece.page}: {error}\n{piece.text}")


def test_every_key_that_a_page_names_with_its_table_exists() -> None:
    seen = 0
    for page, code in inline():
        for table, key in re.findall(r"^\[(\w+)\] ([a-z_]+)", code):
            seen += 1
            known = config.keys.KEYS.get(table)
            assert known is not None, f"{page}: [{table}]"
            own = table in ("guards", "checks", "pareto")
            assert own or key in known, f"{page}: [{table}] {key}"
    for page in PAGES:
        pairs = re.findall(r"`([a-z_]+)(?: = [^`]+)?`\s+under\s+`\[(\w+)\]`", page.read_text())
        for key, table in pairs:
            seen += 1
            assert key in config.keys.KEYS[table], f"{page.name}: {key} under [{table}]"
    assert seen > 30


# -- pages


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached:
            continue
        reached.add(page)
        links = re.findall(r"\]\(([^)\s#]+\.md)", page.read_text())
        waiting += [(page.parent / link).resolve() for link in links if "://" not in link]
    assert set((ROOT / "docs").glob("*.md")) - reached == set()


# -- the texts of errors


def texts() -> list[str]:
    """Every string of the sources; what is put into it while it runs is a line break."""
    found = []
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = [str(v.value) if isinstance(v, ast.Constant) else "\n" for v in node.values]
                found.append("".join(parts))
    return [" ".join(text.split(" ")) for text in found]


# What others print: the kernel, the interpreter, git at the end of a hint.
NOT_OURS = {"Read-only file system", "ModuleNotFoundError"}


def test_every_error_that_the_troubleshooting_page_names_is_one_that_nightlab_prints() -> None:
    page = (ROOT / "docs" / "faq.md").read_text()
    first = [row.split("|")[1] for row in page.splitlines() if row.startswith("| `")]
    named = {code for cell in first for code in re.findall(r"`([^`]+)`", cell)} - NOT_OURS
    assert len(named) > 35
    sources = texts()
    for said in sorted(named):
        pattern = ".*?".join(re.escape(part) for part in re.split(r"…|30|\.\.\.", said))
        assert any(re.search(pattern, text, re.DOTALL) for text in sources), said


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
