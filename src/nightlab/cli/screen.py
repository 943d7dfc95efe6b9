"""Where a running lab speaks: a live frame, plain lines, or JSON lines.

A terminal may go away, stop (Ctrl-S) or hang with the connection behind it, and a lab must
not wait for any of it. So one thread writes, and the lab only leaves it what to write: the
latest frame, and the lines since. When the frame cannot be drawn the thread goes on with
plain lines, and when these cannot be written either, with nothing.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nightlab.cli import base
from nightlab.process import clean

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

MOST_LINES = 10_000  # that wait for a terminal which takes none; older ones are dropped
_CLOSE_S = 3.0


class Screen:
    """The writing thread. ``live`` turns the frame on; lines then scroll above it."""

    def __init__(self, *, live: bool, console: Console | None = None) -> None:
        self._console = console
        self._wants_live = live
        self._live: Live | None = None
        self._lines: deque[str] = deque(maxlen=MOST_LINES)
        self._frame: Callable[[], RenderableType] | None = None
        self._closing = False
        self._mute = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="screen", daemon=True)
        self._thread.start()

    @property
    def is_live(self) -> bool:
        """Whether frames are shown still."""
        return self._wants_live

    def line(self, text: str) -> None:
        """Leave a line to be written."""
        with self._changed:
            self._lines.append(text)
            self._changed.notify()

    def frame(self, draw: Callable[[], RenderableType]) -> None:
        """Leave the frame that is true now; ``draw`` is called in the writing thread."""
        with self._changed:
            self._frame = draw
            self._changed.notify()

    def close(self) -> None:
        """Write what is left and end the frame; waits no longer than a few seconds."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(_CLOSE_S)

    @property
    def is_stuck(self) -> bool:
        """After ``close``: whether the terminal takes nothing, so that writing would hang."""
        return self._thread.is_alive()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not (self._lines or self._frame or self._closing):
                    self._changed.wait()
                lines, frame, closing = list(self._lines), self._frame, self._closing
                self._lines.clear()
                self._frame = None
            self._write(lines, None if closing else frame)
            if closing:
                self._end_live()
                return

    def _write(self, lines: list[str], frame: Callable[[], RenderableType] | None) -> None:
        if self._mute:
            return
        try:
            if self._wants_live:
                self._write_live(lines, frame)
                return
        except Exception:  # noqa: BLE001 - whatever a view does wrong, the night goes on
            self._wants_live = False
            self._end_live()
        try:
            base.say(*lines)
        except Exception:  # noqa: BLE001 - the terminal is gone
            self._mute = True

    def _write_live(self, lines: list[str], frame: Callable[[], RenderableType] | None) -> None:
        from rich.live import Live  # noqa: PLC0415  loaded on use

        if self._console is None:
            self._console = base.console()
        if self._live is None:
            self._live = Live(
                console=self._console,
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
                vertical_overflow="crop",
            )
            self._live.start()
        for text in lines:
            self._console.print(clean(text), soft_wrap=True)
        if frame is not None:
            self._live.update(frame(), refresh=True)

    def _end_live(self) -> None:
        live, self._live = self._live, None
        if live is None:
            return
        try:
            live.stop()
        except Exception:  # noqa: BLE001 - as above
            return


def is_possible() -> bool:
    """Whether stdout is a terminal that can show a live frame."""
    import os  # noqa: PLC0415

    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def json_line(screen: Screen, value: Any) -> None:
    """Leave one JSON object to be written on one line."""
    import json  # noqa: PLC0415

    screen.line(json.dumps(value, allow_nan=False))
