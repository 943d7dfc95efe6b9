"""Why a script that works by hand misses something in its run, and the line that cures it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from nightlab.engine import Engine

_NO_NETWORK = re.compile(
    r"name resolution|Name or service not known|Network is unreachable|ConnectionError"
    r"|Could not resolve host|dns error",
    re.IGNORECASE,
)
_NOT_THERE = re.compile(
    r"No such file|not found|cannot open|can't open|Permission denied", re.IGNORECASE
)

# What every box shows: a shell that says `/bin/sh: x: not found` misses x, not /bin.
_SYSTEM = tuple(map(Path, ("/bin", "/sbin", "/lib", "/lib64", "/usr", "/etc", "/dev", "/proc")))


def cure(said: str, engine: Engine) -> str:
    """What to write into nightlab.toml where the box or the copy, not the script, is why; else "".

    ``said`` is what the run printed last. Only lines that speak of a missing file count: the
    other paths of a traceback are those that it was read from.
    """
    for line in said.splitlines():
        if _NOT_THERE.search(line):
            for name in _names(line):
                if hint := _hidden(Path(name), engine):
                    return hint
    if engine.sandbox.name != "process" and _NO_NETWORK.search(said):
        return (
            "a run has no network: fetch what it needs beforehand and name the folder in "
            "[sandbox] read, then: nightlab run"
        )
    return ""


def _names(line: str) -> Iterator[str]:
    """What may be a path: what stands in quotes, and words with a slash or a dot in them."""
    yield from re.findall(r"['\"]([^'\"\0]+)['\"]", line)
    words = re.findall(r"[^\s'\":,;()\[\]\0]+", line)
    yield from (word.rstrip(".") for word in words if re.search("[/.]", word))


def _hidden(path: Path, engine: Engine) -> str:
    """How a run comes by a file that the person has and its copy of the project has not."""
    root = engine.paths.root
    if path.is_absolute() and "tree" in path.parts and path.is_relative_to(engine.paths.state):
        path = Path(*path.parts[path.parts.index("tree") + 1 :])  # as its own copy names it
    whole = Path(os.path.normpath(root / path))
    try:
        there = whole.exists() and whole != root and not whole.is_relative_to(engine.paths.state)
    except (OSError, ValueError):
        return ""
    if not there:
        return ""
    if whole.is_relative_to(root):
        name = _not_in_git(whole.relative_to(root), engine)
        line = f'data = ["{name}"]  in nightlab.toml under [study], then: nightlab run'
        return f"{name} is not in the commit that runs: write  {line}" if name else ""
    if any(whole.is_relative_to(place) for place in _SYSTEM):
        return ""
    folder = whole if whole.is_dir() else whole.parent
    reading = f'read = ["{folder}"]  in nightlab.toml under [sandbox], then: nightlab run'
    if not path.is_absolute():
        return (
            f"a copy of the project has nothing beside it: give the script {whole}; "
            f"write  {reading}"
        )
    return "" if engine.sandbox.name == "process" else f"the box hides {folder}: write  {reading}"


def _not_in_git(path: Path, engine: Engine) -> str:
    """The part of a path that the study's commit lacks; "" where it has all of it."""
    prefix = f"{engine.repo.prefix}/" if engine.repo.prefix else ""
    files = engine.repo.files(engine.history.base_commit)
    for name in ("/".join(path.parts[:depth]) for depth in range(1, len(path.parts) + 1)):
        whole = f"{prefix}{name}"
        if not any(file == whole or file.startswith(f"{whole}/") for file in files):
            return name
    return ""
