"""The scripted model server: HTTP on loopback, a thread a connection, closed at once."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from nightlab.testing.model_server._answers import answer_to, played
from nightlab.testing.model_server._anthropic import Anthropic
from nightlab.testing.model_server._chat import Chat
from nightlab.testing.model_server._conversations import Conversations, prompt_of
from nightlab.testing.model_server._delivery import Line
from nightlab.testing.model_server._gemini import Gemini
from nightlab.testing.model_server._http import Http, handler_for
from nightlab.testing.model_server._responses import Responses
from nightlab.testing.model_server._tools import sample
from nightlab.testing.model_server._wire import Answer, Asked, Json, Usage, Wire, rough_tokens
from nightlab.testing.model_server.scenarios import Scenario, Step, load

HOST = "127.0.0.1"
ENDPOINTS: dict[str, Wire] = {
    "/messages": Anthropic(),
    "/chat/completions": Chat(),
    "/responses": Responses(),
}
GEMINI = Gemini()
BODIES_MAX = 500
SEARCH_AGAIN_S = 0.25
CUT = ("cut", "stall")
GEMINI_PATH = re.compile(r"/models/([^/:]+):(\w+)$")
MESSAGES = {
    400: "the request is not valid",
    401: "the key is not valid",
    429: "too many requests",
    529: "overloaded",
}


@dataclass(frozen=True)
class Request:
    """One request that the server saw. The log holds all of it but the body.

    ``kind``: answer, failure, side (offers no tools, takes no turn), count, models, other.
    ``prompt_tokens`` are the whole body's, ``asked_tokens`` those of the person's text since
    the model last spoke: four characters a token. ``tokens_in`` and ``tokens_out`` are what the
    answer says that it costs (a cut one as far as it came), else 0. No key is kept, only
    whether there was one, and of the bodies only the newest 500.
    """

    number: int
    at_s: float
    method: str
    path: str
    kind: str
    protocol: str | None = None
    conversation: int | None = None
    turn: int | None = None
    slot: int | None = None
    attempt: int | None = None
    played: str = ""
    prompt_tokens: int = 0
    asked_tokens: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    tools: tuple[str, ...] = ()
    user_agent: str = ""
    with_key: bool = False
    body: Json = field(default_factory=dict, repr=False)

    def line(self) -> str:
        """The request as a line of the log."""
        names = [each.name for each in fields(self) if each.name != "body"]
        return json.dumps({name: getattr(self, name) for name in names})


class ModelServer:
    """A model on loopback that does what a scenario says, in four wire protocols.

    ``with ModelServer(scenario) as server:`` then ``server.url`` for Anthropic and Gemini
    clients, ``server.url + "/v1"`` for OpenAI's. ``tools_required=False`` lets requests that
    offer no tools take turns too: for clients that never offer any (aider, plain model
    calls). With ``log`` each request is appended there as a line of JSON.

    Raises OSError when the port is taken, ConfigError for a scenario file that is wrong.
    """

    def __init__(
        self,
        scenario: Scenario | Path,
        *,
        port: int = 0,
        log: Path | None = None,
        tools_required: bool = True,
    ) -> None:
        self.scenario = load(scenario) if isinstance(scenario, Path) else scenario
        self.tools_required = tools_required
        self._log = log
        self._conversations = Conversations(self.scenario)
        self._lock = threading.Lock()
        self._requests: list[Request] = []
        self._began_s = time.monotonic()
        self._closing = threading.Event()
        self._http = Http((HOST, port), handler_for(self._serve, self._closing))
        self.port: int = self._http.server_address[1]
        self.url = f"http://{HOST}:{self.port}"
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, name="model-server"
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every connection and thread, also hung ones. Safe to repeat."""
        self._closing.set()
        if self._thread.is_alive():
            self._http.shutdown()
            self._thread.join()
        self._http.end_connections()
        self._http.server_close()

    @property
    def requests(self) -> list[Request]:
        """What was asked until now, in the order of arrival."""
        with self._lock:
            return list(self._requests)

    @property
    def spent(self) -> bool:
        """Is every turn of the scenario taken? A test that expects all of it asks this."""
        return self._conversations.spent

    def _serve(
        self, line: Line, method: str, path: str, headers: Mapping[str, str], raw: bytes
    ) -> None:
        path = path.partition("?")[0].rstrip("/")
        about: dict[str, Any] = {
            "method": method,
            "path": path,
            "prompt_tokens": rough_tokens(len(raw)),
            "user_agent": headers.get("user-agent", ""),
            "with_key": any(
                name in headers for name in ("authorization", "x-api-key", "x-goog-api-key")
            ),
        }
        try:
            body = json.loads(raw or b"{}")
        except ValueError:
            body = None
        wire, operation, model = _route(path)
        if wire is None or method != "POST":
            self._plain(line, about)
        elif not isinstance(body, dict):
            self._note(kind="other", protocol=wire.name, **about)
            line.reply(400, wire.error(400, "the body is not a JSON object", None))
        elif operation in ("count_tokens", "countTokens"):
            self._note(kind="count", protocol=wire.name, body=body, **about)
            tokens = about["prompt_tokens"]
            line.reply(
                200, {"input_tokens": tokens} if wire is not GEMINI else {"totalTokens": tokens}
            )
        else:
            if wire is GEMINI:
                body |= {"model": model, "stream": operation == "streamGenerateContent"}
            self._model(line, wire, wire.read(body), about | {"body": body})

    def _plain(self, line: Line, about: Mapping[str, Any]) -> None:
        if about["path"].endswith("/models") and about["method"] == "GET":
            self._note(kind="models", **about)
            entry = {"id": "scripted", "type": "model", "object": "model", "created": 0}
            line.reply(200, {"object": "list", "has_more": False, "data": [entry], "models": []})
            return
        self._note(kind="other", **about)
        if about["path"] == "" and about["method"] in ("GET", "HEAD"):
            line.reply(200, {})
        else:
            line.reply(404, {"error": {"message": "not served", "type": "not_found_error"}})

    def _model(self, line: Line, wire: Wire, asked: Asked, about: Mapping[str, Any]) -> None:
        if self.tools_required and not asked.tools:
            text = "A side request." if asked.schema is None else json.dumps(sample(asked.schema))
            self._note(kind="side", protocol=wire.name, **about)
            self._deliver(line, wire, asked, Answer("side", asked.model, text, (), Usage(0, 0)))
            return
        due = self._conversations.due(asked)
        answer = answer_to(due, asked, self.scenario.final, about["prompt_tokens"])
        told = answer.usage if due.failure is None or due.failure.does in CUT else Usage(0, 0)
        self._note(
            kind="answer" if due.failure is None else "failure",
            protocol=wire.name,
            conversation=due.conversation,
            turn=due.turn,
            slot=due.slot,
            attempt=due.attempt,
            played=played(due),
            asked_tokens=rough_tokens(len(prompt_of(asked))),
            tokens_in=told.prompt,
            tokens_out=told.output,
            tools=tuple(tool.name for tool in asked.tools),
            **about,
        )
        delay_s = (due.failure or (due.answer[0] if due.answer else Step("say"))).delay_s
        if due.search and due.attempt > 1:
            delay_s = SEARCH_AGAIN_S
        if line.wait(delay_s):
            self._deliver(line, wire, asked, answer, due.failure)

    def _deliver(
        self, line: Line, wire: Wire, asked: Asked, answer: Answer, failure: Step | None = None
    ) -> None:
        if failure is None:
            if asked.stream:
                line.stream(wire.frames(answer))
            else:
                line.reply(200, wire.whole(answer))
            return
        options = failure.options
        if failure.does == "status":
            status = int(failure.value)
            message = options.get("message", MESSAGES.get(status, f"scripted error {status}"))
            wait = options.get("retry_after")
            headers = {} if wait is None else {"retry-after": f"{wait:g}"}
            line.reply(status, wire.error(status, message, options.get("code")), headers)
        elif failure.does == "reset":
            line.drop()
        elif failure.does == "hang":
            line.wait(options["seconds"])
            line.drop()
        elif asked.stream:
            silent_s = options.get("seconds", 0.0)
            line.stream(wire.frames(answer), share=failure.value, silent_s=silent_s)
        else:
            line.torn(wire.whole(answer), failure.value, options.get("seconds", 0.0))

    def _note(self, **fields: Any) -> None:
        with self._lock:
            at_s = round(time.monotonic() - self._began_s, 3)
            request = Request(number=len(self._requests) + 1, at_s=at_s, **fields)
            self._requests.append(request)
            if len(self._requests) > BODIES_MAX:
                old = self._requests[-BODIES_MAX - 1]
                self._requests[-BODIES_MAX - 1] = replace(old, body={})
            if self._log is not None:
                with self._log.open("a", encoding="utf-8") as file:
                    file.write(request.line() + "\n")


def _route(path: str) -> tuple[Wire | None, str, str]:
    """(protocol, operation, model in the path)."""
    gemini = GEMINI_PATH.search(path)
    if gemini:
        return GEMINI, gemini.group(2), gemini.group(1)
    if path.endswith("/messages/count_tokens"):
        return ENDPOINTS["/messages"], "count_tokens", ""
    for end, wire in ENDPOINTS.items():
        if path.endswith(end):
            return wire, "", ""
    return None, "", ""
