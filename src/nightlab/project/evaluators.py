"""Finding what could seal a study: an evaluator of the project's own that loads what training left.

Read from syntax alone, as ``project`` does; nothing is run or imported. Loading a model or
predictions counts; loading data to evaluate on does not, nor does a function that is handed
a live model.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nightlab import scope

_NAMES = re.compile(r"(?:.*_)?(?:eval(?:uate|uation)?|scor(?:e|er|ing)|validat(?:e|ion))(?:_.*)?")
_TESTS = re.compile(r"(?:test_.*|.*_test|conftest|setup)")
# Loaders of models, and loaders of anything.
_MODEL_LOADERS = re.compile(
    "load_state_dict|load_model|load_weights|load_checkpoint|restore_checkpoint"
    "|load_from_checkpoint|InferenceSession|load_file|safe_open"
)
_LOADERS = re.compile("load|loads|loadtxt|genfromtxt|read_csv|read_parquet|from_pretrained")
_ARTIFACT = re.compile(
    r"NIGHTLAB_ARTIFACT|model|ckpt|checkpoint|weight|artifact|pred|submission|params|learned"
    r"|trained|\bstate(?:_dict)?\b|safetensors|policy|\.onnx|output",
    re.IGNORECASE,
)
_DATA = re.compile(
    r"val|test|data|label|target|truth|gold|answer|held|token|vocab|config|split", re.IGNORECASE
)
_MOST_FILES = 200
_MOST_BYTES = 500_000
_DEPTH = 4  # of names that stand for other names


@dataclass(frozen=True)
class Evaluator:
    """Where an artifact is loaded and scored.

    ``command`` would run it, None where it is a function that nothing calls from outside.
    ``wired``: the evaluator and the training script both speak of ``NIGHTLAB_ARTIFACT``.
    """

    file: str
    line: int
    loads: str
    command: str | None
    wired: bool


def find(
    folder: Path, tracked: Collection[str], *, edit: Sequence[str], python: str
) -> Evaluator | None:
    """The project's evaluator among its committed files out of scope; None where none is clear.

    ``python`` is the command's interpreter, in the person's words.
    """
    python_files = sorted(n for n in tracked if n.endswith(".py"))
    names = [n for n in python_files if not scope.matches(n, edit)]
    trained = "".join(_read(folder / n) for n in python_files if scope.matches(n, edit))
    found: list[Evaluator] = []
    for name in sorted(names, key=lambda n: (not _NAMES.fullmatch(Path(n).stem), n))[:_MOST_FILES]:
        if _TESTS.fullmatch(Path(name).stem) or "tests" in Path(name).parts:
            continue
        text = _read(folder / name)
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError):
            continue
        script = bool(_NAMES.fullmatch(Path(name).stem)) and _runs(tree)
        loads = next(_artifacts(tree, whole=script), None)
        if loads is None:
            continue
        wired = "NIGHTLAB_ARTIFACT" in text and "NIGHTLAB_ARTIFACT" in trained
        command = f"{python} {shlex.quote(name)}" if script else None
        found.append(Evaluator(name, loads.lineno, ast.unparse(loads.func), command, wired))
    scripts = [e for e in found if e.command is not None]
    usual = [e for e in scripts if e.file in ("evaluate.py", "eval.py")]
    some = next(filter(None, (usual, scripts, found)), [])
    return some[0] if len(some) == 1 else None


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > _MOST_BYTES:
            return ""
        return path.read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError):
        return ""


def _runs(tree: ast.Module) -> bool:
    """Whether running the file does something, at its top or below ``__main__``."""
    acts = (ast.Expr, ast.If, ast.For, ast.With, ast.While, ast.Try)
    tops = [node for node in tree.body if isinstance(node, acts)]
    return any(isinstance(inner, ast.Call) for top in tops for inner in ast.walk(top))


def _artifacts(tree: ast.Module, *, whole: bool) -> Iterator[ast.Call]:
    """Calls that load an artifact: anywhere, or in what evaluates and in its helpers."""
    functions = {
        node.name: node
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    if whole:
        yield from _loads(tree, _meanings(tree))
        return
    waiting = [name for name in functions if _NAMES.fullmatch(name)]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop(0)
        if name in seen or name not in functions:
            continue
        seen.add(name)
        yield from _loads(functions[name], _meanings(tree))
        waiting += [_called(c) for c in ast.walk(functions[name]) if isinstance(c, ast.Call)]


def _called(call: ast.Call) -> str:
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    return name if isinstance(name, str) else ""


def _meanings(tree: ast.AST) -> dict[str, str]:
    """What each name stands for, in words: assigned to it, or opened as it."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            if isinstance(node.targets[0], ast.Name):
                found.setdefault(node.targets[0].id, ast.unparse(node.value))
        elif isinstance(node, ast.withitem) and isinstance(node.optional_vars, ast.Name):
            found.setdefault(node.optional_vars.id, ast.unparse(node.context_expr))
    return found


def _loads(tree: ast.AST, meanings: dict[str, str]) -> Iterator[ast.Call]:
    into = {
        id(call): ast.unparse(node.targets[0])
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for call in ast.walk(node.value)
        if isinstance(call, ast.Call)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not (node.args or node.keywords):
            continue
        name = _called(node)
        of_models = _MODEL_LOADERS.fullmatch(name)
        if not of_models and not _LOADERS.fullmatch(name):
            continue
        words = _spelled(node, meanings)
        # np.load(f"{DATA}/val.npy") is data; model = np.load(path) is not.
        said = bool(_ARTIFACT.search(words) or _ARTIFACT.search(into.get(id(node), "")))
        if said or (of_models and not _DATA.search(words)):
            yield node


def _spelled(call: ast.Call, meanings: dict[str, str]) -> str:
    """The arguments in words, names replaced by what they stand for."""
    words = [ast.unparse(a) for a in (*call.args, *(k.value for k in call.keywords))]
    for _ in range(_DEPTH):
        names = {n for w in words for n in re.findall(r"[A-Za-z_]\w*", w)}
        more = [meanings[n] for n in names if n in meanings and meanings[n] not in words]
        if not more:
            break
        words += more
    return " ".join(words)[:4000]
