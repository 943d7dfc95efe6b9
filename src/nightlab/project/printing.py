"""Metrics that a source prints, found in its syntax; nothing is run."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

NAME = r"[A-Za-z_][A-Za-z0-9_./@-]{0,63}"
_LEAD = rf"\s*(?:METRIC\s+(?=\S+\s*=)|(?={NAME}\s*:))({NAME})\s*[:=]\s*"
_LEADS = re.compile(rf"(?:.*\n)?{_LEAD}", re.DOTALL)
_FORMATTED = re.compile(rf"(?:^|\n){_LEAD}(?:%[-+ #0-9.]*[dfgeE]|\{{[^{{}}]*\}})\s*(?=\n|$)")


def printed(text: str) -> Iterator[str]:
    """Names of metrics that a source prints as ``name: value`` or ``METRIC name=value``.

    Shell sources and python that does not parse are not understood and name none.
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args and _prints(node.func):
            yield from _metrics_of(node.args)


def _prints(function: ast.expr) -> bool:
    name = getattr(function, "attr", getattr(function, "id", ""))
    return name in ("print", "echo", "write", "info", "print0")


def _metrics_of(arguments: list[ast.expr]) -> Iterator[str]:
    first = arguments[0]
    if isinstance(first, ast.JoinedStr):
        yield from _of_fstring(first)
    elif isinstance(first, ast.Constant) and isinstance(first.value, str) and len(arguments) == 2:
        found = _LEADS.fullmatch(first.value)
        if found and first.value.rstrip().endswith(":"):
            yield found[1]
    elif isinstance(first, (ast.BinOp, ast.Call)):
        yield from _of_template(first)


def _of_fstring(node: ast.JoinedStr) -> Iterator[str]:
    """``f"val_bpb:   {x:.6f}"``: a name, a colon, one value, and nothing else on the line."""
    for at, (before, value, after) in enumerate(_threes(node.values)):
        if not isinstance(value, ast.FormattedValue):
            continue
        lead = before.value if isinstance(before, ast.Constant) else None
        tail = after.value if isinstance(after, ast.Constant) else "" if after is None else None
        if not isinstance(lead, str) or not isinstance(tail, str):
            continue
        found = _LEADS.fullmatch(lead) if at == 1 or "\n" in lead else None
        if found and (not tail.strip(" \t") or re.match(r"[ \t]*\n", tail)):
            yield found[1]


def _threes(
    values: list[ast.expr],
) -> Iterator[tuple[ast.expr | None, ast.expr, ast.expr | None]]:
    for at, value in enumerate(values):
        before = values[at - 1] if at else None
        yield before, value, values[at + 1] if at + 1 < len(values) else None


def _of_template(node: ast.BinOp | ast.Call) -> Iterator[str]:
    """``"acc: %.4f" % acc`` and ``"acc: {:.4f}".format(acc)``."""
    text: ast.expr | None = None
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
        text = node.left
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        text = node.func.value if node.func.attr == "format" else None
    if isinstance(text, ast.Constant) and isinstance(text.value, str):
        yield from _FORMATTED.findall(text.value)
