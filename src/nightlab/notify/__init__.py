"""Messages to a person who is elsewhere: kept, plateau, storm, the end, the morning's summary.

A lab calls ``watch`` between two turns and ``close`` at its end; both are quick, and neither
fails. Delivery happens in threads (``services``). What was told is noted in a file of the study,
so that a resumed lab goes on from there: a message is sent at most once.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from nightlab import config, report, views
from nightlab.config import Notify
from nightlab.engine import Engine
from nightlab.errors import NightlabError
from nightlab.events import AnyEvent, SessionEnded, SessionStarted, Warned
from nightlab.notify import telling
from nightlab.notify.services import Message, Service, opened
from nightlab.notify.telling import Ear, Line

__all__ = ["Message", "Notifier", "Service", "open_services", "try_out"]

_HOUR_S = 3600.0
_RESERVED = 2  # of an hour's messages, for what does not wait: a storm, the end
_CLOSE_S = 10.0
_LOOK_S = 0.5


class Notifier:
    """Listens to one session of a lab. Not thread-safe: the loop's thread calls it."""

    def __init__(self, engine: Engine, services: Sequence[Service]) -> None:
        self._wanted = wanted = engine.settings.notify
        self._services = services
        self._engine = engine
        self._ear = Ear(engine.history, wanted.on)
        self._file = engine.paths.notified(engine.study.tag)
        self._kept, self._sent = _told(self._file, engine)
        self._lines = [telling.kept(engine.history, number) for number in self._missed()]
        self._warned: set[str] = set()
        self._look_at = 0.0
        self._began, self._ended = False, False
        now = engine.now()
        self._morning_at = config.until_unix(wanted.morning, now) if wanted.morning else None
        if services:
            engine.listeners.append(self.heard)

    def heard(self, event: AnyEvent) -> None:
        """Take an event that was recorded."""
        self._began = self._began or isinstance(event, SessionStarted)
        self._ended = self._ended or isinstance(event, SessionEnded)
        line = self._ear.line(event)
        if line is not None:
            self._lines.append(line)

    def watch(self) -> None:
        """Send what is due, and warn once of a service that fails."""
        if not self._services or time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + _LOOK_S
        now = self._engine.now()
        if self._morning_at is not None and now >= self._morning_at:
            self._morning_at = config.until_unix(self._wanted.morning, now)
            self._lines += self._summary(locked=True)
        if self._lines and self._may(urgent=any(line.urgent for line in self._lines)):
            self._send()
        self._warn(self._services)

    def _warn(self, services: Sequence[Service]) -> None:
        for service in services:
            if service.trouble and service.variable not in self._warned:
                self._warned.add(service.variable)
                text = f"notifications: {service.trouble}; see: nightlab doctor --notify"
                self._engine.record(Warned(text=text))

    def close(self) -> list[str]:
        """Tell the end; what did not arrive, in words for the person. Waits some seconds."""
        if not self._services:
            return []
        if self._began and not self._ended and "bound" in self._wanted.on:
            self._lines.append(Line("ended", "the lab broke off", urgent=True))
        if self._began and (self._morning_at is None or self._ends_before_morning()):
            self._lines += self._summary(locked=False)
        if self._lines and self._may(urgent=True):
            self._send()
        until = time.monotonic() + _CLOSE_S
        late = [s for s in self._services if not s.close(max(0.0, until - time.monotonic()))]
        with suppress(NightlabError):  # the journal may be what failed
            self._warn(late)
        return [f"the last message did not arrive: {s.trouble or f'${s.variable}'}" for s in late]

    def _ends_before_morning(self) -> bool:
        """Whether no summary was sent in this session."""
        session = self._engine.history.session
        began = session.at if session else self._engine.now()
        return config.until_unix(self._wanted.morning, began) > self._engine.now()

    def _summary(self, *, locked: bool) -> list[Line]:
        history = self._engine.history
        if "morning" not in self._wanted.on or history.baseline is None:
            return []
        try:
            text = report.short(history, locked=locked, now=self._engine.now())
        except Exception as error:  # noqa: BLE001 - a bug in the words must not end a night
            return [Line("morning", f"no summary: {type(error).__name__}", urgent=True)]
        return [Line("morning", line, urgent=True) for line in text.splitlines()]

    def _may(self, *, urgent: bool) -> bool:
        """Whether another message may go now; what is not urgent is also spread over the hour."""
        now, most = self._engine.now(), self._wanted.per_hour
        self._sent = [at for at in self._sent if now - _HOUR_S < at <= now]
        if urgent or not self._sent:
            return len(self._sent) < most
        room = len(self._sent) < max(1, most - _RESERVED)
        return room and now - self._sent[-1] >= _HOUR_S / most

    def _send(self) -> None:
        lines, self._lines = self._lines, []
        self._sent.append(self._engine.now())
        self._kept = {e.number for e in views.keeps(self._engine.history)}
        told = {"kept": sorted(self._kept), "sent": self._sent}
        with suppress(OSError):  # on a full disk a message may come twice
            draft = self._file.with_suffix(".draft")
            draft.write_text(json.dumps(told), encoding="utf-8")
            draft.replace(self._file)
        message = Message(telling.title(self._engine.study.tag, lines), telling.body(lines))
        for service in self._services:
            service.post(message)

    def _missed(self) -> list[int]:
        """Keeps that an earlier session was killed before it could tell them."""
        if "kept" not in self._wanted.on:
            return []
        keeps = views.keeps(self._engine.history)
        return [e.number for e in keeps if e.number not in self._kept]


def _told(file: Path, engine: Engine) -> tuple[set[int], list[float]]:
    """The keeps that were told and when messages went; who never told begins with what is new."""
    try:
        found: Any = json.loads(file.read_text(encoding="utf-8"))
        return {int(n) for n in found["kept"]}, [float(at) for at in found["sent"]]
    except (OSError, ValueError, TypeError, KeyError):
        return {e.number for e in views.keeps(engine.history)}, []


def open_services(wanted: Notify, env: Mapping[str, str] = os.environ) -> list[Service]:
    """Where messages go, none where nobody is to be told. Raises ConfigError."""
    return opened(wanted.to, env) if wanted.on else []


def try_out(
    wanted: Notify, env: Mapping[str, str] = os.environ, *, send: bool
) -> list[tuple[str, str]]:
    """Look at each address, with ``send`` by a message to it: (variable, what is wrong or "")."""
    results = []
    for name in wanted.to:
        try:
            (service,) = opened((name,), env)
        except NightlabError as error:
            results.append((name, f"{error.what}: {error.why}"))
            continue
        wrong = ""
        if send:
            service.post(Message("nightlab: a test", "This is where your lab will write to."))
            if not service.close(_CLOSE_S):
                wrong = service.trouble or f"${name} does not answer"
        results.append((name, wrong))
    return results
