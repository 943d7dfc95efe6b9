"""One address that messages go to, through apprise: in a thread of its own, which may hang.

An address is a secret. It is read from the environment, it stays in this module, and what is
said of it is the name of its variable.
"""

from __future__ import annotations

import logging
import threading
import time
import warnings
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nightlab.errors import ConfigError

_MOST_WAITING = 20  # messages; older ones give way
_SILENT_S = 60.0  # apprise gives a connection seconds: longer than this is a server that drips
AGAIN_S = (30.0, 120.0, 600.0)  # after a failure: a router that reconnects at 4 a.m.


@dataclass(frozen=True)
class Message:
    """What is sent: plain text, cleaned and bounded by who wrote it."""

    title: str
    body: str


class Service:
    """An address, under its variable's name. ``post`` never waits; ``trouble``: what is wrong."""

    def __init__(self, variable: str, address: str, *, again_s: Sequence[float] = AGAIN_S) -> None:
        """Raises ConfigError for an address that apprise does not know."""
        self.variable = variable
        self._again_s = again_s
        self._apprise = _opened(variable, address)
        self._waiting: deque[Message] = deque(maxlen=_MOST_WAITING)
        self._changed = threading.Condition()
        self._closing = False
        self._since: float | None = None  # when the delivery under way began
        self._failed = ""
        self._thread: threading.Thread | None = None

    @property
    def trouble(self) -> str:
        """Why messages do not arrive, "" while they do."""
        since = self._since
        if since is not None and time.monotonic() - since > _SILENT_S:
            return f"${self.variable} has not answered for {_SILENT_S:.0f} s"
        return self._failed

    def post(self, message: Message) -> None:
        """Leave a message to be delivered."""
        with self._changed:
            self._waiting.append(message)
            if self._thread is None:
                name = f"notify {self.variable}"
                self._thread = threading.Thread(target=self._work, name=name, daemon=True)
                self._thread.start()
            self._changed.notify()

    def deliver(self, message: Message) -> str:
        """Send now, and wait for it; why it failed, "" when it did not. Never raises."""
        try:
            taken = bool(self._apprise.notify(**_texts(message)))
            why = "did not take the message"
        except Exception as error:  # noqa: BLE001 - a hundred plugins; their texts may hold secrets
            taken, why = False, f"failed with {type(error).__name__}"
        return "" if taken else f"${self.variable} {why}"

    def close(self, timeout_s: float) -> bool:
        """Deliver what waits; whether it was done in time. Nothing is delivered afterwards."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is None:
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive() and not self._failed

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closing:
                    self._changed.wait()
                if not self._waiting:
                    return
                message = self._waiting.popleft()
            self._try(message)

    def _try(self, message: Message) -> None:
        waits = deque(self._again_s)
        while True:
            last = self._closing
            self._since = time.monotonic()
            self._failed = self.deliver(message)
            self._since = None
            if not self._failed or last or not waits:
                return
            with self._changed:  # at the end of the lab there is one more try
                self._changed.wait_for(lambda: self._closing, waits.popleft())


def _texts(message: Message) -> dict[str, str]:
    return {"title": message.title, "body": message.body, "body_format": "text"}


def _opened(variable: str, address: str) -> Any:
    import apprise  # noqa: PLC0415  a tenth of a second, for those who want to be told

    # What apprise logs holds addresses, and without a handler Python prints warnings.
    logger = logging.getLogger("apprise")
    logger.propagate = False
    logger.addHandler(logging.NullHandler())
    asset = apprise.AppriseAsset(
        app_id="nightlab",
        app_desc="nightlab",
        async_mode=False,
        storage_mode="memory",
        service_timeout=0,  # a pool of threads that the process would wait for at its end
        allow_templates=False,
    )
    found = apprise.Apprise(asset=asset)
    with warnings.catch_warnings():  # it loads every plugin, of old friends too
        warnings.simplefilter("ignore")
        known = found.add(address) and len(found) == 1
    if not known:
        scheme, mark, _ = address.partition("://")
        named = mark and scheme.isascii() and scheme.isalnum() and len(scheme) <= 16
        raise ConfigError(
            f"${variable} holds no address that apprise can send to",
            f"it begins with {scheme}://" if named else "it is not like scheme://host/token",
            f"nightlab doctor --notify  (after: export {variable}='ntfy://ntfy.sh/a-topic')",
        )
    return found


def opened(
    variables: Sequence[str], env: Mapping[str, str], *, again_s: Sequence[float] = AGAIN_S
) -> list[Service]:
    """The services that variables of ``env`` name. Raises ConfigError where one does not."""
    found = []
    for name in variables:
        if not env.get(name, "").strip():
            raise ConfigError(
                f"${name} is not set, and [notify] to names it",
                "messages would go nowhere",
                f"export {name}='ntfy://ntfy.sh/a-topic', or take it out of [notify] to",
            )
        found.append(Service(name, env[name].strip(), again_s=again_s))
    return found
