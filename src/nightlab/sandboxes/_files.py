"""Anonymous files that pass between nightlab and the first step of a box."""

from __future__ import annotations

import contextlib
import os


class Told:
    """A file in which a box says how far it came; readable after it is closed, too."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._last: bytes | None = None

    def read(self) -> bytes:
        return os.pread(self.fd, 4096, 0) if self._last is None else self._last

    def keep(self) -> None:
        """Remember it: the file is about to be closed."""
        self._last = self.read()


class Files:
    """The files of one launch; closed when the run has ended."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self.fds: list[int] = []

    def made(self, content: bytes) -> int:
        """A file with this content, to be read from its start."""
        fd = os.memfd_create("nightlab", os.MFD_CLOEXEC)
        self._stack.callback(os.close, fd)
        os.write(fd, content)
        os.lseek(fd, 0, os.SEEK_SET)
        self.fds.append(fd)
        return fd

    def answer(self) -> Told:
        """An empty file, to be written by the box."""
        told = Told(self.made(b""))
        self._stack.callback(told.keep)
        return told
