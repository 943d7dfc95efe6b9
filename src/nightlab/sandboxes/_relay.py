"""The outside end of a box's only way out: connects to what is allowed, refuses the rest.

A box with endpoints has no network either. Its first step (``_gate``) listens on the box's own
loopback and hands those sockets over; threads here accept on them. A port that stands for
an endpoint on this machine's loopback is passed straight through; one more port is an HTTP
proxy (CONNECT, and plain requests) for endpoints elsewhere, whose names are resolved here.
"""

from __future__ import annotations

import contextlib
import functools
import re
import socket
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from nightlab.errors import SandboxError
from nightlab.sandboxes import Endpoint

_CONNECT_S = 30.0
_HEAD_BYTES = 64 * 1024
_PART_BYTES = 64 * 1024
_MOST_CONNECTIONS = 128
_PROXY_PORT = 3128
_LEAST_PORT = 1024  # below, a box without capabilities cannot listen
_MOST_NAMES = 100
NO_PROXY = "localhost,127.0.0.1,::1"


@functools.cache
def gate_source() -> str:
    """The program for the inside end."""
    return Path(__file__).with_name("_gate.py").read_text("utf-8")


def proxy_environment(port: int | None) -> dict[str, str]:
    """What makes HTTP clients go by the proxy on this port of loopback; None: there is none."""
    if port is None:
        return {}
    url = f"http://127.0.0.1:{port}"
    names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    env = {name: url for upper in names for name in (upper, upper.lower())}
    return env | {"NO_PROXY": NO_PROXY, "no_proxy": NO_PROXY, "NODE_USE_ENV_PROXY": "1"}


