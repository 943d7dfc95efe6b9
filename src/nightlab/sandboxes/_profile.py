"""A container engine's own list of system calls, less what our filter refuses, too.

An engine takes one list and no second one. Podman's own lies in a file, and is handed back to it
with fewer calls on it; docker's is not to be had (from 23.0 on it refuses sockets to the machine
around a virtual one by itself).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nightlab.sandboxes import _seccomp

OF_PODMAN = Path("/usr/share/containers/seccomp.json")
_ALLOW = "SCMP_ACT_ALLOW"


def stricter(text: str) -> str | None:
    """The list in this JSON without what we refuse; None for one that is not understood."""
    try:
        profile: dict[str, Any] = json.loads(text)
        rules = [dict(rule) for rule in profile["syscalls"]]
        for rule in rules:
            refused = {"socket", *(_seccomp.DENIED if rule["action"] == _ALLOW else ())}
            rule["names"] = sorted(set(rule["names"]) - refused)
    except (ValueError, LookupError, TypeError):
        return None
    if profile.get("defaultAction") == _ALLOW:
        return None
    sockets = [
        {"names": ["socket"], "action": _ALLOW, "args": [_is(0, family)]}
        for family in _seccomp.LOCAL_FAMILIES
    ]
    return json.dumps({**profile, "syscalls": [*(r for r in rules if r["names"]), *sockets]})


def _is(index: int, value: int) -> dict[str, Any]:
    return {"index": index, "value": value, "op": "SCMP_CMP_EQ"}
