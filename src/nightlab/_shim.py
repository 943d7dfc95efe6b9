"""The watcher of one run: a process of its own between nightlab and the command.

Started by ``nightlab.process`` as ``python -I -S -B``, which runs this module's code and calls
``main``; nightlab also imports its functions for looking at a process tree and killing it. It
imports little, so that it is up in some 10 ms. Its three standard files are pipes to
nightlab: 0 the code and the order, then control (one byte or end-of-file asks for the end:
nightlab's death is the same thing as its request); 1 the run's output, handed on to the
command; 2 the report, one JSON line just before the command starts and one when nothing of
it is left.

On Linux it is a *child subreaper*: whatever double-forks or calls setsid stays its descendant,
so "no child left to wait for" (ECHILD) proves that no descendant is alive. Elsewhere there is
no such thing; the group and the children found by ``ps`` are killed, which is best effort.
"""

from __future__ import annotations

# Their public faces (ctypes; signal with its enums) would take 2 and 4 ms of the 10 to start.
import _ctypes
import _signal as signal  # type: ignore[import-not-found,unused-ignore]
import os
import resource
import select
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Any

LINUX = sys.platform == "linux"
SAMPLE_S = 0.25
# Every process of a run has this oom_score_adj. It makes the kernel choose a run before
# nightlab, and, being inherited through exec with an empty environment, it tells an orphan of
# a killed shim from nightlab's other children.
OOM_TAG = 917
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 1, 4, 36
_PAGE_BYTES = resource.getpagesize()
# The shim is handed over compiled: compiling it anew would be a third of its start, and a
# cached file may be of another version.
BOOT = """
import marshal, os
def take(count):
    data = b""
    while len(data) < count:
        data += os.read(0, count - len(data)) or os._exit(0)
    return data
order = marshal.loads(take(int.from_bytes(take(8), "little")))
shim = {"__name__": "shim"}
exec(order["code"], shim)
shim["main"](order)
"""
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


class Meter:
    """Watches the memory of the tree below ``root``: resident bytes, now and then exactly.

    The whole of /proc is looked through so seldom that it costs at most 2 % of one core;
    in between, only the processes known from the last look are sampled.
    """

    def __init__(self, root: int, limit_bytes: int | None) -> None:
        self.root = root
        self.limit_bytes = limit_bytes
        self.peak_bytes = 0
        self._members: set[int] = set()
        self._rescan_at = 0.0
        self._exact_at = 0.0
        self._high_bytes = 0.0

    def over(self) -> bool:
        """Take a sample. Whether the tree holds more than its limit."""
        began = time.monotonic()
        full = began >= self._rescan_at
        rows = table(None if full else self._members)
        self._members = descendants((self.root,), rows)
        if full:
            self._rescan_at = began + 50 * (time.monotonic() - began)
        sizes = [rows[pid][2] for pid in self._members]
        total = sum(sizes)
        beyond = self.limit_bytes is not None and total > self.limit_bytes
        if total <= self._high_bytes and not beyond:
            return False
        if total - max(sizes) > total / 10:
            # Several large processes may share most of it (forked data loaders): a shared
            # page counts in each one's resident size, but only in parts in the
            # proportional one, which is slow to read.
            if time.monotonic() < self._exact_at:
                return False
            began = time.monotonic()
            self._high_bytes = total * 1.05
            total = sum(_proportional_bytes(pid, rows[pid][2]) for pid in self._members)
            self._exact_at = time.monotonic() + 20 * (time.monotonic() - began)
        else:
            self._high_bytes = total
        self.peak_bytes = max(self.peak_bytes, total)
        return self.limit_bytes is not None and total > self.limit_bytes


def _proportional_bytes(pid: int, otherwise: int) -> int:
    for line in read_proc(pid, "smaps_rollup", 4096).splitlines():
        if line.startswith(b"Pss:"):
            return int(line.split()[1]) * 1024
    return otherwise


