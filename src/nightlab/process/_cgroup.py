"""Control groups (version 2): the kernel holds a run's memory and processes, and kills it whole.

They can be had where nightlab may make groups: as root, or in a group that was delegated to the
user (``systemd-run --user --scope -p Delegate=yes nightlab run``). Where the memory controller
is not in the version 2 hierarchy (a host with version 1 beside it), groups could only help to
kill, which the shim proves without; a run is spared them, for joining one costs it some 10 ms (the
kernel waits for every processor). Version 1 is not used: it kills less surely, and is on
its way out. Source: the kernel's ``Documentation/admin-guide/cgroup-v2.rst``.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import itertools
import os
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nightlab.errors import NightlabError
from nightlab.process import _proc
from nightlab.process._call import call

_ROOT, _OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_WANTED = ("memory", "pids")
_NAME = re.compile(r"nightlab-(?P<space>\d+)-(?P<pid>\d+)\.\d+")
_ASIDE = "-self"
_GONE_WITHIN_S = 5.0
_count = itertools.count(1)


@dataclass(frozen=True)
class Ended:
    """What a group says at its end; None: it does not count memory.

    ``oom_kills`` are processes that the kernel killed for the group's memory; ``peak_bytes``
    holds the files that the run read, too, as far as they were in memory.
    """

    oom_kills: int | None
    peak_bytes: int | None
    survivors: tuple[int, ...]


@dataclass(frozen=True)
class Group:
    """One run's group. ``entry`` is the file to which a process writes 0 to join it."""

    folder: Path
    holds_memory: bool

    @property
    def entry(self) -> Path:
        return self.folder / "cgroup.procs"

    def close(self) -> Ended:
        """Kill whatever is in it, take its counts, remove it. Never raises."""
        events = _read(self.folder / "memory.events")
        kills = re.search(r"^oom_kill (\d+)", events, re.MULTILINE)
        peak = _read(self.folder / "memory.peak").strip()
        survivors = _empty(self.folder)
        return Ended(
            int(kills[1]) if kills else None, int(peak) if peak.isdigit() else None, survivors
        )


@dataclass(frozen=True)
class Home:
    """A folder of the hierarchy that is this process's own, for the groups of its runs."""

    folder: Path
    controllers: frozenset[str]

    def group(self, memory_bytes: int | None, processes: int | None) -> Group | None:
        """Make a group with these bounds; None when the kernel does not let us."""
        folder = self.folder / f"run-{next(_count)}"
        try:
            folder.mkdir()
        except OSError:
            return None
        try:
            if "memory" in self.controllers:
                (folder / "memory.oom.group").write_text("1")
                if memory_bytes is not None:
                    (folder / "memory.max").write_text(f"{memory_bytes}")
                    with contextlib.suppress(OSError):  # a kernel without swap has none
                        (folder / "memory.swap.max").write_text("0")
            if "pids" in self.controllers and processes is not None:
                (folder / "pids.max").write_text(f"{processes}")
        except OSError:
            _remove(folder)
            return None
        return Group(folder, "memory" in self.controllers)

    def close(self) -> None:
        """Kill and remove every group in it, and itself."""
        _empty(self.folder)


@functools.cache
def home() -> tuple[Home | None, str]:
    """Where this process may make groups, found out once by making one; or None and why not."""
    found, why = look(_ROOT, _OWN)
    if found is not None:
        atexit.register(found.close)
    return found, why


def look(root: Path, own: Path) -> tuple[Home | None, str]:
    """Try the group that this process is in and, for root, the top of the hierarchy."""
    if not _proc.LINUX:
        return None, "there are no control groups"
    top = next((p for p in (root, root / "unified") if (p / "cgroup.controllers").exists()), None)
    here = re.search(r"^0::/(.*)$", _read(own), re.MULTILINE)
    if top is None or here is None:
        return None, "version 2 of control groups is not mounted"
    tops = dict.fromkeys((top / here[1], *((top,) if os.geteuid() == 0 else ())))
    best, why = None, "this user may not make control groups"
    for base in tops:
        try:
            found = _settle(base)
        except (OSError, NightlabError) as error:
            why = f"groups cannot be made in {base}: {getattr(error, 'strerror', '') or error}"
            continue
        if "memory" in found.controllers:
            if best is not None:
                best.close()
            return found, ""
        best, why = best or found, "the memory controller is not in version 2 of control groups"
        if best is not found:
            found.close()
    return best, why


