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
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any, BinaryIO

from nightlab import _shim
from nightlab._capture import Capture, clean, drain
from nightlab._sweep import MARKER, kill_orphans, sweep
from nightlab.errors import ExecutorError, NightlabError

__all__ = ["Child", "Completed", "Finished", "call", "clean", "not_found", "start", "sweep"]

LOG_BYTES = 8 * 1024**2
_READ_BYTES = 256 * 1024
_LOOK_S = 0.25
# How much later than the shim nightlab itself acts: less would race an honest shim on a busy
# machine, more would break the promise of at most 2 s over the deadline.
_SECOND_LINE_S = 0.25


@dataclass(frozen=True)
class Completed:
    """How a helper program ended; ``exit_code`` is negative when a signal ended it."""

    exit_code: int
    stdout: bytes
    stderr: bytes


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
    driver); empty is the proof.
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


def call(
    argv: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    input_bytes: bytes | None = None,
    timeout_s: float = 60.0,
) -> Completed:
    """Run a helper program to its end. Any exit code is an answer.

    ``env`` None inherits nightlab's own. Raises NightlabError when the program cannot be
    started, or is not done after ``timeout_s``; its process group is killed then.
    """
    # Files in memory, not pipes: nothing to pump, and no grandchild can hold up the end.
    with _scratch(input_bytes or b"") as given, _scratch() as stdout, _scratch() as stderr:
        try:
            child = subprocess.Popen(
                argv, cwd=cwd, env=env, stdin=given, stdout=stdout, stderr=stderr,
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise NightlabError(f"{argv[0]} could not be started", str(error)) from error
        try:
            done = _ended(child, timeout_s)
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
        if not done:
            raise NightlabError(
                f"{argv[0]} was not done after {timeout_s:g} s and was killed",
                f"the command was: {clean(' '.join(argv))[:400]}",
            )
        stdout.seek(0)
        stderr.seek(0)
        return Completed(child.returncode, stdout.read(), stderr.read())


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
) -> Child:
    """Start a run: ``argv`` with exactly ``env`` (and NIGHTLAB_RUN=marker) in ``cwd``.

    Its input is /dev/null, its output goes through a pipe to ``log``, of which at most
    ``log_bytes`` are stored (the first and the last half). No core files; files it writes are
    at most ``fsize_bytes`` long. When its main process ends, ``wall_s`` have passed, its tree
    holds more than ``memory_bytes``, or ``stop`` is called, all of its descendants are asked
    to end (TERM), and after ``grace_s`` forced to.

    Raises ExecutorError when the log cannot be opened or no process can be made. What
    fails later (no such folder, no such program) is raised by ``Child.poll``.
    """
    _prepare()
    try:
        capture = Capture(log, log_bytes)
    except OSError as error:
        raise ExecutorError(
            f"the log {log} cannot be written", str(error), "df -h . && ls -ld .nightlab"
        ) from error
    order = {
        "code": _shim_code(),
        "argv": [os.fsencode(word) for word in argv],
        "env": {os.fsencode(k): os.fsencode(v) for k, v in {**env, MARKER: marker}.items()},
        "cwd": os.fsencode(cwd),
        "wall_s": float(wall_s),
        "grace_s": float(grace_s),
        "memory_bytes": memory_bytes,
        "fsize_bytes": fsize_bytes,
        "pass_fds": list(pass_fds),
        "parent": os.getpid(),
    }
    try:
        shim = subprocess.Popen(
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
    except OSError as error:
        capture.close()
        raise ExecutorError("the watcher of a run could not be started", str(error)) from error
    return Child(shim, capture, marshal.dumps(order), wall_s, grace_s)


class Child:
    """A handle on one run. One thread of its own takes its output until it is gone."""

    def __init__(
        self,
        shim: subprocess.Popen[bytes],
        capture: Capture,
        order: bytes,
        wall_s: float,
        grace_s: float,
    ) -> None:
        self.pid = shim.pid  # of the shim: the top of the run's tree
        self._shim = shim
        self._capture = capture
        self.news = capture.news  # what was printed since the last call
        self._wall_s = wall_s
        self._grace_s = grace_s
        self._oom_kills = _oom_kills()
        self._started_at = time.monotonic()
        # Until the shim has said that the command runs, a slow machine gets more patience.
        self._force_at = self._started_at + wall_s + grace_s + 10
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
            self._force_at = min(self._force_at, time.monotonic() + self._grace_s + _SECOND_LINE_S)
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
                    until_s = self._wall_s + self._grace_s + _SECOND_LINE_S
                    self._force_at = min(self._force_at, time.monotonic() + until_s)
            self._second_line()
        self._capture.write(drain(output))
        return said + drain(report)

    def _second_line(self) -> None:
        """Wake a shim that the run has stopped; kill one that is late. Orphans come to us."""
        if time.monotonic() > self._force_at:
            self._timed_out = not self._stopped
            self._shim.kill()
        elif _shim.LINUX and (_shim.stat_fields(self.pid) or [b"?"])[0] in b"Tt":
            self._shim.send_signal(signal.SIGCONT)

    def _settle(self, reports: dict[str, Any], text: str) -> Finished:
        if "failed" in reports:
            raise ExecutorError(
                "the command could not be started",
                f"{reports['failed']}: {os.strerror(reports['errno'])}",
            )
        lost = "why" not in reports
        survivors = list(reports.get("survivors", ()))
        if lost or survivors:
            survivors = sorted(kill_orphans())
        if "started" not in reports or (lost and text):
            raise ExecutorError("the watcher of a run failed", clean(text)[-400:])
        why = reports.get("why")
        code, number = reports.get("exit_code"), reports.get("signal")
        if lost:
            number = int(signal.SIGKILL)
        by_kill = number == signal.SIGKILL or code == 128 + signal.SIGKILL
        ended_itself = why == "ended" or (lost and not self._stopped and not self._timed_out)
        return Finished(
            exit_code=code,
            signal=number,
            timed_out=why == "deadline" or self._timed_out,
            stopped=why == "request" or (lost and self._stopped),
            oom=why == "memory" or (ended_itself and by_kill and _oom_kills() > self._oom_kills),
            duration_s=reports.get("duration_s") or time.monotonic() - self._started_at,
            cpu_s=reports.get("cpu_s"),
            peak_memory_bytes=reports.get("peak_memory_bytes"),
            log_bytes=self._capture.total_bytes,
            survivors=tuple(survivors),
        )


def not_found(finished: Finished, tail: Sequence[str]) -> str | None:
    """The program that /bin/sh did not find, where its exit code and last words say so."""
    if finished.exit_code != 127:
        return None
    for line in reversed(tail):
        match = re.match(r"(?:/bin/)?sh: (?:line )?(?:\d+: )?(.+?): (?:command )?not found$", line)
        if match:
            return match[1]
    return None


@functools.cache
def _shim_code() -> CodeType:
    return compile(Path(_shim.__file__).read_bytes(), _shim.__file__, "exec")


@functools.cache
def _prepare() -> None:
    """Once: orphans of our children come to us, and no run may look into this process."""
    _shim.prctl(_shim.PR_SET_CHILD_SUBREAPER, 1)
    # A run of the same user could otherwise read our environment with every secret that
    # was scrubbed from its own. (Root may still look and trace.)
    _shim.prctl(_shim.PR_SET_DUMPABLE, 0)


def _scratch(data: bytes = b"") -> BinaryIO:
    if _shim.LINUX:
        file: BinaryIO = os.fdopen(os.memfd_create("nightlab"), "w+b")
    else:
        file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    file.write(data)
    file.seek(0)
    return file


def _ended(child: subprocess.Popen[bytes], timeout_s: float) -> bool:
    """Wait for its end, by pidfd where there are such: Popen.wait naps up to 50 ms a time."""
    try:
        pidfd = os.pidfd_open(child.pid)
    except (AttributeError, OSError):
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout_s)
        return child.returncode is not None
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    try:
        return bool(poll.poll(timeout_s * 1000))
    finally:
        os.close(pidfd)


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
