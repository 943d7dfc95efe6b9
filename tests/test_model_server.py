"""The scripted model server: every protocol on the wire, scenarios, conversations, failures."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightlab.errors import ConfigError, ResearcherError
from nightlab.researchers._offline import forbid_real, is_loopback
from nightlab.testing.model_server import ModelServer, load, parse, scenario, scenarios
from nightlab.testing.model_server.server import ENDPOINTS, GEMINI

READ = {"read": "train.py"}
EDIT = {"edit": "train.py", "old": "LR = 0.1", "new": "LR = 0.2"}
SAY = {"say": "The rate is higher now."}
PROTOCOLS = ("anthropic", "chat", "responses", "gemini")


def schema(*names: str) -> dict[str, Any]:
    properties = {name: {"type": "string"} for name in names}
    return {"type": "object", "properties": properties, "required": list(names)}


TOOLS = {
    "Read": schema("file_path"),
    "Edit": schema("file_path", "old_string", "new_string"),
    "Bash": schema("command"),
    "mcp__lab__run_experiment": schema("description"),
}


class Talk:
    """A client of one protocol, by hand: sends what was said, keeps what comes back."""

    def __init__(
        self,
        server: ModelServer,
        protocol: str,
        prompt: str = "Go.",
        *,
        stream: bool = False,
        tools: dict[str, Any] | None = None,
    ) -> None:
        self.server, self.protocol, self.stream = server, protocol, stream
        self.tools = TOOLS if tools is None else tools
        self.items: list[dict[str, Any]] = []
        self.say(prompt)

    def say(self, text: str) -> None:
        if self.protocol == "gemini":
            self.items.append({"role": "user", "parts": [{"text": text}]})
        else:
            self.items.append({"role": "user", "content": text})

    def request(self) -> tuple[str, dict[str, Any]]:
        named = self.tools.items()
        if self.protocol == "anthropic":
            tools = [{"name": n, "input_schema": s} for n, s in named]
            body = {"model": "m", "messages": self.items, "tools": tools, "stream": self.stream}
            return "/v1/messages?beta=true", body
        if self.protocol == "chat":
            tools = [
                {"type": "function", "function": {"name": n, "parameters": s}} for n, s in named
            ]
            body = {"model": "m", "messages": self.items, "tools": tools, "stream": self.stream}
            return "/v1/chat/completions", body
        if self.protocol == "responses":
            tools = [{"type": "function", "name": n, "parameters": s} for n, s in named]
            body = {"model": "m", "input": self.items, "tools": tools, "stream": self.stream}
            return "/v1/responses", body
        verb = "streamGenerateContent?alt=sse" if self.stream else "generateContent"
        declared = [{"name": n, "parametersJsonSchema": s} for n, s in named]
        body = {"contents": self.items, "tools": [{"functionDeclarations": declared}]}
        return f"/v1beta/models/m:{verb}", body

    def send(self) -> tuple[int, dict[str, str], bytes]:
        path, body = self.request()
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=20)
        try:
            connection.request("POST", path, json.dumps(body), {"x-api-key": "none"})
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def ask(self) -> dict[str, Any]:
        """Ask, and take the answer (and a tool's result, where it has a call) into the talk."""
        status, _, raw = self.send()
        assert status == 200, raw
        got = joined(self.protocol, raw) if self.stream else json.loads(raw)
        told, items = understood(self.protocol, got)
        self.items += items
        return told


def events(raw: bytes) -> list[dict[str, Any]]:
    lines = [line[6:] for line in raw.decode().splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def joined(protocol: str, raw: bytes) -> dict[str, Any]:
    """A stream put together as a client does it, from its pieces and not from a summary."""
    got = events(raw)
    if protocol == "anthropic":
        message, partial = got[0]["message"], {}
        for event in got:
            i = event.get("index")
            if event["type"] == "content_block_start":
                message["content"].append(event["content_block"])
            elif event["type"] == "content_block_delta":
                delta = event["delta"]
                if "text" in delta:
                    message["content"][i]["text"] += delta["text"]
                else:
                    partial[i] = partial.get(i, "") + delta["partial_json"]
            elif event["type"] == "message_delta":
                message |= {"usage": event["usage"], "stop_reason": event["delta"]["stop_reason"]}
        for i, text in partial.items():
            message["content"][i]["input"] = json.loads(text)
        assert got[-1]["type"] == "message_stop"
        return message
    if protocol == "chat":
        message: dict[str, Any] = {"role": "assistant", "content": "", "tool_calls": []}
        for chunk in got[:-1]:
            delta = chunk["choices"][0]["delta"]
            message["content"] += delta.get("content", "")
            for call in delta.get("tool_calls", []):
                if "id" in call:
                    message["tool_calls"].append(call)
                else:
                    piece = call["function"]["arguments"]
                    message["tool_calls"][call["index"]]["function"]["arguments"] += piece
        return {"choices": [{"message": message}], "usage": got[-1]["usage"]}
    if protocol == "responses":
        items: dict[int, dict[str, Any]] = {}
        for event in got:
            i = event.get("output_index")
            if event["type"] == "response.output_item.added":
                items[i] = event["item"]
            elif event["type"] == "response.function_call_arguments.delta":
                items[i]["arguments"] += event["delta"]
            elif event["type"] == "response.content_part.added":
                items[i]["content"].append(event["part"])
            elif event["type"] == "response.output_text.delta":
                items[i]["content"][0]["text"] += event["delta"]
        assert [e["sequence_number"] for e in got] == list(range(len(got)))
        return {"output": list(items.values()), "usage": got[-1]["response"]["usage"]}
    parts = [part for piece in got for part in piece["candidates"][0]["content"]["parts"]]
    assert got[-1]["candidates"][0]["finishReason"] == "STOP"
    return {
        "candidates": [{"content": {"parts": parts}}],
        "usageMetadata": got[-1]["usageMetadata"],
    }


def understood(protocol: str, got: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """({text, call, arguments, tokens}, items that go into the next request)."""
    told: dict[str, Any] = {"text": "", "call": None, "arguments": None}
    items: list[dict[str, Any]] = []
    if protocol == "anthropic":
        items.append({"role": "assistant", "content": got["content"]})
        for block in got["content"]:
            if block["type"] == "text":
                told["text"] += block["text"]
            else:
                told |= {"call": block["name"], "arguments": block["input"]}
                result = {"type": "tool_result", "tool_use_id": block["id"], "content": "number 42"}
                items.append({"role": "user", "content": [result]})
        usage = got["usage"]
        told["tokens"] = (usage["input_tokens"], usage["output_tokens"])
    elif protocol == "chat":
        message = got["choices"][0]["message"]
        items.append(message)
        told["text"] = message["content"] or ""
        for call in message.get("tool_calls") or []:
            function = call["function"]
            told |= {"call": function["name"], "arguments": json.loads(function["arguments"])}
            items.append({"role": "tool", "tool_call_id": call["id"], "content": "number 42"})
        told["tokens"] = (got["usage"]["prompt_tokens"], got["usage"]["completion_tokens"])
    elif protocol == "responses":
        for item in got["output"]:
            items.append(item)
            if item["type"] == "message":
                told["text"] += item["content"][0]["text"]
            else:
                told |= {"call": item["name"], "arguments": json.loads(item["arguments"])}
                output = {"type": "function_call_output", "call_id": item["call_id"]}
                items.append(output | {"output": "number 42"})
        told["tokens"] = (got["usage"]["input_tokens"], got["usage"]["output_tokens"])
    else:
        parts = got["candidates"][0]["content"]["parts"]
        items.append({"role": "model", "parts": parts})
        for part in parts:
            told["text"] += part.get("text", "")
            if "functionCall" in part:
                call = part["functionCall"]
                told |= {"call": call["name"], "arguments": call["args"]}
                response = {"id": call["id"], "name": call["name"]} | {
                    "response": {"output": "number 42"}
                }
                items.append({"role": "user", "parts": [{"functionResponse": response}]})
        usage = got["usageMetadata"]
        told["tokens"] = (usage["promptTokenCount"], usage["candidatesTokenCount"])
    return told, items


# -- the wire ------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_one_scenario_reads_edits_and_ends_in_every_protocol(protocol: str, stream: bool) -> None:
    turn = {"usage": {"input": 70, "output": 9}, "steps": [READ, EDIT | {"say": "Higher."}, SAY]}
    with ModelServer(scenario(turn)) as server:
        talk = Talk(server, protocol, "Working directory: /tmp/a b/lab\nGo.", stream=stream)
        first, second, third = talk.ask(), talk.ask(), talk.ask()
    assert (first["call"], first["arguments"]) == ("Read", {"file_path": "/tmp/a b/lab/train.py"})
    assert second["text"] == "Higher."
    assert second["arguments"]["old_string"] == "LR = 0.1"
    assert second["arguments"]["new_string"] == "LR = 0.2"
    assert (third["text"], third["call"]) == (SAY["say"], None)
    assert first["tokens"] == (70, 9)
    assert server.spent


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_without_given_usage_tokens_grow_with_the_request(protocol: str) -> None:
    with ModelServer(scenario({"repeat": 2, "steps": [SAY]})) as server:
        small = Talk(server, protocol, "Go.").ask()["tokens"]
        large = Talk(server, protocol, "Go. " * 1000).ask()["tokens"]
    assert large[0] - small[0] == pytest.approx(999, abs=2)
    assert small[1] == large[1] == 6
    asked = [r.asked_tokens for r in server.requests]
    assert asked == [1, 1000]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_refusal_comes_in_the_protocols_own_field(protocol: str, stream: bool) -> None:
    with ModelServer(scenario([{"refuse": "I will not."}])) as server:
        _, _, raw = Talk(server, protocol, stream=stream).send()
    own = {
        "anthropic": '"stop_reason": "refusal"',
        "chat": '"refusal": "I will not."',
        "responses": '"type": "refusal", "refusal": "I will not."',
        "gemini": '"finishReason": "SAFETY"',
    }
    assert own[protocol] in raw.decode()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("protocol", "word"),
    [
        ("anthropic", '"type": "overloaded_error"'),
        ("chat", '"type": "server_error"'),
        ("responses", '"type": "server_error"'),
        ("gemini", '"status": "INTERNAL"'),
    ],
)
def test_an_error_has_the_protocols_shape_and_the_retry_goes_on(
    protocol: str, word: str, stream: bool
) -> None:
    steps = [READ, {"status": 529, "retry_after": 7, "message": "busy"}, SAY]
    with ModelServer(scenario(steps)) as server:
        talk = Talk(server, protocol, stream=stream)
        talk.ask()
        status, headers, raw = talk.send()
        assert (status, headers["retry-after"]) == (529, "7")
        assert word in raw.decode()
        assert '"message": "busy"' in raw.decode()
        assert talk.ask()["text"] == SAY["say"]
    kinds = [(r.kind, r.turn, r.slot, r.attempt) for r in server.requests]
    assert kinds == [("answer", 1, 0, 1), ("failure", 1, 1, 1), ("answer", 1, 1, 2)]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("failure", [{"reset": True}, {"cut": 0.5}, {"stall": 0.5, "seconds": 0.1}])
def test_a_broken_connection_is_broken_and_then_the_answer_comes(
    protocol: str, stream: bool, failure: dict[str, Any]
) -> None:
    with ModelServer(scenario([failure, SAY])) as server:
        talk = Talk(server, protocol, stream=stream)
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            talk.send()
        assert talk.ask()["text"] == SAY["say"]


def test_a_delay_comes_before_the_first_byte() -> None:
    with ModelServer(scenario([SAY | {"delay": 0.3}])) as server:
        began = time.monotonic()
        Talk(server, "chat", stream=True).ask()
    assert time.monotonic() - began >= 0.3


def test_a_hung_request_ends_with_the_server_and_leaves_no_thread() -> None:
    before = threading.active_count()
    server = ModelServer(scenario({"steps": [{"hang": True}], "repeat": "always"}))
    with server:
        path, body = Talk(server, "anthropic").request()
        raw = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\ncontent-length: {len(raw)}\r\n\r\n".encode()
        hung = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(6)]
        idle = socket.create_connection(("127.0.0.1", server.port))
        for each in hung:
            each.sendall(head + raw)
        while len(server.requests) < len(hung):
            time.sleep(0.01)
        began = time.monotonic()
    assert time.monotonic() - began < 1
    assert threading.active_count() == before
    for each in (*hung, idle):
        with each, contextlib.suppress(ConnectionError):
            assert each.recv(1) == b""


def test_a_hung_request_ends_when_its_client_has_gone() -> None:
    with ModelServer(scenario([{"hang": True}])) as server:
        idle = threading.active_count()
        path, body = Talk(server, "chat").request()
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        connection.request("POST", path, json.dumps(body))
        while not server.requests:
            time.sleep(0.01)
        assert threading.active_count() > idle
        connection.close()
        until = time.monotonic() + 5
        while threading.active_count() > idle and time.monotonic() < until:
            time.sleep(0.02)
        assert threading.active_count() == idle


@pytest.mark.parametrize(
    "head",
    [
        "content-length: 1000000000000",
        "content-length: -5",
        "content-length: many",
        "transfer-encoding: chunked\r\n\r\nzz",
        "transfer-encoding: chunked\r\n\r\nfffffffffff",
        "content-encoding: gzip\r\ncontent-length: 2\r\n\r\n{}",
    ],
)
def test_a_body_that_cannot_be_read_is_refused_and_takes_no_turn(head: str) -> None:
    with ModelServer(scenario([SAY])) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as raw:
            raw.sendall(f"POST /v1/messages HTTP/1.1\r\n{head}\r\n\r\n".encode())
            assert raw.recv(100).startswith(b"HTTP/1.1 400 ")
        assert server.requests == []
        assert not server.spent


def test_a_body_in_compressed_chunks_is_read() -> None:
    with ModelServer(scenario([SAY])) as server:
        path, body = Talk(server, "responses").request()
        packed = gzip.compress(json.dumps(body).encode())
        pieces = [packed[:50], packed[50:]]
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        headers = {"content-encoding": "gzip", "transfer-encoding": "chunked"}
        connection.request("POST", path, iter(pieces), headers, encode_chunked=True)
        assert connection.getresponse().status == 200
        connection.close()
    assert server.requests[0].body == body


def test_of_many_requests_only_the_newest_bodies_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nightlab.testing.model_server.server.BODIES_MAX", 3)
    with ModelServer(scenario({"steps": [SAY], "repeat": "always"})) as server:
        for _ in range(5):
            Talk(server, "chat").ask()
    assert [bool(request.body) for request in server.requests] == [False, False, True, True, True]
    assert all(request.prompt_tokens > 0 for request in server.requests)


def test_what_is_not_a_model_request_takes_no_turn() -> None:
    with ModelServer(scenario([SAY])) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        for method, path, body, status in (
            ("HEAD", "/", "", 200),
            ("GET", "/v1/models", "", 200),
            ("GET", "/etc/passwd", "", 404),
            ("POST", "/v1/messages", "not JSON", 400),
            ("POST", "/v1/messages/count_tokens", '{"messages": []}', 200),
            ("POST", "/v1beta/models/m:countTokens", '{"contents": []}', 200),
            (
                "POST",
                "/v1/chat/completions",
                '{"messages": [{"role": "user", "content": "t"}]}',
                200,
            ),
        ):
            connection.request(method, path, body)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == status, path
        connection.close()
        assert Talk(server, "chat").ask()["text"] == SAY["say"]
    kinds = [r.kind for r in server.requests]
    assert kinds == ["other", "models", "other", "other", "count", "count", "side", "answer"]


def test_a_side_request_gets_the_json_that_it_asks_for() -> None:
    wanted = {
        "type": "object",
        "properties": {"title": {"type": "string"}, "ok": {"type": "boolean"}},
    }
    talk_format = {"type": "json_schema", "json_schema": {"schema": wanted}}
    with ModelServer(scenario([SAY])) as server:
        talk = Talk(server, "chat", tools={})
        path, body = talk.request()
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        connection.request("POST", path, json.dumps(body | {"response_format": talk_format}))
        got = json.loads(connection.getresponse().read())
        connection.close()
    assert json.loads(got["choices"][0]["message"]["content"]) == {"title": "ok", "ok": False}
    assert not server.spent


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5),
                    lambda inner: st.lists(inner, max_size=3)
                    | st.dictionaries(st.sampled_from(["role", "content", "type", "text", "id", "tools",
                                                       "name", "function", "parts"]), inner, max_size=4),
                    max_leaves=12))  # fmt: skip
