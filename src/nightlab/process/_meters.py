"""What a run may not have too much of, measured from outside while it runs: memory and disk."""

from __future__ import annotations

import os
import time

from nightlab.process._proc import descendants, read_proc, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_BLOCK_BYTES = 512
# A pass over many files is cut into parts that take this share of a core.
_SHARE = 0.01
_PASS_EVERY_S = 0.5
MOST_ENTRIES = 1_000_000
_TOO_LONG = 36  # ENAMETOOLONG on Linux; the module errno is not built in everywhere


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


class Disk:
    """Watches how much lies in the folders that a run may write to.

    Blocks that are taken count, holes in a file do not; nor does a file that was deleted and
    is still open. A pass is made twice a second, or as often as one hundredth of a core
    allows; ``over`` takes the next part of it.
    """

    def __init__(self, folders: Sequence[bytes], limit_bytes: int | None) -> None:
        self.folders = folders
        self.limit_bytes = limit_bytes
        self.full = ""  # "bytes", "files" or "depth", once there is too much
        self._pass: Iterator[None] | None = None
        self._next_at = self._saved_s = 0.0
        self._asked_at = time.monotonic()

    def over(self) -> bool:
        """Look on for a while. Whether there is more than the limit."""
        if self.limit_bytes is None:
            return False
        began = time.monotonic()
        self._saved_s = min(0.05, self._saved_s + _SHARE * (began - self._asked_at))
        self._asked_at = began
        if self._pass is None:
            if began < self._next_at:
                return False
            self._pass = self._count(self.limit_bytes)
            self._next_at = began + _PASS_EVERY_S
        until = began + max(0.0005, self._saved_s)
        for _ in self._pass:
            if time.monotonic() > until:
                break
        else:
            self._pass = None
        self._saved_s -= time.monotonic() - began
        return bool(self.full)

    def _count(self, limit_bytes: int) -> Iterator[None]:
        total = entries = 0
        seen: set[tuple[int, int]] = set()
        queue: list[tuple[bytes, os.stat_result | None]] = [(f, None) for f in self.folders]
        while queue:
            try:
                inside = os.scandir(_opened(*queue.pop()))
            except OSError as error:
                if error.errno == _TOO_LONG:  # nothing below can be looked at by its name
                    self.full = "depth"
                    return
                continue  # gone
            with inside:
                for entry in inside:
                    yield None
                    try:
                        found = entry.stat(follow_symlinks=False)
                        if entry.is_dir(follow_symlinks=False):
                            queue.append((entry.path, found))
                    except OSError as error:
                        if error.errno == _TOO_LONG:
                            self.full = "depth"
                            return
                        continue
                    if found.st_nlink > 1 and not entry.is_dir(follow_symlinks=False):
                        if (found.st_dev, found.st_ino) in seen:
                            continue
                        seen.add((found.st_dev, found.st_ino))
                    total += found.st_blocks * _BLOCK_BYTES
                    entries += 1
                    if total > limit_bytes:
                        self.full = "bytes"
                        return
                    if entries > MOST_ENTRIES:
                        self.full = "files"
                        return


def _opened(folder: bytes, known: os.stat_result | None) -> bytes:
    """The folder, made readable if it is the one that is known and its run has closed it."""
    if known is None or os.access(folder, os.R_OK | os.X_OK):
        return folder
    # Not by its name: that may lead elsewhere by now.
    fd = os.open(folder, os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        if (found.st_dev, found.st_ino) == (known.st_dev, known.st_ino):
            os.chmod(f"/proc/self/fd/{fd}", 0o700)  # noqa: PTH101
    finally:
        os.close(fd)
    return folder
