"""Finding what a dead shim or a dead nightlab left behind, and killing it."""

from __future__ import annotations

import os
import signal

from nightlab.process import _proc, _shim

MARKER = "NIGHTLAB_RUN"


def _lineage(rows: dict[int, tuple[int, bool, int]]) -> set[int]:
    found = {os.getpid()}
    pid = os.getpid()
    while pid in rows and pid > 1:
        found.add(pid)
        pid = rows[pid][0]
    return found


def lineage() -> set[int]:
    """The pids of this process and of all that it descends from but the first of the system."""
    return _lineage(_proc.table())


def sweep(marker_prefix: str) -> list[int]:
    """Kill every process of this user whose NIGHTLAB_RUN starts so, and its descendants.

    For recovery after nightlab and the shim were killed together. Returns the pids killed.
    Never this process or one of its ancestors. A prefix takes more than a name it is the
    start of ("a/1" takes "a/10"): end it where the name ends.
    """
    wanted = f"{MARKER}={marker_prefix}".encode()

    def find() -> set[int]:
        rows = _proc.table()
        spared = _lineage(rows)
        marked = {pid for pid in rows if pid not in spared and _carries(pid, wanted)}
        # The parent may be a shim that its run has stopped: awake, it kills what we cannot see.
        for pid in marked:
            _proc.send(rows[pid][0], signal.SIGCONT)
        return ({pid for pid in marked if rows[pid][1]} | _proc.descendants(marked, rows)) - spared

    killed, _ = _proc.kill_all(list, find, lambda: False)
    return sorted(killed)


def kill_orphans() -> set[int]:
    """Kill what fell to this process from killed shims. Returns the survivors.

    An orphan is told by the oom_score_adj that all runs have. Where a program of root lowered
    its own, or nightlab's was higher before (some containers), it is known by its marker.
    """
    me = os.getpid()

    def orphans(rows: dict[int, tuple[int, bool, int]]) -> set[int]:
        return {pid for pid, row in rows.items() if row[0] == me and _is_of_a_run(pid)}

    def near() -> list[int]:
        return [pid for pid in _proc.children_of(me) if _is_of_a_run(pid)]

    def find() -> set[int]:
        rows = _proc.table()
        tops = orphans(rows)
        return {pid for pid in tops if rows[pid][1]} | _proc.descendants(tops, rows)

    def reap() -> bool:
        left = orphans(_proc.table())
        for pid in left:
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                continue
        return bool(left)

    return _proc.kill_all(near, find, reap)[1]


def _is_of_a_run(pid: int) -> bool:
    if _proc.read_proc(pid, "oom_score_adj", 16).strip() == b"%d" % _shim.OOM_TAG:
        return True
    return _carries(pid, f"{MARKER}=".encode())


def _carries(pid: int, wanted: bytes) -> bool:
    if _proc.LINUX:
        return any(v.startswith(wanted) for v in _proc.read_proc(pid, "environ").split(b"\0"))
    import psutil  # noqa: PLC0415 - not needed on Linux

    try:
        value = psutil.Process(pid).environ().get(MARKER)
    except psutil.Error:
        return False
    return value is not None and f"{MARKER}={value}".encode().startswith(wanted)