def test_no_json_of_whatever_shape_makes_a_protocol_raise(value: Any) -> None:
    for wire in (*ENDPOINTS.values(), GEMINI):
        for key in ("messages", "input", "contents", "tools", "system"):
            wire.read({key: value})


# -- tools ---------------------------------------------------------------------------------


def one_call(
    steps: list[dict[str, Any]], tools: dict[str, Any], prompt: str = "Go."
) -> dict[str, Any]:
    with ModelServer(scenario(steps)) as server:
        return Talk(server, "chat", prompt, tools=tools).ask()


def test_a_client_with_only_a_shell_gets_the_edit_as_a_command(tmp_path: Path) -> None:
    train = tmp_path / "train.py"
    train.write_text('LR = 0.1  # it\'s "quoted"\n')
    step = {"edit": "train.py", "old": 'it\'s "quoted"', "new": "$(touch x) `y` \\n"}
    told = one_call([step], {"bash": schema("command")})
    subprocess.run(["bash", "-c", told["arguments"]["command"]], cwd=tmp_path, check=True)
    assert train.read_text() == "LR = 0.1  # $(touch x) `y` \\n\n"
    told = one_call([{"write": "new.py", "content": "a'b\n"}], {"shell": schema("command")})
    subprocess.run(["bash", "-c", told["arguments"]["command"]], cwd=tmp_path, check=True)
    assert (tmp_path / "new.py").read_text() == "a'b\n"
    assert not (tmp_path / "x").exists()


