"""What ``[researcher]`` says of one call of a model or an agent: read, checked, with defaults."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from nightlab.config.values import bad, duration_s, env_name

_RATES = {"input", "output", "cached"}


def asking(table: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a call as researchers take them; only those that are set. Raises ConfigError."""
    found: dict[str, Any] = {k: table[k] for k in ("model", "command", "resume") if k in table}
    if table.get("endpoint"):
        found["endpoint"] = _url(table["endpoint"])
    if "key_env" in table:
        found["key_env"] = env_name("[researcher] key_env", table["key_env"])
    if "timeout" in table:
        found["timeout_s"] = duration_s("[researcher] timeout", table["timeout"])
    if "max_turns" in table:
        if table["max_turns"] < 1:
            raise bad("[researcher] max_turns", table["max_turns"], "a whole number from 1")
        found["max_turns"] = table["max_turns"]
    if "env" in table:
        found["env"] = tuple(env_name("[researcher] env", name) for name in table["env"])
    if "price" in table:
        found["price"] = _price(table["price"])
    return found


def _url(value: str) -> str:
    try:
        parts = urlsplit(value)
        right = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        right = False
    if not right or any(c.isspace() for c in value):
        raise bad("[researcher] endpoint", value, 'an address like "http://127.0.0.1:11434/v1"')
    return value.rstrip("/")


def _price(table: Mapping[str, Any]) -> dict[str, float]:
    wanted = "USD per million tokens, like { input = 1.25, output = 10.0, cached = 0.125 }"
    numbers = all(type(v) in (int, float) and math.isfinite(v) and v >= 0 for v in table.values())
    if not numbers or not {"input", "output"} <= table.keys() <= _RATES:
        raise bad("[researcher] price", table, wanted)
    return {name: float(value) for name, value in table.items()}
