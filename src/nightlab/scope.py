"""What a proposal may touch, and what is a change at all. Pure: texts in, ScopeError out."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Mapping, Sequence

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
    parse, or changes nothing that runs (comments and layout do not run).
    """
    for path in files:
        if not matches(path, patterns) or path.startswith("/") or ".." in path.split("/"):
            raise ScopeError(
                f"{path} is not in scope",
                f"only these may change: {', '.join(patterns)}",
                "propose a change to the files in scope only",
            )
    changed = {p: t for p, t in files.items() if before.get(p) != t}
    for path, text in changed.items():
        _check_parses(path, text)
    if not any(_runs_differently(p, before.get(p), t) for p, t in changed.items()):
        raise ScopeError(
            "the proposal changes nothing that runs",
            "the files are the same but for comments and layout" if changed else "no file differs",
            "propose a change of the code itself",
        )
    return changed


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
        ) from error


def _runs_differently(path: str, old: str | None, new: str | None) -> bool:
    if old is None or new is None or not path.endswith(".py"):
        return old != new
    try:
        return ast.dump(ast.parse(old)) != ast.dump(ast.parse(new))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return _tokens(old) != _tokens(new)


def _tokens(text: str) -> list[str]:
    """Fallback where the old file does not parse: the words of the source without comments."""
    try:
        found = tokenize.generate_tokens(io.StringIO(text).readline)
        return [t.string for t in found if t.type not in (tokenize.COMMENT, tokenize.NL)]
    except (tokenize.TokenError, SyntaxError):
        return text.split()