def test_a_client_that_ends_by_a_command_is_ended_by_it() -> None:
    prompt = "End with echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"
    told = one_call([SAY], {"bash": schema("command")}, prompt)
    assert told["arguments"] == {"command": "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"}


def test_nested_edits_get_their_own_keys() -> None:
    pair = schema("oldText", "newText")
    edit = schema("path") | {"required": ["path", "edits"]}
    edit["properties"]["edits"] = {"type": "array", "items": pair}
    told = one_call([EDIT], {"edit": edit})
    assert told["arguments"]["edits"] == [{"oldText": "LR = 0.1", "newText": "LR = 0.2"}]


def test_an_mcp_tool_is_found_by_the_end_of_its_name_and_by_the_prompt_alone() -> None:
    step = {"call": "run_experiment", "arguments": {"description": "x"}}
    assert one_call([step], TOOLS)["call"] == "mcp__lab__run_experiment"
    told = one_call([step], {"Read": TOOLS["Read"]}, "Deferred: mcp__lab__run_experiment")
    assert told["call"] == "mcp__lab__run_experiment"


def test_what_a_tool_said_can_be_put_into_the_next_call() -> None:
    step = {
        "call": "run_experiment",
        "arguments": {"number": "{n}", "description": "experiment {n} of {nobody}"},
        "take": {"n": r"number (\d+)"},
    }
    with ModelServer(scenario([READ, step])) as server:
        talk = Talk(server, "anthropic")
        talk.ask()
        told = talk.ask()
    assert told["arguments"] == {"number": 42, "description": "experiment 42 of {nobody}"}


