"""Was this tried before? Changes compared by syntax tree, and by what they are called. Pure.

Two answers before device time is spent. The *fingerprint* of a change is the same wherever the
same statements are replaced by the same others, whatever the rest of the file, its layout and
its comments look like. A *description* is like another when it has the same numbers and the
same words but for filler and endings; that is a guess, so a researcher may insist.
"""

from __future__ import annotations

import ast
import operator
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from hashlib import blake2b

from nightlab.errors import DuplicateError
from nightlab.history import History
from nightlab.model import Experiment, Proposal

_LEAST_WORDS = 3  # "test" says too little to be near anything
_SOUNDS = "sounds like experiment"
_EXCUSED = ("lost", "conflict")  # rules of verdicts that say nothing about the change


def check(
    history: History,
    proposal: Proposal,
    before: Mapping[str, str],
    changed: Mapping[str, str | None],
    *,
    own: int = 0,
) -> str:
    """The fingerprint of a proposal's change from ``before`` (texts in scope); "" for none.

    Raises DuplicateError when an experiment other than ``own`` (which is being fixed) tried it.
    Exempt are experiments that the
    proposal's idea names (``after``), those that were never measured, and constants moved by a
    researcher that says which (``changes``): the same move from another place is another point.
    """
    found = fingerprint(before, changed)
    if proposal.changes:
        return found
    idea = history.backlog.ideas.get(proposal.idea or 0)
    named = {own, *(idea.after if idea else ())}
    number = history.fingerprints.get(found)
    if number is not None and number not in named and _measured(history.experiments[number]):
        raise DuplicateError(
            f"experiment {number} already tried just this change",
            verdict_of(history.experiments[number]),
            "propose something else, or change it so that it is another experiment",
        )
    number = _near(history, proposal.description, named)
    if number is not None and not _insists(history, proposal.description):
        raise DuplicateError(
            f"it {_SOUNDS} {number}: {history.experiments[number].claim.description[:80]}",
            verdict_of(history.experiments[number]),
            "propose something else; if it is not the same, propose it again and say how it "
            "differs",
        )
    return found


def verdict_of(experiment: Experiment) -> str:
    """What became of an experiment, with the reason."""
    verdict = experiment.verdict.value if experiment.verdict else "still open"
    return f"{verdict}: {experiment.decision.reason}" if experiment.decision else verdict


def _measured(experiment: Experiment) -> bool:
    return experiment.decision is None or experiment.decision.rule not in _EXCUSED


# -- by what it is called