class Run:
    """The one command this shim was started for."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.order = order
        self.main = 0
        self.status: int | None = None
        self.began = self.ended = time.monotonic()

    def start(self) -> tuple[str, int] | None:
        """Fork and exec. None when the command runs, else the step that failed and its errno."""
        step_r, step_w = os.pipe()
        shim = os.getpid()
        self.began = time.monotonic()
        self.main = os.fork()
        if self.main == 0:
            self._become_command(shim, step_w)
        os.close(step_w)
        failed = os.read(step_r, 64)  # end-of-file when exec closed it
        # Only the run may hold its output open; and nobody of the same user may look into
        # this process (its pipes, its environment) or trace it.
        os.dup2(os.open(os.devnull, os.O_RDWR), 1)
        for fd in self.order["pass_fds"]:
            os.close(fd)
        prctl(PR_SET_DUMPABLE, 0)
        if not failed:
            return None
        self.reap()
        step, number = failed.decode().split()
        return step, int(number)

    def _become_command(self, shim: int, step_w: int) -> None:
        step = "session"
        try:
            os.setsid()
            # Should nightlab and this shim be killed in one blow, the command still dies.
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != shim:
                os._exit(127)
            if LINUX:
                _tag()
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            if size := self.order["fsize_bytes"]:
                resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(1, 2)
            # Python ignores some signals, and ignored ones stay ignored through exec.
            for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            step = "folder"
            os.chdir(self.order["cwd"])
            step = "program"
            argv = self.order["argv"]
            os.execvpe(argv[0], argv, self.order["env"])  # noqa: S606
        except OSError as error:
            os.write(step_w, f"{step} {error.errno}".encode())
        finally:
            os._exit(127)

    def reap(self) -> bool:
        """Collect the dead. False when there is no child any more, living or dead."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.main:
                self.status = status
                self.ended = time.monotonic()

    def watch(self, meter: Meter) -> str:
        """Wait for the reason to end it all: ended, deadline, memory or request."""
        deadline = self.began + self.order["wall_s"]
        poll = select.poll()
        poll.register(0, select.POLLIN)
        pause_s = SAMPLE_S
        try:
            poll.register(os.pidfd_open(self.main), select.POLLIN)
        except (AttributeError, OSError):  # an old kernel, or none of Linux
            pause_s = 0.02
        while True:
            self.reap()
            now = time.monotonic()
            if self.status is not None:
                return "ended"
            if now >= deadline:
                return "deadline"
            ready = poll.poll(min(pause_s, deadline - now) * 1000 + 1)
            if not ready and meter.over():
                return "memory"
            if any(fd == 0 for fd, _ in ready) or os.getppid() != self.order["parent"]:
                return "request"

    def end(self, grace_s: float) -> set[int]:
        """Ask, wait for the grace, then force. Returns the survivors."""
        # What dies with its parent (the inside of a box) is gone in a moment.
        for pause_s in (0.0, 0.0003, 0.0007, 0.001, 0.002):
            time.sleep(pause_s)
            if LINUX and not self.reap():
                return set()
        living = descendants((os.getpid(),), table())
        for number in (signal.SIGTERM, signal.SIGCONT):
            for pid in living if grace_s > 0 else ():
                send(pid, number)
        until = time.monotonic() + grace_s
        while time.monotonic() < until:
            if not self.reap():
                return set()
            time.sleep(0.002)
        me = os.getpid()
        _, survivors = kill_all(
            lambda: children_of(me), lambda: descendants((me,), table()), self.reap
        )
        if not LINUX:
            send(-self.main, signal.SIGKILL)  # its group
        return survivors


def _tag() -> None:
    try:
        with open("/proc/self/oom_score_adj", "wb", buffering=0) as file:  # noqa: PTH123
            file.write(b"%d" % OOM_TAG)
    except OSError:
        return


def say(**fields: str | float | list[int] | None) -> None:
    """Write one JSON line to nightlab; the json module would cost 4 ms."""
    parts = []
    for name, value in fields.items():
        text = "null" if value is None else repr(value).replace("'", '"')
        parts.append(f'"{name}": {text}')
    try:
        os.write(2, ("{" + ", ".join(parts) + "}\n").encode())
    except OSError:  # nightlab is dead; the tree still has to go
        return


def main(order: dict[str, Any]) -> None:
    """Run one order from its start to the proof that nothing of it is left."""
    # The run can signal its parent. Only SIGKILL and SIGSTOP get through, and nightlab
    # sees to those.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    # Not to be killed by it: a shim that the run has stopped must wake up when nightlab dies,
    # see the end of its control pipe, and kill. (The signal also comes when only the thread
    # that started us ends; then it does no harm.)
    prctl(PR_SET_PDEATHSIG, signal.SIGCONT)
    run = Run(order)
    # Said before it is true: the first thing the command does may be to kill its parent.
    say(started=os.getpid())
    failed = run.start()
    if failed:
        say(failed=failed[0], errno=failed[1])
        os._exit(0)
    meter = Meter(os.getpid(), run.order["memory_bytes"])
    why = run.watch(meter)
    # Above its limit a run may take the machine down within the grace.
    survivors = run.end(0.0 if why == "memory" else run.order["grace_s"])
    code = None if run.status is None else os.waitstatus_to_exitcode(run.status)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    say(
        why=why,
        exit_code=code if code is not None and code >= 0 else None,
        signal=-code if code is not None and code < 0 else None,
        duration_s=run.ended - run.began if run.status is not None else None,
        cpu_s=used.ru_utime + used.ru_stime,
        # the largest single process, exactly, against the whole tree, as sampled
        peak_memory_bytes=max(meter.peak_bytes, used.ru_maxrss * (1024 if LINUX else 1)),
        survivors=sorted(survivors),
    )
    os._exit(0)
