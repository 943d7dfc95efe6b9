"""What a run sees inside a box with walls: its environment, and the folders it may read."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from nightlab.sandboxes import Cell
from nightlab.sandboxes._programs import SYSTEM, Finder
from nightlab.sandboxes.process import scrubbed

# Below /etc: what the loader, libc, Python and CUDA read. No keys, no accounts.
ETC = (
    "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "localtime", "timezone",
    "nsswitch.conf", "ssl/certs", "ssl/openssl.cnf", "pki/tls/certs", "ca-certificates", "OpenCL",
    "fonts", "mime.types", "services", "protocols", "python3", "python3.11", "python3.12",
    "python3.13", "python3.14",
)  # fmt: skip
_TMP = "/tmp"  # noqa: S108 - the box's own
# Where these point to does not exist in the box, unless it is shown for another reason.
_FOLDER_VARIABLES = (
    "HF_HOME", "TORCH_HOME", "UV_CACHE_DIR", "UV_PYTHON_INSTALL_DIR", "XDG_CACHE_HOME",
)  # fmt: skip


@dataclass(frozen=True)
class Inside:
    """The environment inside, and the folders beside the cell's own that it may read."""

    env: dict[str, str]
    home: str  # where a run finds an empty one; an agent brings its own
    shown: tuple[Path, ...]


def look(cell: Cell, finder: Finder) -> Inside:
    """Find out for this cell. Raises SandboxError."""
    outside = scrubbed(os.environ) | cell.env
    command = shlex.join(cell.programs) if cell.programs else cell.command
    found = finder.find(command, outside, cell.cwd, cell.tree)
    shown = [*found.folders, *cell.read]
    libraries = map(Path, outside.get("LD_LIBRARY_PATH", "").split(":"))
    shown += [p for p in libraries if p.is_absolute() and not cell.tree.is_relative_to(p)]
    home = _home(outside) if cell.home is None else _TMP
    env = {**outside, "HOME": home, "TMPDIR": _TMP, "SHELL": "/bin/sh"}
    env |= {"USER": "nightlab", "LOGNAME": "nightlab", "UV_OFFLINE": "1", "UV_NO_SYNC": "1"}
    if cell.home is not None:  # an agent's environment is all made for it
        env |= cell.env | {"HOME": str(cell.home)}
    env["PATH"] = ":".join((*found.first, env["PATH"]))
    seen = (*shown, *cell.data, *SYSTEM)
    for name in _FOLDER_VARIABLES:
        if name in env and not any(Path(env[name]).is_relative_to(f) for f in seen):
            del env[name]
    return Inside(env, home, tuple(shown))


def _home(env: dict[str, str]) -> str:
    """The home's own path, empty there: what is declared below it is found where it was."""
    home = os.path.normpath(env.get("HOME", ""))
    fits = home.startswith("/") and home != "/" and not Path("/usr").is_relative_to(home)
    for folder in (*SYSTEM, Path("/proc"), Path("/dev")):
        fits = fits and not Path(home).is_relative_to(folder)
    return home if fits else _TMP
