"""Literals in Python source: which stand where, who reads them, what a comment says of them.

Reading only, with libcst; what is worth tuning is for ``constants`` to say.
"""

from __future__ import annotations

import ast
import bisect
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import libcst as cst
from libcst.metadata import ByteSpanPositionProvider, CodeSpan, MetadataWrapper

from nightlab.researchers.spaces import Scalar


@dataclass(frozen=True)
class Literal:
    """A literal in an editable place, before anyone asks whether it is worth tuning.

    ``span`` is its place in the file's UTF-8 bytes, ``words`` what its ``# nightlab:``
    comment (on line ``words_line``) says. ``dead``: it is assigned again, or every place
    that could use it passes another value.
    """

    name: str
    value: Scalar
    span: tuple[int, int]
    line: int
    choices: tuple[Scalar, ...] = ()
    words: str | None = None
    words_line: int = 0
    dead: bool = False
    quiet: bool = False  # not ALL_CAPS: a constant only where a comment says so


@dataclass(frozen=True)
class Source:
    """What one file says.

    ``used`` are the names and attributes it reads; ``reads_all`` when it asks for
    ``globals()`` or the like; ``strings`` are its short string literals; ``stray`` are the
    ``# nightlab:`` comments that stand beside no literal, as (line, words).
    """

    path: str
    literals: tuple[Literal, ...]
    used: frozenset[str]
    strings: frozenset[str]
    reads_all: bool
    stray: tuple[tuple[int, str], ...]


@lru_cache(maxsize=64)
def read(path: str, text: str) -> Source | str:
    """The literals of one file; a string says why the file cannot be read or edited."""
    body = text.removeprefix("\ufeff")
    try:
        module = cst.parse_module(body)
        raw = body.encode()
    except (cst.ParserSyntaxError, UnicodeError, RecursionError) as error:
        first = str(error).partition("\n")[0]
        return f"it does not parse ({first})"
    if module.code != body:  # form feeds, lone carriage returns
        return "libcst does not write it back byte for byte"
    spans = MetadataWrapper(module, unsafe_skip_copy=True).resolve(ByteSpanPositionProvider)
    reader = _Reader(spans, raw, len(text.encode()) - len(raw))
    module.visit(reader)
    return reader.source(path)


def number(node: cst.BaseExpression) -> float | None:
    """The number that a literal expression such as ``2**19``, ``-0.5`` or ``4 * 64`` stands for."""
    if isinstance(node, (cst.Integer, cst.Float)):
        read_value: float = ast.literal_eval(node.value)
        return read_value
    if isinstance(node, cst.UnaryOperation) and isinstance(node.operator, (cst.Minus, cst.Plus)):
        inner = number(node.expression)
        return None if inner is None else -inner if isinstance(node.operator, cst.Minus) else inner
    if isinstance(node, cst.BinaryOperation):
        left, right = number(node.left), number(node.right)
        if left is not None and right is not None:
            return _combine(left, node.operator, right)
    return None


def _combine(left: float, operator: cst.BaseBinaryOp, right: float) -> float | None:
    result: object
    try:
        match operator:
            case cst.Add():
                result = left + right
            case cst.Subtract():
                result = left - right
            case cst.Multiply():
                result = left * right
            case cst.Divide():
                result = left / right
            case cst.FloorDivide():
                result = left // right
            case cst.Power() if abs(right) <= 64 and abs(left) <= 1e6:
                result = left**right
            case _:
                return None
    except (ArithmeticError, ValueError):
        return None
    if not isinstance(result, (int, float)):  # (-8) ** 0.5 is complex
        return None
    return result if abs(result) < 1e18 else None


def scalar(node: cst.BaseExpression) -> Scalar | None:
    """The number, boolean or plain one-part string that a node stands for, or None."""
    if isinstance(node, cst.Name) and node.value in ("True", "False"):
        return node.value == "True"
    if isinstance(node, cst.SimpleString) and not node.prefix and len(node.quote) == 1:
        text = node.evaluated_value
        return text if isinstance(text, str) else None
    value = number(node)
    return value if value is None or math.isfinite(value) else None


_WORDS = re.compile(r"#\s*nightlab:\s*(.*?)\s*$")
_ALL_NAMES = frozenset({"globals", "vars", "locals"})
_FEW = range(2, 5)  # a tuple of two to four numbers is a constant per element; more is data


