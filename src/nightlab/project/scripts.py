"""What of a project could be run, by which command, and which file of it changes."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable, Collection, Iterator
from pathlib import Path, PurePosixPath

from nightlab.project.printing import printed

_USUAL = ("train.py", "main.py", "run.py", "train.sh", "run.sh")
_OTHER = {"test", "tests", "docs", "doc", "examples", "third_party", "vendor"}
_DEEPEST = 4  # parts of a path below which no script is looked for
_MOST_SOURCES = 200
_MOST_BYTES = 2_000_000  # of a source file; a longer one is data


def scripts_in(folder: Path, tracked: Collection[str]) -> Iterator[str]:
    """What could be run: the usual names first, then what seems to train, in subfolders, too.

    Where nothing seems to train: what prints a metric at all.
    """
    usual = [name for name in _USUAL if (folder / name).is_file()]
    if usual:
        yield usual[0]
        return
    for fits in (_runs, _measures):
        found = [path.name for path in sorted(folder.glob("*.py")) if fits(read(path))]
        found = found or _below(folder, tracked, fits)
        if found:
            yield from found
            return


def _below(folder: Path, tracked: Collection[str], fits: Callable[[str], bool]) -> list[str]:
    """Scripts of the usual names in subfolders, else those there whose text fits."""
    paths = [PurePosixPath(name) for name in sorted(tracked) if "/" in name]
    inside = [
        path
        for path in paths
        if len(path.parts) <= _DEEPEST and not _OTHER & set(path.parts[:-1]) and path.suffix
    ]
    usual = [str(p) for p in inside if p.name in _USUAL and (folder / p).is_file()]
    if usual:
        return usual
    sources = [p for p in inside if p.suffix == ".py"][:_MOST_SOURCES]
    return [str(p) for p in sources if fits(read(folder / p))]


def _runs(text: str) -> bool:
    return "__main__" in text or _trains(text)


def _trains(text: str) -> bool:
    loop = re.search(r"^\s*(?:for\s+\w*(?:epoch|step|iter)|while\s)", text, re.MULTILINE)
    return bool(loop or ".backward(" in text or ".fit(" in text) and _measures(text)


def _measures(text: str) -> bool:
    return next(printed(text), None) is not None


def named_script(folder: Path, command: str) -> str | None:
    """The project's script in a command line, as the person wrote it."""
    try:
        words = shlex.split(command)
    except ValueError:
        return None
    for word in words:
        name = word.removeprefix("./")
        if name.endswith((".py", ".sh")) and (folder / name).is_file():
            return name
    if "-m" in words[:-1]:
        module = words[words.index("-m") + 1].replace(".", "/")
        for name in (f"{module}.py", f"src/{module}.py", f"{module}/__main__.py"):
            if (folder / name).is_file():
                return name
    return None


def edited_by(folder: Path, script: str) -> str:
    """What to edit: the script, or the one python file that a shell script runs."""
    if not script.endswith(".sh"):
        return script
    names = re.findall(r"([\w./-]+\.py)\b", read(folder / script))
    there = [n.removeprefix("./") for n in dict.fromkeys(names) if (folder / n).is_file()]
    return there[0] if len(there) == 1 else script


def command_of(folder: Path, script: str, *, karpathy: bool) -> str:
    """The command line that runs this script, as its project would run it."""
    word = shlex.quote(script)
    if script.endswith(".sh"):
        first = read(folder / script).partition("\n")[0]
        return f"{'bash' if 'bash' in first else 'sh'} {word}"
    uv = (folder / "uv.lock").is_file() or (karpathy and (folder / "pyproject.toml").is_file())
    if uv:
        return f"uv run {word}"
    for venv in (".venv", "venv"):
        if (folder / venv / "bin" / "python").exists():
            return f"{venv}/bin/python {word}"
    return f"{'python' if shutil.which('python') else 'python3'} {word}"


def read(path: Path) -> str:
    """A source as text; "" for one that cannot be read or is too long to be a source."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            return ""
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
