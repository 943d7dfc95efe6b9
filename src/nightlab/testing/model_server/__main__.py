"""``python -m nightlab.testing.model_server SCENARIO.toml [--port P] [--log FILE]``."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from nightlab.errors import NightlabError
from nightlab.testing.model_server.server import ModelServer


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until a signal comes. Prints one line: the server's URL."""
    parser = argparse.ArgumentParser(
        prog="python -m nightlab.testing.model_server",
        description="A scripted model on loopback. The scenario's format: "
        "pydoc nightlab.testing.model_server.scenarios",
    )
    parser.add_argument("scenario", type=Path, metavar="SCENARIO.toml")
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--log", type=Path, help="append each request here as a line of JSON")
    parser.add_argument(
        "--without-tools",
        action="store_true",
        help="requests that offer no tools take turns too (aider, plain model calls)",
    )
    options = parser.parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        server = ModelServer(
            options.scenario,
            port=options.port,
            log=options.log,
            tools_required=not options.without_tools,
        )
    except (NightlabError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        if isinstance(error, NightlabError):
            sys.stderr.write(f"{error.why}\n{error.hint}\n")
        return error.exit_code if isinstance(error, NightlabError) else 1
    with server:
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        stop.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
