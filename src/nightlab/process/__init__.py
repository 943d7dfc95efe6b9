"""Every child process: own group, budget, signal ladder, bounded capture, the tree dead at the end.

``call`` is for short helper programs. ``start`` is for runs: each has a shim (``_shim``), a
small process between nightlab and the command that holds the deadline and the memory limit
and proves that the whole tree is dead. Here is the second line: should the run kill or stop its
shim, nightlab, to which the orphans then fall (it is a subreaper, too), does the same.

On Linux nothing gets away that does not kill nightlab itself or ask another service (cron,
``systemd-run --user``) to start it. On macOS there are no subreapers: a process that forks
twice and drops its environment is not found. That is best effort, and untested.
"""

from __future__ import annotations

import contextlib
import functools
import json
import marshal
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any

from nightlab.errors import ExecutorError
from nightlab.process import _cgroup, _meters, _proc, _shim
from nightlab.process._call import Completed, call
from nightlab.process._capture import Capture, clean, drain
from nightlab.process._sweep import MARKER, kill_orphans, sweep

__all__ = ["Child", "Completed", "Finished", "call", "clean", "not_found", "start", "sweep"]

LOG_BYTES = 8 * 1024**2
_READ_BYTES = 256 * 1024
_LOOK_S = 0.25
# How much later than the shim nightlab itself acts: less would race an honest shim on a busy
# machine, more would break the promise of at most 2 s over the deadline.
_SECOND_LINE_S = 0.25


@dataclass(frozen=True)
class Finished:
    """How a process tree ended.

    ``exit_code`` is the main process's, None when a signal ended it (then ``signal``).
    ``timed_out``: we killed it at its deadline. ``stopped``: we killed it on request.
    ``oom``: the kernel or our watchdog ended it for memory. ``duration_s`` is from the start
    of the command to the end of its main process. ``cpu_s`` is of the whole tree,
    ``peak_memory_bytes`` its sampled sum or its largest process, whichever is more; both None
    when the run killed its shim. ``log_bytes`` counts what it printed, of which at most the
    log's cap was stored. ``survivors`` are pids that could not be killed (uninterruptible in a
    driver); empty is the proof. ``overran``: we killed it for writing more than this.
    ``peak_gpu_bytes``: what it held on its GPUs, as an executor sampled it.
    """

    exit_code: int | None
    signal: int | None
    timed_out: bool
    stopped: bool
    oom: bool
    duration_s: float
    cpu_s: float | None
    peak_memory_bytes: int | None
    log_bytes: int
    survivors: tuple[int, ...] = ()
    overran: str = ""
    peak_gpu_bytes: int | None = None

    @property
    def cut_short(self) -> bool:
        """Whether it did not come to its own end, for a reason that is not the box's."""
        return bool(self.timed_out or self.stopped or self.oom or self.overran)


def start(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    wall_s: float,
    log: Path,
    grace_s: float = 1.5,
    marker: str = "",
    memory_bytes: int | None = None,
    log_bytes: int = LOG_BYTES,
    fsize_bytes: int | None = None,
    pass_fds: Sequence[int] = (),
    processes: int | None = None,
    folders: Sequence[Path] = (),
    disk_bytes: int | None = None,
    grouped: bool = True,
) -> Child:
    """Start a run: ``argv`` with exactly ``env`` (and NIGHTLAB_RUN=marker) in ``cwd``.

    Its input is /dev/null, its output goes through a pipe to ``log``, of which at most
    ``log_bytes`` are stored (the first and the last half). No core files; files it writes are
    at most ``fsize_bytes`` long. Where there are control groups, and ``grouped``, it has one,
    which holds ``memory_bytes`` and ``processes``.

    When its main process ends, ``wall_s`` have passed, its tree holds more than
    ``memory_bytes``, ``folders`` more than ``disk_bytes``, or ``stop`` is called, all of its
    descendants are asked to end (TERM), and after ``grace_s`` forced to.

    Raises ExecutorError when the log cannot be opened or no process be made; what fails later
    (no such folder, no such program) is raised by ``Child.poll``.
    """
    _prepare()
    capture = _open_log(log, log_bytes)
    home = _cgroup.home()[0] if grouped else None
    group = home.group(memory_bytes, processes) if home and home.controllers else None
    order = {
        "code": _shim_code(),
        "argv": [os.fsencode(word) for word in argv],
        "env": {os.fsencode(k): os.fsencode(v) for k, v in {**env, MARKER: marker}.items()},
        "cwd": os.fsencode(cwd),
        "wall_s": float(wall_s),
        "grace_s": float(grace_s),
        "memory_bytes": None if group and group.holds_memory else memory_bytes,  # as watched
        "group": os.fsencode(group.entry) if group else None,
        "folders": [os.fsencode(folder) for folder in folders],
        "disk_bytes": disk_bytes,
        "fsize_bytes": fsize_bytes,
        "pass_fds": list(pass_fds),
        "parent": os.getpid(),
    }
    try:
        shim = _open_shim(pass_fds)
    except OSError as error:
        capture.close()
        if group is not None:
            group.close()
        raise ExecutorError("the watcher of a run could not be started", str(error)) from error
    limits = _Limits(wall_s, grace_s, disk_bytes, group)
    return Child(shim, capture, marshal.dumps(order), limits)


