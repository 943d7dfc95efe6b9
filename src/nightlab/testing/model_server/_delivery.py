"""Putting an answer on the wire: whole, streamed, cut, stalled, or not at all."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler

from nightlab.testing.model_server._wire import Json

POLL_S = 0.05


class Line:
    """One request's connection. Every wait on it ends when the server closes."""

    def __init__(self, handler: BaseHTTPRequestHandler, closing: threading.Event) -> None:
        self._handler = handler
        self._closing = closing

    def wait(self, seconds: float) -> bool:
        """Wait so long. False at once when the client has gone or the server closes."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self._closing.wait(min(POLL_S, left)) or self._gone():
                return False
        return True

    def reply(self, status: int, body: Json, headers: Mapping[str, str] | None = None) -> None:
        """A whole JSON answer."""
        data = json.dumps(body).encode()
        handler = self._handler
        handler.send_response(status)
        handler.send_header("content-type", "application/json")
        handler.send_header("content-length", str(len(data)))
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(data)
            handler.wfile.flush()

    def stream(
        self, frames: Sequence[bytes], *, share: float | None = None, silent_s: float = 0.0
    ) -> None:
        """Server-sent events. With ``share`` only so much of them, silence, then a drop."""
        handler = self._handler
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream")
        handler.send_header("cache-control", "no-cache")
        handler.send_header("transfer-encoding", "chunked")
        handler.end_headers()
        sent = frames if share is None else frames[: int(len(frames) * share)]
        for frame in sent:
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(frame), frame))
            handler.wfile.flush()
        if share is not None:
            self.wait(silent_s)
            self.drop()
            return
        handler.wfile.write(b"0\r\n\r\n")
        handler.wfile.flush()

    def torn(self, body: Json, share: float, silent_s: float) -> None:
        """A whole answer of which only a share comes, under a length that promises all."""
        data = json.dumps(body).encode()
        handler = self._handler
        handler.send_response(200)
        handler.send_header("content-type", "application/json")
        handler.send_header("content-length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data[: int(len(data) * share)])
        handler.wfile.flush()
        self.wait(silent_s)
        self.drop()

    def drop(self) -> None:
        """Close the connection now."""
        self._handler.close_connection = True
        with contextlib.suppress(OSError):
            self._handler.connection.shutdown(socket.SHUT_RDWR)

    def _gone(self) -> bool:
        try:
            flags = socket.MSG_PEEK | socket.MSG_DONTWAIT
            return not self._handler.connection.recv(1, flags)
        except BlockingIOError:
            return False
        except OSError:
            return True
