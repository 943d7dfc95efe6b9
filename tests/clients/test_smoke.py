"""Each real client, once, against the scripted server: the same scenario for all of them."""

from __future__ import annotations

import dataclasses

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
