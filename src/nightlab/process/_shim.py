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

# Its public face would take 4 ms of the 10 to start.
import _signal as signal  # type: ignore[import-not-found,unused-ignore]
import os
import resource
import select
import time

from nightlab.process._meters import Disk, Meter
from nightlab.process._proc import (
    LINUX,
    PR_SET_CHILD_SUBREAPER,
    PR_SET_DUMPABLE,
    PR_SET_PDEATHSIG,
    children_of,
    descendants,
    kill_all,
    prctl,
    send,
    table,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SAMPLE_S = 0.25
# Every process of a run has this oom_score_adj. It makes the kernel choose a run before
# nightlab, and, being inherited through exec with an empty environment, it tells an orphan of
# a killed shim from nightlab's other children.
OOM_TAG = 917
# The shim is handed over compiled, with the modules that it imports: compiling it anew would be
# a third of its start, and a cached file may be of another version.
BOOT = """
import marshal, os, sys
def take(count):
    data = b""
    while len(data) < count:
        data += os.read(0, count - len(data)) or os._exit(0)
    return data
order = marshal.loads(take(int.from_bytes(take(8), "little")))
for name, code in order["code"]:
    module = sys.modules[name] = type(os)(name)
    exec(code, module.__dict__)
module.main(order)
"""


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
            step = "group"
            if entry := self.order["group"]:
                with open(entry, "wb", buffering=0) as file:  # noqa: PTH123
                    file.write(b"0")
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

    def watch(self, meter: Meter, disk: Disk) -> str:
        """Wait for the reason to end it all: ended, deadline, memory, disk or request."""
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
            if not ready and disk.over():
                return "disk"
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
    disk = Disk(order["folders"], order["disk_bytes"])
    why = run.watch(meter, disk)
    # Above its limit a run may take the machine down within the grace.
    survivors = run.end(0.0 if why in {"memory", "disk"} else run.order["grace_s"])
    code = None if run.status is None else os.waitstatus_to_exitcode(run.status)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    say(
        why=why,
        full=disk.full,
        exit_code=code if code is not None and code >= 0 else None,
        signal=-code if code is not None and code < 0 else None,
        duration_s=run.ended - run.began if run.status is not None else None,
        cpu_s=used.ru_utime + used.ru_stime,
        # the largest single process, exactly, against the whole tree, as sampled
        peak_memory_bytes=max(meter.peak_bytes, used.ru_maxrss * (1024 if LINUX else 1)),
        survivors=sorted(survivors),
    )
    os._exit(0)
