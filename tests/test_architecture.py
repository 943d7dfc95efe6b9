"""The tree is the architecture: imports go down only, each outside thing has one home."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SRC = ROOT / "src" / "nightlab"

# Layers from below; within a layer a module imports only what is listed before it. The same
# list, with a line on each, is docs/structure.md.
LAYERS: list[list[str]] = [
    [
        "errors",
        "model",
        "reactions",
        "metrics",
        "expression",
        "stats",
        "judge",
        "final",
        "events",
        "curves",
        "early",
        "history",
        "cases",
        "planning",
        "budget",
        "scope",
        "messages",
        "integrity",
        "phases",
        "plateau",
        "novelty",
        "answers",
    ],
    [
        "config",
        "journal",
        "process",
        "inbox",
        "nudges",
        "_removal",
        "git",
        "devices",
        "seal",
        "scratchpad",
        "knowledge",
    ],
    ["sandboxes", "executors", "researchers"],
    [
        "front",
        "certificates",
        "costs",
        "views",
        "brief",
        "contexts",
        "commits",
        "intake",
        "ledger",
        "runs",
        "engine",
        "thinking",
        "signals",
        "finalize",
        "storms",
        "pulse",
        "lab",
        "loop",
        "project",
    ],
    [
        "testing",
        "report",
        "plot",
        "exchange",
        "notify",
        "demo",
        "skill",
        "mcp",
        "web",
        "cli",
        "__main__",
    ],
]
ORDER = {
    name: (layer, place) for layer, names in enumerate(LAYERS) for place, name in enumerate(names)
}
HOMES = {
    "subprocess": {"process", "testing"},
    "psutil": {"process", "devices"},
    "pynvml": {"devices"},
    "signal": {"process", "signals", "testing"},
    "fcntl": {"journal"},
    "tomllib": {"config", "researchers", "project", "skill", "cli", "testing"},
    "optuna": {"researchers"},
    "libcst": {"researchers"},
    "scipy": {"stats"},
    "matplotlib": {"plot"},
    "pypdf": {"knowledge"},
    "sqlite3": {"knowledge"},
    "mcp": {"mcp"},
    "apprise": {"notify"},
    "typer": {"cli"},
    "rich": {"cli"},
    "csv": {"exchange"},
    "starlette": {"web"},
    "uvicorn": {"web"},
    "mlflow": {"exchange"},
    "wandb": {"exchange"},
    "tensorboardX": {"exchange"},
}
PURE_FORBIDDEN = {"os", "pathlib", "time", "subprocess", "socket", "shutil", "threading", "random"}


def modules() -> list[tuple[str, Path]]:
    """(module or package right below nightlab, file)."""
    paths = sorted(SRC.rglob("*.py"))
    named = [(p.relative_to(SRC).parts[0].removesuffix(".py"), p) for p in paths]
    return [(name, path) for name, path in named if name != "__init__"]


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "nightlab":
                yield from (f"nightlab.{alias.name}" for alias in node.names)
            else:
                yield node.module


def test_every_module_has_its_place() -> None:
    assert {name for name, _ in modules()} == set(ORDER)


@pytest.mark.parametrize(("name", "path"), modules(), ids=lambda v: getattr(v, "name", v))
def test_imports_go_down_only(name: str, path: Path) -> None:
    for imported in imports(path):
        parts = imported.split(".")
        if parts[0] != "nightlab" or len(parts) == 1 or parts[1] in (name, "__version__"):
            continue
        assert ORDER[parts[1]] < ORDER[name], f"{path.name} imports {imported}, which lies above it"


@pytest.mark.parametrize(("name", "path"), modules(), ids=lambda v: getattr(v, "name", v))
def test_each_outside_thing_is_touched_in_one_place(name: str, path: Path) -> None:
    for imported in imports(path):
        top = imported.split(".")[0]
        assert name in HOMES.get(top, {name}), f"{path.name} imports {top}"
        if ORDER[name][0] == 0:
            assert top not in PURE_FORBIDDEN, f"{path.name} is pure and imports {top}"


def test_modules_and_functions_stay_small() -> None:
    too_long = []
    for _, path in modules():
        text = path.read_text()
        if text.count("\n") > 400:
            too_long.append(f"{path.name}: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                length = (node.end_lineno or 0) - node.lineno + 1
                if length > 60:
                    too_long.append(f"{path.name}:{node.name}: {length} lines")
    assert too_long == []


def test_no_module_is_a_stub_or_holds_a_note_to_self() -> None:
    for _, path in modules():
        text = path.read_text()
        for word in ("TODO", "FIXME", "XXX", "NotImplementedError"):
            assert word not in text, f"{path.name} holds {word}"


def test_the_dependencies_are_the_ones_that_are_imported() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {d.split(">")[0].split("<")[0].strip().lower() for d in declared}
    names = {{"nvidia-ml-py": "pynvml"}.get(n, n) for n in names}
    used = {i.split(".")[0] for _, path in modules() for i in imports(path)}
    assert names <= used | {"numpy"}


def test_the_structure_page_lists_every_module() -> None:
    page = (ROOT / "docs" / "structure.md").read_text()
    for layer in LAYERS:
        for name in layer:
            assert f"`{name}`" in page, name
