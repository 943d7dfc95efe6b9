"""The journal: one append-only file per study, one writer, and the only truth.

Each line is one event as JSON. A line counts once it ends in a newline and was fsynced, so
a torn last line is an act that never happened: it is set aside. A torn line anywhere else
means that the file was damaged, and is refused. Rejected: SQLite, which does all this too
but cannot be read with ``less`` at 7 a.m.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import msgspec

from nightlab.errors import JournalError, LockedError
from nightlab.events import AnyEvent, Event
from nightlab.history import History, fold

_E = TypeVar("_E", bound=Event)
_decoder = msgspec.json.Decoder(AnyEvent)
_encoder = msgspec.json.Encoder()


def read(path: Path) -> Iterator[AnyEvent]:
    """Yield the events of a journal, oldest first; a torn last line is left out.

    Safe beside a running writer. Raises JournalError for a missing or damaged file.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise JournalError(
            f"cannot read the journal {path}", str(error), "nightlab run  (starts a study)"
        ) from error
    with file:
        expected = 1
        for line in file:
            if not line.endswith(b"\n"):
                return
            yield _decode(line, expected, path)
            expected += 1


def _decode(line: bytes, expected: int, path: Path) -> AnyEvent:
    hint = f"restore {path} from a copy, or start a new study: nightlab run --tag NAME"
    try:
        event: AnyEvent = _decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        why = f"{error}; nightlab did not write this line, or the disk damaged it"
        raise JournalError(f"line {expected} of {path} is not an event", why, hint) from error
    if event.seq != expected:
        why = f"it says {event.seq}; lines were removed, repeated or joined from another journal"
        raise JournalError(f"line {expected} of {path} is out of sequence", why, hint)
    return event


_CHUNK_BYTES = 1 << 20


class Tail:
    """A journal as it grows, for readers beside the writer: each line is read once.

    It takes no lock and writes nothing. A line counts when it ends in a newline, as in ``read``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = (0, 0)  # device and inode
        self._offset = 0
        self._seq = 0
        self._last = b""  # the end of what was read: is it still the same journal?

    def read(self) -> tuple[bool, list[AnyEvent]]:
        """``(anew, events)``: what came since, at most about a megabyte; [] when that is all.

        ``anew``: the journal was replaced or cut back, and these are its first events; what was
        read before is of another. Raises JournalError: the next call begins anew.
        """
        try:
            with self._path.open("rb") as file:
                anew = self._follows_not(file.fileno())
                if anew:
                    self._file, self._offset, self._seq, self._last = (0, 0), 0, 0, b""
                    about = os.fstat(file.fileno())
                    self._file = (about.st_dev, about.st_ino)
                lines = self._lines(file.fileno())
        except OSError as error:
            self._file = (0, 0)
            raise JournalError(
                f"cannot read the journal {self._path}", str(error), "nightlab status"
            ) from error
        events = []
        for line in lines:
            try:
                events.append(_decode(line, self._seq + 1, self._path))
            except JournalError:
                self._file = (0, 0)
                raise
            self._seq += 1
        return anew, events

    def replay(self, history: History | None) -> tuple[History, list[AnyEvent]]:
        """``history`` brought up to date, or a new one where it is None or of another journal.

        Also the events that it took in since; none for a new one. Raises JournalError.
        """
        taken: list[AnyEvent] = []
        while True:
            anew, events = self.read()
            if anew or history is None:
                history, taken = fold(events), []
            else:
                for event in events:
                    history.apply(event)
                taken += events
            if not events:
                return history, taken

    def _follows_not(self, fd: int) -> bool:
        about = os.fstat(fd)
        if self._file != (about.st_dev, about.st_ino) or about.st_size < self._offset:
            return True
        return os.pread(fd, len(self._last), self._offset - len(self._last)) != self._last

    def _lines(self, fd: int) -> list[bytes]:
        most = _CHUNK_BYTES
        while True:
            block = os.pread(fd, most, self._offset)
            end = block.rfind(b"\n") + 1
            if end or len(block) < most:
                break
            most *= 2  # one line is longer than that
        if end:
            self._offset += end
            self._last = block[max(0, end - 256) : end]
        return block[:end].split(b"\n")[:-1]


class Lock:
    """The right to write a study: an flock that the kernel drops with the process.

    Raises LockedError, naming the holder, when another process has it.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = describe_holder(path)
            os.close(self._fd)
            raise LockedError(
                f"another nightlab works on this study: {holder}",
                f"it holds {path}; two writers would corrupt the journal",
                "nightlab status  (watch it), or: nightlab stop",
            ) from error
        os.ftruncate(self._fd, 0)
        holder_json = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}
        os.pwrite(self._fd, json.dumps(holder_json).encode(), 0)

    def release(self) -> None:
        """Give the lock back; the file stays, empty. Idempotent."""
        if self._fd >= 0:
            os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = -1