@dataclass(frozen=True)
class _Limits:
    wall_s: float
    grace_s: float
    disk_bytes: int | None
    group: _cgroup.Group | None


class Child:
    """A handle on one run. One thread of its own takes its output until it is gone."""

    def __init__(
        self,
        shim: subprocess.Popen[bytes],
        capture: Capture,
        order: bytes,
        limits: _Limits,
    ) -> None:
        self.pid = shim.pid  # of the shim: the top of the run's tree
        self._shim = shim
        self._capture = capture
        self.news = capture.news  # what was printed since the last call
        self._limits = limits
        self._oom_kills = _oom_kills()
        self._started_at = time.monotonic()
        # Until the shim has said that the command runs, a slow machine gets more patience.
        self._force_at = self._started_at + limits.wall_s + limits.grace_s + 10
        self._timed_out = self._stopped = False
        self._control = threading.Lock()
        self._done = threading.Event()
        self._finished: Finished | None = None
        self._error: BaseException | None = None
        # Before anyone can call stop: the order is the first thing on that pipe.
        order = len(order).to_bytes(8, "little") + order
        with contextlib.suppress(BrokenPipeError):  # the shim is dead; poll says so
            while order:
                order = order[os.write(self._shim.stdin.fileno(), order) :]  # type: ignore[union-attr]
        threading.Thread(target=self._take, name=f"run {shim.pid}", daemon=True).start()

    def poll(self, timeout_s: float) -> Finished | None:
        """Wait at most ``timeout_s`` for the end; None if it still runs.

        Raises ExecutorError when the run could not be started or its log not be written.
        """
        if not self._done.wait(timeout_s):
            return None
        if self._error is not None:
            raise self._error
        return self._finished

    def stop(self) -> None:
        """Ask for the end of the whole tree now (TERM, grace, KILL). Idempotent, does not wait."""
        with self._control:
            if self._stopped or self._done.is_set():
                return
            self._stopped = True
            self._force_at = min(
                self._force_at, time.monotonic() + self._limits.grace_s + _SECOND_LINE_S
            )
            with contextlib.suppress(OSError):  # it ends anyway
                os.write(self._shim.stdin.fileno(), b"!")  # type: ignore[union-attr]

    def elapsed_s(self) -> float:
        """Seconds since the start; after the end, how long it took."""
        done = self._finished
        return done.duration_s if done else time.monotonic() - self._started_at

    def tail(self, lines: int = 5) -> list[str]:
        """The last complete lines of the output so far, control characters removed."""
        return self._capture.tail(lines)

    def _take(self) -> None:
        try:
            said = self._pump()
            self._shim.wait()
            self._finished = self._settle(*_parse(said))
        except BaseException as error:  # noqa: BLE001 - raised again by poll
            self._error = error
        finally:
            with self._control:
                for pipe in (self._shim.stdin, self._shim.stdout, self._shim.stderr):
                    pipe.close()  # type: ignore[union-attr]
                self._capture.close()
                if self._capture.error is not None and self._error is None:
                    self._error = ExecutorError(
                        "the output of a run could not be stored",
                        str(self._capture.error),
                        "df -h .",
                    )
                self._done.set()

    def _pump(self) -> bytes:
        """Take output and report until the shim is gone."""
        output, report = self._shim.stdout.fileno(), self._shim.stderr.fileno()  # type: ignore[union-attr]
        poll = select.poll()
        poll.register(output, select.POLLIN)
        poll.register(report, select.POLLIN)
        said, poll_report = b"", True
        # The report ends when the shim does; should the run hold it open, ask for the shim.
        while poll_report and self._shim.poll() is None:
            wait_s = max(0.0, min(_LOOK_S, self._force_at - time.monotonic()))
            for fd, _ in poll.poll(wait_s * 1000 + 1):
                data = os.read(fd, _READ_BYTES)
                if not data:
                    poll.unregister(fd)
                if fd == output:
                    self._capture.write(data)
                    continue
                poll_report = bool(data)
                said = (said + data)[-_READ_BYTES:]
                if b"started" in data:
                    until_s = self._limits.wall_s + self._limits.grace_s + _SECOND_LINE_S
                    self._force_at = min(self._force_at, time.monotonic() + until_s)
            self._second_line()
        self._capture.write(drain(output))
        return said + drain(report)

    def _second_line(self) -> None:
        """Wake a shim that the run has stopped; kill one that is late. Orphans come to us."""
        if time.monotonic() > self._force_at:
            self._timed_out = not self._stopped
            self._shim.kill()
        elif _proc.LINUX and (_proc.stat_fields(self.pid) or [b"?"])[0] in b"Tt":
            self._shim.send_signal(signal.SIGCONT)

    def _settle(self, reports: dict[str, Any], text: str) -> Finished:
        group = self._limits.group.close() if self._limits.group else None
        if "failed" in reports:
            raise ExecutorError(
                "the command could not be started",
                f"{reports['failed']}: {os.strerror(reports['errno'])}",
            )
        lost = "why" not in reports
        survivors = list(reports.get("survivors", ()))
        if lost or survivors:
            survivors = sorted(kill_orphans())
        survivors += [pid for pid in (group.survivors if group else ()) if pid not in survivors]
        if "started" not in reports or (lost and text):
            raise ExecutorError("the watcher of a run failed", clean(text)[-400:])
        why = reports.get("why")
        code, number = reports.get("exit_code"), reports.get("signal")
        if lost:
            number = int(signal.SIGKILL)
        memory_kills = group.oom_kills if group else None
        if memory_kills is None:
            memory_kills = _oom_kills() - self._oom_kills
        by_kill = number == signal.SIGKILL or code == 128 + signal.SIGKILL
        ended_itself = why == "ended" or (lost and not self._stopped and not self._timed_out)
        return Finished(
            exit_code=code,
            signal=number,
            timed_out=why == "deadline" or self._timed_out,
            stopped=why == "request" or (lost and self._stopped),
            oom=why == "memory" or (ended_itself and by_kill and memory_kills > 0),
            duration_s=reports.get("duration_s") or time.monotonic() - self._started_at,
            cpu_s=reports.get("cpu_s"),
            peak_memory_bytes=reports.get("peak_memory_bytes"),
            log_bytes=self._capture.total_bytes,
            survivors=tuple(survivors),
            overran=self._overran(reports.get("full", "") if why == "disk" else ""),
        )

    def _overran(self, full: str) -> str:
        if full == "files":
            return f"{_meters.MOST_ENTRIES:,} files"
        if full == "depth":
            return "the system can name: folders too deep"
        mib = (self._limits.disk_bytes or 0) / 1024**2
        return (f"{mib / 1024:.3g} GiB" if mib >= 1024 else f"{mib:.3g} MiB") if full else ""