def test_a_freeform_patch_and_grouped_tools_are_called_as_such() -> None:
    tools = [
        {"type": "custom", "name": "apply_patch"},
        {"type": "namespace", "name": "mcp__lab", "tools": [{"type": "function", "name": "go"}]},
    ]
    with ModelServer(scenario([EDIT], [{"call": "go"}])) as server:
        bodies = [{"input": text, "tools": tools} for text in ("one", "two")]
        items = []
        for body in bodies:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
            connection.request("POST", "/v1/responses", json.dumps(body))
            items.append(json.loads(connection.getresponse().read())["output"][0])
            connection.close()
    assert items[0]["type"] == "custom_tool_call"
    assert "*** Update File: train.py\n@@\n-LR = 0.1\n+LR = 0.2\n" in items[0]["input"]
    assert (items[1]["name"], items[1]["namespace"]) == ("go", "mcp__lab")


def hidden_tool_calls(server: ModelServer, found_at: int, rounds: int) -> list[dict[str, Any]]:
    """What is called in so many rounds, where the search finds the tool the n-th time."""
    items: list[dict[str, Any]] = [{"role": "user", "content": "Go."}]
    calls: list[dict[str, Any]] = []
    group = {"type": "namespace", "name": "mcp__lab", "tools": [{"type": "function", "name": "go"}]}
    for number in range(1, rounds + 1):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        body = {"input": items, "tools": [{"type": "tool_search", "parameters": {}}]}
        connection.request("POST", "/v1/responses", json.dumps(body))
        call = json.loads(connection.getresponse().read())["output"][0]
        connection.close()
        calls.append(call)
        kind = (
            "tool_search_output" if call["type"] == "tool_search_call" else "function_call_output"
        )
        output = {"type": kind, "call_id": call.get("call_id"), "output": "ok"}
        items += [call, output | ({"tools": [group]} if number == found_at else {})]
    return calls


