"""One run, from intent to record: the order that an executor is given, and what came of it."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import msgspec

from nightlab import config, metrics, process
from nightlab.config import Paths, Settings
from nightlab.devices import Slot
from nightlab.errors import ExecutorError
from nightlab.events import RunStarted
from nightlab.executors import Order
from nightlab.model import Objective, Outcome, Run, Study
from nightlab.process import Finished
from nightlab.sandboxes import Cell, Sandbox

_TAIL_BYTES = 65536


def prepare(run_dir: Path) -> None:
    """Make the run's own folder, empty."""
    if run_dir.exists():  # a power cut left it half made
        remove_tree(run_dir)
    run_dir.mkdir(parents=True)


def order(
    started: RunStarted,
    slot: Slot,
    paths: Paths,
    settings: Settings,
    study: Study,
    sandbox: Sandbox,
    writable: tuple[str, ...],
) -> Order:
    """What to run, where, with what in its hands. The tree must lie in ``run folder/tree``.

    Raises ExecutorError when declared data is not there.
    """
    run_dir = paths.run(study.tag, started.run)
    tree = run_dir / "tree"
    cwd = tree / study.prefix
    data = tuple(_link_data(paths.root, cwd, name) for name in study.data)
    env = config.passed_env(settings.pass_env) | slot.env
    env |= {
        "TIME_BUDGET": f"{study.budget_s:g}",
        study.seed_env: str(started.seed),
        "NIGHTLAB_SEED": str(started.seed),
        "NIGHTLAB_RESULT": str(run_dir / "result.json"),
    }
    venv = paths.root / ".venv"
    if venv.is_dir():  # `uv run` would build a fresh environment in every copy of the project
        env["UV_PROJECT_ENVIRONMENT"] = str(venv)
    cell = Cell(
        command=study.command,
        tree=tree,
        cwd=cwd,
        run_dir=run_dir,
        env=env,
        writable=writable,
        data=data,
        memory_bytes=settings.memory_bytes,
        gpus=slot.gpus,
    )
    return Order(
        cell=cell,
        sandbox=sandbox,
        slot=slot,
        wall_s=study.deadline_s,
        log=run_dir / "log.txt",
        marker=started.marker,
    )


def _link_data(root: Path, cwd: Path, name: str) -> Path:
    source, link = root / name, cwd / name
    if not source.exists():
        why = "[study] data in nightlab.toml names it"
        raise ExecutorError(f"{source} is not there", why, f"restore {name}, or edit the key")
    if not link.exists():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(source)
    return source


def measure(
    started: RunStarted, began_at: float, finished: Finished, run_dir: Path, objective: Objective
) -> Run:
    """Read what a run left: its log and result file; tell its outcome. Never raises for either."""
    output = _read(run_dir / "log.txt")
    result = _read(run_dir / "result.json", metrics.MAX_RESULT_BYTES)
    measured = metrics.read(output, result or None, complete=finished.exit_code is not None)
    outcome, detail, trace = metrics.classify(
        exit_code=finished.exit_code,
        signal=finished.signal,
        timed_out=finished.timed_out,
        stopped=finished.stopped,
        oom=finished.oom,
        measurement=measured,
        objective=objective,
        tail=process.clean(output[-_TAIL_BYTES:].decode("utf-8", "replace")),
    )
    return msgspec.structs.replace(
        _record(started, began_at, outcome, detail),
        metrics=measured.values,
        duration_s=finished.duration_s,
        cpu_s=finished.cpu_s,
        peak_memory_bytes=finished.peak_memory_bytes,
        exit_code=finished.exit_code,
        traceback=trace,
        notes=tuple(process.clean(note) for note in measured.notes),
    )


def lost(started: RunStarted, began_at: float, why: str) -> Run:
    """The record of a run that infrastructure took."""
    return _record(started, began_at, Outcome.LOST, why)


def _record(started: RunStarted, began_at: float, outcome: Outcome, detail: str) -> Run:
    return Run(
        id=started.run,
        experiment=started.experiment,
        occasion=started.occasion,
        purpose=started.purpose,
        commit=started.commit,
        seed=started.seed,
        device=started.device,
        outcome=outcome,
        started_at=began_at,
        detail=detail,
    )


def _read(path: Path, most: int = -1) -> bytes:
    """The bytes of a regular file; b"" where there is none, or a run planted something else."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    with os.fdopen(fd, "rb") as file:
        return file.read(most) if stat.S_ISREG(os.fstat(fd).st_mode) else b""


def remove_tree(folder: Path) -> None:
    """Delete a folder that a run wrote to, whatever modes it left; links are not followed.

    What still cannot be deleted stays: it is in the run's own folder and harms nobody.
    """

    def unlock(_call: Callable[..., object], path: str, _error: object) -> None:
        try:
            for place in (os.path.dirname(path), path):  # noqa: PTH120  odd names survive as str
                if not os.path.islink(place):  # noqa: PTH114
                    os.chmod(place, 0o700)  # noqa: PTH101
            if os.path.isdir(path) and not os.path.islink(path):  # noqa: PTH112, PTH114
                shutil.rmtree(path, ignore_errors=True)
            else:
                os.unlink(path)  # noqa: PTH108
        except OSError:
            return

    shutil.rmtree(folder, onerror=unlock)
