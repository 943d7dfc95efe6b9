"""Which programs a command uses, and where they and their libraries lie.

A box shows a run what is named here and nothing else. System folders are not looked at (they
are shown anyway); this is about interpreters below the home folder, in /opt, in the project.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from nightlab import process
from nightlab.errors import NightlabError, SandboxError

SYSTEM = tuple(map(Path, ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix")))
# Only what is built into the interpreter is imported: asked in a folder that a candidate
# wrote to, it must not run the candidate's json.py.
_QUESTION = (
    "import sys;"
    "print(repr((sys.executable, [sys.prefix, sys.exec_prefix, sys.base_prefix,"
    " sys.base_exec_prefix], [p for p in sys.path if p[:1] == '/'])))"
)
_ASK_S = 30.0
_PYTHON = re.compile(r"(python|pypy)[\d.]*t?")


@dataclass(frozen=True)
class Programs:
    """``folders`` must be readable in the box; ``first`` goes before its PATH."""

    folders: tuple[Path, ...]
    first: tuple[str, ...] = ()


class Finder:
    """Looks programs up as a run will; asks each interpreter once."""

    def __init__(self) -> None:
        self._answers: dict[tuple[str, str], tuple[str, list[str]] | None] = {}

    def find(self, command: str, env: Mapping[str, str], cwd: Path, tree: Path) -> Programs:
        """Everything outside the system folders that this command's programs need.

        Nothing that lies in the tree itself is ever started here. Raises SandboxError when an
        interpreter is installed so that the whole home folder would have to be shown.
        """
        folders: list[Path] = []
        first: list[str] = []
        for program in _named(command, env, cwd):
            real = Path(os.path.realpath(program))
            folder = os.path.realpath(program.parent)
            if any(Path(p).is_relative_to(os.path.realpath(tree)) for p in (real, folder)):
                continue
            if _PYTHON.fullmatch(program.name):
                answer = self._ask(program, env, cwd)
                if answer is not None:
                    executable, found = answer
                    folders.extend(map(Path, found))
                    if _is_script(program):  # pyenv's shim: go past it
                        first.append(str(Path(executable).parent))
                    continue
            folders.extend(_around(program, real))
        wanted = [f for f in folders if not _is_system(f) and f.exists()]
        return Programs(_outermost(_guarded(wanted, env, tree)), tuple(dict.fromkeys(first)))

    def _ask(
        self, program: Path, env: Mapping[str, str], cwd: Path
    ) -> tuple[str, list[str]] | None:
        key = (str(program), os.path.realpath(program))
        if key not in self._answers:
            try:
                done = process.call(
                    (str(program), "-E", "-c", _QUESTION), env=env, cwd=cwd, timeout_s=_ASK_S
                )
                executable, prefixes, path = ast.literal_eval(done.stdout.decode())
            except (NightlabError, ValueError, SyntaxError):
                self._answers[key] = None
            else:
                # An entry of the path may be an editable install: shown, too.
                places = [*prefixes, *path, str(Path(executable).parent)]
                self._answers[key] = executable, [p for p in places if Path(p).is_dir()]
        return self._answers[key]


def _named(command: str, env: Mapping[str, str], cwd: Path) -> Iterator[Path]:
    """Files of the programs that a command line may start, interpreters of scripts included."""
    path = env.get("PATH", os.defpath)
    try:
        lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words = list(lexer)
    except ValueError:
        words = command.split()
    names = [*words, "python", "python3"]
    homes = (env.get(v, "") for v in ("VIRTUAL_ENV", "CONDA_PREFIX", "UV_PROJECT_ENVIRONMENT"))
    names += [f"{home}/bin/python" for home in homes if home.startswith("/")]
    seen = set()
    while names:
        name = names.pop(0)
        # A path is looked up in the run's folder, a name on its PATH.
        where = os.path.normpath(cwd / name) if "/" in name else shutil.which(name, path=path)
        if where is None or where in seen or not Path(where).is_file():
            continue
        seen.add(where)
        if os.access(where, os.X_OK):
            yield Path(where)
            names += _interpreter(Path(where))


def _first_bytes(program: Path, count: int) -> bytes:
    try:
        with program.open("rb") as file:
            return file.read(count)
    except OSError:
        return b""


def _is_script(program: Path) -> bool:
    return _first_bytes(program, 2) == b"#!"


def _interpreter(program: Path) -> list[str]:
    """The words after ``#!``, without the options."""
    line = _first_bytes(program, 512).split(b"\n", 1)[0]
    if not line.startswith(b"#!"):
        return []
    return [w for w in line[2:].decode("utf-8", "replace").split() if not w.startswith("-")]


def _around(program: Path, real: Path) -> list[Path]:
    """A program that is no interpreter of ours: itself, and its own tree where it has one."""
    found = [program, real]
    top = real.parent.parent
    if real.parent.name == "bin" and any((top / n).is_dir() for n in ("lib", "libexec")):
        home = Path.home()
        if top not in (Path("/"), home, home / ".local"):
            found.append(top)
    parts = real.parts
    if "node_modules" in parts:  # its own files, and packages that it shares with others
        found.append(Path(*parts[: parts.index("node_modules") + 1]))
    return found


def _is_system(folder: Path) -> bool:
    return any(folder.is_relative_to(system) for system in SYSTEM)


def _guarded(folders: Iterable[Path], env: Mapping[str, str], tree: Path) -> Iterator[Path]:
    """Leave out what would show too much: a folder around the run, or around the home."""
    home = Path(env.get("HOME", "/nonexistent"))
    for folder in folders:
        if tree.is_relative_to(folder):
            continue  # the person's checkout, by an editable install: the run has its own copy
        if home.is_relative_to(folder):
            raise SandboxError(
                f"an interpreter of this command has its libraries in {folder}",
                "a box that shows it would show your home folder",
                "put it into a virtual environment: python3 -m venv .venv",
            )
        yield folder


def _outermost(folders: Iterable[Path]) -> tuple[Path, ...]:
    """Each folder under the name that was asked for and its real one; none within another."""
    both = {name for f in folders for name in (f, Path(os.path.realpath(f)))}
    kept: list[Path] = []
    for folder in sorted(both):
        if not _is_system(folder) and not any(folder.is_relative_to(k) for k in kept):
            kept.append(folder)
    return tuple(kept)