def test_a_tool_that_a_client_hides_is_searched_for_until_it_is_there() -> None:
    with ModelServer(scenario([{"call": "go"}, {"call": "go"}, SAY])) as server:
        calls = hidden_tool_calls(server, found_at=2, rounds=5)
    kinds = [call["type"] for call in calls]
    assert kinds == [*["tool_search_call"] * 2, *["function_call"] * 2, "message"]
    assert calls[0]["arguments"] == {"query": "go"}
    assert (calls[2]["name"], calls[2]["namespace"]) == ("go", "mcp__lab")


def test_a_tool_that_is_never_there_is_called_all_the_same_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("nightlab.testing.model_server.server.SEARCH_AGAIN_S", 0.0)
    monkeypatch.setattr("nightlab.testing.model_server._conversations.SEARCHES_MAX", 3)
    with ModelServer(scenario([{"call": "go"}, SAY])) as server:
        calls = hidden_tool_calls(server, found_at=0, rounds=5)
    kinds = [call["type"] for call in calls]
    assert kinds == [*["tool_search_call"] * 3, "function_call", "message"]


def test_a_client_without_tools_gets_the_turn_as_search_and_replace_text() -> None:
    steps = [READ, {"status": 429}, EDIT | {"say": "First."}, SAY, EDIT]
    with ModelServer(scenario(steps), tools_required=False) as server:
        talk = Talk(server, "chat", tools={})
        assert talk.send()[0] == 429
        told = talk.ask()
        talk.say("that did not match")
        again = talk.ask()
    block = "train.py\n```\n<<<<<<< SEARCH\nLR = 0.1\n=======\nLR = 0.2\n>>>>>>> REPLACE\n```"
    assert told["text"] == f"First.\n\n{block}\n\n{SAY['say']}"
    assert again["text"] == block


