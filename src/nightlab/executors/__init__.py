"""The executor seam: where runs happen. A job is a handle on one run.

An executor owns slots (one device, or one share of the CPU, each) and starts orders on
them. It measures nothing and judges nothing: it returns how the process tree ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nightlab.devices import Slot
from nightlab.process import LOG_BYTES, Finished
from nightlab.sandboxes import Cell, Sandbox


@dataclass(frozen=True)
class Order:
    """One run to make. ``wall_s`` is the deadline after which the tree is killed."""

    cell: Cell
    sandbox: Sandbox
    slot: Slot
    wall_s: float
    log: Path
    grace_s: float = 1.5
    marker: str = ""
    log_bytes: int = LOG_BYTES


class Job(Protocol):
    """A handle on one run that was started."""

    def poll(self, timeout_s: float) -> Finished | None:
        """Wait at most ``timeout_s`` for the end; None if it still runs.

        Raises ExecutorError or SandboxError when the run was lost to infrastructure.
        """
        ...

    def stop(self) -> None:
        """Ask for the end of the whole tree now. Idempotent.

        ``poll`` then returns with ``stopped`` set, unless the run had just ended by itself.
        """
        ...

    def elapsed_s(self) -> float:
        """Seconds since the start."""
        ...

    def tail(self, lines: int = 5) -> list[str]:
        """The last complete lines of the output so far, control characters removed."""
        ...

    def news(self) -> bytes:
        """What was printed since the last call, raw; the oldest is dropped where it is too much."""
        ...


class Executor(Protocol):
    """A place with slots."""

    name: str
    slots: Sequence[Slot]

    def start(self, order: Order) -> Job:
        """Start the order on its slot. Raises ExecutorError, SandboxError."""
        ...

    def close(self) -> None:
        """Stop every job that still runs and wait until nothing of them is alive."""
        ...
