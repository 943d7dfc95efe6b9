"""Devices: real NVML where there is one, and a stand-in library where there is none."""

from __future__ import annotations

import json
import os
import sys
from types import SimpleNamespace

import pytest
from pytest import MonkeyPatch  # noqa: PT013 - it is in every signature

from nightlab import devices
from nightlab.errors import ConfigError


class NvmlError(Exception):
    pass


class NotSupportedError(NvmlError):
    pass


def install(monkeypatch: MonkeyPatch, count: int = 2, **over: object) -> None:
    """A machine with GPUs cannot be had everywhere; NVML's functions can."""

    def memory(index: int) -> SimpleNamespace:
        return SimpleNamespace(total=80 * 2**30, used=(index + 1) * 2**20)

    nvml = SimpleNamespace(
        NVMLError=NvmlError,
        NVMLError_NotSupported=NotSupportedError,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetCount=lambda: count,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetUUID=lambda index: f"GPU-{index}a7f-11",
        nvmlDeviceGetName=lambda index: b"H200",
        nvmlDeviceGetMemoryInfo=memory,
        nvmlSystemGetDriverVersion=lambda: "570.1",
    )
    for name, value in over.items():
        setattr(nvml, name, value)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture
def no_gpu(monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)


def test_without_the_library_there_is_one_cpu_slot_that_changes_nothing(no_gpu: None) -> None:
    assert devices.slots() == (devices.Slot("cpu0"),)
    assert devices.slots(1) == devices.slots()


def test_cpu_slots_share_the_cores(no_gpu: None, monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "cpu_count", lambda: 8)
    slots = devices.slots(3)
    assert [slot.name for slot in slots] == ["cpu0", "cpu1", "cpu2"]
    assert {slot.env["OMP_NUM_THREADS"] for slot in slots} == {"2"}
    assert devices.slots(20)[0].env["OPENBLAS_NUM_THREADS"] == "1"


def test_a_driver_that_fails_means_no_gpu(monkeypatch: MonkeyPatch) -> None:
    def fail() -> None:
        raise NvmlError

    install(monkeypatch, nvmlInit=fail)
    assert devices.gpu_list() == ()
    assert devices.gpu_memory_used_bytes(0) is None
    install(monkeypatch, nvmlDeviceGetCount=fail)
    assert devices.slots() == (devices.Slot("cpu0"),)


def test_each_gpu_is_a_slot_that_sees_only_itself_whatever_the_order_of_cuda(
    monkeypatch: MonkeyPatch,
) -> None:
    install(monkeypatch)
    assert devices.slots() == (
        devices.Slot("gpu0", (0,), {"CUDA_VISIBLE_DEVICES": "GPU-0a7f-11"}),
        devices.Slot("gpu1", (1,), {"CUDA_VISIBLE_DEVICES": "GPU-1a7f-11"}),
    )
    assert len(devices.slots(1)) == 1


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        ("1", [((1,), "1")]),
        ("1,0", [((1,), "1"), ((0,), "0")]),
        ("GPU-1a7f-11", [((1,), "GPU-1a7f-11")]),
        ("GPU-1a", [((1,), "GPU-1a")]),
        ("MIG-77", [((), "MIG-77")]),
        ("0,-1,1", [((0,), "0")]),
    ],
)
def test_a_choice_of_the_person_is_kept(
    monkeypatch: MonkeyPatch, visible: str, expected: list[tuple[tuple[int, ...], str]]
) -> None:
    install(monkeypatch)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    slots = devices.slots()
    assert [(slot.gpus, slot.env["CUDA_VISIBLE_DEVICES"]) for slot in slots] == expected


@pytest.mark.parametrize("visible", ["", "-1", "7"])
def test_a_choice_of_no_gpu_means_cpu(monkeypatch: MonkeyPatch, visible: str) -> None:
    install(monkeypatch)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert devices.slots() == (devices.Slot("cpu0"),)


def test_more_slots_than_gpus_and_less_than_one_are_refused(monkeypatch: MonkeyPatch) -> None:
    install(monkeypatch)
    with pytest.raises(ConfigError):
        devices.slots(3)
    with pytest.raises(ConfigError):
        devices.slots(0)


def test_memory_in_use_is_told_and_unknown_is_none(monkeypatch: MonkeyPatch) -> None:
    install(monkeypatch)
    assert devices.gpu_memory_used_bytes(1) == 2 * 2**20

    def unsupported(index: int) -> None:
        raise NotSupportedError

    install(monkeypatch, nvmlDeviceGetMemoryInfo=unsupported)
    assert devices.gpu_memory_used_bytes(1) is None
    assert devices.gpu_list()[0].memory_bytes is None


def test_the_description_of_this_machine_is_plain_json_and_true() -> None:
    described = devices.describe()
    assert json.loads(json.dumps(described)) == described
    assert described["kernel"] == os.uname().release
    assert described["memory_bytes"] > 2**27
    assert 1 <= described["cpus"] <= (os.cpu_count() or 1)
    assert len(described["gpus"]) == len(devices.gpu_list())


def test_gpus_are_described_with_name_memory_and_driver(monkeypatch: MonkeyPatch) -> None:
    install(monkeypatch, count=1)
    described = devices.describe()
    assert described["driver"] == "570.1"
    assert described["gpus"] == [
        {"index": 0, "uuid": "GPU-0a7f-11", "name": "H200", "memory_bytes": 80 * 2**30}
    ]


def process(pid: int, used: int | None) -> SimpleNamespace:
    return SimpleNamespace(pid=pid, usedGpuMemory=used)


@pytest.mark.parametrize(
    ("processes", "held"),
    [
        ([process(7, 5), process(8, 6), process(99, 70)], 2 * (5 + 6)),  # on each of two GPUs
        ([process(7, None)], 3 * 2**20 - 2),  # the driver does not say: device against idle
        ([process(1234567, 70)], 3 * 2**20 - 2),  # numbered otherwise, as in a container
        ([], 3 * 2**20 - 2),
    ],
)
def test_what_a_run_holds_is_told_by_process_or_by_what_the_device_had_before(
    monkeypatch: MonkeyPatch, processes: list[SimpleNamespace], held: int
) -> None:
    install(monkeypatch, nvmlDeviceGetComputeRunningProcesses=lambda index: processes)
    assert devices.gpu_memory_held_bytes((0, 1), {7, 8}, {0: 1, 1: 1}) == held


def test_what_cannot_be_told_of_a_gpu_is_none(monkeypatch: MonkeyPatch) -> None:
    def fail(index: int) -> None:
        raise NvmlError

    install(monkeypatch, nvmlDeviceGetComputeRunningProcesses=fail)
    assert devices.gpu_memory_held_bytes((0,), {7}, {0: None}) is None
    assert devices.gpu_memory_held_bytes((0,), {7}, {0: 9 << 40}) == 0
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with devices.nvml_open():
        assert devices.gpu_memory_held_bytes((0,), {7}, {0: 0}) is None


def test_nvml_is_started_once_for_as_long_as_it_is_open(monkeypatch: MonkeyPatch) -> None:
    calls: list[str] = []
    install(
        monkeypatch,
        nvmlInit=lambda: calls.append("init"),
        nvmlShutdown=lambda: calls.append("shutdown"),
    )
    with devices.nvml_open():
        assert calls == ["init"]
        devices.gpu_memory_used_bytes(0)
    assert calls == ["init", "init", "shutdown", "shutdown"]  # it counts: the first one holds it
