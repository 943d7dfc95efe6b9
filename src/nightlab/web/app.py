"""The routes. Each handler reads its parameters, and hands over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from nightlab import __version__
from nightlab.errors import NightlabError
from nightlab.process import clean
from nightlab.web import asking, reading, stream
from nightlab.web.answers import Refused, answer, refusal
from nightlab.web.following import Followed
from nightlab.web.guard import MOST_BODY_BYTES, Guard, Keys
from nightlab.web.hub import Hub

_HERE = Path(__file__).parent
_MOST_STREAMS = 64


def build(hub: Hub, keys: Keys, host: str) -> Starlette:
    """The application; it follows the studies of ``hub`` while it serves."""

    @asynccontextmanager
    async def life(_app: Starlette) -> AsyncIterator[None]:
        following = asyncio.create_task(hub.follow())
        yield
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following

    pages = Pages(hub, keys)
    static = GZipMiddleware(StaticFiles(directory=_HERE / "static", check_dir=False))
    return Starlette(
        routes=[
            Route("/", pages.index),
            Route("/login", pages.login),
            Route("/api/session", pages.session),
            Route("/api/studies", pages.studies),
            Route("/api/stream", pages.stream),
            *pages.routes(),
            Mount("/static", static),
        ],
        middleware=[Middleware(Guard, keys=keys, host=host)],
        exception_handlers={
            Refused: _refused,
            NightlabError: _refused,
            HTTPException: _http,
        },
        lifespan=life,
    )


class Pages:
    """The handlers."""

    def __init__(self, hub: Hub, keys: Keys) -> None:
        self._hub, self._keys = hub, keys
        self._streams = 0

    def routes(self) -> list[Route]:
        """Those of one study."""
        base = "/api/studies/{project:int}/{tag}"
        simple: dict[str, Callable[[Followed], Any]] = {
            "status": Followed.status,
            "live": Followed.live,
            "backlog": reading.backlog,
            "scratchpad": reading.memory,
            "program": reading.program,
            "costs": reading.spent,
        }
        asked = "notes", "ideas", "pause", "resume", "stop"
        return [
            *(Route(f"{base}/{name}", self._simple(make)) for name, make in simple.items()),
            Route(f"{base}/rows", self.rows),
            Route(f"{base}/experiments/{{number:int}}", self.experiment),
            Route(f"{base}/experiments/{{number:int}}/diff", self.diff),
            Route(f"{base}/runs/{{run:int}}/log", self.log),
            *(Route(f"{base}/{name}", self._asked(name), methods=["POST"]) for name in asked),
            Route(f"{base}/ideas/{{idea:int}}", self._asked("ideas"), methods=["POST"]),
        ]

    async def index(self, _request: Request) -> Response:
        return FileResponse(_HERE / "templates" / "index.html", media_type="text/html")

    async def login(self, request: Request) -> Response:
        token = request.query_params.get("token", "")
        if not self._keys.opens(token):
            return refusal(403, "this link is not of this server", "a new start has a new link")
        # The page itself needs no login, so it does not matter that a browser that comes from
        # elsewhere sends no strict cookie along with this redirect.
        moved = RedirectResponse("/", 303)
        moved.set_cookie(self._keys.cookie, token, httponly=True, samesite="strict")
        return moved

    async def session(self, request: Request) -> Response:
        return await answer(
            request,
            lambda: {
                "csrf": self._keys.csrf,
                "version": __version__,
                "now": time.time(),
                "projects": self._hub.projects(),
            },
        )

    async def studies(self, request: Request) -> Response:
        return await answer(
            request,
            lambda: {
                "now": time.time(),
                "projects": self._hub.projects(),
                "studies": self._hub.listed(),
            },
        )

    async def stream(self, request: Request) -> Response:
        at = stream.positions(
            request.query_params.getlist("study"), request.headers.get("last-event-id", "")
        )
        if self._streams >= _MOST_STREAMS:
            return refusal(503, "too many pages are open", f"at most {_MOST_STREAMS}")

        async def counted() -> AsyncIterator[bytes]:
            self._streams += 1
            try:
                async for piece in stream.told(self._hub, at):
                    yield piece
            finally:
                self._streams -= 1

        return StreamingResponse(counted(), media_type="text/event-stream")

    def _study(self, request: Request) -> Followed:
        name = f"{request.path_params['project']}/{request.path_params['tag']}"
        study = self._hub.studies.get(name)
        if study is None:
            raise Refused(404, "there is no such study", "", "nightlab status")
        return study

    def _simple(self, make: Callable[[Followed], Any]) -> Callable[[Request], Any]:
        async def handler(request: Request) -> Response:
            study = self._study(request)
            return await answer(request, lambda: make(study))

        return handler

    async def rows(self, request: Request) -> Response:
        study, epoch = self._study(request), request.query_params.get("epoch", "")
        since = _number(request, "since", 0)
        return await answer(request, lambda: study.rows(epoch, since or 0))

    async def experiment(self, request: Request) -> Response:
        study, number = self._study(request), request.path_params["number"]
        return await answer(request, lambda: reading.experiment(study, number))

    async def diff(self, request: Request) -> Response:
        study, number = self._study(request), request.path_params["number"]
        return await answer(request, lambda: reading.diff(study, number))

    async def log(self, request: Request) -> Response:
        study, run = self._study(request), request.path_params["run"]
        start = _number(request, "from", None)
        most = _number(request, "bytes", reading.LOG_BYTES) or reading.LOG_BYTES
        return await answer(request, lambda: reading.log(study, run, start, most))

    def _asked(self, what: str) -> Callable[[Request], Any]:
        async def handler(request: Request) -> Response:
            study = self._study(request)
            body = b""
            async for piece in request.stream():  # a length need not be told beforehand
                body += piece
                if len(body) > MOST_BODY_BYTES:
                    return refusal(413, "that is too much", f"at most {MOST_BODY_BYTES} bytes")
            wish = asking.message(what, body, request.path_params.get("idea"))
            sent = await answer(request, lambda: asking.send(study, wish), 202)
            self._hub.hurry()
            return sent

        return handler


def _number(request: Request, name: str, default: int | None) -> int | None:
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise Refused(422, f"{name} is a whole number", "", "docs/ui.md")
    return int(text)


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, NightlabError)  # noqa: S101  for the type checker
    what, why, hint = (clean(line) for line in error.lines())
    return refusal(error.status if isinstance(error, Refused) else 409, what, why, hint)


async def _http(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  for the type checker
    return refusal(error.status_code, error.detail)