_COMMON = """
a an the of in on to for with and or at by from into as is be it its this that via per vs than
then try use using used instead but test
"""
_STOP = frozenset(_COMMON.split())
_TOKEN = re.compile(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?(?:[kmg](?![^\W\d_]))?|[^\W\d_]+", re.IGNORECASE)
_ENDING = re.compile(r"(?<=[a-z]{3})(?:ing|ed|es|s|e)$")
_TIMES = {"k": 1e3, "m": 1e6, "g": 1e9}
_Words = tuple[frozenset[str], tuple[float, ...]]


@lru_cache(maxsize=32768)
def words(description: str) -> _Words:
    """The words of a description that tell it apart, and its numbers in order of size."""
    found, numbers = set(), []
    for token in _TOKEN.findall(description.lower()):
        if token[0].isdigit() and token[0].isascii():
            try:
                number = float(token.rstrip("kmg")) * _TIMES.get(token[-1], 1.0)
            except ValueError:
                continue
            numbers.append(number)
        elif token not in _STOP:
            found.add(_ENDING.sub("", token))
    return frozenset(found), tuple(sorted(numbers))


def alike(a: _Words, b: _Words) -> bool:
    """Whether two descriptions very likely name the same change.

    Same numbers, same words. Measured on the 1.1 million pairs of descriptions of 48 public
    ledgers: besides equal texts it joins 13 pairs; of 12 that were read, 11 said one thing twice.
    """
    return a == b and len(a[0]) >= _LEAST_WORDS


def _near(history: History, description: str, named: set[int]) -> int | None:
    """The latest experiment, by a description alike; constants turned by a machine are no match."""
    asked = words(description)
    if len(asked[0]) < _LEAST_WORDS:
        return None
    for number in range(len(history.experiments), 1, -1):
        experiment = history.experiments[number]
        if alike(asked, words(experiment.claim.description)):
            turned = bool(experiment.claim.changes)
            if number not in named and not turned and _measured(experiment):
                return number
    return None


def _insists(history: History, description: str) -> bool:
    """Whether the last attempt at this very proposal was refused for the same resemblance."""
    if not history.refusals or _SOUNDS not in history.refusals[-1].reason:
        return False
    return alike(words(description), words(history.refusals[-1].description))


# -- by syntax tree


def fingerprint(before: Mapping[str, str], changed: Mapping[str, str | None]) -> str:
    """A digest of the change itself; the same for the same change made elsewhere or restyled.

    "" when nothing that runs differs.
    """
    marks: list[str] = []
    for path in sorted(changed):
        old, new = _units(path, before.get(path)), _units(path, changed[path])
        was, now = Counter(old), Counter(new)
        parts = [f"-{unit}" for unit in (was - now).elements()]
        parts += [f"+{unit}" for unit in (now - was).elements()]
        if not parts and old != new:  # only the order changed
            parts = [f"-{unit}" for unit in old] + [f"+{unit}" for unit in new]
            marks += [f"{path}\0{part}" for part in parts]
        else:
            marks += sorted(f"{path}\0{part}" for part in parts)
    if not marks:
        return ""
    return blake2b("\n".join(marks).encode("utf-8", "replace"), digest_size=10).hexdigest()


@lru_cache(maxsize=64)
def _units(path: str, text: str | None) -> tuple[str, ...]:
    """A file as a flat list of statements, each with the places it stands in; lines otherwise."""
    if text is None:
        return ()
    if path.endswith(".py"):
        try:
            return tuple(_statements(_Plain().visit(ast.parse(text)), ""))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            pass
    return tuple(line for line in (" ".join(raw.split()) for raw in text.splitlines()) if line)


_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")


def _statements(node: ast.AST, where: str) -> Iterator[str]:
    for block in _BLOCKS:
        inside = getattr(node, block, None)
        if not isinstance(inside, list):
            continue
        for child in inside:
            held = {b: v for b in _BLOCKS if isinstance(v := getattr(child, b, None), list)}
            for name in held:
                setattr(child, name, [])
            head = ast.dump(child)
            for name, statements in held.items():
                setattr(child, name, statements)
            place = f"{where}/{block}" if block != "body" else where
            yield f"{place}: {head}"
            if held:
                yield from _statements(child, f"{place}/{getattr(child, 'name', head)}")


_FOLDED: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: operator.pow,
}
_LARGEST = 1e6  # of an exponent's base and result's factors: folding must not become computing


class _Plain(ast.NodeTransformer):
    """Takes out what does not change what runs: docstrings, spellings, order of keywords."""

    def visit_Module(self, node: ast.Module) -> ast.AST:
        return self._without_docstring(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._without_docstring(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._without_docstring(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._without_docstring(node)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        node.kind = None  # u"" is ""
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        value = _number(node.operand)
        if value is not None and isinstance(node.op, (ast.USub, ast.UAdd)):
            return ast.Constant(-value if isinstance(node.op, ast.USub) else value)
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        left, right = _number(node.left), _number(node.right)
        fold = _FOLDED.get(type(node.op))
        if left is None or right is None or fold is None:
            return node
        if isinstance(node.op, ast.Pow) and (abs(left) > _LARGEST or abs(right) > 64):
            return node
        try:
            value = fold(left, right)
        except (ArithmeticError, ValueError):
            return node
        return ast.Constant(value) if isinstance(value, (int, float)) else node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if all(keyword.arg for keyword in node.keywords):
            node.keywords.sort(key=lambda keyword: keyword.arg or "")
        return node

    def _without_docstring(
        self, node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    ) -> ast.AST:
        self.generic_visit(node)
        first = node.body[0] if node.body else None
        if (
            isinstance(first, ast.Expr)
            and isinstance(first.value, ast.Constant)
            and isinstance(first.value.value, str)
        ):
            node.body = node.body[1:]
        return node


def _number(node: ast.expr) -> float | None:
    """A plain number's value; True is no number here."""
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return node.value  # type: ignore[return-value]  # just checked
    return None
