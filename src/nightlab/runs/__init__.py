"""One run, from intent to record: the order that an executor is given, and what came of it."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import stat
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import msgspec

from nightlab import config, expression, metrics, process, scope
from nightlab._removal import remove_tree
from nightlab.config import Paths, Settings
from nightlab.devices import Slot
from nightlab.errors import ExecutorError, NightlabError
from nightlab.events import RunStarted
from nightlab.executors import Executor, Order
from nightlab.git import Repo
from nightlab.model import Better, Objective, Outcome, Run, Study
from nightlab.process import Finished
from nightlab.sandboxes import Cell, Sandbox

LOG = "log.txt"
RESULT = "result.json"
BOX = "box"  # all that a run may write to; its log lies beside it
ARTIFACT = "artifact"
EVALUATION = "evaluation"
TEST = "test"  # the box of a finalization's test command
ARTIFACT_BYTES = 8 << 30
ARTIFACT_FILES = 10_000
_ARTIFACT_PATH_BYTES = 1000  # os.walk recurses before Python 3.12, and paths have an end
_TAIL_BYTES = 65536
_LAST_LINES = 3  # of a check that fails
_DETAIL_CHARS = 300
_CURVES = ("val_loss", "loss", "train_loss")


@dataclass(frozen=True)
class Rig:
    """What is the same from run to run of a study."""

    repo: Repo
    paths: Paths
    settings: Settings
    study: Study
    executor: Executor
    sandbox: Sandbox

    @property
    def curve_names(self) -> tuple[str, ...]:
        """Under which names a script may print on its way what early stop looks at."""
        named = self.settings.curve
        return (named,) if named else (self.study.objective.metric, *_CURVES)


class ArtifactError(NightlabError):
    """What training left can not be evaluated: the candidate's fault."""


def marker(paths: Paths, tag: str, run_id: int) -> str:
    """In the environment of every process of a run; unlike that of any other project's run."""
    here = str(paths.study(tag).resolve())
    digest = hashlib.blake2b(os.fsencode(here), digest_size=6).hexdigest()
    return f"{digest}:{run_id}:"


def prepare(run_dir: Path) -> None:
    """Make the run's own folder, empty."""
    if run_dir.exists():  # a power cut left it half made
        remove_tree(run_dir)
    run_dir.mkdir(parents=True)


def training(rig: Rig, started: RunStarted, slot: Slot, writable: tuple[str, ...]) -> Order:
    """The order for the command itself, in ``run folder/tree``; hidden paths are not there.

    Raises ExecutorError when declared data is not there.
    """
    run_dir = rig.paths.run(rig.study.tag, started.run)
    tree = run_dir / "tree"
    hidden = (*rig.study.hidden, *rig.settings.final.hidden)
    for name in hidden:
        _remove(tree / rig.study.prefix / name)
    shown = [n for n in (*rig.study.data, *rig.study.protect) if n not in hidden]
    box = run_dir / BOX
    box.mkdir()
    artifact = box / ARTIFACT
    if rig.study.evaluate or rig.settings.final.test:
        artifact.mkdir()
    env = _env(rig, started, slot) | {"NIGHTLAB_ARTIFACT": str(artifact)}
    kept: tuple[Path, ...] = ()
    if rig.settings.cache:  # never for the evaluator: training could lay something out for it
        kept = (rig.paths.cache(rig.study.tag),)
        kept[0].mkdir(exist_ok=True)
        env["NIGHTLAB_CACHE"] = str(kept[0])
    cell = Cell(
        command=rig.study.checks[started.check] if started.check else rig.study.command,
        tree=tree,
        cwd=tree / rig.study.prefix,
        run_dir=box,
        env=env,
        writable=writable,
        write=kept,
        data=(*_linked(rig, tree, shown), *map(Path, rig.settings.read)),
        hidden=tuple(rig.paths.root / name for name in hidden),
        memory_bytes=rig.settings.memory_bytes,
        gpus=slot.gpus,
    )
    return _order(rig, started, slot, cell, run_dir / LOG)


