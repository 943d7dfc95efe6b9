"""``nightlab skill``: the agent skill and what makes an agent find and use nightlab's tools.

What was written is noted in a receipt, so that ``uninstall`` takes out that and nothing else.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nightlab.errors import ConfigError
from nightlab.skill import merging
from nightlab.skill.agents import AGENTS, Order
from nightlab.skill.merging import Block, Part, Unmergeable, Whole

_RECEIPT = "skill.json"


@dataclass(frozen=True)
class Step:
    """What became of one part: ``state`` is written, there, refused, removed, or kept.

    ``diff`` is what that changes in the file.
    """

    path: str
    what: str
    state: str
    why: str = ""
    diff: str = ""


def install(
    order: Order, agents: Sequence[str], receipt: Path, *, dry_run: bool = False
) -> tuple[list[Step], list[str]]:
    """Write what the agents need; returns the steps and what the person has to do.

    Nothing is overwritten: a part that does not fit is refused, and ``why`` says what to add.
    Raises ConfigError where a file cannot be written.
    """
    steps: list[Step] = []
    told: list[str] = []
    undos = _receipt(receipt)
    texts: dict[Path, str | None] = {}
    for agent in agents:
        needs = AGENTS[agent](order)
        told += needs.told
        for part in needs.parts:
            try:
                if part.path not in texts:
                    texts[part.path] = merging.read(part.path)
                old = texts[part.path]
                ours = old is not None and old in _written(undos, part.path)
                change = merging.put_in(part, None if ours and old != _own(part) else old)
            except Unmergeable as why:
                steps.append(
                    Step(str(part.path), _what(part), "refused", f"{why}; {_by_hand(part)}")
                )
                continue
            if change.text is None:
                steps.append(Step(str(part.path), _what(part), "there"))
                continue
            diff = _diff(part.path, old, change.text)
            texts[part.path] = change.text
            steps.append(Step(str(part.path), _what(part), "written", diff=diff))
            undos.append(change.undo)
            if not dry_run:
                merging.write(receipt, json.dumps(undos, indent=1) + "\n")
                merging.write(part.path, change.text)
    return steps, list(dict.fromkeys(told))


def uninstall(receipt: Path, *, dry_run: bool = False) -> list[Step]:
    """Take out what ``install`` wrote, newest first; what was changed since is kept."""
    steps: list[Step] = []
    kept: list[dict[str, Any]] = []
    texts: dict[Path, str | None] = {}
    for undo in reversed(_receipt(receipt)):
        path = Path(undo["path"])
        item = undo.get("value") if undo["kind"] == "item" else None
        what = _named(undo.get("keys", ()), item) or undo["kind"]
        try:
            old = texts[path] if path in texts else merging.read(path)
            texts[path] = new = merging.taken_out(undo, old)
        except Unmergeable as why:
            steps.append(Step(str(path), what, "kept", str(why)))
            if path.exists():
                kept.append(undo)
            continue
        steps.append(Step(str(path), what, "removed", diff=_diff(path, old, new)))
        if not dry_run:
            _put(path, texts[path])
    if not dry_run:
        _put(receipt, json.dumps(kept[::-1], indent=1) + "\n" if kept else None)
    return steps


def _diff(path: Path, old: str | None, new: str | None) -> str:
    before, after = ((text or "").splitlines(keepends=True) for text in (old, new))
    return "".join(difflib.unified_diff(before, after, str(path), str(path), n=2))


def _own(part: Part) -> str | None:
    return part.text if isinstance(part, Whole) else None


def _written(undos: list[dict[str, Any]], path: Path) -> set[str]:
    """Texts of a whole file that earlier versions of nightlab wrote there: they are renewed."""
    return {u["text"] for u in undos if u["kind"] == "whole" and u["path"] == str(path)}


def _put(path: Path, text: str | None) -> None:
    if text is not None:
        merging.write(path, text)
        return
    path.unlink(missing_ok=True)
    with suppress(OSError):  # folders that were made for it; others are not empty
        for folder in list(path.parents)[:4]:
            folder.rmdir()


def _receipt(path: Path) -> list[dict[str, Any]]:
    try:
        found = json.loads(merging.read(path) or "[]")
    except (ValueError, Unmergeable) as error:
        raise ConfigError(
            f"{path} cannot be read", "it says what was installed", f"rm {path}"
        ) from error
    return found if isinstance(found, list) else []


def receipt_in(folder: Path) -> Path:
    """Where the receipt of an installation below ``folder`` lies."""
    return folder / _RECEIPT


def _what(part: Part) -> str:
    if isinstance(part, Whole):
        return "the skill"
    if isinstance(part, Block):
        return ".".join(part.table)
    return _named(part.keys, part.value if part.item else None)


def _named(keys: Sequence[str], item: object) -> str:
    """An entry by its keys; one of several in a list also by what it says."""
    return ".".join(keys) + (f" {item}" if isinstance(item, str) else "")


def _by_hand(part: Part) -> str:
    if isinstance(part, Whole):
        return "move it away and install again"
    if isinstance(part, Block):
        return f"add: {part.text}"
    return f"add to {'.'.join(part.keys)}: {json.dumps(part.value)}"
