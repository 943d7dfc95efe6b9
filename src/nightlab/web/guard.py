"""What stands before every request: who may ask, from where, and what pages may do.

- A token, always: on 127.0.0.1, too, since the machine may have other users, and who may
  leave a note steers a program that writes code. Compared in constant time; as a cookie
  (HttpOnly, SameSite=Strict) after the link that was printed, or as a bearer's.
- The Host header must be this server's: a name that somebody points at 127.0.0.1 is not.
- A request that a browser makes for another site's page is refused, and whatever changes
  something needs a header with a second token, which only this server's page can read.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import socket
import sys
import traceback
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nightlab.process import clean
from nightlab.web.answers import refusal

MOST_BODY_BYTES = 65536
_HOST = re.compile(r"(\[(?P<six>[0-9a-f:.]+)\]|(?P<name>[^:\[\]]+))(:[0-9]{1,5})?")
_LOCAL = ("localhost", "127.0.0.1", "::1")
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


class Keys:
    """The token, and what is made of it."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.csrf = self._derived("csrf")
        self.cookie = f"nightlab-{self._derived('name')[:12]}"  # cookies know no ports

    def _derived(self, use: str) -> str:
        return hmac.new(self.token.encode(), use.encode(), hashlib.sha256).hexdigest()

    def opens(self, given: str) -> bool:
        """Whether this is the token."""
        return _same(given, self.token)


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())


class Guard:
    """ASGI middleware; ``host`` is the address that the server was told to listen on."""

    def __init__(self, app: ASGIApp, keys: Keys, host: str) -> None:
        self._app, self._keys = app, keys
        self._names = {*_LOCAL, host.lower()}
        self._anywhere = host not in _LOCAL
        if self._anywhere:
            self._names |= {socket.gethostname().lower(), socket.getfqdn().lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = Headers(scope=scope)
        api = scope["path"].startswith("/api/")

        begun = False

        async def guarded(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                out = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    out[name] = value
                # The page of another version of nightlab must not stay in a browser.
                out["cache-control"] = "no-store" if api else "no-cache"
            await send(message)

        denied = self._denied(headers, scope["method"], api=api)
        if denied is not None:
            await refusal(*denied)(scope, receive, guarded)
            return
        try:
            await self._app(scope, receive, guarded)
        except Exception as error:  # noqa: BLE001  the person at the terminal sees it, no page does
            sys.stderr.write(clean("".join(traceback.format_exception(error))))
            if not begun:
                failed = refusal(500, "the server failed", "its terminal says how")
                await failed(scope, receive, guarded)

    def _denied(self, headers: Headers, method: str, *, api: bool) -> tuple[int, str, str] | None:
        """(HTTP status, what, why) of a request that goes no further; None of one that may."""
        if len(headers.getlist("host")) != 1 or not self._is_ours(headers["host"]):
            return 421, "this is not the address of this dashboard", "its Host header is another's"
        if not api:
            return None if method in ("GET", "HEAD") else (405, "only to be read", "")
        if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            return 403, "asked for by another site's page", ""
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != headers["host"]:
            return 403, "asked for by another site's page", ""
        bearer = self._bearer(headers)
        if not bearer and not self._keys.opens(self._cookie(headers)):
            return (
                401,
                "this dashboard does not know you",
                "open the link that `nightlab ui` printed; a new start has a new one",
            )
        return None if method in ("GET", "HEAD") else self._may_ask(headers, bearer=bearer)

    def _may_ask(self, headers: Headers, *, bearer: bool) -> tuple[int, str, str] | None:
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            return 415, "what is asked for must be JSON", "content-type: application/json"
        if not bearer and not _same(headers.get("x-nightlab-csrf", ""), self._keys.csrf):
            return 403, "the page's own token is missing", "reload the page"
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit() or int(length) > MOST_BODY_BYTES:
            return 413, "that is too much", f"at most {MOST_BODY_BYTES} bytes"
        return None

    def _bearer(self, headers: Headers) -> bool:
        kind, _, token = headers.get("authorization", "").partition(" ")
        return kind.lower() == "bearer" and self._keys.opens(token.strip())

    def _cookie(self, headers: Headers) -> str:
        try:
            found = SimpleCookie(headers.get("cookie", "")).get(self._keys.cookie)
        except CookieError:
            return ""
        return found.value if found else ""

    def _is_ours(self, host: str) -> bool:
        """A name that we know; bound elsewhere also any address, which no DNS can forge."""
        match = _HOST.fullmatch(host.lower())
        if match is None:
            return False
        name = match["six"] or match["name"]
        if name.rstrip(".") in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return self._anywhere
