"""One study, kept up to date beside its lab: journal, live view, inbox, scratchpad.

Called from threads; a lock of its own keeps a reader from a half-applied event.
"""

from __future__ import annotations

import gc
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nightlab import certificates, contexts, events, inbox, journal, pulse, views
from nightlab.config import Paths
from nightlab.errors import JournalError, NightlabError, UsageError
from nightlab.events import AnyEvent
from nightlab.history import History, fold
from nightlab.web.table import Table

_BACKLOG = (events.IdeaAdded, events.IdeaChanged, events.Noted, events.Warned, events.Proposed)


class Followed:
    """A study as far as its journal was read.

    ``epoch`` names this journal: another one means that all before it is of a study that was
    replaced. ``id`` is ``project/tag``. ``error`` is why it cannot be read.
    """

    def __init__(self, project: str, root: Path, tag: str) -> None:
        self.id = f"{project}/{tag}"
        self.project, self.root, self.tag = project, root, tag
        self.paths = Paths(root)
        self.epoch = secrets.token_hex(4)
        self.history: History | None = None
        self.table = Table()
        self.error: NightlabError | None = None
        self.loading = True
        self.gone = False
        self.running = False
        self.started = _born(self.paths.journal(tag))
        self.versions: dict[str, str] = {}  # of what a page may show: another one, look again
        self._lock = threading.RLock()
        self._tail = journal.Tail(self.paths.journal(tag))
        self._seen: object = None  # of the journal's file, when it was read to its end
        self._lock_seen: tuple[object, bool] = (None, False)
        self._certified: set[int] = set()
        self._to_certify = False
        self._backlog_seq = 0
        self._status: tuple[str, dict[str, Any]] = ("", {})
        self._told_at = 0.0

    @property
    def seq(self) -> int:
        return self.history.last_seq if self.history else 0

    @contextmanager
    def read(self) -> Iterator[History]:
        """The history, held still. Raises the error that keeps it from being read."""
        with self._lock:
            if self.history is None:
                raise self.error or UsageError(
                    f"study {self.tag} is being read", "its journal is long", "nightlab status"
                )
            yield self.history

    def poll(self, seconds: float = 0.2) -> bool:
        """Read what is new, for about so long; whether a page would show something else now."""
        before = dict(self.versions)
        path = self.paths.journal(self.tag)
        found = _stamp(path)
        self.gone = found is None
        if found is not None and (found != self._seen or self.loading):
            end = time.monotonic() + seconds
            while self._step(found) and time.monotonic() < end:
                pass
        self.running = self._is_running()
        with self._lock:
            self.versions = self._versions()
        return before != self.versions

    def _step(self, stamp: object) -> bool:
        """Read some events; whether there may be more at once."""
        try:
            anew, new = self._tail.read()
            with self._lock:
                if anew:
                    self._forget()
                self._take(new)
        except (JournalError, LookupError, TypeError, ValueError) as error:
            with self._lock:
                self._forget()
                self.error, self.loading = self._damaged(error), False
            self._tail, self._seen = journal.Tail(self.paths.journal(self.tag)), stamp
            return False
        self.error = None
        if not new:
            with self._lock:
                self._certify()
            if self.loading:
                gc.freeze()  # a long study's objects stay: looking through them again takes 0.2 s
            self.loading, self._seen = False, stamp
        return bool(new)

    def _damaged(self, error: Exception) -> NightlabError:
        if isinstance(error, NightlabError):
            return error
        return JournalError(
            f"the journal of study {self.tag} cannot be replayed",
            f"{type(error).__name__}: {error}; it was edited by hand, or damaged",
            f"nightlab status --tag {self.tag}",
        )

    def _forget(self) -> None:
        if self.history is not None or self.error is not None:
            self.epoch = secrets.token_hex(4)
        self.history, self.table = None, Table()
        self._certified, self._to_certify, self._backlog_seq = set(), False, 0

    def _take(self, new: list[AnyEvent]) -> None:
        touched: set[int] = set()
        for event in new:
            if self.history is None:
                self.history = fold((event,))
                continue
            self.history.apply(event)
            touched.update(_numbers(event))
            if isinstance(event, _BACKLOG):
                self._backlog_seq = event.seq
        if self.history is None:
            return
        self._to_certify |= any(isinstance(event, events.Settled) for event in new)
        self.table.take(self.history, sorted(touched), self._certified)

    def _certify(self) -> None:
        """Which keeps are claimed: one more experiment may change it for any other."""
        if self.history is not None and self._to_certify:
            certified = set(certificates.certificates(self.history)["certified"])
            changed = certified ^ self._certified
            self._certified, self._to_certify = certified, False
            self.table.take(self.history, sorted(changed), certified)

    def _is_running(self) -> bool:
        """Whether a lab works on it; asked of the lock only where it may have changed.

        To ask is to hold a free lock for an instant, and a lab that starts just then would
        be refused: a dashboard must not ask twice a second all night.
        """
        path = self.paths.lock(self.tag)
        stamp = _stamp(path)
        seen, was = self._lock_seen
        free = stamp is None or stamp[1] == 0  # a lab that ends leaves it empty
        running = not free and (was or stamp != seen) and journal.is_locked(path)
        self._lock_seen = (stamp, running)
        return running

    def _versions(self) -> dict[str, str]:
        base = f"{self.epoch}.{self.seq}.{self.running:d}{self.loading:d}{self.error is not None:d}"
        try:
            inbox_folder = self.paths.inbox(self.tag)
            waiting = sorted(p.name for p in inbox_folder.iterdir() if p.suffix == ".json")
        except OSError:
            waiting = []
        return {
            "rows": f"{self.epoch}.{self.seq}",
            "status": f"{base}.{_stamp(self.root / 'program.md')}",
            "live": str(_stamp(self.paths.live(self.tag)) if self.running else None),
            "backlog": f"{self.epoch}.{self._backlog_seq}.{'+'.join(waiting)}",
            "scratchpad": str(_stamp(self.paths.scratchpad(self.tag))),
        }

    def is_running_now(self) -> bool:
        """Whether a lab works on it at this moment."""
        return journal.is_locked(self.paths.lock(self.tag))

    def is_certified(self, number: int) -> bool:
        """Whether it is one of the keeps that are claimed."""
        return number in self._certified

    # -- what pages are told

    def status(self) -> dict[str, Any]:
        """``views.status``, and where it was read."""
        with self._lock:
            version, now = self.versions.get("status", ""), time.time()
            if self._status[0] == version and now - self._told_at < (1.0 if self.running else 60.0):
                return {**self._status[1], "now": now}
            told: dict[str, Any] = {
                "id": self.id,
                "project": self.project,
                "tag": self.tag,
                "name": self.root.name,
                "epoch": self.epoch,
                "seq": self.seq,
                "loading": self.loading,
                "error": explained(self.error) if self.error else None,
                "now": now,
            }
            if self.history is not None:
                program = contexts.program(self.root)
                found = views.status(self.history, locked=self.running, now=now, program=program)
                told = {**found, **told}
            self._status, self._told_at = (version, told), now
            return told

    def rows(self, epoch: str = "", since: int = 0) -> dict[str, Any]:
        """What changed after ``since`` of that epoch; all there is for any other epoch."""
        with self._lock:
            full = epoch != self.epoch or since <= 0
            objective = self.history.study.objective if self.history else None
            return {
                "id": self.id,
                "epoch": self.epoch,
                "seq": self.seq,
                "since": 0 if full else since,
                "full": full,
                "total": len(self.table),
                "metric": objective.metric if objective else None,
                "better": objective.better.value if objective else None,
                "columns": self.table.columns(None if full else self.table.since(since)),
            }

    def live(self) -> dict[str, Any]:
        """What the lab does now; ``live`` is None where none runs, whatever it left behind."""
        told = pulse.read(self.paths.live(self.tag)) if self.running else None
        return {"id": self.id, "live": told}

    def waiting(self) -> list[dict[str, Any]]:
        """Messages that no lab has taken yet."""
        return [
            {
                "kind": message.kind,
                "text": message.text,
                "idea": message.idea,
                "priority": message.priority,
                "now": message.now,
                "author": message.author,
                "at": at,
            }
            for at, message in inbox.peek(self.paths.inbox(self.tag))
        ]


def explained(error: NightlabError) -> dict[str, str]:
    """An expected failure as JSON."""
    what, why, hint = error.lines()
    return {"what": what, "why": why, "hint": hint}


def _numbers(event: AnyEvent) -> tuple[int, ...]:
    """The experiments whose row an event may change."""
    match event:
        case events.RunFinished():
            return (event.run.experiment,)
        case (
            events.Proposed()
            | events.Committed()
            | events.Rebased()
            | events.Amended()
            | events.Judged()
            | events.Settled()
        ):
            return (event.number,)
        case _:
            return ()


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """(inode, bytes, time of change) of a file; None where there is none."""
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_ino, about.st_size, about.st_mtime_ns


def _born(path: Path) -> float:
    """When the journal changed last before it was followed: what is newest is read first."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
