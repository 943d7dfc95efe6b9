"""The main job on a bundled real task: a fresh project to run a study in."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

import nightlab
from nightlab import config, git
from nightlab.errors import NightlabError, UsageError

EXAMPLE = "digits"
_NOT_COPIED = (".nightlab", "__pycache__", "results.tsv", ".venv")


def example(name: str = EXAMPLE) -> Path:
    """The bundled example's folder: of an installed package, or beside it in a checkout."""
    package = Path(nightlab.__file__).resolve().parent
    for folder in (package / "_examples" / name, package.parent.parent / "examples" / name):
        if (folder / "train.py").is_file():
            return folder
    raise NightlabError(
        f"the example {name!r} is not in this installation",
        f"it should lie in {package / '_examples'}",
        "install nightlab again",
    )


def place(wanted: Path | None, start: Path) -> Path:
    """A folder that does not exist yet: the wanted one, or a free name in ``start``.

    Where ``start`` cannot be written to, in the folder for temporary files. Raises UsageError
    when the wanted one holds anything.
    """
    if wanted is not None:
        folder = wanted.expanduser().absolute()
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(
                f"{folder} exists already",
                "the demo never overwrites anything",
                f"nightlab demo --dir {shlex.quote(str(folder) + '-2')}, "
                f"or go on with it: nightlab run -C {shlex.quote(str(folder))}",
            )
        return folder
    names = ["nightlab-demo", *(f"nightlab-demo-{n}" for n in range(2, 1000))]
    folder = next((start / n for n in names if not (start / n).exists()), start / names[0])
    try:
        folder.mkdir()
    except OSError:
        return Path(tempfile.mkdtemp(prefix="nightlab-demo-"))
    return folder


def prepare(folder: Path, *, budget: str | None = None, name: str = EXAMPLE) -> None:
    """Copy the example into ``folder``, commit it, and write a nightlab.toml for this machine.

    The command uses the Python that runs nightlab, which has what the example needs.
    """
    shutil.copytree(
        example(name), folder, ignore=shutil.ignore_patterns(*_NOT_COPIED), dirs_exist_ok=True
    )
    path = folder / config.CONFIG_NAME
    text = path.read_text(encoding="utf-8")
    text = _set(text, "command", f"{shlex.quote(sys.executable)} train.py")
    if budget is not None:
        text = _set(text, "budget", budget)
    path.write_text(text, encoding="utf-8")
    git.create(folder)


def _set(text: str, key: str, value: str) -> str:
    quoted = '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return re.sub(rf"(?m)^({key}\s*=\s*)\"[^\"]*\"", lambda found: found[1] + quoted, text, count=1)