class Relay:
    """Everything that one box may reach. ``close`` ends every connection.

    ``ready`` once the box has handed its sockets over. ``ports`` are those the inside listens
    on; ``env`` belongs into the box.
    """

    def __init__(self, endpoints: tuple[Endpoint, ...]) -> None:
        self.ready = False
        self._allowed = {(e.host.lower(), e.port) for e in endpoints}
        self._direct = {e.port: (e.host, e.port) for e in endpoints if e.is_local}
        for port in self._direct:
            if port < _LEAST_PORT:
                raise SandboxError(
                    f"an agent in a box cannot reach port {port} of this machine",
                    "nothing in a box may listen below 1024",
                    "let the model server listen on another port",
                )
        self.proxy_port: int | None = None
        if any(not e.is_local for e in endpoints):
            free = (p for p in range(_PROXY_PORT, 65536) if p not in self._direct)
            self.proxy_port = next(free)
        self.ports = (*self._direct, *((self.proxy_port,) if self.proxy_port else ()))
        self.env = proxy_environment(self.proxy_port)
        self._refused: Counter[str] = Counter()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._closed = False

    def refused(self) -> dict[str, int]:
        """What was asked for and not allowed, ``host:port`` -> how often.

        Only what came through the proxy: a connection to anywhere else fails in the box.
        """
        with self._lock:
            return dict(self._refused)

    def inherited(self) -> socket.socket:
        """A socket for the box to inherit, already waited on at this end."""
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._keep(here)
        self._thread(self._take, here)
        return there

    def named(self, path: Path) -> None:
        """Wait for the box at a local socket with a path. Raises SandboxError."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._keep(listener)
        try:
            listener.bind(str(path))
            path.chmod(0o666)  # the box has a user id of its own; the folder is its alone
            listener.listen(1)
        except OSError as error:
            raise SandboxError("a local socket cannot be made", f"{path}: {error}") from error
        self._thread(self._take_first, listener)

    def proxy_here(self) -> int:
        """Listen as the proxy on a free port of this machine's own loopback: the port."""
        listener = socket.create_server(("127.0.0.1", 0))
        self._serve(listener, self._proxy)
        self.ready = True
        return int(listener.getsockname()[1])

    def close(self) -> None:
        """End every connection. Idempotent."""
        with self._lock:
            self._closed = True
            sockets, self._open = self._open, set()
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits on it
            one.close()

    def _keep(self, one: socket.socket) -> None:
        with self._lock:
            if not self._closed:
                self._open.add(one)
                return
        one.close()

    def _drop(self, one: socket.socket) -> None:
        with self._lock:
            self._open.discard(one)
        one.close()

    @staticmethod
    def _thread(work: Callable[..., None], *words: object) -> threading.Thread:
        thread = threading.Thread(target=work, args=words, name="relay", daemon=True)
        thread.start()
        return thread

    def _take_first(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            way, _ = listener.accept()
            self._keep(way)
            self._take(way)
        self._drop(listener)

    def _take(self, way: socket.socket) -> None:
        """Receive the box's listening sockets and serve them."""
        with contextlib.suppress(OSError, ValueError):
            told, numbers, _, _ = socket.recv_fds(way, 4096, 64, socket.MSG_CMSG_CLOEXEC)
            ports = [int(port) for port in told.decode("ascii").split(",") if port]
            for port, number in zip(ports, numbers, strict=True):
                listener = socket.socket(fileno=number)
                if port == self.proxy_port:
                    self._serve(listener, self._proxy)
                else:
                    self._serve(listener, functools.partial(self._pass, self._direct[port]))
            if numbers:
                self.ready = True
                way.sendall(b"!")
        self._drop(way)

    def _serve(self, listener: socket.socket, answer: Callable[[socket.socket], None]) -> None:
        self._keep(listener)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    with self._lock:
                        busy = len(self._open) > 2 * _MOST_CONNECTIONS
                    if busy:
                        client.close()
                        continue
                    self._keep(client)
                    self._thread(self._answer, answer, client)
            self._drop(listener)

        self._thread(accept)

    def _answer(self, answer: Callable[[socket.socket], None], client: socket.socket) -> None:
        try:
            with contextlib.suppress(OSError, ValueError):
                answer(client)
        finally:
            self._drop(client)

    def _pass(self, where: tuple[str, int], client: socket.socket) -> None:
        self._join(client, socket.create_connection(where, _CONNECT_S))

    def _join(
        self, client: socket.socket, server: socket.socket, *, hello: bytes = b"", ask: bytes = b""
    ) -> None:
        """Both ways, byte for byte and at once, until both sides have ended."""
        self._keep(server)
        try:
            for one in (server, client):
                one.settimeout(None)
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.sendall(hello)
            server.sendall(ask)
            back = self._thread(_pump, server, client)
            _pump(client, server)
            back.join()
        finally:
            self._drop(server)

    def _proxy(self, client: socket.socket) -> None:
        """One request to the proxy: CONNECT host:port, or a whole URL."""
        client.settimeout(_CONNECT_S)
        head, rest = _head(client)
        line, _, headers = head.partition(b"\r\n")
        method, target, _version = line.decode("latin-1").split(" ")
        tunnel = method == "CONNECT"
        place = urlsplit(f"//{target}" if tunnel else target)
        host, port = (place.hostname or "").lower(), place.port or 80
        if (host, port) not in self._allowed or not (tunnel or place.scheme == "http"):
            self._refuse(client, f"{host}:{port}")
            return
        try:
            server = socket.create_connection((host, port), _CONNECT_S)
        except OSError as error:
            _say(client, "502 Bad Gateway", f"nightlab: {host}:{port}: {error}")
            return
        if tunnel:
            self._join(
                client, server, hello=b"HTTP/1.1 200 Connection established\r\n\r\n", ask=rest
            )
            return
        path = place._replace(scheme="", netloc="").geturl() or "/"
        kept = [h for h in headers.split(b"\r\n") if not re.match(rb"(?i)(proxy-)?connection:", h)]
        # One request a connection: the next could be for another host.
        plain = [f"{method} {path} HTTP/1.1".encode("latin-1"), b"Connection: close", *kept]
        self._join(client, server, ask=b"\r\n".join(plain) + b"\r\n\r\n" + rest)

    def _refuse(self, client: socket.socket, name: str) -> None:
        with self._lock:
            known = name in self._refused or len(self._refused) < _MOST_NAMES
            self._refused[name[:256] if known else "…"] += 1
        _say(client, "403 Forbidden", f"nightlab: this box may not reach {name[:256]}")


def _head(client: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        part = client.recv(_PART_BYTES)
        if not part or len(data) > _HEAD_BYTES:
            raise ValueError("no request")
        data += part
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest


def _say(client: socket.socket, status: str, text: str) -> None:
    body = text.encode("utf-8", "replace") + b"\n"
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    client.sendall(head.encode() + body)


def _pump(source: socket.socket, target: socket.socket) -> None:
    """Hand on until the source ends, then say so to the target."""
    with contextlib.suppress(OSError):
        while data := source.recv(_PART_BYTES):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
