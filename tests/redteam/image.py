"""An image for the container sandbox, made of this machine's own Python: no registry is asked."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

# One for each process that builds it, so that none removes another's.
TAG = os.environ.get("REDTEAM_IMAGE") or str(os.getpid())
NAME = f"localhost/nightlab-redteam:{TAG}"
PYTHON = "/usr/bin/python3"
_PROGRAMS = ("sh", "true", "sleep", "touch", "env")
_LINKS = ("bin", "lib", "lib64")


def build() -> str:
    """Import the image into podman. Why that cannot be done, "" where it is there."""
    if shutil.which("podman") is None:
        return "podman is not installed"
    if not os.access(PYTHON, os.X_OK):
        return f"there is no {PYTHON} to make an image of"
    ask = [PYTHON, "-c", "import os, sysconfig; print(sysconfig.get_path('stdlib'))"]
    library = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
    with tempfile.TemporaryDirectory(prefix="redteam-image-") as folder:
        path = Path(folder) / "root.tar"
        with tarfile.open(path, "w") as tar:
            _fill(tar, library)
        done = subprocess.run(
            ["podman", "import", path, NAME], capture_output=True, text=True, check=False
        )
    if done.returncode:
        return done.stderr.strip()[-200:]
    atexit.register(remove)
    return ""


def remove() -> None:
    """Take the image out of podman again."""
    subprocess.run(["podman", "rmi", "--force", NAME], capture_output=True, check=False)


def _fill(tar: tarfile.TarFile, library: str) -> None:
    for folder in ("tmp", "proc", "sys", "dev", "etc", "run", "home"):
        made = tarfile.TarInfo(folder)
        made.type, made.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(made)
    for name in _LINKS:
        link = tarfile.TarInfo(name)
        link.type, link.linkname = tarfile.SYMTYPE, f"usr/{name}"
        tar.addfile(link)
    programs = [shutil.which(name, path="/usr/bin:/bin") for name in _PROGRAMS]
    modules = [str(path) for path in Path(library, "lib-dynload").glob("*.so")]
    wanted = {name for name in programs if name} | {PYTHON}
    needed = set(wanted)
    for file in (*wanted, *modules):
        said = subprocess.run(["ldd", file], capture_output=True, text=True, check=False).stdout
        needed.update(word for word in said.split() if word.startswith("/"))
    for file in sorted(needed):
        target = file if file.startswith("/usr/") else f"/usr{file}"
        tar.add(os.path.realpath(file), target.lstrip("/"), recursive=False)
    tar.add(library, library.lstrip("/"), filter=_no_tests)


def _no_tests(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    skip = ("/test", "/tests", "__pycache__", "/idlelib", "/ensurepip", "config-3")
    return None if any(part in member.name for part in skip) else member