def evaluation(
    rig: Rig,
    started: RunStarted,
    slot: Slot,
    candidate_files: Collection[str],
    name: str = EVALUATION,
) -> Order:
    """The order for the sealed evaluator, in ``run folder/name``: a box of its own.

    Nothing there is writable but its own folder. The candidate's files are data: they lie in
    ``$NIGHTLAB_CANDIDATE``, not where the evaluator could import them by accident; what
    training left lies in ``$NIGHTLAB_ARTIFACT``. Raises ExecutorError when data is not there.
    """
    run_dir = rig.paths.run(rig.study.tag, started.run)
    folder = run_dir / name
    box = folder / BOX
    tree, candidate, artifact = folder / "tree", box / "candidate", box / ARTIFACT
    candidate.mkdir(parents=True)
    for path in candidate_files:
        source, target = tree / path, candidate / path
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            source.rename(target)
    copy_artifact(run_dir / BOX / ARTIFACT, artifact)
    env = _env(rig, started, slot) | {
        "NIGHTLAB_RESULT": str(box / RESULT),
        "NIGHTLAB_ARTIFACT": str(artifact),
        "NIGHTLAB_CANDIDATE": str(candidate),
    }
    names = dict.fromkeys((*rig.study.data, *rig.study.protect, *rig.study.hidden))
    unseen = rig.settings.final.hidden  # but for the test command, whose rig has none
    for path in unseen:
        _remove(tree / rig.study.prefix / path)
    cell = Cell(
        command=rig.study.evaluate,
        tree=tree,
        cwd=tree / rig.study.prefix,
        run_dir=box,
        env=env,
        data=(
            *_linked(rig, tree, [n for n in names if not _is_committed(tree, rig, n)]),
            *map(Path, rig.settings.read),
        ),
        hidden=tuple(rig.paths.root / path for path in unseen),
        memory_bytes=rig.settings.memory_bytes,
        gpus=slot.gpus,
    )
    return _order(rig, started, slot, cell, folder / LOG)


def _is_committed(tree: Path, rig: Rig, name: str) -> bool:
    return (tree / rig.study.prefix / name).exists()


def _env(rig: Rig, started: RunStarted, slot: Slot) -> dict[str, str]:
    run_dir = rig.paths.run(rig.study.tag, started.run)
    env = config.passed_env(rig.settings.pass_env) | slot.env
    env |= {
        "TIME_BUDGET": f"{rig.study.budget_s:g}",
        rig.study.seed_env: str(started.seed),
        "NIGHTLAB_SEED": str(started.seed),
        "NIGHTLAB_RESULT": str(run_dir / BOX / RESULT),
    }
    venv = rig.paths.root / ".venv"
    if venv.is_dir():  # `uv run` would build a fresh environment in every copy of the project
        env["UV_PROJECT_ENVIRONMENT"] = str(venv)
    return env


def _order(rig: Rig, started: RunStarted, slot: Slot, cell: Cell, log: Path) -> Order:
    return Order(
        cell=cell,
        sandbox=rig.sandbox,
        slot=slot,
        wall_s=rig.study.deadline_s,
        log=log,
        marker=started.marker,
        log_bytes=rig.settings.log_bytes,
    )


def in_scope(tree: Path, study: Study) -> tuple[str, ...]:
    """The files of a copy that ``[study] edit`` lets change, relative to the copy's top."""
    root = tree / study.prefix
    found = []
    for here, _, files in os.walk(root):
        for name in files:
            path = os.path.join(here, name)
            if scope.matches(os.path.relpath(path, root), study.edit):
                found.append(os.path.relpath(path, tree))
    return tuple(found)


def _linked(rig: Rig, tree: Path, names: Collection[str]) -> tuple[Path, ...]:
    """Make untracked paths appear in the copy; where they really are, for the sandbox."""
    found = []
    for name in names:
        source, link = rig.paths.root / name, tree / rig.study.prefix / name
        if not source.exists():
            why = "nightlab.toml names it, and a run needs it"
            raise ExecutorError(f"{source} is not there", why, f"restore {name}, or edit the key")
        if link.is_symlink() and not link.exists():  # committed, and it points out of the project
            link.unlink()
        if not link.exists():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(source)
        found.append(source)
    return tuple(found)