# -- conversations -------------------------------------------------------------------------


def test_each_new_conversation_takes_the_next_turn_and_then_final() -> None:
    turns = scenario([SAY], {"steps": [READ, SAY], "repeat": 2}, final="Nothing left.")
    with ModelServer(turns) as server:
        calls = [Talk(server, "anthropic").ask() for _ in range(4)]
    assert [told["call"] for told in calls] == [None, "Read", "Read", None]
    assert calls[3]["text"] == "Nothing left."
    assert [r.turn for r in server.requests] == [1, 2, 2, None]


def test_when_chooses_by_the_prompt_and_leaves_the_others_their_order() -> None:
    turns = scenario(
        [{"say": "a"}], {"when": "traceback", "steps": [{"say": "fix"}]}, [{"say": "b"}]
    )
    with ModelServer(turns) as server:
        first = Talk(server, "chat", "Propose.")
        said = [first.ask()["text"], Talk(server, "chat", "A traceback: …").ask()["text"]]
        said.append(Talk(server, "chat", "Propose more.").ask()["text"])
    assert said == ["a", "fix", "b"]


def test_the_same_request_again_gets_the_same_answer_within_a_conversation() -> None:
    with ModelServer(scenario([READ, EDIT, SAY], [{"say": "other"}])) as server:
        talk = Talk(server, "anthropic")
        talk.ask()
        first, again = talk.send()[2], talk.send()[2]
        assert json.loads(first)["content"] == json.loads(again)["content"]
        assert talk.ask()["call"] == "Edit"
        assert talk.ask()["text"] == SAY["say"]
    assert {r.conversation for r in server.requests} == {1}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_agents_with_the_very_same_prompt_at_once_are_told_apart(protocol: str) -> None:
    n, steps = 8, [READ, *([{"run": "true"}] * 5)]
    turns = [[*steps, {"say": f"turn {i}"}] for i in range(n)]
    said: list[str] = []

    def agent() -> None:
        talk = Talk(server, protocol, stream=True)
        for _ in range(len(steps)):
            assert talk.ask()["call"] in TOOLS
        said.append(talk.ask()["text"])

    with ModelServer(scenario(*turns)) as server:
        agents = [threading.Thread(target=agent) for _ in range(n)]
        for each in agents:
            each.start()
        for each in agents:
            each.join()
    assert sorted(said) == sorted(f"turn {i}" for i in range(n))
    by_conversation: dict[Any, set[Any]] = {}
    for request in server.requests:
        by_conversation.setdefault(request.conversation, set()).add(request.turn)
    assert all(len(turns) == 1 for turns in by_conversation.values())


