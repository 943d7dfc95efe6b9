"""A person's signals to a running lab."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

SIGTERM = int(signal.SIGTERM)


class Signals:
    """SIGINT and SIGTERM are told to ``told`` by number and name; a closed terminal is ignored.

    ``told`` is called in the main thread between any two steps of it: it must only take note.
    Outside the main thread this does nothing.
    """

    def __init__(self, told: Callable[[int, str], None]) -> None:
        self._told = told
        self._before: dict[int, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._handle)
        self._before[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        self._told(number, signal.Signals(number).name)
