"""HTTP/1.1 on loopback: a thread a connection, bodies bounded, closed at once."""

from __future__ import annotations

import contextlib
import gzip
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from nightlab.testing.model_server._delivery import Line

BODY_BYTES_MAX = 64 << 20
# (the connection, method, path, headers in lower case, body)
Serve = Callable[[Line, str, str, Mapping[str, str], bytes], None]


class Http(ThreadingHTTPServer):
    """Joins its threads when it closes; knows its connections, so that it can end them."""

    daemon_threads = False
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._open: set[socket.socket] = set()
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def end_connections(self) -> None:
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


def handler_for(serve: Serve, closing: threading.Event) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_: object) -> None:
            pass

        def _serve(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            raw = _read(self, headers)
            line = Line(self, closing)
            if raw is None:
                self.close_connection = True
                line.reply(400, {"error": {"message": "the body cannot be read"}})
            else:
                serve(line, self.command, self.path, headers, raw)

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815  http.server's names

    return Handler


def _read(handler: BaseHTTPRequestHandler, headers: Mapping[str, str]) -> bytes | None:
    """The request's body, or None where it is too large or not what its headers say."""
    try:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            raw = b"".join(_pieces(handler))
        else:
            length = int(headers.get("content-length") or 0)
            if not 0 <= length <= BODY_BYTES_MAX:
                return None
            raw = handler.rfile.read(length)
        return gzip.decompress(raw) if headers.get("content-encoding") == "gzip" else raw
    except (ValueError, gzip.BadGzipFile, EOFError):
        return None


def _pieces(handler: BaseHTTPRequestHandler) -> list[bytes]:
    pieces: list[bytes] = []
    total = 0
    while size := int(handler.rfile.readline(64).split(b";")[0], 16):
        total += size
        if size < 0 or total > BODY_BYTES_MAX:
            raise ValueError("too large")
        pieces.append(handler.rfile.read(size))
        handler.rfile.readline(64)
    while handler.rfile.readline(1024).strip():
        pass  # trailers
    return pieces
