"""Runs on this machine, one per slot."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from nightlab import devices, process
from nightlab.devices import Slot
from nightlab.errors import ExecutorError, SandboxError
from nightlab.executors import Job, Order
from nightlab.process import Child, Finished, _proc
from nightlab.sandboxes import Launch, Sandbox

# After the grace, killing takes milliseconds, or 5 s when a driver holds a process.
_CLOSE_S = 10.0
_FREE_WITHIN_S = 15.0
_FREE_SLACK_BYTES = 512 << 20  # a desktop's own use comes and goes
_LOOK_S = 0.25
_SAMPLE_S = 1.0  # a look at all processes and one question to the driver


class _Gpus:
    """Samples the memory that a run holds on its GPUs, in a thread of its own, until closed."""

    def __init__(self, pid: int, idle_bytes: Mapping[int, int | None]) -> None:
        self.peak_bytes: int | None = None
        self._pid = pid
        self._idle_bytes = dict(idle_bytes)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=f"gpus {pid}", daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        with devices.nvml_open():
            while not self._ended.wait(_SAMPLE_S):
                pids = _proc.descendants((self._pid,), _proc.table())
                held = devices.gpu_memory_held_bytes(
                    tuple(self._idle_bytes), pids, self._idle_bytes
                )
                if held is not None:
                    self.peak_bytes = max(held, self.peak_bytes or 0)

    def close(self) -> None:
        self._ended.set()
        self._thread.join(_SAMPLE_S)  # a driver may hold it


class LocalJob:
    """A run on this machine."""

    def __init__(
        self, child: Child, sandbox: Sandbox, launch: Launch, gpus: _Gpus | None = None
    ) -> None:
        self._child = child
        self._gpus = gpus
        self._sandbox = sandbox
        self._launch = launch
        self._cleaned = False

    @property
    def pid(self) -> int:
        """The top of the run's tree of processes."""
        return self._child.pid

    def poll(self, timeout_s: float) -> Finished | None:
        try:
            finished = self._child.poll(timeout_s)
        except BaseException:
            self._clean()
            raise
        if finished is None:
            return None
        broken = self._sandbox.broke(self._launch, finished)
        self._clean()
        if broken is not None:
            raise SandboxError(f"the {self._sandbox.name} sandbox failed under a run", broken)
        if self._gpus is not None:
            return replace(finished, peak_gpu_bytes=self._gpus.peak_bytes)
        return finished

    def _clean(self) -> None:
        if not self._cleaned:
            self._cleaned = True
            if self._gpus is not None:
                self._gpus.close()
            self._launch.cleanup()

    def stop(self) -> None:
        self._child.stop()

    def elapsed_s(self) -> float:
        return self._child.elapsed_s()

    def tail(self, lines: int = 5) -> list[str]:
        return self._child.tail(lines)

    def news(self) -> bytes:
        return self._child.news()

    def refused(self) -> dict[str, int]:
        """What an agent asked its proxy for and may not reach: ``host:port`` -> how often."""
        return self._launch.refused()


def begin(order: Order, idle_bytes: Mapping[int, int | None] | None = None) -> LocalJob:
    """Start an order on this machine, whatever runs there already (an agent needs no slot).

    ``idle_bytes`` are the GPUs to watch, and what others hold there.

    Raises ExecutorError, SandboxError.
    """
    launch = order.sandbox.launch(order.cell)
    try:
        child = process.start(
            launch.argv,
            env=launch.env,
            cwd=launch.cwd,
            wall_s=order.wall_s,
            log=order.log,
            grace_s=order.grace_s,
            marker=order.marker,
            memory_bytes=launch.memory_bytes,
            fsize_bytes=launch.fsize_bytes,
            log_bytes=order.log_bytes,
            pass_fds=launch.pass_fds,
            processes=launch.processes,
            folders=launch.folders,
            disk_bytes=launch.disk_bytes,
            grouped=launch.grouped,
        )
    except BaseException:
        launch.cleanup()
        raise
    gpus = _Gpus(child.pid, idle_bytes) if idle_bytes else None
    return LocalJob(child, order.sandbox, launch, gpus)


class LocalExecutor:
    """This machine's devices. Without slots given, takes what ``devices.slots()`` finds."""

    name = "local"

    def __init__(self, places: Sequence[Slot] | None = None) -> None:
        self.slots: Sequence[Slot] = tuple(devices.slots() if places is None else places)
        self._jobs: dict[str, LocalJob] = {}
        # What other programs hold on each GPU before any run of ours.
        gpus = dict.fromkeys(gpu for slot in self.slots for gpu in slot.gpus)
        self._idle_bytes = {gpu: devices.gpu_memory_used_bytes(gpu) for gpu in gpus}

    def start(self, order: Order) -> Job:
        """Start the order. The slot's environment (its device) goes over the cell's own."""
        if order.slot not in self.slots:
            raise ExecutorError(f"this machine has no slot {order.slot.name}")
        if self._is_busy(order.slot):
            raise ExecutorError(
                f"the slot {order.slot.name} is taken", "two runs on it would measure each other"
            )
        self._wait_until_free(order.slot)
        cell = replace(order.cell, env=order.cell.env | order.slot.env, gpus=order.slot.gpus)
        idle = {gpu: self._idle_bytes[gpu] for gpu in order.slot.gpus}
        job = begin(replace(order, cell=cell), idle)
        self._jobs[order.slot.name] = job
        return job

    def _wait_until_free(self, slot: Slot) -> None:
        """A driver gives memory back a while after a process has died. Raises ExecutorError.

        A run beside what a dead one left would measure less memory, or run out of it.
        """
        until = time.monotonic() + _FREE_WITHIN_S
        for gpu in slot.gpus:
            idle = self._idle_bytes[gpu]
            while idle is not None:
                used = devices.gpu_memory_used_bytes(gpu)
                if used is None or used <= idle + _FREE_SLACK_BYTES:
                    self._idle_bytes[gpu] = idle if used is None else min(idle, used)
                    break
                if time.monotonic() >= until:
                    raise ExecutorError(
                        f"GPU {gpu} is not free: {used >> 20} MiB in use, {idle >> 20} MiB before",
                        "a process that died in its driver, or another program, holds it",
                        "nvidia-smi",
                    )
                time.sleep(_LOOK_S)

    def _is_busy(self, slot: Slot) -> bool:
        job = self._jobs.get(slot.name)
        if job is None:
            return False
        try:
            return job.poll(0) is None
        except (ExecutorError, SandboxError):  # lost: whoever holds the job is told
            return False

    def close(self) -> None:
        """Stop every job and wait for the proof. Raises ExecutorError when one does not end."""
        for job in self._jobs.values():
            job.stop()
        alive = []
        for name, job in self._jobs.items():
            with suppress(ExecutorError, SandboxError):  # a lost run has ended, too
                if job.poll(_CLOSE_S) is None:
                    alive.append(f"process {job.pid} on {name}")
        self._jobs.clear()
        if alive:
            raise ExecutorError("a run does not end", f"still there: {', '.join(alive)}", "ps -ef")