def test_a_new_prompt_in_a_resumed_session_takes_the_next_turn() -> None:
    with ModelServer(scenario([READ, {"say": "one"}], [EDIT, {"say": "two"}])) as server:
        talk = Talk(server, "anthropic")
        said = [talk.ask(), talk.ask()]
        talk.say("And now the next experiment.")
        said += [talk.ask(), talk.ask()]
    assert [told["call"] or told["text"] for told in said] == ["Read", "one", "Edit", "two"]


def test_a_turn_of_failures_only_gives_the_retry_to_the_next_turn() -> None:
    with ModelServer(scenario([{"status": 503, "repeat": 2}], [SAY])) as server:
        talk = Talk(server, "gemini")
        assert [talk.send()[0] for _ in range(3)] == [503, 503, 200]
    assert [r.turn for r in server.requests] == [1, 1, 2]


def test_a_client_that_asks_again_after_an_empty_answer_or_a_refusal_keeps_its_turn() -> None:
    turns = scenario([{"nothing": True}, SAY], [{"refuse": "No."}, SAY], [{"say": "third"}])
    with ModelServer(turns) as server:
        Talk(server, "anthropic", "Go.").send()
        nudged = Talk(server, "anthropic", "Go.\n[No output. Please continue.]")
        assert nudged.ask()["text"] == SAY["say"]
        refused = Talk(server, "anthropic", "Another.")
        refused.ask()
        refused.say("That was stopped by a filter.")
        assert refused.ask()["text"] == SAY["say"]
        assert Talk(server, "anthropic", "Go.\nElse").ask()["text"] == "third"
    assert [(r.turn, r.slot) for r in server.requests] == [(1, 0), (1, 1), (2, 0), (2, 1), (3, 0)]


def test_half_an_answer_that_a_client_kept_does_not_count_as_the_answer() -> None:
    with ModelServer(scenario([READ, {"cut": 0.9}, EDIT | {"say": "Half."}, SAY])) as server:
        talk = Talk(server, "responses", stream=True)
        talk.ask()
        with pytest.raises(http.client.IncompleteRead):
            talk.send()
        talk.items.append({"type": "message", "role": "assistant", "content": "Half."})
        assert talk.ask()["call"] == "Edit"


# -- scenarios -----------------------------------------------------------------------------

FILE = """\
final = "Enough."

[[turn]]
steps = [{ read = "train.py" }]

[[turn]]
name = "the bad one"
steps = [
  { say = "x" },
  %s
]
"""


@pytest.mark.parametrize(
    ("step", "why"),
    [
        ('{ edti = "train.py" }', "did you mean edit?"),
        ('{ edit = "train.py", old = "a" }', "'new' is missing"),
        ('{ edit = "train.py", old = "a", new = 3 }', "new is a str, not 3"),
        ('{ edit = "a", read = "b" }', "one thing, not read and edit"),
        ('{ read = "a", old = "b" }', "'old' is not known here"),
        ("{ status = 200 }", "400 to 599"),
        ("{ status = true }", "status is a int, not True"),
        ("{ cut = 1.5 }", "a share of the answer"),
        ("{ hang = false }", "hang is true, or is not there"),
        ('{ say = "x", repeat = 0 }', "from 1 to"),
        ('{ say = "x", delay = -1 }', "not negative"),
        ('{ say = "x", usage = { input = -1 } }', "tokens are not negative"),
        ('{ say = "x", usage = { inputs = 1 } }', "did you mean input?"),
        ('{ say = "x", take = { n = "(" } }', "take.n is not a regular expression"),
        ('{ say = "x", take = { n = "a" } }', "one group, not 0"),
        ("3", "a step is a table"),
    ],
)
def test_a_wrong_step_is_told_with_its_file_turn_line_and_number(
    step: str, why: str, tmp_path: Path
) -> None:
    path = tmp_path / "night.toml"
    path.write_text(FILE % step)
    with pytest.raises(ConfigError) as error:
        load(path)
    assert error.value.what.startswith("night.toml, turn 2 'the bad one' (line 6), step 2")
    assert why in error.value.why


