"""Deleting what a run left, however deep, odd or locked."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from nightlab import process
from nightlab.errors import NightlabError

_PATIENCE_S = 600.0


def remove_tree(folder: Path) -> None:
    """Delete a folder that a run wrote to, whatever modes it left; links are not followed.

    Never raises. What still cannot be deleted stays: it is in the run's own folder and harms
    nobody.
    """
    if folder.is_symlink() or not folder.is_dir():  # rmtree would open a pipe, and wait
        with suppress(OSError):
            folder.unlink()
        return
    with suppress(OSError, RecursionError):
        shutil.rmtree(folder, onerror=_unlock)
    # What is left is deeper than Python goes, or than descriptors last.
    delete = ("rm", "-rf", "--", str(folder))
    for argv in (delete, ("chmod", "-R", "u+rwX", str(folder)), delete):
        if folder.exists():
            with suppress(NightlabError):
                process.call(argv, timeout_s=_PATIENCE_S)


def _unlock(_call: Callable[..., object], path: str, _error: object) -> None:
    locked = Path(path)
    with suppress(OSError):
        for place in (locked.parent, locked):
            if not place.is_symlink():
                place.chmod(0o700)
        if locked.is_dir() and not locked.is_symlink():
            shutil.rmtree(locked, ignore_errors=True)
        else:
            locked.unlink()
