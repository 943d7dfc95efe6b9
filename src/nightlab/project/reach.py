"""What a project's own scripts read outside its folder: the home's caches, data elsewhere.

A box shows a run none of it unless ``[sandbox] read`` names it; ``nightlab init`` does so for
what it can see in the person's code. Only what exists is named, and nothing that holds
secrets.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

# Where libraries keep what they once downloaded; a box has no network to fetch it again.
_CACHES = {
    "datasets": ".cache/huggingface",
    "transformers": ".cache/huggingface",
    "huggingface_hub": ".cache/huggingface",
    "timm": ".cache/huggingface",
    "torchvision": ".cache/torch",
    "torch.hub": ".cache/torch",
    "keras": ".keras",
    "nltk": "nltk_data",
    "sklearn.datasets": "scikit_learn_data",
}
_SECRET = {".ssh", ".aws", ".config", ".gnupg", ".kube", ".docker", ".netrc", ".claude", ".codex"}
_LONGEST = 256  # characters of a path
_SYSTEM = {"bin", "boot", "dev", "etc", "lib", "lib64", "proc", "run", "sbin", "sys", "tmp", "usr"}


def outside(sources: Iterable[str], home: Path) -> tuple[str, ...]:
    """Existing paths that the sources name, as ``[sandbox] read`` takes them, each once."""
    found: dict[str, None] = {}
    for tree in _trees(sources):
        for place in (*_in_home(tree), *_caches(tree)):
            top = place.parts[0] if place.parts else ""
            if top and top not in _SECRET and ".." not in place.parts and _exists(home / place):
                found[f"~/{place}"] = None
        for path in _absolute(tree):
            if _exists(path) and not path.is_relative_to(home):
                found[str(path)] = None
    return tuple(_without_inner(found))


def beside(sources: Iterable[str], folder: Path) -> tuple[str, ...]:
    """Existing paths that the sources name by a way out of ``folder``, like ``../data``.

    A run stands in a copy of the project, which has nothing beside it.
    """
    found: dict[str, None] = {}
    for tree in _trees(sources):
        for node in ast.walk(tree):
            said = _text(node)
            if said.startswith("../") and len(said) < _LONGEST and _exists(folder / said):
                found[said] = None
    return tuple(found)


def _trees(sources: Iterable[str]) -> Iterator[ast.Module]:
    """The sources as Python reads them; what is no Python is passed over."""
    for text in sources:
        with suppress(SyntaxError, ValueError, RecursionError):
            yield ast.parse(text)


def _in_home(tree: ast.AST) -> Iterator[PurePosixPath]:
    inner: set[ast.AST] = set()  # of a chain of "/" only the whole is meant; walk gives it first
    for node in ast.walk(tree):
        text = _text(node)
        if text.startswith("~/"):
            yield PurePosixPath(text[2:])
        elif isinstance(node, ast.Call) and _name(node.func) in {"join", "Path", "joinpath"}:
            args = list(node.args)
            if isinstance(node.func, ast.Attribute) and _name(node.func) == "joinpath":
                args.insert(0, node.func.value)
            if args and _is_home(args[0]):
                yield PurePosixPath(*_leading(args[1:]))
        elif isinstance(node, ast.BinOp):
            inner.add(node.left)
            parts = _divided(node) if node not in inner else []
            if parts:
                yield PurePosixPath(*parts)


def _is_home(node: ast.AST) -> bool:
    """``os.path.expanduser("~")`` or ``Path.home()``."""
    if not isinstance(node, ast.Call):
        return False
    name = _name(node.func)
    return name == "home" or (name == "expanduser" and any(_text(a) == "~" for a in node.args))


def _divided(node: ast.BinOp) -> list[str]:
    """The parts of ``Path.home() / "a" / "b"``, [] for anything else."""
    parts: list[str] = []
    at: ast.expr = node
    while isinstance(at, ast.BinOp) and isinstance(at.op, ast.Div):
        parts.insert(0, _text(at.right))
        at = at.left
    return parts if _is_home(at) and all(parts) else []


def _leading(nodes: Iterable[ast.AST]) -> list[str]:
    """The texts up to the first part that is not written out."""
    parts = []
    for node in nodes:
        text = _text(node)
        if not text:
            break
        parts.append(text)
    return parts


def _caches(tree: ast.AST) -> Iterator[PurePosixPath]:
    for node in ast.walk(tree):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        for name in names:
            for known, place in _CACHES.items():
                if name == known or name.startswith(f"{known}."):
                    yield PurePosixPath(place)


def _absolute(tree: ast.AST) -> Iterator[Path]:
    for node in ast.walk(tree):
        parts = PurePosixPath(_text(node)).parts
        if len(parts) > 2 and parts[0] == "/" and parts[1] not in _SYSTEM:
            yield Path(*parts)


def _without_inner(found: Iterable[str]) -> Iterator[str]:
    paths = list(found)
    for path in paths:
        if not any(path != other and path.startswith(f"{other}/") for other in paths):
            yield path


def _text(node: ast.AST | None) -> str:
    is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return str(node.value) if is_text and "\0" not in node.value else ""  # type: ignore[union-attr]


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
