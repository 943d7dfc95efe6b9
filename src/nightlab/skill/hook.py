"""The stop hook of Claude Code: while its study is open, the session goes on. Quick, and bounded.

A session is held only by the study that its own server works on, and again only when a new
experiment began or was settled since it was held last: an agent that will not go on is let go.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from nightlab import config, journal
from nightlab.config import Paths
from nightlab.process._sweep import lineage

MARKER = "client.json"  # the server writes it while a client's session is open
_HELD = "client-held.json"


def decide(asked: dict[str, Any]) -> dict[str, str] | None:
    """The hook's answer to what Claude Code wrote to it; None lets the session stop."""
    folder = asked.get("cwd")
    root = config.find_root(Path(folder)) if isinstance(folder, str) and folder else None
    if root is None:
        return None
    paths = Paths(root)
    found = _open_study(paths)
    if found is None or found.get("stopping") or found.get("client_pid") not in lineage():
        return None
    progress = [found.get("begun"), found.get("settled")]
    held = paths.study(found["tag"]) / _HELD
    if asked.get("stop_hook_active") and _read(held) == {"held_at": progress}:
        return None
    with suppress(OSError):
        held.write_text(json.dumps({"held_at": progress}), encoding="utf-8")
        return {"decision": "block", "reason": _reason(found)}
    return None  # what cannot be remembered could hold it for ever


def _open_study(paths: Paths) -> dict[str, Any] | None:
    for marker in paths.state.glob(f"*/{MARKER}"):
        found = _read(marker)
        if found.get("tag") == marker.parent.name and journal.is_locked(paths.lock(found["tag"])):
            return found
    return None


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _reason(found: dict[str, Any]) -> str:
    begun, settled = found.get("begun", 0), found.get("settled", 0)
    state = (
        "one is open: call await_experiment"
        if begun != settled
        else "call get_context, then begin_experiment"
    )
    return (
        f"The nightlab study {found['tag']} is open ({settled} experiments settled); {state}. "
        "It goes on until its bounds. Call finish only if the person asked you to stop."
    )
