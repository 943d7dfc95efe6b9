"""What a proposal may touch, and what is a change at all. Pure: texts in, ScopeError out."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Callable, Mapping, Sequence
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
    if not any(_differs(p, before.get(p), t, _tree) for p, t in changed.items()):
        raise ScopeError(
            "the proposal changes nothing that runs",
            "the files are the same but for comments and layout" if changed else "no file differs",
            "propose a change of the code itself",
            answer="no_edit",
        )
    if not any(_differs(p, before.get(p), t, _seedless) for p, t in changed.items()):
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


def _differs(path: str, old: str | None, new: str | None, view: Callable[[str], str]) -> bool:
    """Whether two versions of a file differ in what ``view`` sees of the syntax tree."""
    if old is None or new is None or not path.endswith(".py"):
        return old != new
    try:
        return view(old) != view(new)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return _tokens(old) != _tokens(new)


def _tree(text: str) -> str:
    return ast.dump(ast.parse(text))


def _seedless(text: str) -> str:
    return ast.dump(_Seedless().visit(ast.parse(text)))


_PATH_CHARS = 1000
_MOST_LINES = 1500  # to align; beyond, every line between the first and the last counts
_SEED_NAME = re.compile(r"(?:.*_)?(?:seeds?|random_state)(?:_.*)?|rng_seed", re.IGNORECASE)
_SEED_CALL = re.compile(
    r"(?:.*_)?seed(?:_all|_everything)?|Random|RandomState|default_rng|PRNGKey|key|Generator"
    r"|SeedSequence|set_random_seed"
)


class _Seedless(ast.NodeTransformer):
    """Blanks the numbers that seed a generator: by the name they go to, or the call they are in."""

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        self.generic_visit(node)
        if all(isinstance(t, ast.Name) and _SEED_NAME.fullmatch(t.id) for t in node.targets):
            node.value = _blank(node.value)
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        self.generic_visit(node)
        if (
            isinstance(node.target, ast.Name)
            and _SEED_NAME.fullmatch(node.target.id)
            and node.value
        ):
            node.value = _blank(node.value)
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        name = node.func.id if isinstance(node.func, ast.Name) else name
        if _SEED_CALL.fullmatch(name):
            node.args = [_blank(arg) for arg in node.args]
        for keyword in node.keywords:
            if keyword.arg and _SEED_NAME.fullmatch(keyword.arg):
                keyword.value = _blank(keyword.value)
        return node


def _blank(value: ast.expr) -> ast.expr:
    """The expression with its whole numbers made equal; all else in it still counts."""
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
