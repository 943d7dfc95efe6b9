"""The other way round: ``mcp`` lets an agent hold the loop."""

from __future__ import annotations

from typing import Any

import typer

from nightlab.cli import base
from nightlab.cli.base import Directory


def register(app: typer.Typer) -> None:
    """Add these verbs to the application."""
    app.command(
        rich_help_panel=base.AGENTS,
        epilog="[bold]Examples[/bold]\n  nightlab skill install    writes the configuration that"
        " starts this\n  claude mcp add nightlab -- nightlab mcp\n"
        "\nIt speaks the Model Context Protocol on stdin and stdout: a program starts it.",
    )(mcp)


def mcp(directory: Directory = None) -> int:
    """Serve an agent that holds the loop, over MCP on stdio."""
    from nightlab.mcp import serve  # noqa: PLC0415  the SDK takes half a second

    return serve(base.folder(directory), _debrief)


def _debrief(engine: Any) -> dict[str, Any]:
    from nightlab.cli import session  # noqa: PLC0415  the engine, loaded on use

    found = session.write_report(engine.paths, engine.history, now=engine.now())
    return {
        "debrief": found.lines,
        "report": str(found.report) if found.report else None,
        "plot": str(found.plot) if found.plot else None,
        "trouble": found.trouble or None,
    }