@pytest.mark.parametrize(
    ("text", "what", "why"),
    [
        ("[[turn]\n", "is not TOML", "line 1"),
        ('finale = "x"', "scenario", "did you mean final?"),
        ("[[turn]]\n", "turn 1 (line 1)", "'steps' is missing"),
        ("[[turn]]\nsteps = []\n", "turn 1 (line 1)", "at least one step"),
        ('[[turn]]\nrepeat = "often"\nsteps = []\n', "turn 1 (line 1)", '"always"'),
        ("turn = [1]", "turn 1", "this is a table"),
    ],
)
def test_a_wrong_scenario_is_told_where_it_is_wrong(text: str, what: str, why: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(text)
    assert what in error.value.what
    assert why in error.value.why


def test_the_example_in_the_documentation_is_a_scenario() -> None:
    lines = (scenarios.__doc__ or "").split("A step is one")[0].splitlines()[1:]
    read = parse("\n".join(line.removeprefix("    ") for line in lines))
    assert (read.final, read.turns[0].repeat, read.turns[0].when) == ("Done.", 2, "crash")
    assert [step.does for step in read.turns[0].steps] == ["read", "status", "status", "edit"]


def test_a_file_that_is_not_there_is_an_error_and_not_an_empty_scenario(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        ModelServer(tmp_path / "none.toml")


# -- on its own, and offline ---------------------------------------------------------------


def test_it_runs_on_its_own_logs_each_request_and_ends_on_a_signal(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(FILE % '{ say = "y" }')
    command = [
        sys.executable,
        "-m",
        "nightlab.testing.model_server",
        "s.toml",
        "--log",
        "log.jsonl",
    ]
    started = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None
    with started:
        url = started.stdout.readline().strip()
        server = type("At", (), {"port": int(url.rpartition(":")[2])})
        told = Talk(server, "anthropic", "secret words").ask()  # type: ignore[arg-type]
        started.send_signal(signal.SIGTERM)
        assert started.wait(10) == 0
    line = json.loads((tmp_path / "log.jsonl").read_text())
    assert told["call"] == "Read"
    assert (line["kind"], line["turn"], line["played"], line["with_key"]) == (
        "answer",
        1,
        "read",
        True,
    )
    assert line["prompt_tokens"] > 0
    assert "body" not in line
    assert "secret words" not in json.dumps(line)


def test_on_its_own_it_tells_what_is_wrong_in_a_scenario(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(FILE % '{ sya = "y" }')
    command = [sys.executable, "-m", "nightlab.testing.model_server", "s.toml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "step 2\n" in done.stderr
    assert "did you mean say?" in done.stderr


@pytest.mark.parametrize(
    "url",
    [
        None,
        "",
        "https://api.anthropic.com",
        "http://10.0.0.1:80",
        "http://localhost.example.org",
        "http://127.0.0.1@example.org",
        "http://example.org\\@127.0.0.1",
        "http://127.0.0.1 .example.org",
        "127.0.0.1:8080",
        "http://[::2]:1",
        "http://[bad",
    ],
)
def test_with_the_switch_on_no_real_address_is_used(url: str | None) -> None:
    assert os.environ["NIGHTLAB_OFFLINE"] == "1"
    with pytest.raises(ResearcherError, match="no model is called"):
        forbid_real(url)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/v1", "http://LOCALHOST:1", "http://[::1]:9", "http://127.8.9.1"]
)
def test_with_the_switch_on_this_machine_is_allowed(url: str) -> None:
    forbid_real(url)
    assert is_loopback(url)


@pytest.mark.parametrize("value", ["", "0", "off", "False"])
def test_with_the_switch_off_every_address_is_allowed(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NIGHTLAB_OFFLINE", value)
    forbid_real("https://api.anthropic.com")
    forbid_real(None)
