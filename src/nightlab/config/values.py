"""What the values of nightlab.toml may be: each reader raises ConfigError with the cure."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nightlab import expression as arithmetic
from nightlab.errors import ConfigError
from nightlab.judge import parse_guard
from nightlab.model import Better, Guard, Objective

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d)?")
_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST_S = 3650 * 86400.0
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)


def bad(where: str, value: object, wanted: str) -> ConfigError:
    """The error for a value that cannot be."""
    return ConfigError(f"{where} = {value!r} in nightlab.toml", f"it must be {wanted}", "mend it")


def text(where: str, value: str) -> str:
    """A command line."""
    if not value.strip() or "\0" in value:
        raise bad(where, value, "a command line")
    return value


def metric(value: str) -> str:
    """The name of a metric, as a script prints it."""
    if not re.fullmatch(r"[A-Za-z_][\w./@-]{0,63}", value, re.ASCII):
        raise bad("[objective] metric", value, "a name as the script prints it, like val_bpb")
    return value


def expression(metric: str, text: str) -> str:
    """A composite objective, "" for none: arithmetic over other metrics."""
    if text and metric in arithmetic.parts(text):
        wanted = f"made of metrics that your script prints; {metric} is the name of the whole"
        raise bad("[objective] expression", text, wanted)
    return text.strip()


def better(value: object) -> Better:
    """A direction; none is never guessed."""
    if value not in ("lower", "higher"):
        raise ConfigError(
            f"[objective] better = {value!r} in nightlab.toml",
            'it must be "lower" or "higher"; nightlab never guesses a direction',
            'add  better = "lower"  or  better = "higher"  under [objective]',
        )
    return Better(str(value))


def guard(name: str, text: object) -> Guard:
    """A limit on a metric."""
    return parse_guard(name, str(text))


def margin(value: float) -> float:
    """What a net added line must gain."""
    if not 0.0 <= value < math.inf:
        raise bad("[judge] line_margin", value, "a number from 0, in the objective's unit")
    return float(value)


def checks(table: Mapping[str, object]) -> dict[str, str]:
    """Commands by name that the code of a keep must pass."""
    for name, command in table.items():
        if not re.fullmatch(r"[A-Za-z_][\w.-]{0,63}", name, re.ASCII):
            raise bad("[checks]", name, "a name of letters, digits, '.', '_' and '-'")
        if not isinstance(command, str):
            raise bad(f"[checks] {name}", command, "a command line")
        text(f"[checks] {name}", command)
    return {name: str(command) for name, command in table.items()}


def pareto(table: Mapping[str, object]) -> tuple[Objective, ...]:
    """The metrics of a Pareto front, two or more, each with its direction."""
    for name, way in table.items():
        metric(name)
        if way not in ("lower", "higher"):
            raise bad(f"[pareto] {name}", way, '"lower" or "higher"')
    if len(table) == 1:
        raise bad("[pareto]", next(iter(table)), "two metrics or more: one has no front")
    return tuple(Objective(name, Better(str(way))) for name, way in table.items())


def paths(where: str, values: list[object], *, empty: bool = False) -> tuple[str, ...]:
    """Paths inside the project, relative to its folder."""
    if not values and not empty:
        raise bad(where, values, 'a list of files, like ["train.py"]')
    for value in values:
        parts = value.split("/") if isinstance(value, str) else []
        if not isinstance(value, str) or not value or value.startswith("/") or ".." in parts:
            why = "paths inside the project, relative to its folder; [sandbox] read names others"
            raise bad(where, value, why)
    return tuple(os.path.normpath(str(v)) for v in values)


def size(table: Mapping[str, Any], key: str) -> int | None:
    """The bytes that a key of ``[sandbox]`` sets; None where it is not set."""
    value = table.get(key)
    return None if value is None else size_bytes(f"[sandbox] {key}", value)


def place(where: str, value: object) -> str:
    """A full path; ~ is the home folder."""
    if not isinstance(value, str) or not value.startswith(("/", "~/")) or "\0" in value:
        raise bad(where, value, 'full paths, like ["~/.cache/autoresearch", "/data/sets"]')
    return os.path.normpath(Path(value).expanduser())


def env_name(where: str, value: object) -> str:
    """The name of an environment variable."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value, re.ASCII):
        raise bad(where, value, "the name of an environment variable")
    return value


def at_least_one(where: str, value: float) -> float:
    """A number of budgets from 1."""
    if not 1.0 <= value < math.inf:
        raise bad(where, value, "a number from 1: how many budgets until a run is killed")
    return float(value)


def share(where: str, value: float) -> float:
    """A share of a whole; 0 switches off what it is a share of."""
    if not 0.0 <= value < 1.0:
        raise bad(where, value, "a share from 0 (off) to below 1, like 0.05")
    return float(value)


def duration_s(where: str, value: str | float) -> float:
    """Seconds of "90s", "5m", "1h30m", "8h" or a bare number. Raises ConfigError."""
    text = str(value).strip().lower()
    parts = _DURATION.findall(text)
    if not parts or _DURATION.sub("", text).strip():
        raise bad(where, value, 'a duration like "5m", "90s", "1h30m"')
    seconds = sum(float(number) * _UNITS_S[unit or "s"] for number, unit in parts)
    if not 0 < seconds < _LONGEST_S:
        raise bad(where, value, "longer than nothing")
    return seconds


def size_bytes(where: str, value: str | int) -> int:
    """Bytes of "8G", "512M" or a bare number of bytes. Raises ConfigError."""
    found = _SIZE.fullmatch(str(value).strip())
    if not found or float(found[1]) <= 0:
        raise bad(where, value, 'a size like "8G"')
    return int(float(found[1]) * 1024 ** " KMGT".index(found[2].upper() or " "))


def until_unix(text: str, now: float) -> float:
    """The next time that the clock shows "07:00", as Unix seconds. Raises ConfigError."""
    found = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", text.strip())
    if not found:
        raise ConfigError(f"--until {text!r}", "it must be a time of day", "--until 07:00")
    day = time.localtime(now)
    at = time.mktime(
        (day.tm_year, day.tm_mon, day.tm_mday, int(found[1]), int(found[2]), 0, 0, 0, -1)
    )
    if at <= now:
        later = time.localtime(now + 86400)
        at = time.mktime(
            (later.tm_year, later.tm_mon, later.tm_mday, int(found[1]), int(found[2]), 0, 0, 0, -1)
        )
    return at


def remote(value: str) -> str:
    """The name of a git remote, "" for none; never an address or an option of git's."""
    if value and not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_./-]*", value):
        raise bad("[git] push", value, 'the name of a remote, like "origin"')
    return value


def tracker(value: str) -> str:
    """An experiment tracker and, after a colon, its place: a URI or a folder; "" for none."""
    name, _, place = value.partition(":")
    if value and name not in ("mlflow", "wandb", "tensorboard"):
        raise bad("[export] live", name, 'a tracker and its place, like "tensorboard:runs"')
    if "@" in place.partition("://")[2].partition("/")[0]:
        raise ConfigError(
            "[export] live holds a user name or a password",
            "secrets are kept in your environment, not in a file",
            "take them out there; for mlflow: export MLFLOW_TRACKING_USERNAME=… and …_PASSWORD=…",
        )
    return value
