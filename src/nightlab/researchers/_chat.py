"""One call of a model through an OpenAI-compatible endpoint, and what can go wrong with it.

``urllib`` and a thread: no dependency, proxies as the environment says, and a call that can be
left at once, which no client library offers for a blocking read.
"""

from __future__ import annotations

import email.utils
import http.client
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future
from concurrent.futures import wait as wait_for
from dataclasses import dataclass
from typing import Any

from nightlab.errors import ResearcherError
from nightlab.model import Answer, Usage
from nightlab.process import clean
from nightlab.researchers._offline import forbid_real

_MOST_BYTES = 32 << 20
_NO_CREDIT = ("insufficient_quota", "billing", "credit", "payment")


@dataclass(frozen=True)
class Said:
    """What the model answered. ``cut`` says that it had no room left, ``refused`` is its reason."""

    text: str
    usage: Usage
    cut: bool = False
    refused: str | None = None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would take the key somewhere else."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class Chat:
    """``POST <endpoint>/chat/completions``. ``key`` "" sends none."""

    def __init__(self, endpoint: str, model: str, key: str) -> None:
        self._url = f"{endpoint.rstrip('/')}/chat/completions"
        self._model = model
        self._key = key
        self._closed: Future[None] = Future()
        self._opener = urllib.request.build_opener(_NoRedirect)

    def close(self) -> None:
        """Leave the call in flight; the next ones fail."""
        if not self._closed.done():
            self._closed.set_result(None)

    def say(
        self, messages: Sequence[Mapping[str, str]], *, within_s: float, tokens: int | None = None
    ) -> Said:
        """The answer to the messages. ``tokens`` bounds it. Raises ResearcherError, told apart."""
        forbid_real(self._url)
        body: dict[str, Any] = {"model": self._model, "messages": list(messages), "stream": False}
        if tokens is not None:
            # The provider's reasoning models know only the new name, local servers only the old.
            hosted = "//api.openai.com" in self._url
            body["max_completion_tokens" if hosted else "max_tokens"] = tokens
        began = time.monotonic()
        data = self._post(json.dumps(body).encode(), within_s)
        return _read(data, time.monotonic() - began, self._model)

    def _post(self, data: bytes, within_s: float) -> bytes:
        headers = {"Content-Type": "application/json", "User-Agent": "nightlab"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        if not self._url.startswith(("http://", "https://")):
            raise _failed(Answer.FAILED, f"{self._url} is no http address")
        request = urllib.request.Request(self._url, data, headers)  # noqa: S310  checked above
        answer: Future[bytes] = Future()

        def call() -> None:
            try:
                with self._opener.open(request, timeout=within_s) as response:
                    said = response.read(_MOST_BYTES)
                    if response.length:  # a stream that was cut ends like one that was not
                        raise http.client.IncompleteRead(said, response.length)  # noqa: TRY301  caught below
                    answer.set_result(said)
            except Exception as error:  # noqa: BLE001  it crosses to the researcher's thread
                answer.set_exception(error)

        threading.Thread(target=call, name="model call", daemon=True).start()
        either: list[Future[Any]] = [answer, self._closed]
        wait_for(either, timeout=within_s, return_when=FIRST_COMPLETED)
        if not answer.done():
            if self._closed.done():
                raise ResearcherError("the call of the model was left", "the lab ends")
            raise _failed(Answer.HUNG, f"no answer within {within_s:.0f} s")
        try:
            return answer.result()
        except urllib.error.HTTPError as error:
            raise _of_status(error) from error
        except TimeoutError as error:
            raise _failed(Answer.HUNG, f"no answer within {within_s:.0f} s") from error
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "reason", None) or error
            if isinstance(why, TimeoutError):
                raise _failed(Answer.HUNG, f"no answer within {within_s:.0f} s") from error
            raise _failed(
                Answer.UNREACHABLE, f"{self._url}: {why or type(why).__name__}"
            ) from error
        except ValueError as error:
            raise _failed(Answer.FAILED, f"{self._url}: {error}") from error


def _failed(answer: Answer, why: str, retry_after_s: float | None = None) -> ResearcherError:
    what = {
        Answer.HUNG: "the model did not answer in time",
        Answer.UNREACHABLE: "the model can not be reached",
        Answer.RATE_LIMITED: "the model's server limits the rate",
        Answer.OVERLOADED: "the model's server is overloaded",
        Answer.NO_CREDIT: "there is no credit left for the model",
        Answer.NO_AUTH: "the model's server does not accept the key",
        Answer.UNUSABLE: "the model's server answered what can not be read",
    }.get(answer, "the call of the model failed")
    return ResearcherError(
        what,
        " ".join(clean(why).split())[:300],
        "check endpoint, model and key_env under [researcher] in nightlab.toml",
        answer=answer,
        retry_after_s=retry_after_s,
    )


def _of_status(error: urllib.error.HTTPError) -> ResearcherError:
    with error:
        try:
            body = error.read(65536)
        except (OSError, http.client.HTTPException):
            body = b""
    text = body.decode("utf-8", "replace")
    status = error.code
    why = f"HTTP {status}: {_message(text)}"
    if status == 402 or (status in (403, 429) and any(w in text.lower() for w in _NO_CREDIT)):
        return _failed(Answer.NO_CREDIT, why)
    if status in (401, 403):
        return _failed(Answer.NO_AUTH, why)
    if status == 429:
        return _failed(Answer.RATE_LIMITED, why, _retry_after_s(error.headers.get("Retry-After")))
    if status >= 500 or status in (408, 409, 425):
        retry = _retry_after_s(error.headers.get("Retry-After"))
        return _failed(Answer.OVERLOADED, why, retry)
    return _failed(Answer.FAILED, why)


def _message(text: str) -> str:
    try:
        found = json.loads(text)
        error = found.get("error", found) if isinstance(found, dict) else found
        return str(error.get("message", error) if isinstance(error, dict) else error)
    except ValueError:
        return text[:200]


def _retry_after_s(value: str | None) -> float | None:
    """Seconds, from a number or an HTTP date (RFC 9110, 10.2.3)."""
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def _read(data: bytes, seconds: float, model: str) -> Said:
    try:
        found = json.loads(data)
        choice = found["choices"][0]
        message = choice["message"]
        text, refused = message.get("content") or "", message.get("refusal")
        usage = _usage(found.get("usage") or {}, seconds, str(found.get("model") or model))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise _failed(Answer.UNUSABLE, f"{data[:200]!r}") from error
    finish = choice.get("finish_reason")
    if finish == "content_filter" and not refused:
        refused = "its content filter stopped it"
    return Said(str(text), usage, finish == "length", str(refused) if refused else None)


def _usage(table: Mapping[str, Any], seconds: float, model: str) -> Usage:
    cached = table.get("prompt_tokens_details") or {}
    usd = table.get("cost")  # some gateways say it
    return Usage(
        tokens_in=int(table.get("prompt_tokens") or 0),
        tokens_out=int(table.get("completion_tokens") or 0),
        tokens_cached=int(cached.get("cached_tokens") or 0),
        usd=float(usd) if isinstance(usd, (int, float)) else None,
        seconds=round(seconds, 3),
        calls=1,
        model=model[:100],
    )