def not_found(finished: Finished, tail: Sequence[str]) -> str | None:
    """The program that /bin/sh did not find, where its exit code and last words say so."""
    if finished.exit_code != 127:
        return None
    for line in reversed(tail):
        match = re.match(r"(?:/bin/)?sh: (?:line )?(?:\d+: )?(.+?): (?:command )?not found$", line)
        if match:
            return match[1]
    return None


def held_by() -> tuple[bool, str]:
    """Whether the kernel holds a run's memory here (else a watchdog does), and where or why not."""
    home, why = _cgroup.home()
    return (True, str(home.folder)) if home and not why else (False, why)


def _open_log(log: Path, log_bytes: int) -> Capture:
    try:
        return Capture(log, log_bytes)
    except OSError as error:
        raise ExecutorError(
            f"the log {log} cannot be written", str(error), "df -h . && ls -ld .nightlab"
        ) from error


def _open_shim(pass_fds: Sequence[int]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-B", "-c", _shim.BOOT],
        bufsize=0,
        cwd="/",
        env={},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=tuple(pass_fds),
        start_new_session=True,
    )


@functools.cache
def _shim_code() -> list[tuple[str, CodeType]]:
    """The shim and what it imports, lowest first."""
    found = []
    for module in (_proc, _meters, _shim):
        path = Path(str(module.__file__))
        found.append((module.__name__, compile(path.read_bytes(), path, "exec")))
    return found


@functools.cache
def _prepare() -> None:
    """Once: orphans of our children come to us, and no run may look into this process."""
    _proc.prctl(_proc.PR_SET_CHILD_SUBREAPER, 1)
    # A run of the same user could otherwise read our environment with every secret that
    # was scrubbed from its own. (Root may still look and trace.)
    _proc.prctl(_proc.PR_SET_DUMPABLE, 0)


def _oom_kills() -> int:
    """How many processes the kernel has killed for memory since boot, 0 where unknown."""
    with contextlib.suppress(OSError, IndexError):
        return int(Path("/proc/vmstat").read_text().split("\noom_kill ")[1].split()[0])
    return 0


def _parse(said: bytes) -> tuple[dict[str, Any], str]:
    """All that the shim reported in one, and what else it wrote (a traceback)."""
    reports: dict[str, Any] = {}
    other = []
    for line in said.decode("utf-8", "replace").splitlines():
        try:
            reports |= json.loads(line)
        except (ValueError, TypeError):
            other.append(line)
    return reports, "\n".join(other)
