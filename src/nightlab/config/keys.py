"""Every key of nightlab.toml, and what to say of one that is not among them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from nightlab.config.values import bad
from nightlab.errors import ConfigError

# Every key there is, with the type its value must have; docs/configuration.md lists them and
# tests/test_config.py holds one test per key that it changes behaviour.
KEYS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "study": {
        "command": str,
        "edit": list,
        "budget": (str, int, float),
        "kill_factor": (int, float),
        "data": list,
        "protect": list,
        "seed_env": str,
    },
    "objective": {
        "metric": str,
        "better": str,
        "expression": str,
        "evaluate": str,
        "hidden": list,
    },
    "guards": {},
    "checks": {},
    "pareto": {},
    "judge": {
        "use": str,
        "line_margin": (int, float),
        "covariate": str,
        "early_stop": (int, float),
        "early_audit": (int, float),
        "curve": str,
    },
    "researcher": {
        "use": str,
        "seed": int,
        "values": dict,
        "script": str,
        "agent": str,
        "model": str,
        "endpoint": str,
        "key_env": str,
        "command": str,
        "timeout": (str, int, float),
        "max_turns": int,
        "resume": bool,
        "env": list,
        "price": dict,
        "fallback": str,
        "fixes": int,
        "plan_every": int,
        "context_tokens": int,
    },
    "sandbox": {
        "use": str,
        "image": str,
        "read": list,
        "env": list,
        "memory": (str, int),
        "processes": int,
        "disk": (str, int),
        "cache": bool,
        "log": (str, int),
    },
    "devices": {"slots": int},
    "git": {"push": str},
    "export": {"live": str},
    "notify": {"to": list, "on": list, "morning": str, "per_hour": int},
    "final": {
        "command": str,
        "budget": (str, int, float),
        "test": str,
        "hidden": list,
        "pairs": int,
    },
}
_REQUIRED = (("study", "command"), ("study", "edit"), ("objective", "metric"))


def check_keys(table: Mapping[str, Any]) -> None:
    """Refuse what means nothing and what has the wrong type. Raises ConfigError."""
    for name, section in table.items():
        if name not in KEYS:
            raise _unknown(f"[{name}]", name, list(KEYS))
        if not isinstance(section, dict):
            raise bad(f"[{name}]", section, "a table of keys")
        if name in ("guards", "checks", "pareto"):  # a person's own names
            continue
        for key, value in section.items():
            if key not in KEYS[name]:
                raise _unknown(f"[{name}] {key}", key, list(KEYS[name]))
            wanted = KEYS[name][key]
            if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
                kinds = wanted if isinstance(wanted, tuple) else (wanted,)
                raise bad(f"[{name}] {key}", value, " or ".join(k.__name__ for k in kinds))
    for name, key in _REQUIRED:
        if key not in table.get(name, {}):
            raise ConfigError(
                f"nightlab.toml has no [{name}] {key}",
                f"a study needs {', '.join(f'[{s}] {k}' for s, k in _REQUIRED)}",
                "nightlab init --force  (writes a new one), or add the key",
            )


def _unknown(where: str, key: str, known: list[str]) -> ConfigError:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
    return ConfigError(
        f"nightlab.toml has {where}, which means nothing",
        "a key that is not understood would silently not do what you think",
        f"{hint}  Mend nightlab.toml, then: nightlab doctor",
    )
