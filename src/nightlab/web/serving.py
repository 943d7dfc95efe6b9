"""The server itself: an address, a token, and an end without waiting."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import uvicorn

from nightlab.errors import NightlabError
from nightlab.web.app import build
from nightlab.web.guard import Keys
from nightlab.web.hub import Hub

PORT = 8737
_SEND_BYTES = 131_072


@dataclass(frozen=True)
class Address:
    """Where it listens. ``url`` holds the token: whoever has it may read and ask."""

    host: str
    port: int
    token: str

    @property
    def base(self) -> str:
        host = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(self.host)  # noqa: S104
        shown = host or (f"[{self.host}]" if ":" in self.host else self.host)
        return f"http://{shown}:{self.port}/"

    @property
    def url(self) -> str:
        return f"{self.base}login?token={self.token}"


class _Server(uvicorn.Server):
    """Ends its streams with the first signal, so that nothing is waited for."""

    def __init__(self, config: uvicorn.Config, hub: Hub) -> None:
        super().__init__(config)
        self._hub = hub

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self._hub.closing = True  # a signal's handler may do no more; on_tick wakes the streams

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._hub.close()
        await super().shutdown(sockets)


def listen(host: str, port: int | None) -> socket.socket:
    """A socket that listens: on ``port``, or on the usual one, or where that is taken any.

    Raises NightlabError where the address cannot be had.
    """
    wanted = [PORT, 0] if port is None else [port]
    for number in wanted:
        try:
            return _bound(host, number)
        except OSError as error:
            if number == wanted[-1]:
                raise NightlabError(
                    f"cannot listen on {host}, port {number}",
                    error.strerror or str(error),
                    "nightlab ui --port 0  (takes any that is free)",
                ) from error
    raise NightlabError(f"cannot listen on {host}")


def _bound(host: str, port: int) -> socket.socket:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, address = found[0]
    sock = socket.create_server(address[:2], family=family, backlog=128)
    # What the kernel may hold for a page that does not read; by itself it goes up to megabytes.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BYTES)
    return sock


def serve(
    roots: Sequence[Path], host: str, port: int | None, ready: Callable[[Address], None]
) -> None:
    """Serve until a signal. ``ready`` is told the address once it listens."""
    sock = listen(host, port)
    address = Address(host, sock.getsockname()[1], secrets.token_urlsafe(24))
    hub = Hub(roots)
    config = uvicorn.Config(
        build(hub, Keys(address.token), host),
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="on",
        ws="none",
        http="h11",
        loop="asyncio",
        limit_concurrency=256,
        timeout_graceful_shutdown=1,
    )
    ready(address)
    try:
        _Server(config, hub).run(sockets=[sock])
    except KeyboardInterrupt:
        pass  # the ordinary end
    finally:
        sock.close()