def copy_artifact(source: Path, target: Path) -> None:
    """Copy what training left, regular files and folders only, within bounds.

    Links are left behind: they could point at what the evaluator may read and training may
    not. Raises ArtifactError when it is too much, or the folder itself is a link.
    """
    target.mkdir()
    if source.is_symlink():
        raise ArtifactError("the folder for the artifact is a link", "training replaced it")
    left_bytes, left_files = ARTIFACT_BYTES, ARTIFACT_FILES
    for here, folders, files in os.walk(source):
        place = os.path.relpath(here, source)
        if len(os.fsencode(place)) > _ARTIFACT_PATH_BYTES:
            raise ArtifactError("the artifact's folders are nested too deeply", f"{place[:60]} …")
        inside = target / place
        folders[:] = [f for f in folders if not os.path.islink(os.path.join(here, f))]
        inside.mkdir(exist_ok=True)
        for name in files:
            data = _open_regular(os.path.join(here, name))
            if data is None:
                continue
            with data:
                left_bytes -= os.fstat(data.fileno()).st_size
                left_files -= 1
                if left_bytes < 0 or left_files < 0:
                    raise ArtifactError(
                        "the artifact is too large to evaluate",
                        f"at most {ARTIFACT_BYTES >> 30} GiB in {ARTIFACT_FILES} files are taken",
                        "save the model alone",
                    )
                with (inside / name).open("wb") as copy:
                    shutil.copyfileobj(data, copy, 1 << 20)


def clean_up(folder: Path) -> None:
    """Remove the copies and whatever else the run left there; log, result, evaluation stay."""
    if folder.is_symlink() or not folder.is_dir():
        return
    result = _read(folder / BOX / RESULT, metrics.MAX_RESULT_BYTES)
    for path in list(folder.iterdir()):
        if path.name != LOG and (path.name not in (EVALUATION, TEST) or path.is_symlink()):
            remove_tree(path)
    if 0 < len(result) < metrics.MAX_RESULT_BYTES:
        (folder / RESULT).write_bytes(result)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def measure(
    started: RunStarted, began_at: float, finished: Finished, folder: Path, objective: Objective
) -> Run:
    """Read what a box left: its log and result file; tell its outcome. Never raises for either."""
    output = _read(folder / LOG)
    result = _read(folder / BOX / RESULT, metrics.MAX_RESULT_BYTES)
    measured = metrics.read(output, result or None, complete=finished.exit_code is not None)
    measured = expression.composed(measured, objective)
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
    if finished.overran:
        outcome, detail = Outcome.CRASHED, f"wrote more than {finished.overran}"
    return msgspec.structs.replace(
        _record(started, began_at, outcome, detail),
        metrics=measured.values,
        duration_s=finished.duration_s,
        cpu_s=finished.cpu_s,
        peak_memory_bytes=finished.peak_memory_bytes,
        peak_gpu_bytes=finished.peak_gpu_bytes,
        exit_code=finished.exit_code,
        traceback=trace,
        notes=tuple(process.clean(note) for note in measured.notes),
    )


def checked(started: RunStarted, began_at: float, finished: Finished, folder: Path) -> Run:
    """The record of a check: ok for exit code 0, else how it ended and the last it printed."""
    run = measure(started, began_at, finished, folder, Objective("", Better.LOWER))
    outcome, detail = Outcome.OK, ""
    if run.outcome not in (Outcome.OK, Outcome.NO_METRIC, Outcome.DIVERGED) or run.exit_code != 0:
        outcome = Outcome.CRASHED if run.outcome is Outcome.DIVERGED else run.outcome
        printed = process.clean(_read(folder / LOG)[-_TAIL_BYTES:].decode("utf-8", "replace"))
        last = [" ".join(line.split()) for line in printed.split("\n") if line.strip()]
        how = "" if outcome is Outcome.CRASHED else f"{run.detail}: "
        detail = how + (" | ".join(last[-_LAST_LINES:]) or f"exit code {run.exit_code}, no output")
        detail = detail if len(detail) <= _DETAIL_CHARS else "…" + detail[1 - _DETAIL_CHARS :]
    return msgspec.structs.replace(run, outcome=outcome, detail=detail, metrics={}, notes=())


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
        check=started.check,
        outcome=outcome,
        started_at=began_at,
        detail=detail,
    )


def _read(path: Path, most: int = -1) -> bytes:
    """The bytes of a regular file; b"" where there is none, or a run planted something else."""
    file = _open_regular(str(path))
    if file is None:
        return b""
    with file:
        return file.read(most)


def _open_regular(path: str) -> io.BufferedReader | None:
    """A regular file with one name, opened without following a link; None for anything else.

    A second name (a hard link) could be one that the run itself may not read or write.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        os.close(fd)
        return None
    return os.fdopen(fd, "rb")
