"""Putting our entries into a person's configuration files, and taking just those out again.

A file is never overwritten: what cannot be merged is refused, in words that say what to add.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nightlab.errors import ConfigError

_BEGIN = "# >>> nightlab skill install >>>"
_END = "# <<< nightlab skill install <<<"


@dataclass(frozen=True)
class Whole:
    """A file that is ours."""

    path: Path
    text: str


@dataclass(frozen=True)
class Entry:
    """A key of a JSON file, or with ``item`` one element of the list there."""

    path: Path
    keys: tuple[str, ...]
    value: Any
    item: bool = False


@dataclass(frozen=True)
class Block:
    """A table of a TOML file, between two comments that mark it."""

    path: Path
    table: tuple[str, ...]
    text: str


Part = Whole | Entry | Block


@dataclass(frozen=True)
class Change:
    """What a part comes to: the file's new text, None where nothing changes.

    ``undo`` is what ``taken_out`` needs to take it out again.
    """

    text: str | None
    undo: dict[str, Any]


class Unmergeable(Exception):  # noqa: N818  an answer, not a failure
    """Why a part cannot be put in."""


def put_in(part: Part, old: str | None) -> Change:
    """The part in the file's text (None: there is no such file). Raises Unmergeable."""
    undo: dict[str, Any] = {"path": str(part.path), "made": old is None}
    match part:
        case Whole(text=text):
            if old is not None and old != text:
                raise Unmergeable("it is there, and is another one")
            return Change(None if old == text else text, undo | {"kind": "whole", "text": text})
        case Entry():
            return _entry_in(part, old, undo)
        case Block():
            return _block_in(part, old, undo)


def _entry_in(part: Entry, old: str | None, undo: dict[str, Any]) -> Change:
    whole = _parsed(old)
    at, made = whole, None
    path = part.keys if part.item else part.keys[:-1]
    for depth, key in enumerate(path):
        kind: type = list if part.item and depth == len(path) - 1 else dict
        if key not in at:
            made = depth if made is None else made
            at[key] = kind()
        at = at[key]
        if not isinstance(at, kind):
            raise Unmergeable(f"{'.'.join(path[: depth + 1])} is not what it should be there")
    undo |= {"kind": "item" if part.item else "entry", "keys": list(part.keys), "value": part.value}
    undo["depth"] = made
    if part.item:
        if part.value in at:
            return Change(None, undo)
        at.append(part.value)  # type: ignore[attr-defined]
    else:
        last = part.keys[-1]
        if at.get(last) == part.value:
            return Change(None, undo)
        if last in at:
            raise Unmergeable(f"{'.'.join(part.keys)} is there, and is another one")
        at[last] = part.value
    return Change(_rendered(whole, old), undo)


def _parsed(text: str | None) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise Unmergeable("a key stands there twice")
        return found

    try:
        found = json.loads(text, object_pairs_hook=unique) if text and text.strip() else {}
    except (ValueError, RecursionError) as error:
        raise Unmergeable(f"it cannot be read as JSON ({error})") from error
    if not isinstance(found, dict):
        raise Unmergeable("it holds no JSON object")
    return found


def _rendered(value: dict[str, Any], old: str | None) -> str:
    """As the person indents."""
    found = re.search(r"^([ \t]+)\S", old or "", re.MULTILINE)
    indent = found.group(1) if found else "  "
    return json.dumps(value, indent=indent, ensure_ascii=False) + "\n"


def _block_in(part: Block, old: str | None, undo: dict[str, Any]) -> Change:
    before = old or ""
    block = f"{_BEGIN}\n{part.text.rstrip()}\n{_END}\n"
    undo |= {"kind": "block", "text": block}
    if block in before:
        return Change(None, undo)
    try:
        found: Any = tomllib.loads(before)
        for key in part.table:
            found = found.get(key, {})
        if found:
            raise Unmergeable(f"[{'.'.join(part.table)}] is there, and is another one")
        gap = "\n" if before.strip() else ""
        text = f"{before}{'' if before.endswith(chr(10)) or not before else chr(10)}{gap}{block}"
        tomllib.loads(text)
    except (tomllib.TOMLDecodeError, AttributeError) as error:
        raise Unmergeable(f"it cannot be read as TOML with that table ({error})") from error
    return Change(text, undo)


def taken_out(undo: dict[str, Any], old: str | None) -> str | None:
    """The file without what ``undo`` put in; None where the file itself is to go.

    Raises Unmergeable where the person has changed it since, or it is gone.
    """
    if old is None:
        raise Unmergeable("the file is gone")
    match undo["kind"]:
        case "whole":
            if old != undo["text"]:
                raise Unmergeable("it was changed since")
            return None
        case "block":
            if undo["text"] not in old:
                raise Unmergeable("it was changed since")
            left = old.replace(f"\n{undo['text']}", "", 1).replace(undo["text"], "", 1)
            return None if undo["made"] and not left.strip() else left
    whole = _parsed(old)
    _take_entry(undo, whole)
    return None if undo["made"] and not whole else _rendered(whole, old)


def _take_entry(undo: dict[str, Any], whole: dict[str, Any]) -> None:
    keys: Sequence[str] = undo["keys"]
    item = undo["kind"] == "item"
    chain: list[Any] = [whole]
    for key in keys if item else keys[:-1]:
        if not isinstance(chain[-1], dict) or key not in chain[-1]:
            raise Unmergeable("it is not there any more")
        chain.append(chain[-1][key])
    if item and isinstance(chain[-1], list) and undo["value"] in chain[-1]:
        chain[-1].remove(undo["value"])
    elif not item and chain[-1].get(keys[-1]) == undo["value"]:
        del chain[-1][keys[-1]]
    else:
        raise Unmergeable("it was changed since")
    made = undo["depth"]
    for depth in range(len(chain) - 2, -1, -1):
        if made is None or depth < made or chain[depth + 1]:
            break
        del chain[depth][keys[depth]]


def read(path: Path) -> str | None:
    """The text of a file; None where there is none. Raises Unmergeable where it is no text."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise Unmergeable(f"it cannot be read ({error})") from error


def write(path: Path, text: str) -> None:
    """Put a text in its place, atomically; through a link. Raises ConfigError."""
    target = path.resolve()
    draft = target.with_name(f".{target.name}.nightlab")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(text, encoding="utf-8")
        if target.exists():
            draft.chmod(target.stat().st_mode & 0o777)
        draft.replace(target)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written", str(error), f"ls -ld {path.parent}"
        ) from error
