"""Processes as the kernel shows them: looking at a tree of them, and killing it.

Handed to the shim of each run, like ``_meters``: it imports little.
"""

from __future__ import annotations

# Their public faces (ctypes; signal with its enums) would take 2 and 4 ms of the 10 to start.
import _ctypes
import _signal as signal  # type: ignore[import-not-found,unused-ignore]
import os
import resource
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

LINUX = sys.platform == "linux"
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 1, 4, 36
_PAGE_BYTES = resource.getpagesize()
# num_threads counts a leader that has exited while its other threads go on.
_PPID, _STATE, _THREADS, _RSS = 1, 0, 17, 21


def prctl(option: int, value: int) -> None:
    """Set a property of this process; nothing happens on a system without prctl."""
    if LINUX:
        function = _ctypes.dlsym(_ctypes.dlopen(None, 0), "prctl")  # type: ignore[arg-type]
        _ctypes.call_function(function, (option, value, 0, 0, 0))


def send(pid: int, number: int) -> None:
    """Signal a process, or minus a group. One that is gone or not ours is left alone."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def read_proc(pid: int | str, name: str, limit: int = 1 << 20) -> bytes:
    """The start of a file in /proc, empty when the process or the right to read is gone."""
    try:
        fd = os.open(f"/proc/{pid}/{name}", os.O_RDONLY)
    except OSError:
        return b""
    try:
        return os.read(fd, limit)
    except OSError:
        return b""
    finally:
        os.close(fd)


def stat_fields(pid: int | str) -> list[bytes]:
    """The fields of /proc/<pid>/stat from the state on; the name before may hold anything."""
    data = read_proc(pid, "stat", 4096)
    return data[data.rindex(b")") + 2 :].split() if b")" in data else []


def table(pids: Collection[int] | None = None) -> dict[int, tuple[int, bool, int]]:
    """Look at these processes, or all: pid -> (parent, is alive, resident bytes)."""
    if not LINUX:
        return _table_by_ps()
    rows = {}
    for name in pids if pids is not None else filter(str.isdigit, os.listdir("/proc")):  # noqa: PTH208 - pathlib costs 10 ms
        fields = stat_fields(name)
        if fields:
            alive = fields[_STATE] not in {b"Z", b"X"} or int(fields[_THREADS]) > 1
            rows[int(name)] = (int(fields[_PPID]), alive, int(fields[_RSS]) * _PAGE_BYTES)
    return rows


def _table_by_ps() -> dict[int, tuple[int, bool, int]]:
    rows = {}
    with os.popen("ps -axo pid=,ppid=,rss=,stat=") as lines:  # noqa: S605, S607 - a constant
        for line in lines:
            pid, parent, rss_kib, state = line.split(None, 3)
            rows[int(pid)] = (int(parent), state[0] != "Z", int(rss_kib) * 1024)
    return rows


def descendants(roots: Collection[int], rows: dict[int, tuple[int, bool, int]]) -> set[int]:
    """Children of the roots, their children and so on, dead ones left out, roots too."""
    children: dict[int, list[int]] = {}
    for pid, (parent, _, _) in rows.items():
        children.setdefault(parent, []).append(pid)
    found = set(roots)
    queue = list(roots)
    while queue:
        fresh = [pid for pid in children.get(queue.pop(), ()) if pid not in found]
        found.update(fresh)
        queue += fresh
    return {pid for pid in found.difference(roots) if rows[pid][1]}


def children_of(pid: int) -> list[int]:
    """The children that its main thread has forked or adopted, in 20 us; newer ones may lack."""
    return [int(word) for word in read_proc(pid, f"task/{pid}/children").split()]


def kill_all(
    near: Callable[[], list[int]],
    find: Callable[[], set[int]],
    reap: Callable[[], bool],
    give_up_s: float = 5.0,
) -> tuple[set[int], set[int]]:
    """Kill what ``near`` and ``find`` say until they find nothing: (killed, survivors).

    ``near`` is quick and knows direct children only; hit at once, it gets a daemon that always
    forks on and exits, which any look at the whole of /proc is too slow for. ``find`` knows
    all; stopping them all before the first is killed gets a program that forks faster
    than it dies. ``reap`` collects the dead and says whether children are left.
    """
    until = time.monotonic() + give_up_s
    killed: set[int] = set()
    while True:
        for _ in range(50):
            close = near()
            for pid in close:
                send(pid, signal.SIGKILL)
            killed.update(close)
            if not reap() or not close:
                break
        held: set[int] = set()
        while (fresh := find() - held) and time.monotonic() < until:
            for pid in fresh:
                send(pid, signal.SIGSTOP)
            held |= fresh
        for pid in held:
            send(pid, signal.SIGKILL)
        killed |= held
        if not reap() and not held:
            return killed, held
        if time.monotonic() >= until:
            return killed, held.union(near())
        time.sleep(0.001)