def _settle(base: Path) -> Home:
    """Make a home below this group and try it out. Raises OSError, NightlabError."""
    for old in base.glob("nightlab-*"):
        if old.name.endswith(_ASIDE):  # no runs were in it; what a dead one started may go on
            _remove(old)
        elif _is_left(old.name):
            _empty(old)
    folder = base / _name(os.getpid())
    controllers = _hand_down(base)
    folder.mkdir()
    made = Home(folder, controllers)
    try:
        for name in controllers:
            (folder / "cgroup.subtree_control").write_text(f"+{name}")
        works = _works(made)
    except BaseException:
        made.close()
        raise
    if not works:
        made.close()
        raise NightlabError("its limits cannot be set, or no process be moved there")
    return made


def _works(made: Home) -> bool:
    group = made.group(64 << 20, 16)
    if group is None:
        return False
    try:
        tried = call(("/bin/sh", "-c", 'echo 0 > "$0"', str(group.entry)))
    finally:
        group.close()
    return tried.exit_code == 0


def _hand_down(base: Path) -> frozenset[str]:
    """Let groups below this one have the controllers that it has. Which they are."""
    offered = [c for c in _WANTED if c in _read(base / "cgroup.controllers").split()]
    given = base / "cgroup.subtree_control"
    missing = [c for c in offered if c not in _read(given).split()]
    if not missing:
        return frozenset(offered)
    here, me = {*map(int, _read(base / "cgroup.procs").split())}, os.getpid()
    if me in here and here <= {me, *_proc.descendants((me,), _proc.table())}:
        # A group with processes cannot have groups with controllers: step aside into a leaf.
        leaf = base / f"{_name(me)}{_ASIDE}"
        leaf.mkdir(exist_ok=True)
        for pid in sorted(here):
            with contextlib.suppress(ProcessLookupError):
                (leaf / "cgroup.procs").write_text(str(pid))
    with contextlib.suppress(OSError):  # busy with others: without controllers, then
        for name in missing:
            given.write_text(f"+{name}")
    return frozenset(c for c in offered if c in _read(given).split())


def _name(pid: int) -> str:
    """For this process's home, and never for that of a later one with its number."""
    fields = _proc.stat_fields(pid)
    space = re.sub(r"\D", "", str(Path("/proc/self/ns/pid").readlink()))
    return f"nightlab-{space}-{pid}.{fields[19].decode() if len(fields) > 19 else 0}"


def _is_left(name: str) -> bool:
    """Whether the process that made this home is dead, as far as can be told from here."""
    found = _NAME.match(name)
    if found is None:
        return False
    now = _name(int(found["pid"]))
    return now.split("-")[1] == found["space"] and now != found[0]


def _empty(folder: Path) -> tuple[int, ...]:
    """Kill everything below, wait until it is gone, remove the groups. Who does not die."""
    until = time.monotonic() + _GONE_WITHIN_S
    while True:
        try:
            (folder / "cgroup.kill").write_text("1")
        except OSError:  # before Linux 5.14
            for pid in _members(folder):
                _proc.send(pid, signal.SIGKILL)
        living = tuple(_members(folder))
        if not living and _remove(folder):
            return ()
        if time.monotonic() > until:
            return living
        time.sleep(0.002)


def _members(folder: Path) -> Iterator[int]:
    for here, _, _ in os.walk(folder):
        for word in _read(Path(here, "cgroup.procs")).split():
            yield int(word)


def _remove(folder: Path) -> bool:
    """Remove empty groups from below. False while the kernel still holds one."""
    try:
        for here, _, _ in os.walk(folder, topdown=False):
            Path(here).rmdir()
    except OSError:
        return not folder.exists()
    return True


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
