"""A tracker kept up to date beside a running lab, in a thread of its own.

The thread folds the journal for itself and exports what is new. It may fail or hang for all the
lab cares: what it does not bring over, ``nightlab export`` does later.
"""

from __future__ import annotations

import threading
import time
from importlib.util import find_spec
from pathlib import Path

from nightlab.engine import Engine
from nightlab.events import AnyEvent, Settled, Warned
from nightlab.exchange import trackers
from nightlab.history import History
from nightlab.journal import Tail

_EVERY_S = 2.0  # at most; and a slow tracker works a sixth of the time
_SHARE = 5.0
_AGAIN_S = 60.0  # after a failure
_SILENT_S = 120.0
_CLOSE_S = 10.0
_LIBRARIES = {"mlflow": "mlflow", "wandb": "wandb", "tensorboard": "tensorboardX"}


def check_tracker(live: str) -> None:
    """Raise UsageError where ``[export] live`` names a tracker whose library is missing."""
    name = live.partition(":")[0]
    if name and find_spec(_LIBRARIES[name]) is None:
        raise trackers.missing(name, "[export] live names it")


class Live:
    """Follows one session of a lab; ``watch`` and ``close`` are called in the loop's thread.

    Does nothing where ``[export] live`` is not set.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._name, _, to = engine.settings.live.partition(":")
        self._to = to or _default(self._name, engine.paths.root)
        self._path = engine.paths.journal(engine.study.tag)
        self._changed = threading.Condition()
        self._new, self._closing = True, False
        self._failed, self._warned = "", False
        self._since: float | None = None  # when the export under way began
        self._thread = threading.Thread(target=self._work, name="tracker", daemon=True)
        if self._name:
            engine.listeners.append(self.heard)
            self._thread.start()

    def heard(self, event: AnyEvent) -> None:
        """Take an event that was recorded."""
        if isinstance(event, Settled):
            with self._changed:
                self._new = True
                self._changed.notify()

    def watch(self) -> None:
        """Warn once where the tracker fails or does not answer."""
        trouble = "" if self._warned else self._trouble()
        if trouble:
            self._warned = True
            self._engine.record(Warned(text=trouble))

    def close(self) -> list[str]:
        """Bring over what is left; what could not be, in words. Waits some seconds."""
        if not self._name:
            return []
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(_CLOSE_S)
        late = f"{self._name} does not answer; later: nightlab export --format {self._name}"
        return [late] if self._thread.is_alive() else [self._failed] * bool(self._failed)

    def _trouble(self) -> str:
        since = self._since
        if since is not None and time.monotonic() - since > _SILENT_S:
            return f"the tracker {self._name} has not answered for {_SILENT_S:.0f} s"
        return self._failed

    # -- the tracker's thread

    def _work(self) -> None:
        tail, history, wait_s = Tail(self._path), None, 0.0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing, wait_s)
                self._changed.wait_for(lambda: self._new or self._closing)
                last, new, self._new = self._closing, self._new, False
            if new:
                history, _ = tail.replay(history)
                wait_s = self._export(history)
            if last:
                return

    def _export(self, history: History) -> float:
        """Bring over what is new; how many seconds to leave the tracker alone then."""
        self._since = began = time.monotonic()
        try:
            trackers.export(self._name, history, self._to)
        except Exception as error:  # noqa: BLE001 - others' libraries; their texts may hold secrets
            why = type(error).__name__
            again = f"what is missing, later: nightlab export --format {self._name}"
            self._failed = f"the tracker {self._name} failed ({why}); {again}"
            self._new = True
            return _AGAIN_S
        finally:
            self._since = None
        self._failed = ""
        return max(_EVERY_S, _SHARE * (time.monotonic() - began))


def _default(name: str, root: Path) -> str:
    """Where ``nightlab export`` writes to when it is run in the project's folder."""
    if not name:
        return ""
    to = trackers.TRACKERS[name][1]
    return f"sqlite:///{root / 'mlflow.db'}" if name == "mlflow" else str(root / to)
