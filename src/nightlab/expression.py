"""A composite objective: safe arithmetic over metrics. ``0.5 * pbqc + 0.5 * dice``. Pure.

Text comes from the person's nightlab.toml and is never executed: its syntax tree is walked, and
whatever is not plain arithmetic is refused with the place where it stands.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping
from functools import lru_cache

from nightlab.errors import ConfigError
from nightlab.metrics import MAX_NOTES, Measurement
from nightlab.model import Objective

_MOST_CHARS = 1000
_SHOWN = 60  # characters on either side of what is refused
_FUNCTIONS: dict[str, tuple[Callable[..., float], int, int]] = {  # and how many arguments
    "min": (min, 2, 64),
    "max": (max, 2, 64),
    "abs": (abs, 1, 1),
    "log": (math.log, 1, 1),
    "exp": (math.exp, 1, 1),
    "sqrt": (math.sqrt, 1, 1),
}
_BINARY: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.Pow: math.pow,  # a domain error where ** would give a complex number
}
_WHAT = (
    "+ - * / ** and parentheses, numbers, metrics, and min, max, abs, log, exp, sqrt; "
    "a metric of unusual name goes in quotes: 'recall@10'"
)


class UndefinedError(Exception):
    """The expression has no value for these metrics; the message says why, in a clause."""


def parts(text: str) -> tuple[str, ...]:
    """The metrics that an expression is made of, in order. Raises ConfigError for a bad one."""
    return _parsed(text)[1]


def value(text: str, metrics: Mapping[str, float]) -> float:
    """What the expression is for these metrics, a finite number.

    Raises UndefinedError where a metric is missing, or for a division by zero, the root of
    something negative, an overflow.
    """
    tree, names = _parsed(text)
    missing = [name for name in names if name not in metrics]
    if missing:
        count = "was" if len(missing) == 1 else "were"
        raise UndefinedError(f"{', '.join(missing)} {count} not printed")
    try:
        found = _value(tree, metrics)
    except ZeroDivisionError as error:
        raise UndefinedError(f"a division by zero in {text}") from error
    except (ValueError, OverflowError) as error:
        raise UndefinedError(f"{text} has no value here: {error}") from error
    if not math.isfinite(found):
        raise UndefinedError(f"{text} is not finite here")
    return found


def composed(measured: Measurement, objective: Objective) -> Measurement:
    """The measurement with the objective computed by its expression, where it has one.

    What was printed under the objective's own name is dropped, with a note. Where a part has
    diverged so has the objective; where one is missing, or the arithmetic has no value, it is
    missing and a note says why.
    """
    if not objective.expression:
        return measured
    name, text = objective.metric, objective.expression
    values = {k: v for k, v in measured.values.items() if k != name}
    diverged = tuple(k for k in measured.diverged if k != name)
    notes = list(measured.notes)
    if len(values) + len(diverged) < len(measured.values) + len(measured.diverged):
        notes.insert(0, f"a printed {name} was ignored: nightlab computes it as {text}")
    if not set(parts(text)).isdisjoint(diverged):
        diverged = (*diverged, name)
    else:
        try:
            values[name] = value(text, values)
        except UndefinedError as error:
            notes.insert(0, f"{name}: {error}")
    return Measurement(values=values, diverged=diverged, notes=tuple(notes[:MAX_NOTES]))


@lru_cache(maxsize=16)
def _parsed(text: str) -> tuple[ast.expr, tuple[str, ...]]:
    if len(text) > _MOST_CHARS:
        raise _refused(text, 0, f"it is longer than {_MOST_CHARS} characters")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        found: list[str] = []
        _check(text.strip(), tree, found)
    except SyntaxError as error:
        raise _refused(text.strip(), (error.offset or 1) - 1, error.msg) from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise _refused(text, 0, f"it can not be read: {error}") from error
    names = tuple(dict.fromkeys(found))
    if not names:
        raise _refused(text, 0, "it names no metric")
    return tree, names


def _check(text: str, node: ast.expr, names: list[str]) -> None:
    """Collect the metrics; raises ConfigError at the first thing that is not arithmetic."""
    name = _metric(node)
    if name is not None:
        names.append(name)
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        if not math.isfinite(float(ast.literal_eval(node))):
            raise _refused(text, _at(text, node), "a number that is not finite")
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.UAdd, ast.USub)):
        _check(text, node.operand, names)
    elif isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        _check(text, node.left, names)
        _check(text, node.right, names)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        if node.func.id not in _FUNCTIONS:
            raise _refused(text, _at(text, node), f"there is no function {node.func.id!r}")
        _, least, most = _FUNCTIONS[node.func.id]
        if not least <= len(node.args) <= most:
            wanted = f"{least} value" if most == least else f"{least} values or more"
            raise _refused(text, _at(text, node), f"{node.func.id} takes {wanted}")
        for argument in node.args:
            _check(text, argument, names)
    else:
        raise _refused(text, _at(text, node), f"{type(node).__name__} is not arithmetic")


def _metric(node: ast.expr) -> str | None:
    """The metric that a node names: a name, names joined by dots, or text in quotes."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = _metric(node.value)
        return None if before is None else f"{before}.{node.attr}"
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value:
        return node.value
    return None


def _value(node: ast.expr, metrics: Mapping[str, float]) -> float:
    name = _metric(node)
    if name is not None:
        return metrics[name]
    if isinstance(node, ast.UnaryOp):
        inner = _value(node.operand, metrics)
        return -inner if isinstance(node.op, ast.USub) else inner
    if isinstance(node, ast.BinOp):
        return _BINARY[type(node.op)](_value(node.left, metrics), _value(node.right, metrics))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        function, _, _ = _FUNCTIONS[node.func.id]
        return function(*(_value(argument, metrics) for argument in node.args))
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        return float(node.value)
    raise ValueError("not arithmetic")  # _check has refused it


def _at(text: str, node: ast.expr) -> int:
    """The character at which a node begins; the parser counts bytes of a line."""
    if node.lineno > 1:
        return 0
    return len(text.encode()[: node.col_offset].decode("utf-8", "ignore"))


def _refused(text: str, at: int, why: str) -> ConfigError:
    at = max(at, 0)
    shown = f"{text[max(0, at - _SHOWN) : at]}⟶{text[at : at + _SHOWN]}"
    return ConfigError(
        f"[objective] expression can not be read at {shown!r}",
        f"{why}; an expression is {_WHAT}",
        'write, for example:  expression = "0.5 * pbqc + 0.5 * dice"',
    )
