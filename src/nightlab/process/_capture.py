"""What a run prints: kept within bounds, and made safe to show."""

from __future__ import annotations

import collections
import contextlib
import os
import re
import time
from pathlib import Path

_RECENT_BYTES = 16 * 1024
_LINE_CHARS = 400
_NEWS_PARTS = 64  # of at most _RECENT_BYTES each, where nobody asks for them
_LEFT_BYTES = 4 * 1024**2  # more than a pipe holds
_SAVE_AFTER_S = 1.0
_SAVE_AT_LAST_S = 15.0

# Control sequences of terminals: OSC and its kin up to their end, CSI, then the short ones.
_ANSI = re.compile(
    r"(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]{0,4096}(?:\x07|\x1b\\|\x9c)"
    r"|(?:\x1b\[|\x9b)[0-?]{0,64}[ -/]{0,16}[@-~]"
    r"|\x1b[ -/]{0,8}[0-~]"
)
# What may steer a terminal or hide text from a reader: C0 and C1 but for newline and tab, soft
# hyphens and other format characters, bidirectional marks, zero widths and fillers, line and
# paragraph separators, variation selectors, surrogates, private use, Unicode tags.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2"
    "\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164"
    "\ud800-\udfff\ue000-\uf8ff\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U000110bd\U000110cd"
    "\U00013430-\U0001345f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U0010ffff]"
)


def clean(text: str) -> str:
    """Log text that is safe to show: no control, escape, bidi, invisible or tag characters.

    Terminal sequences vanish, every other such character becomes U+FFFD. Newline and tab stay.
    Markup of the place where it is shown (HTML, rich) is for that place to escape.
    """
    if text.isascii() and text.isprintable():
        return text
    return _UNSAFE.sub("\ufffd", _ANSI.sub("", text))


def drain(fd: int) -> bytes:
    """What is left in a pipe. A survivor may hold it open: never wait, and not for ever."""
    os.set_blocking(fd, False)
    data = b""
    with contextlib.suppress(BlockingIOError):
        while len(data) < _LEFT_BYTES and (part := os.read(fd, 1 << 16)):
            data += part
    return data


class Capture:
    """Stores the first and the last half of ``cap_bytes`` of a stream in a file.

    Up to the cap the file is the stream, byte for byte, as it comes. Beyond it, the last half
    is held in memory and rewritten now and then, after one line that says how much is left
    out. Both cuts are at line ends, so that no part of a line can pass for a line; where
    there is no line end, the note stands within the line.

    ``error`` is set when the file cannot be written; the stream is read on all the same.
    """

    def __init__(self, path: Path, cap_bytes: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        self._fd = os.open(path, flags, 0o644)
        self._cap_bytes = cap_bytes
        self._head_bytes = cap_bytes // 2
        self._head_line_end = 0
        self._tail = bytearray()
        self._recent = b""
        self._news: collections.deque[bytes] = collections.deque(maxlen=_NEWS_PARTS)
        self._unsaved_bytes = 0
        self._saved_at = 0.0
        self.total_bytes = 0
        self.error: OSError | None = None

    def write(self, data: bytes) -> None:
        """Take the next part of the stream. Never raises."""
        before = self.total_bytes
        self.total_bytes += len(data)
        self._recent = (self._recent + data)[-_RECENT_BYTES:]
        self._news.append(data[-_RECENT_BYTES:])
        head = data[: max(0, self._head_bytes - before)]
        newline = head.rfind(b"\n")
        if newline >= 0:
            self._head_line_end = before + newline + 1
        if before < self._cap_bytes:
            self._store(data[: self._cap_bytes - before], before)
        self._tail += data[len(head) :]
        keep_bytes = self._cap_bytes - self._head_bytes
        if len(self._tail) > 2 * keep_bytes:
            del self._tail[: len(self._tail) - keep_bytes]
        if self.total_bytes > self._cap_bytes:
            self._unsaved_bytes += len(data)
            waited_s = time.monotonic() - self._saved_at
            much = self._unsaved_bytes > keep_bytes // 4
            if waited_s > (_SAVE_AFTER_S if much else _SAVE_AT_LAST_S):
                self._save_tail()

    def close(self) -> None:
        """Complete the file. Idempotent."""
        if self._fd >= 0:
            if self.total_bytes > self._cap_bytes:
                self._save_tail()
            os.close(self._fd)
            self._fd = -1

    def tail(self, lines: int) -> list[str]:
        """The last complete lines, clean, each at most 400 characters.

        A carriage return ends a line here: progress bars have no other end.
        """
        recent = self._recent
        parts = recent.replace(b"\r", b"\n").split(b"\n")[:-1]
        if len(recent) >= _RECENT_BYTES:
            parts = parts[1:]  # torn
        shown = [clean(part.decode("utf-8", "replace")).rstrip() for part in parts if part.strip()]
        return [line[:_LINE_CHARS] for line in shown[-lines:]] if lines > 0 else []

    def news(self) -> bytes:
        """What came since the last call; the oldest is dropped where it is too much."""
        parts = []
        with contextlib.suppress(IndexError):  # emptied
            while True:
                parts.append(self._news.popleft())
        return b"".join(parts)

    def _save_tail(self) -> None:
        self._saved_at = time.monotonic()
        self._unsaved_bytes = 0
        tail = bytes(self._tail[-(self._cap_bytes - self._head_bytes) :])
        line_end = tail.find(b"\n")
        tail = tail[line_end + 1 :]
        cut = self._head_line_end or self._head_bytes
        left_out = self.total_bytes - cut - len(tail)
        note = b"[nightlab: %d bytes of output left out here]" % left_out
        if line_end >= 0:
            note += b"\n"
        self._store(note + tail, cut)
        if self.error is None:
            os.ftruncate(self._fd, cut + len(note) + len(tail))

    def _store(self, data: bytes, offset: int) -> None:
        if self.error is not None:
            return
        try:
            while data:
                written = os.pwrite(self._fd, data, offset)
                data = data[written:]
                offset += written
        except OSError as error:
            self.error = error