def describe_holder(lock_path: Path) -> str:
    """Who holds the lock, in words; "a process it did not name" when unreadable."""
    try:
        holder = json.loads(lock_path.read_text())
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime(holder["since"]))
        return f"process {holder['pid']} on {holder['host']}, since {since}"
    except (OSError, ValueError, KeyError, TypeError):
        return "a process it did not name"


def is_locked(lock_path: Path) -> bool:
    """Whether a live process holds the lock now."""
    try:
        fd = os.open(lock_path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(fd)


class Journal:
    """The writer's handle. Use as a context manager; holds the lock meanwhile.

    Opening sets a torn last line aside (``journal.torn``). Raises LockedError, JournalError.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._lock = Lock(path.with_name("lock"))
        existed = path.exists()
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        try:
            self._fd = os.open(path, flags, 0o644)
        except OSError as error:
            self._lock.release()
            raise _unwritable(path, error) from error
        self._size = self._set_torn_tail_aside()
        self._seq = 0
        if not existed:
            _sync_folder(path.parent)

    def events(self) -> Iterator[AnyEvent]:
        """Replay what is there; must run to its end before the first ``append``."""
        for event in read(self.path):
            self._seq = event.seq
            yield event

    def append(self, event: _E) -> _E:
        """Write one event durably and return it with its ``seq``.

        When the disk is full or fails, the file is cut back to its last whole line and
        JournalError is raised: the act that the event announces must not happen.
        """
        numbered = msgspec.structs.replace(event, seq=self._seq + 1)
        try:  # what cannot be read back must not be written
            line = _encoder.encode(numbered)
            _decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeError, TypeError) as error:
            kind = type(event).__name__
            raise JournalError(
                f"an event of type {kind} cannot be recorded", str(error), "nightlab doctor"
            ) from error
        line += b"\n"
        try:
            self._write(line)
        except OSError as error:
            os.ftruncate(self._fd, self._size)
            raise _unwritable(self.path, error) from error
        self._size += len(line)
        self._seq += 1
        return numbered

    def _write(self, line: bytes) -> None:
        if os.write(self._fd, line) != len(line):  # a disk that fills up takes a part of it
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(self._fd)

    def close(self) -> None:
        """Release file and lock. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _value: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _set_torn_tail_aside(self) -> int:
        size = os.fstat(self._fd).st_size
        keep, tail = size, b""
        while keep > 0:
            step = min(65536, keep)
            block = os.pread(self._fd, step, keep - step)
            newline = block.rfind(b"\n")
            if newline >= 0:
                tail = block[newline + 1 :] + tail
                keep = keep - step + newline + 1
                break
            tail = block + tail
            keep -= step
        if tail:
            self.path.with_suffix(".torn").write_bytes(tail)
            os.ftruncate(self._fd, keep)
            os.fsync(self._fd)
        return keep


def _unwritable(path: Path, error: OSError) -> JournalError:
    return JournalError(
        f"cannot write the journal {path}",
        f"{error.strerror or error}; nothing was lost: the last whole line is intact",
        f"free space or mend the permissions of {path.parent}, then: nightlab run",
    )


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