class _Reader(cst.CSTVisitor):
    """One walk over a module."""

    def __init__(self, spans: Mapping[cst.CSTNode, CodeSpan], raw: bytes, shift: int) -> None:
        super().__init__()
        self._spans, self._raw, self._shift = spans, raw, shift
        self._starts = [0] + [m.end() for m in re.finditer(rb"\n", raw)]
        self._found: list[tuple[Literal, int, int]] = []  # with first and last line
        self._comments: dict[int, tuple[str, bool]] = {}  # line -> words, alone on its line
        self._stores: dict[str, int] = {}
        self._used: set[str] = set()
        self._strings: set[str] = set()
        self._fields: dict[str, list[str]] = {}  # dataclass -> its fields in order
        self._calls: dict[str, list[set[str] | None]] = {}  # what each call passes; None: **
        self._depth = 0
        self._reads_all = False

    # ---- places

    def _line(self, at: int) -> int:
        return bisect.bisect_right(self._starts, at)

    def _add(
        self, name: str, node: cst.BaseExpression, around: cst.CSTNode, *, real: bool = False,
        choices: tuple[Scalar, ...] = (),
    ) -> None:  # fmt: skip
        value = scalar(node)
        if value is None:
            return
        if real and not isinstance(value, bool | str):
            value = float(value)
        at, outer = self._spans[node], self._spans[around]
        span = (at.start + self._shift, at.start + at.length + self._shift)
        quiet = not ("." in name or name.startswith("--") or _is_constant(name))
        literal = Literal(name, value, span, self._line(at.start), choices, quiet=quiet)
        last = self._line(max(outer.start, outer.start + outer.length - 1))
        self._found.append((literal, self._line(outer.start), last))

    # ---- the three shapes

    def visit_Module(self, node: cst.Module) -> None:  # noqa: N802 - libcst's name
        for line in node.body:
            if isinstance(line, cst.SimpleStatementLine):
                for part in line.body:
                    self._assignment(part, "", line)

    def _assignment(self, part: cst.BaseSmallStatement, owner: str, line: cst.CSTNode) -> None:
        if isinstance(part, cst.Assign) and len(part.targets) == 1 and not owner:
            target, value, real = part.targets[0].target, part.value, False
        elif isinstance(part, cst.AnnAssign) and part.value is not None:
            note = part.annotation.annotation
            target, value = part.target, part.value
            real = isinstance(note, cst.Name) and note.value == "float"
        else:
            return
        if not isinstance(target, cst.Name):
            return
        name = f"{owner}.{target.value}" if owner else target.value
        if isinstance(value, cst.Call) and owner:
            given = {a.keyword.value: a.value for a in value.args if a.keyword}
            value = given.get("default", value)
        if isinstance(value, (cst.Tuple, cst.List)) and len(value.elements) in _FEW:
            if all(number(e.value) is not None for e in value.elements):
                for at, element in enumerate(value.elements):
                    self._add(f"{name}[{at}]", element.value, line)
            return
        self._add(name, value, line, real=real)

    def visit_ClassDef(self, node: cst.ClassDef) -> None:  # noqa: N802
        self._depth += 1
        if not any(_last_name(d.decorator) == "dataclass" for d in node.decorators):
            return
        fields = self._fields.setdefault(node.name.value, [])
        for line in node.body.body:
            if isinstance(line, cst.SimpleStatementLine):
                for part in line.body:
                    if isinstance(part, cst.AnnAssign) and isinstance(part.target, cst.Name):
                        fields.append(part.target.value)
                        self._assignment(part, node.name.value, line)

    def leave_ClassDef(self, original_node: cst.ClassDef) -> None:  # noqa: N802
        del original_node
        self._depth -= 1

    def visit_Call(self, node: cst.Call) -> None:  # noqa: N802
        called = _last_name(node.func)
        if called in _ALL_NAMES:
            self._reads_all = True
        if called == "add_argument":
            self._option(node)
        elif called and called[0].isupper():
            self._note_call(called, node.args)

    def _note_call(self, called: str, args: Sequence[cst.Arg]) -> None:
        if any(a.star for a in args):
            self._calls.setdefault(called, []).append(None)
            return
        given = {a.keyword.value for a in args if a.keyword}
        given |= {f"#{at}" for at, a in enumerate(args) if not a.keyword}
        self._calls.setdefault(called, []).append(given)

    def _option(self, node: cst.Call) -> None:
        flags = [scalar(a.value) for a in node.args if a.keyword is None]
        name = next((f for f in flags if isinstance(f, str) and f.startswith("--")), None)
        given = {a.keyword.value: a.value for a in node.args if a.keyword}
        if name is None or "default" not in given:
            return
        choices: tuple[Scalar, ...] = ()
        if isinstance(among := given.get("choices"), (cst.List, cst.Tuple, cst.Set)):
            read_choices = [scalar(e.value) for e in among.elements]
            choices = tuple(c for c in read_choices if c is not None)
        real = _last_name(given["type"]) == "float" if "type" in given else False
        self._add(name, given["default"], node, real=real, choices=choices)

    # ---- who reads and who assigns

    def visit_FunctionDef(self, node: cst.FunctionDef) -> None:  # noqa: N802
        del node
        self._depth += 1

    def leave_FunctionDef(self, original_node: cst.FunctionDef) -> None:  # noqa: N802
        del original_node
        self._depth -= 1

    def visit_Name(self, node: cst.Name) -> None:  # noqa: N802
        self._used.add(node.value)

    def _store(self, target: cst.BaseExpression) -> None:
        for leaf in _leaves(target):
            if self._depth == 0:
                self._stores[leaf] = self._stores.get(leaf, 0) + 1

    def visit_AssignTarget(self, node: cst.AssignTarget) -> bool:  # noqa: N802
        self._store(node.target)
        return not isinstance(node.target, cst.Name)  # a plain target is not a reading

    def visit_AnnAssign(self, node: cst.AnnAssign) -> bool:  # noqa: N802
        if node.value is not None:
            self._store(node.target)
        node.annotation.visit(self)
        if node.value is not None:
            node.value.visit(self)
        return False

    def visit_AugAssign(self, node: cst.AugAssign) -> None:  # noqa: N802
        self._store(node.target)

    def visit_For(self, node: cst.For) -> None:  # noqa: N802
        self._store(node.target)

    def visit_NamedExpr(self, node: cst.NamedExpr) -> None:  # noqa: N802
        self._store(node.target)

    def visit_Global(self, node: cst.Global) -> bool:  # noqa: N802
        for item in node.names:  # a function that says global may assign: never certain
            self._stores[item.name.value] = 2
        return False

    def visit_Arg(self, node: cst.Arg) -> bool:  # noqa: N802
        node.value.visit(self)  # a keyword is no reading of the name
        return False

    def visit_Param(self, node: cst.Param) -> bool:  # noqa: N802
        if node.default is not None:
            node.default.visit(self)
        return False

    def visit_SimpleString(self, node: cst.SimpleString) -> None:  # noqa: N802
        text = scalar(node)
        if isinstance(text, str) and len(text) < 32:
            self._strings.add(text)

    def visit_Comment(self, node: cst.Comment) -> None:  # noqa: N802
        found = _WORDS.search(node.value)
        if found:
            at = self._spans[node].start
            line = self._line(at)
            before = self._raw[self._starts[line - 1] : at]
            self._comments[line] = (found[1], not before.strip())

    # ---- the result

    def source(self, path: str) -> Source:
        taken: set[int] = set()
        literals = [self._finished(*found, taken) for found in self._found]
        stray = tuple((n, w) for n, (w, _) in self._comments.items() if n not in taken)
        used, strings = frozenset(self._used), frozenset(self._strings)
        return Source(path, tuple(literals), used, strings, self._reads_all, stray)

    def _finished(self, literal: Literal, first: int, last: int, taken: set[int]) -> Literal:
        words, at = None, 0
        near = [literal.line, *range(first, last + 1)]
        for line in [*near, first - 1]:
            said = self._comments.get(line)
            if said is not None and (line != first - 1 or said[1]):
                words, at = said[0], line
                taken.add(line)
                break
        return replace(literal, words=words, words_line=at, dead=self._is_dead(literal.name))

    def _is_dead(self, name: str) -> bool:
        owner, _, member = name.partition(".")
        if not member:
            return self._stores.get(name.partition("[")[0], 0) > 1
        member = member.partition("[")[0]
        at = f"#{self._fields[owner].index(member)}"
        calls = self._calls.get(owner, [])
        return bool(calls) and all(c is None or member in c or at in c for c in calls)


def _is_constant(name: str) -> bool:
    return name.upper() == name and any(c.isalpha() for c in name)


def _last_name(node: cst.BaseExpression) -> str:
    if isinstance(node, cst.Call):
        node = node.func
    if isinstance(node, cst.Attribute):
        node = node.attr
    return node.value if isinstance(node, cst.Name) else ""


def _leaves(target: cst.BaseExpression) -> Iterator[str]:
    if isinstance(target, cst.Name):
        yield target.value
    elif isinstance(target, (cst.Tuple, cst.List)):
        for element in target.elements:
            yield from _leaves(element.value)
    elif isinstance(target, cst.StarredElement):
        yield from _leaves(target.value)
