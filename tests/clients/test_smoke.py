"""Each real client, once, against the scripted server: the same scenario for all of them."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import pytest

from nightlab.testing.model_server import ModelServer, scenario
from tests.clients.conftest import Client
from tests.clients.install import CLIENTS
from tests.clients.support import Place, run

EDIT = {"edit": "train.py", "old": "LR = 0.1", "new": "LR = 0.2", "say": "A higher rate."}
SCENARIO = scenario([{"read": "train.py"}, EDIT, {"say": "The rate is higher now."}])


@pytest.mark.parametrize("name", CLIENTS)
def test_a_real_client_edits_the_file_that_the_scenario_says(
    name: str, client: Client, place: Place
) -> None:
    program = client(name)
    with ModelServer(SCENARIO, tools_required=name != "aider") as server:
        done = run(name, program, dataclasses.replace(place, url=server.url))
    told = [(r.kind, r.played) for r in server.requests]
    assert done.returncode == 0, (done.stdout[-2000:], done.stderr[-2000:], told)
    assert (place.repo / "train.py").read_text().startswith("LR = 0.2\n"), (done.stdout, told)
    assert (place.repo / "prepare.py").read_text() == "DATA = 1\n"
    assert server.spent
    assert {r.conversation for r in server.requests if r.kind == "answer"} == {1}


@pytest.mark.parametrize("name", ["claude", "codex"])
def test_a_client_waits_out_a_rate_limit_and_a_reset_by_itself(
    name: str, client: Client, place: Place
) -> None:
    program = client(name)
    failing = [{"status": 429, "retry_after": 1}, {"read": "train.py"}, {"reset": True}, EDIT]
    with ModelServer(scenario(failing)) as server:
        run(name, program, dataclasses.replace(place, url=server.url))
    assert (place.repo / "train.py").read_text().startswith("LR = 0.2\n")
    played = [r.played for r in server.requests if r.conversation is not None]
    assert played == ["status 429", "read", "reset", "edit", "final"]


@pytest.mark.parametrize("name", ["claude", "codex"])
def test_four_agents_on_one_server_each_play_a_turn_of_their_own(
    name: str, client: Client, place: Place
) -> None:
    program = client(name)
    turns = [
        [{"read": "train.py"}, EDIT | {"edit": f"train{i}.py"}, {"say": f"turn {i}"}]
        for i in range(4)
    ]
    for i in range(4):
        (place.repo / f"train{i}.py").write_text("LR = 0.1\n")
    with ModelServer(scenario(*turns)) as server:
        at = dataclasses.replace(place, url=server.url)
        with ThreadPoolExecutor(4) as pool:
            done = list(pool.map(lambda _: run(name, program, at), range(4)))
    assert sorted(i for i in range(4) for each in done if f"turn {i}" in each.stdout) == [
        0,
        1,
        2,
        3,
    ]
    assert server.spent
