"""The local executor: the shipped contract, and what is its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from nightlab.devices import Slot
from nightlab.errors import ExecutorError, SandboxError
from nightlab.executors import Executor, Order
from nightlab.executors.local import LocalExecutor
from nightlab.process import Finished
from nightlab.sandboxes import Cell, Launch, Sandbox
from nightlab.sandboxes.process import ProcessSandbox
from nightlab.testing.contracts import CONTRACT_SLOT, EXECUTOR_CHECKS

SLOT = Slot("cpu0")


@pytest.mark.parametrize("check", EXECUTOR_CHECKS, ids=lambda check: check.__name__)
def test_the_local_executor_keeps_the_contract(
    check: Callable[[Executor, Sandbox, Path], None], tmp_path: Path
) -> None:
    executor = LocalExecutor([CONTRACT_SLOT])
    check(executor, ProcessSandbox(), tmp_path)
    executor.close()


class Recording(ProcessSandbox):
    """A real sandbox that counts its cleanups and may call itself broken."""

    def __init__(self, broken: str | None = None) -> None:
        super().__init__()
        self.cleaned = 0
        self.broken = broken
        self.cells: list[Cell] = []

    def launch(self, cell: Cell) -> Launch:
        self.cells.append(cell)
        return replace(super().launch(cell), cleanup=self._clean)

    def _clean(self) -> None:
        self.cleaned += 1

    def broke(self, launch: Launch, finished: Finished) -> str | None:
        return self.broken


def order(tmp_path: Path, sandbox: ProcessSandbox, command: str, slot: Slot = SLOT) -> Order:
    cell = Cell(command, tmp_path, tmp_path, tmp_path)
    return Order(cell, sandbox, slot, 30.0, tmp_path / "log.txt", grace_s=0.2)


def test_cleanup_is_called_once_however_often_it_is_polled(tmp_path: Path) -> None:
    sandbox = Recording()
    job = LocalExecutor([SLOT]).start(order(tmp_path, sandbox, "true"))
    assert job.poll(30) == job.poll(0)
    assert sandbox.cleaned == 1


def test_a_box_that_broke_makes_the_run_lost_and_is_cleaned_up(tmp_path: Path) -> None:
    sandbox = Recording(broken="the namespace was refused")
    job = LocalExecutor([SLOT]).start(order(tmp_path, sandbox, "exit 1"))
    with pytest.raises(SandboxError) as raised:
        job.poll(30)
    assert "refused" in raised.value.why
    assert sandbox.cleaned == 1


def test_a_log_that_cannot_be_opened_is_infrastructure_and_is_cleaned_up(tmp_path: Path) -> None:
    sandbox = Recording()
    bad = replace(order(tmp_path, sandbox, "true"), log=tmp_path)
    with pytest.raises(ExecutorError):
        LocalExecutor([SLOT]).start(bad)
    assert sandbox.cleaned == 1


def test_a_folder_that_is_gone_is_infrastructure_not_a_crash(tmp_path: Path) -> None:
    sandbox = Recording()
    gone = order(tmp_path, sandbox, "true")
    gone = replace(gone, cell=replace(gone.cell, cwd=tmp_path / "gone"))
    executor = LocalExecutor([SLOT])
    job = executor.start(gone)
    with pytest.raises(ExecutorError):
        job.poll(30)
    assert sandbox.cleaned == 1
    executor.close()
    executor.start(order(tmp_path, sandbox, "true"))
    executor.close()


def test_a_slot_takes_one_run_at_a_time(tmp_path: Path) -> None:
    executor = LocalExecutor([SLOT])
    executor.start(order(tmp_path, Recording(), "sleep 60"))
    with pytest.raises(ExecutorError):
        executor.start(order(tmp_path, Recording(), "true"))
    executor.close()


def test_a_foreign_slot_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExecutorError):
        LocalExecutor([SLOT]).start(order(tmp_path, Recording(), "true", Slot("gpu7")))


def test_the_device_of_the_slot_reaches_the_sandbox_and_the_run(tmp_path: Path) -> None:
    slot = Slot("gpu0", (3,), {"CUDA_VISIBLE_DEVICES": "GPU-abc"})
    sandbox = Recording()
    job = LocalExecutor([slot]).start(
        order(tmp_path, sandbox, 'echo "$CUDA_VISIBLE_DEVICES"', slot)
    )
    job.poll(30)
    assert job.tail() == ["GPU-abc"]
    assert sandbox.cells[0].gpus == (3,)


def test_a_gpu_is_free_again_before_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No GPU is at hand: NVML's answer is played, the executor and its waiting are real."""
    held = iter([1 << 30, 9 << 30, 9 << 30, 1 << 30, 9 << 30])
    last = [0]

    def used(_index: int) -> int:
        last[0] = next(held, last[0])
        return last[0]

    monkeypatch.setattr("nightlab.devices.gpu_memory_used_bytes", used)
    monkeypatch.setattr("nightlab.executors.local._FREE_WITHIN_S", 0.6)
    monkeypatch.setattr("nightlab.executors.local._LOOK_S", 0.05)
    slot = Slot("gpu0", gpus=(0,))
    executor = LocalExecutor((slot,))
    cell = Cell("true", tmp_path, tmp_path, tmp_path)
    order = Order(cell, ProcessSandbox(), slot, wall_s=10, log=tmp_path / "log")
    finished = executor.start(order).poll(20)  # after two looks the memory came back
    assert finished is not None
    assert finished.exit_code == 0
    with pytest.raises(ExecutorError, match="GPU 0 is not free: 9216 MiB in use, 1024 MiB before"):
        executor.start(order)


def test_the_peak_of_a_runs_gpu_memory_is_sampled_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NVML's answer is played; the processes that it is asked about are real."""
    asked: list[tuple[tuple[int, ...], int]] = []
    held = iter([1 << 30, 3 << 30, 2 << 30])

    def answer(gpus: tuple[int, ...], pids: set[int], idle: dict[int, int]) -> int | None:
        asked.append((gpus, len(pids)))
        return next(held, None)

    monkeypatch.setattr("nightlab.devices.gpu_memory_used_bytes", lambda _: 5)
    monkeypatch.setattr("nightlab.devices.gpu_memory_held_bytes", answer)
    monkeypatch.setattr("nightlab.executors.local._SAMPLE_S", 0.05)
    slot = Slot("gpu0", gpus=(2,))
    job = LocalExecutor((slot,)).start(order(tmp_path, Recording(), "sleep 1 & sleep 1", slot))
    finished = job.poll(30)
    assert finished is not None
    assert finished.peak_gpu_bytes == 3 << 30
    assert finished == job.poll(0)
    assert ((2,), 3) in asked  # the shell and its two children
    plain = LocalExecutor([SLOT]).start(order(tmp_path, Recording(), "true"))
    ended = plain.poll(30)
    assert ended is not None
    assert ended.peak_gpu_bytes is None
