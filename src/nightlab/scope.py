"""What a proposal may touch, and what is a change at all. Pure: texts in, ScopeError out."""

from __future__ import annotations

import ast
import io
import json
import re
import tokenize
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher

from nightlab.errors import ScopeError


def matches(path: str, patterns: Sequence[str]) -> bool:
    """Whether ``path`` is in scope of ``[study] edit``.

    A pattern is a file, a folder (everything below it), or a glob where ``*`` stays within
    one folder and ``**`` does not.
    """
    return any(_regex(pattern).fullmatch(path) for pattern in patterns)


def _regex(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*/?|\*|\?)", pattern.rstrip("/"))
    wild = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    body = "".join(wild.get(part, re.escape(part)) for part in parts)
    return re.compile(f"{body}(?:/.*)?", re.DOTALL)


def check(
    files: Mapping[str, str | None], before: Mapping[str, str], patterns: Sequence[str]
) -> dict[str, str | None]:
    """The files that the proposal really changes, after all checks.

    ``files`` are the proposal's, ``before`` the texts in scope on its parent. Raises
    ScopeError, in words for the researcher, when it touches a file out of scope, does not
    parse, changes nothing that runs (comments and layout do not run), or only a seed.
    """
    for path in files:
        if not _is_plain(path):
            raise ScopeError(
                f"{path!a} is not in scope: no file here can have that path",
                "no empty, '.', '..' or .git parts, control characters or over-long names",
                "propose a change to the files in scope only",
            )
        if not matches(path, patterns):
            raise ScopeError(
                f"{path} is not in scope",
                f"only these may change: {', '.join(patterns)}",
                "propose a change to the files in scope only",
            )
    changed = {p: t for p, t in files.items() if before.get(p) != t}
    for path, text in changed.items():
        _check_parses(path, text)
    if not any(_differs(p, before.get(p), t, _Same) for p, t in changed.items()):
        raise ScopeError(
            "the proposal changes nothing that runs",
            "the files are the same but for comments, layout and documentation"
            if changed
            else "no file differs",
            "propose a change of the code itself",
            answer="no_edit",
        )
    if not any(_differs(p, before.get(p), t, _Seedless) for p, t in changed.items()):
        raise ScopeError(
            "the proposal changes only a seed",
            "seeds belong to nightlab, which varies them; a lucky one is no improvement",
            "propose a change of the code itself",
            answer="no_edit",
        )
    return changed


def _is_plain(path: str) -> bool:
    """Whether a path means the same to git, the file system and us, and lies inside."""
    parts = path.split("/")
    odd = any(p in ("", ".", "..") or p.lower() == ".git" for p in parts)
    long = len(path) > _PATH_CHARS or any(len(p.encode("utf-8", "replace")) > 255 for p in parts)
    return not odd and not long and all(c.isprintable() for c in path)


def count_lines(before: Mapping[str, str], after: Mapping[str, str | None]) -> tuple[int, int]:
    """Lines (added, removed) by a change, as a diff counts them."""
    added = removed = 0
    for path, text in after.items():
        old = before.get(path, "").split("\n")
        new = (text or "").split("\n")
        start = 0
        while start < min(len(old), len(new)) and old[start] == new[start]:
            start += 1
        end = 0
        while end < min(len(old), len(new)) - start and old[-1 - end] == new[-1 - end]:
            end += 1
        # Only what lies between the first and the last difference is worth aligning.
        left, right = old[start : len(old) - end], new[start : len(new) - end]
        same = 0
        if max(len(left), len(right)) <= _MOST_LINES:  # aligning is quadratic
            blocks = SequenceMatcher(None, left, right, False).get_matching_blocks()
            same = sum(block.size for block in blocks)
        added += len(right) - same
        removed += len(left) - same
    return added, removed


def count_nodes(before: Mapping[str, str], after: Mapping[str, str | None]) -> int | None:
    """By how many nodes of the syntax tree a change grows the code; None where one has no tree."""
    grown = 0
    for path, text in after.items():
        if not path.endswith(".py"):
            return None
        for sign, version in ((1, text or ""), (-1, before.get(path, ""))):
            try:
                grown += sign * sum(1 for _ in ast.walk(ast.parse(version)))
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                return None
    return grown


