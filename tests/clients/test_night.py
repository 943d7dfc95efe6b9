"""Whole nights: ``nightlab run`` with real researchers against the scripted model server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nightlab.testing.model_server import ModelServer
from tests.clients import night as nights
from tests.clients.conftest import Client
from tests.clients.night import Night, prompts

Begin = Callable[..., Night]
# A whole adapter: what stands under [researcher] of nightlab.toml, and nothing besides.
SHELL = """\
ask() { jq -Rs '{model: env.NIGHTLAB_MODEL, messages: [{role: "user", content: .}]}' |
  curl -sS --json @- "$NIGHTLAB_ENDPOINT/chat/completions"; }
ask < "$NIGHTLAB_BRIEF" | jq 'if .error then
  {error: .error.message, status: (.error.code // 503)} else
  {text: .choices[0].message.content, usage: {
    tokens_in: .usage.prompt_tokens, tokens_out: .usage.completion_tokens, calls: 1}} end'
"""


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """``begin(server, use="claude", …)``: a night that is ended with the test."""
    made: list[Night] = []

    def night(server: ModelServer, use: str, **researcher: Any) -> Night:
        url = server.url if use in ("claude", "gemini") else f"{server.url}/v1"
        model = nights.MODELS.get(use, "scripted")
        table = {"use": use, "model": model, "endpoint": url} | researcher
        made.append(Night(tmp_path / "project", table))
        return made[-1]

    yield night
    for each in made:
        each.close()


@pytest.mark.parametrize(("name", "trouble"), [("claude", "overloaded"), ("codex", "rate_limited")])
def test_a_night_survives_all_that_an_agent_and_its_provider_do_wrong(
    name: str, trouble: str, client: Client, begin: Begin
) -> None:
    program = client(name)
    with ModelServer(nights.scenario("night")) as server:
        night = begin(server, name, command=str(program), timeout="4s", plan_every=3)
        lab = night.run()
        night.until(nights.hangs(server, "a killed agent"))
        night.kill_agent()
        _locked_out_and_back(night)
        night.until(nights.hangs(server, "a long thought"))
        night.say("stop")
        assert night.end(lab) < 8.0
        assert server.spent
        status = nights.check(night, server)
        told = {turn: prompts(server, turn) for turn in range(1, 13)}

    answers = status["cost"]["answers"]
    once = ("refusal", "hung", "died", "no_credit", "stopped", trouble)
    assert {answer: answers.get(answer) for answer in once} == dict.fromkeys(once, 1)
    _check_story(night, name)
    tried = night.asked("proposed")[1]
    assert tried["number"] == 3
    assert "prepare.py" in tried["detail"]
    assert "it was not taken: " in told[3]
    assert "prepare.py" in told[3]
    assert "you declined" in told[7]
    assert "idea 1 (priority 3)" in told[7]
    assert "ZeroDivisionError" in told[4]
    assert "you used up your time" in told[9]
    assert "there is credit again" in told[11]


def _locked_out_and_back(night: Night) -> None:
    """The optimizer goes on without credit; a note brings the researcher back."""
    night.until(lambda: night.asked("no_credit"))
    at = len(night.events("settled"))
    night.until(lambda: len(night.events("settled")) > at)
    night.say("note", "there is credit again")
    night.until(lambda: "proposes again" in night.log.read_text())


def _check_story(night: Night, name: str) -> None:
    """The sequence of the experiments of the whole night."""
    proposed = {e["number"]: e["claim"] for e in night.events("proposed")}
    verdicts = {e["number"]: e["verdict"] for e in night.events("settled")}
    assert [verdicts[n] for n in range(1, 6)] == ["keep", "keep", "discard", "keep", "keep"]
    assert {proposed[n]["researcher"] for n in range(2, 6)} == {name}
    assert "optuna" in {proposed[n]["researcher"] for n in range(6, len(proposed))}
    assert [e["number"] for e in night.events("amended")] == [4]
    crashed = [e["run"]["outcome"] for e in night.events("run_finished") if _of(e, 4)]
    assert crashed[0] == "crashed"
    assert set(crashed[1:]) == {"ok"}
    back = next(n for n, claim in proposed.items() if claim["description"] == "clip the gradient")
    assert verdicts[back] == "keep"
    ideas = [e["idea"]["text"] for e in night.events("idea_added")]
    assert ideas == ["a smoother activation", "a shorter warm-up"]


def _of(event: dict[str, Any], number: int) -> bool:
    return bool(event["run"]["experiment"] == number)


@pytest.mark.parametrize("name", ["pi", "gemini", pytest.param("opencode", marks=pytest.mark.slow)])
def test_a_short_night(name: str, client: Client, begin: Begin) -> None:
    program = client(name)
    with ModelServer(nights.scenario("short")) as server:
        night = begin(server, name, command=str(program), plan_every=2, price=nights.PRICE)
        lab = night.run("--max-experiments", "5")
        night.end(lab)
        assert server.spent
        status = nights.check(night, server)
    assert {"keep": 4, "discard": 1}.items() <= status["experiments"].items()
    assert len(night.events("amended")) == 1
    assert any("prepare.py" in event.get("detail", "") for event in night.asked("proposed"))
    assert len(night.asked("refusal")) == 1


def test_a_night_of_a_model_without_an_agent(begin: Begin) -> None:
    with ModelServer(nights.scenario("llm"), tools_required=False) as server:
        night = begin(server, "llm", timeout="2s", plan_every=3, price=nights.PRICE)
        lab = night.run()
        _locked_out_and_back(night)
        night.until(nights.hangs(server, "a long thought"))
        night.say("stop")
        assert night.end(lab) < 8.0
        assert server.spent
        status = nights.check(night, server)
    answers = status["cost"]["answers"]
    once = ("rate_limited", "unreachable", "hung", "no_credit")
    assert {answer: answers.get(answer) for answer in once} == dict.fromkeys(once, 1)
    assert [e["number"] for e in night.events("amended")] == [4]


def test_a_hybrid_night_goes_on_with_constants_when_there_is_no_credit(begin: Begin) -> None:
    with ModelServer(nights.scenario("hybrid"), tools_required=False) as server:
        night = begin(server, "hybrid", agent="llm", plan_every=0, price=nights.PRICE)
        lab = night.run()
        night.until(lambda: night.asked("no_credit"))
        at = len(night.events("settled"))
        night.until(lambda: len(night.events("settled")) > at)
        night.say("stop")
        night.end(lab)
        assert server.spent
        nights.check(night, server)
    by = [e["claim"]["researcher"] for e in night.events("proposed")]
    assert {"llm", "optuna"} <= set(by)
    assert len(by) >= 5
    assert len(night.events("amended")) == 1


def test_a_night_of_a_shell_script_that_is_only_in_nightlab_toml(begin: Begin) -> None:
    with ModelServer(nights.scenario("command"), tools_required=False) as server:
        night = begin(server, "command", command=SHELL, plan_every=0, price=nights.PRICE)
        lab = night.run("--max-experiments", "5")
        night.end(lab)
        assert server.spent
        status = nights.check(night, server)
    assert {"keep": 4, "discard": 1}.items() <= status["experiments"].items()
    assert len(night.events("amended")) == 1
    assert status["cost"]["answers"]["overloaded"] == 1


@pytest.mark.parametrize(
    ("flag", "most", "key"), [("--max-tokens", "4000", "tokens"), ("--max-usd", "0.005", "usd")]
)
def test_a_bound_on_tokens_or_money_ends_a_night_within_one_call(
    flag: str, most: str, key: str, begin: Begin
) -> None:
    with ModelServer(nights.scenario("llm"), tools_required=False) as server:
        night = begin(server, "llm", plan_every=0, price=nights.PRICE)
        night.end(night.run(flag, most))
        status = nights.check(night, server)
    assert status["ended"]["reason"] == "bound"
    last = night.asked("proposed")[-1]["usage"]
    one = last["usd"] if key == "usd" else last["tokens_in"] + last["tokens_out"]
    assert float(most) <= status["cost"][key] < float(most) + one


def test_an_agent_s_own_bound_on_money_is_what_is_left_of_the_night_s(
    client: Client, begin: Begin
) -> None:
    program = client("claude")
    with ModelServer(nights.scenario("night")) as server:
        night = begin(server, "claude", command=str(program), plan_every=0)
        night.end(night.run("--max-usd", "0.02"))
        status = night.status()
    assert status["ended"]["reason"] == "bound"
    assert 0.02 <= status["cost"]["usd"] < 0.03  # a request costs less than a cent here
