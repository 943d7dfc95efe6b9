"""A scripted model server on loopback: real coding agents, no model.

It speaks Anthropic Messages, OpenAI Chat Completions and Responses, and Gemini, streaming and
tool calls included, and fails on the wire where a scenario says so. In a test::

    from nightlab.testing.model_server import ModelServer, scenario

    with ModelServer(scenario([{"read": "train.py"},
                               {"edit": "train.py", "old": "LR = 0.1", "new": "LR = 0.2"},
                               {"say": "done"}])) as server:
        ...  # start an agent with ANTHROPIC_BASE_URL=server.url

On its own: ``python -m nightlab.testing.model_server SCENARIO.toml --port P --log FILE``. The
file's format stands in ``scenarios``, how turns are given out in ``_conversations``.
"""

from nightlab.testing.model_server.scenarios import Scenario, Step, Turn, load, parse, scenario
from nightlab.testing.model_server.server import ModelServer, Request

__all__ = [
    "ModelServer",
    "Request",
    "Scenario",
    "Step",
    "Turn",
    "load",
    "parse",
    "scenario",
]
