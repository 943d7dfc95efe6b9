"""``nightlab doctor``."""

from __future__ import annotations

from typing import Annotated

import typer

from nightlab.cli import base
from nightlab.cli.base import AsJson, Directory
from nightlab.errors import EXIT_DONE, EXIT_ERROR


def register(app: typer.Typer) -> None:
    """Add these verbs to the application."""
    app.command(
        rich_help_panel=base.TROUBLE,
        epilog="[bold]Examples[/bold]\n  nightlab doctor\n"
        "  nightlab doctor --notify   sends a test message to every address\n"
        "  nightlab doctor --json | jq '.checks[] | select(.state == \"bad\")'\n"
        "\nExit code 1 when something would stop a run.",
    )(doctor)


def doctor(
    directory: Directory = None,
    notify: Annotated[
        bool,
        typer.Option("--notify", metavar="", help="Also send a test message to \\[notify] to."),
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Check everything that a night needs, and say the cure for what is missing."""
    from nightlab.cli import health  # noqa: PLC0415  loaded on use

    checks = health.examine(base.folder(directory), send=notify)
    bad = [check for check in checks if check.state is health.State.BAD]
    if as_json:
        base.emit({"ok": not bad, "checks": [check.as_dict() for check in checks]})
    else:
        for check in checks:
            base.say(*check.lines(base.width()))
        base.say("", "all that a night needs is there" if not bad else f"{len(bad)} to mend")
    return EXIT_ERROR if bad else EXIT_DONE
