"""GPUs and CPU slots: what exists, what is free, peak memory. The only importer of NVML.

No driver, no library and no GPU are the normal case, never an error.
"""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from nightlab.errors import ConfigError

T = TypeVar("T")

# What the usual numeric libraries read to size their thread pools.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Slot:
    """A place for one run at a time.

    ``gpus`` are NVML indices; ``env`` makes the run see only them.
    """

    name: str
    gpus: tuple[int, ...] = ()
    env: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Gpu:
    """A GPU as NVML knows it; ``index`` is NVML's (PCI order), not CUDA's."""

    index: int
    uuid: str
    name: str
    memory_bytes: int | None


def slots(count: int | None = None) -> tuple[Slot, ...]:
    """One slot per GPU that may be used, else ``count`` CPU slots (one without a count).

    A CUDA_VISIBLE_DEVICES in nightlab's environment narrows the choice, and "" or "-1" there
    means CPU. CPU slots that share the machine get an equal part of its cores each, as thread
    counts. Raises ConfigError for a count below 1, or above the number of GPUs.
    """
    if count is not None and count < 1:
        raise ConfigError(
            f"{count} slots are not enough to run anything",
            "each run needs a slot",
            "leave the number of slots out: nightlab takes one per GPU, or one for the CPU",
        )
    gpus = _visible(gpu_list())
    if gpus:
        if count is not None and count > len(gpus):
            raise ConfigError(
                f"{count} slots were asked for, and {len(gpus)} GPUs can be used",
                "two runs on one GPU would measure each other",
                f"ask for at most {len(gpus)}, or set CUDA_VISIBLE_DEVICES= to run on the CPU",
            )
        return tuple(
            Slot(
                f"gpu{number}",
                () if gpu is None else (gpu.index,),
                {"CUDA_VISIBLE_DEVICES": name},
            )
            for number, (gpu, name) in enumerate(gpus[:count])
        )
    if count is None or count == 1:
        return (Slot("cpu0"),)
    threads = str(max(1, cpu_count() // count))
    return tuple(
        Slot(f"cpu{number}", env=dict.fromkeys(THREAD_VARIABLES, threads))
        for number in range(count)
    )


def cpu_count() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def gpu_list() -> tuple[Gpu, ...]:
    """Every GPU of the machine, in NVML's order; empty without a driver."""

    def read(nvml: Any) -> tuple[Gpu, ...]:
        found = []
        for index in range(nvml.nvmlDeviceGetCount()):
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            found.append(
                Gpu(
                    index,
                    _text(nvml.nvmlDeviceGetUUID(handle)),
                    _text(nvml.nvmlDeviceGetName(handle)),
                    _memory(nvml, handle, "total"),
                )
            )
        return tuple(found)

    return _with_nvml(read, ())


def gpu_memory_used_bytes(index: int) -> int | None:
    """Memory in use on a GPU by anyone; None when it cannot be told (no GPU, shared memory)."""
    return _with_nvml(
        lambda nvml: _memory(nvml, nvml.nvmlDeviceGetHandleByIndex(index), "used"), None
    )


def gpu_memory_held_bytes(
    indices: Sequence[int], pids: Collection[int], idle_bytes: Mapping[int, int | None]
) -> int | None:
    """Memory that these processes hold on these GPUs in all; None when it cannot be told.

    By process where the driver says it. Where it does not (or numbers processes otherwise, as
    in a container), what is in use beyond ``idle_bytes``, GPU by GPU.
    """

    def read(nvml: Any) -> int | None:
        total = None
        for index in indices:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            held = _held_by(nvml, handle, pids)
            idle = idle_bytes.get(index)
            if held is None and idle is not None:
                used = _memory(nvml, handle, "used")
                held = None if used is None else max(0, used - idle)
            if held is not None:
                total = (total or 0) + held
        return total

    return _with_nvml(read, None)


def _held_by(nvml: Any, handle: Any, pids: Collection[int]) -> int | None:
    try:
        found = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
    except nvml.NVMLError:
        return None
    mine = [p.usedGpuMemory for p in found if p.pid in pids]
    return sum(mine) if mine and None not in mine else None


@contextlib.contextmanager
def nvml_open() -> Iterator[None]:
    """While this is open, asking NVML costs no new start of its library."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(Exception):  # no library, no driver: asking says None
            import pynvml  # noqa: PLC0415 - loaded on use

            pynvml.nvmlInit()
            stack.callback(pynvml.nvmlShutdown)
        yield


def describe() -> dict[str, Any]:
    """The machine, for the journal and ``nightlab doctor``: plain values, nothing personal."""
    import psutil  # noqa: PLC0415 - loaded on use: 10 ms

    return {
        "platform": platform.system(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "cpus": cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "gpus": [asdict(gpu) for gpu in gpu_list()],
        "driver": _with_nvml(lambda nvml: _text(nvml.nvmlSystemGetDriverVersion()), None),
    }


def described() -> dict[str, str]:
    """``describe`` as the journal keeps it: text, without what is not known."""
    return {key: str(value) for key, value in describe().items() if value}


def _visible(gpus: tuple[Gpu, ...]) -> list[tuple[Gpu | None, str]]:
    """(GPU if NVML knows it, its name for CUDA_VISIBLE_DEVICES) of those that may be used."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not gpus:
        return []
    if allowed is None:
        return [(gpu, gpu.uuid) for gpu in gpus]
    found: list[tuple[Gpu | None, str]] = []
    for name in (part.strip() for part in allowed.split(",")):
        # CUDA itself stops at the first entry that is none; "-1" and "" are such.
        gpu = next((g for g in gpus if name in {str(g.index), g.uuid}), None)
        if gpu is None and len(name) > len("GPU-"):
            # CUDA takes the unambiguous start of a UUID, and names of MIG partitions.
            gpu = next((g for g in gpus if g.uuid.startswith(name)), None)
        if gpu is None and not name.startswith("MIG-"):
            break
        # A number stays a number: it means to the run what it means to the person.
        found.append((gpu, name))
    return found


def _with_nvml(read: Callable[[Any], T], otherwise: T) -> T:
    """Ask NVML; ``otherwise`` when there is no library, no driver or no answer."""
    try:
        import pynvml  # noqa: PLC0415 - loaded on use

        pynvml.nvmlInit()
    except Exception:  # noqa: BLE001 - every failure to load means: no GPU that can be told
        return otherwise
    try:
        return read(pynvml)
    except pynvml.NVMLError:
        return otherwise
    finally:
        pynvml.nvmlShutdown()


def _memory(nvml: Any, handle: Any, name: str) -> int | None:
    try:
        return int(getattr(nvml.nvmlDeviceGetMemoryInfo(handle), name))
    except nvml.NVMLError_NotSupported:  # memory shared with the CPU
        return None


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