def _check_parses(path: str, text: str | None) -> None:
    if text is None or not path.endswith(".py"):
        return
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None)
        raise ScopeError(
            f"{path} does not parse" + (f" at line {line}" if line else ""),
            str(getattr(error, "msg", error)),
            "mend the syntax and propose again",
            answer="broken_syntax",
        ) from error


def _differs(path: str, old: str | None, new: str | None, view: _View) -> bool:
    """Whether two versions of a file differ in what ``view`` sees of it."""
    if not path.endswith(".py"):
        return (old is None) != (new is None) or view.text(path, old or "") != view.text(
            path, new or ""
        )
    try:  # a file of comments alone is as good as none
        return view.tree(old or "") != view.tree(new or "")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return _tokens(old or "") != _tokens(new or "")


_PATH_CHARS = 1000
_MOST_LINES = 1500  # to align; beyond, every line between the first and the last counts
_SETTINGS = (".yaml", ".yml", ".toml", ".cfg", ".ini", ".conf", ".sh", ".bash", ".env")
# Where a line that begins with # may be content: block scalars, long strings, here-documents.
_LONG_TEXT = re.compile(r"[|>][-+\d]*[ \t]*$|\"\"\"|\'\'\'|<<", re.MULTILINE)
_SEED_NAME = re.compile(
    r"-*(?:.*[_-])?(?:seed|random_state)|seeds|seed_(?:value|base|offset)|PYTHONHASHSEED",
    re.IGNORECASE,
)
_SEED_SET = re.compile(
    r"((?<![a-z0-9])(?:\w+_)?(?:seed|random_state)[\"']?\s*[:= ]\s*[\"']?)[-+]?\d+", re.IGNORECASE
)
_SEED_CALL = re.compile(
    r"(?:.*_)?seed(?:_all|_everything)?|RandomState|default_rng|PRNGKey|SeedSequence"
    r"|set_random_seed"
)
_MAYBE_SEED_CALL = re.compile(r"Random|key|Generator")


class _Same:
    """A file as it runs: without comments, layout, and texts that stand for themselves."""

    @staticmethod
    def tree(text: str) -> str:
        return ast.dump(_Running(keep_texts="__doc__" in text).visit(ast.parse(text)))

    @staticmethod
    def text(path: str, text: str) -> str:
        if path.endswith(".json"):
            try:
                return json.dumps(json.loads(text))
            except (ValueError, RecursionError):
                return text
        if not path.endswith(_SETTINGS) or _LONG_TEXT.search(text):
            return text
        lines = [line.rstrip() for line in text.split("\n")]
        return "\n".join(x for x in lines if x and not (x.lstrip() + " ").startswith(("# ", "##")))


class _Seedless(_Same):
    """A file as it runs, whatever its seeds are."""

    @staticmethod
    def tree(text: str) -> str:
        tree = ast.parse(text)
        before = _used(tree)
        tree = _Running(keep_texts="__doc__" in text).visit(_WithoutSeeds().visit(tree))
        # A constant that only a seed was made of is a part of the seed.
        gone = before - _used(tree)
        tree.body = [n for n in tree.body if not _is_constant(n, gone)]
        return ast.dump(tree)

    @staticmethod
    def text(path: str, text: str) -> str:
        return _SEED_SET.sub(r"\g<1>0", _Same.text(path, text))


_View = type[_Same]


def _used(tree: ast.AST) -> set[str]:
    return {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }


def _is_constant(node: ast.stmt, names: set[str]) -> bool:
    return (
        isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Constant)
        and all(isinstance(t, ast.Name) and t.id in names for t in node.targets)
    )


class _Running(ast.NodeTransformer):
    """Drops statements that do nothing: documentation, texts that stand alone, ``pass``."""

    def __init__(self, *, keep_texts: bool) -> None:
        self.keep_texts = keep_texts

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        self.generic_visit(node)
        return None if isinstance(node.value, ast.Constant) and not self.keep_texts else node

    def visit_Pass(self, node: ast.Pass) -> None:
        del node


