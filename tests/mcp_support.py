"""A client of the MCP server's own SDK, over stdio: each server is a real process."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

Called = Callable[..., Awaitable[dict[str, Any]]]

FIRST = {"search": "LR = 0.1", "replace": "LR = 0.03"}


class Caller:
    """Tools by name, as attributes; each returns what it told in ``text``, ``facts``, ``error``."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.progress: list[str | None] = []

    async def __call__(self, tool: str, **arguments: Any) -> Any:
        async def progress(_done: float, _total: float | None, message: str | None) -> None:
            self.progress.append(message)

        result = await self.client.call_tool(tool, arguments, progress_callback=progress)
        return Told(result)

    async def settled(self, number: int | None = None) -> Any:
        """Wait in slices until there is a verdict."""
        for _ in range(200):
            told = await self("await_experiment", number=number, wait_seconds=5)
            if told["state"] in ("settled", "needs_fix", "none"):
                return told
        raise AssertionError("no verdict came")

    async def propose(self, description: str, *edits: dict[str, str], **more: Any) -> Any:
        blocks = [{"path": "train.py", **edit} for edit in edits]
        return await self("begin_experiment", description=description, edits=blocks, **more)


class Told(dict[str, Any]):
    """A tool's structured answer; ``text`` is what is read, ``error`` whether it is an error."""

    def __init__(self, result: Any) -> None:
        super().__init__(result.structured_content or {})
        self.text = "\n".join(block.text for block in result.content)
        self.error = bool(result.is_error)


def served(
    root: Path, work: Callable[[Caller], Awaitable[Any]], env: dict[str, str] | None = None
) -> Any:
    """Start a server on the project, let ``work`` call it, and close its stdin."""

    async def main() -> Any:
        parameters = StdioServerParameters(
            command=sys.executable,
            args=["-m", "nightlab", "mcp"],
            cwd=root,
            env={"PATH": os.environ["PATH"], "HOME": str(root.parent), **(env or {})},
        )
        with (root.parent / "server.err").open("a") as log:
            async with Client(stdio_client(parameters, errlog=log)) as client:
                return await asyncio.wait_for(work(Caller(client)), 100)

    return asyncio.run(main())
