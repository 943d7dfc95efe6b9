"""JSON over HTTP, compressed where it is worth it, and failures in three lines."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from nightlab.errors import NightlabError

_WORTH_BYTES = 1400
_encoder = msgspec.json.Encoder()


def encode(value: Any) -> bytes:
    """JSON; what is no text (a lone surrogate) is replaced, NaN is null."""
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError:
        return _encoder.encode(_mended(value))


def _mended(value: Any) -> Any:
    match value:
        case str():
            return value.encode("utf-8", "replace").decode("utf-8")
        case dict():
            return {_mended(k): _mended(v) for k, v in value.items()}
        case list() | tuple():
            return [_mended(v) for v in value]
        case _:
            return value


async def answer(request: Request, make: Callable[[], Any], status: int = 200) -> Response:
    """What ``make`` returns, made and encoded in a thread: the streams go on meanwhile."""
    zipped = "gzip" in request.headers.get("accept-encoding", "")

    def work() -> tuple[bytes, bool]:
        body = encode(make())
        if zipped and len(body) >= _WORTH_BYTES:
            return gzip.compress(body, 5, mtime=0), True
        return body, False

    body, packed = await asyncio.to_thread(work)
    headers = {"content-encoding": "gzip"} if packed else {}
    headers["vary"] = "accept-encoding"
    return Response(body, status, headers, media_type="application/json")


def refusal(status: int, what: str, why: str = "", hint: str = "nightlab ui") -> Response:
    """A failure that is the asker's to know of."""
    body = encode({"error": {"what": what, "why": why, "hint": hint}})
    return Response(body, status, media_type="application/json")


class Refused(NightlabError):  # noqa: N818  an answer, as the others are
    """An answer other than 200; ``status`` is its HTTP number."""

    def __init__(self, status: int, what: str, why: str = "", hint: str = "nightlab ui") -> None:
        super().__init__(what, why, hint)
        self.status = status