class _WithoutSeeds(ast.NodeTransformer):
    """Blanks what seeds a generator: by the name it goes to, or the call it is in."""

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        self.generic_visit(node)
        if all(_is_seed(target) for target in node.targets):
            node.value = ast.Constant(0)
        elif isinstance(node.value, ast.Tuple) and len(node.targets) == 1:
            names, values = getattr(node.targets[0], "elts", []), node.value.elts
            if len(names) == len(values):
                pairs = zip(names, values, strict=True)
                node.value.elts = [ast.Constant(0) if _is_seed(n) else v for n, v in pairs]
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        self.generic_visit(node)
        if _is_seed(node.target) and node.value:
            node.value = ast.Constant(0)
        return node

    def visit_Dict(self, node: ast.Dict) -> ast.AST:
        self.generic_visit(node)
        pairs = zip(node.keys, node.values, strict=True)
        node.values = [ast.Constant(0) if _names_seed(k) else v for k, v in pairs]
        return node

    def visit_arguments(self, node: ast.arguments) -> ast.AST:
        self.generic_visit(node)
        places = [*node.posonlyargs, *node.args]
        late = zip(places[len(places) - len(node.defaults) :], node.defaults, strict=True)
        node.defaults = [ast.Constant(0) if _SEED_NAME.fullmatch(a.arg) else d for a, d in late]
        named = zip(node.kwonlyargs, node.kw_defaults, strict=True)
        node.kw_defaults = [
            ast.Constant(0) if d and _SEED_NAME.fullmatch(a.arg) else d for a, d in named
        ]
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        self.generic_visit(node)
        seeds = isinstance(node.value, ast.Call) and _SEED_CALL.fullmatch(_called(node.value))
        return None if seeds else node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        name = _called(node)
        if _SEED_CALL.fullmatch(name):
            node.args, node.keywords = [], []
        elif _MAYBE_SEED_CALL.fullmatch(name):
            node.args = [_blank(arg) for arg in node.args]
        # The default of an option or an environment variable that is named like a seed.
        elif node.args and _names_seed(node.args[0]):
            node.args[1:] = [ast.Constant(0) for _ in node.args[1:]]
            node.keywords = [k for k in node.keywords if k.arg != "default"]
        for keyword in node.keywords:
            if keyword.arg and _SEED_NAME.fullmatch(keyword.arg):
                keyword.value = ast.Constant(0)
        return node


def _called(call: ast.Call) -> str:
    return str(getattr(call.func, "attr", getattr(call.func, "id", "")))


def _is_seed(target: ast.expr) -> bool:
    """Whether a seed is assigned to: ``SEED``, ``cfg.seed``, ``cfg["seed"]``."""
    if isinstance(target, ast.Subscript):
        return _names_seed(target.slice)
    name = getattr(target, "attr", getattr(target, "id", ""))
    return bool(_SEED_NAME.fullmatch(str(name)))


def _names_seed(node: ast.expr | None) -> bool:
    return (
        isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and bool(_SEED_NAME.fullmatch(node.value))
    )


def _blank(value: ast.expr) -> ast.expr:
    """The expression with its whole numbers made equal; all else in it still counts.

    One that is made of a seed (``int(os.environ["SEED"])``) is as good as a number.
    """
    if any(isinstance(n, ast.expr) and (_is_seed(n) or _names_seed(n)) for n in ast.walk(value)):
        return ast.Constant(0)
    for node in ast.walk(value):
        if isinstance(node, ast.Constant) and type(node.value) is int:
            node.value = 0
    return value


def _tokens(text: str) -> list[str]:
    """Fallback where the old file does not parse: the words of the source without comments."""
    try:
        found = tokenize.generate_tokens(io.StringIO(text).readline)
        return [t.string for t in found if t.type not in (tokenize.COMMENT, tokenize.NL)]
    except (tokenize.TokenError, SyntaxError):
        return text.split()
