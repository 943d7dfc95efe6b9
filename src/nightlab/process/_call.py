"""Helper programs: run to their end, bounded in time."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from nightlab.errors import NightlabError
from nightlab.process import _proc
from nightlab.process._capture import clean


@dataclass(frozen=True)
class Completed:
    """How a helper program ended; ``exit_code`` is negative when a signal ended it."""

    exit_code: int
    stdout: bytes
    stderr: bytes


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


def _scratch(data: bytes = b"") -> BinaryIO:
    if _proc.LINUX:
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
