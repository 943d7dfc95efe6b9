"""Root's runs do not run as root: each gets a user id that owns nothing but its folders."""

from __future__ import annotations

import contextlib
import os
import zlib
from pathlib import Path

from nightlab.errors import SandboxError
from nightlab.sandboxes import Cell

# From here up no system and no container engine hands out user ids.
_FIRST_UID, _UIDS = 1_900_000_000, 1_000_000


def own_uid(cell: Cell) -> int | None:
    """For root, a user id that nobody has and that is this run's alone; None for a user.

    Runs that share a folder share their id, too.

    Root of a user namespace that does not hold such ids is a user in truth.
    """
    if os.geteuid() != 0:
        return None
    name = (*cell.write, cell.run_dir)[0]
    uid = _FIRST_UID + zlib.crc32(os.fsencode(name)) % _UIDS
    for line in Path("/proc/self/uid_map").read_text().splitlines():
        first, _, count = map(int, line.split())
        if first <= uid < first + count:
            return uid
    return None


def hand_over(cell: Cell, uid: int) -> None:
    """Give the run's folders to its user id; what is sealed in them stays root's."""
    for top in cell.own:
        for folder, _, files in os.walk(top):
            os.chown(folder, uid, uid, follow_symlinks=False)
            for path in (Path(folder, name) for name in files):
                # A file that only root may read would be none for the run.
                # What was kept from another run or agent is this one's now.
                kept = top not in (cell.tree, cell.run_dir)
                if kept or not os.lstat(path).st_mode & 0o004:
                    os.chown(path, uid, uid, follow_symlinks=False)
    for name in cell.writable:
        with contextlib.suppress(FileNotFoundError):
            os.chown(cell.tree / name, uid, uid, follow_symlinks=False)


def check_readable(shown: tuple[Path, ...]) -> None:
    """Raises SandboxError when something that the run needs is for root's eyes only."""
    for place in shown:
        mode = place.stat().st_mode if place.exists() else 0o777
        if not mode & 0o004 or (place.is_dir() and not mode & 0o001):
            raise SandboxError(
                f"{place} can be read by root alone",
                "runs of root have a user id of their own, which owns nothing but the run's folder",
                f"chmod -R o+rX {place}",
            )
