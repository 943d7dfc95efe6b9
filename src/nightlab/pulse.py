"""What a running lab does now, told to other processes: once a second, in one small file.

The journal says what happened; this says what happens: the runs in flight with their curves
and the last lines that they printed. Nothing is decided by it, so nothing is fsynced, and a
disk that refuses it does not disturb the night.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nightlab import cases
from nightlab.budget import Bounds
from nightlab.engine import Engine
from nightlab.model import Curve
from nightlab.runs.attempt import Attempt

EVERY_S = 1.0
_TAIL = 12


class Pulse:
    """Writes the file for one session of a lab; ``close`` removes it."""

    def __init__(self, path: Path, bounds: Bounds) -> None:
        self._path = path
        self._bounds = asdict(bounds)
        self._next = 0.0

    def beat(self, engine: Engine, active: Sequence[Attempt], doing: str) -> None:
        """Say what happens now, unless it was said within the last second. Never raises OSError."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + EVERY_S
        told = {
            "at": engine.now(),
            "pid": os.getpid(),
            "doing": doing,
            "bounds": self._bounds,
            "runs": [of(engine, one) for one in active],
        }
        draft = self._path.with_name(f".{self._path.name}")
        with suppress(OSError):
            draft.write_text(json.dumps(told), encoding="utf-8")
            draft.replace(self._path)

    def close(self) -> None:
        """Nothing happens any more."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


def of(engine: Engine, attempt: Attempt) -> dict[str, Any]:
    """One run in flight, as screens show it; curves are points of (seconds, value)."""
    started, study = attempt.started, engine.study
    experiment = engine.history.experiments[started.occasion]
    curve = attempt.track.curve(engine.rig.curve_names)
    incumbent = cases.opponent(engine.history, experiment)
    theirs = [r.curve for r in incumbent.runs if r.curve] if incumbent else []
    same = [c for c in theirs if curve is None or c.name == curve.name]
    return {
        "run": started.run,
        "experiment": started.occasion,
        "purpose": started.purpose.value,
        "check": started.check or None,
        "seed": started.seed,
        "device": attempt.slot.name,
        "description": experiment.claim.description,
        "elapsed_seconds": round(attempt.job.elapsed_s(), 1),
        "budget_seconds": study.budget_s,
        "deadline_seconds": study.deadline_s,
        "curve": _drawn(curve),
        "incumbent_curve": _drawn(same[-1] if same else None),
        "tail": attempt.job.tail(_TAIL),
    }


def _drawn(curve: Curve | None) -> dict[str, Any] | None:
    return None if curve is None else {"name": curve.name, "points": curve.points}


def read(path: Path) -> dict[str, Any] | None:
    """What the lab said last, as ``beat`` wrote it; None where no lab says anything."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return told if isinstance(told, dict) else None
