"""``nightlab init``."""

from __future__ import annotations

from typing import Annotated

import typer

from nightlab.cli import base
from nightlab.cli.base import AsJson, Directory
from nightlab.model import Better

_EXAMPLES = """[bold]Examples[/bold]
  nightlab init      look, and ask what cannot be seen
  nightlab init --metric val_acc --better higher
  nightlab init --command 'python -m net.train' --edit net/model.py --budget 10m

A project shaped like karpathy/autoresearch is recognised, and nothing is asked."""


def register(app: typer.Typer) -> None:
    """Add these verbs to the application."""
    app.command("init", rich_help_panel=base.TROUBLE, epilog=_EXAMPLES)(init)


def init(
    directory: Directory = None,
    command: Annotated[
        str | None,
        typer.Option(metavar="COMMAND", help="What to run.", show_default=False),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The metric that counts.", show_default=False),
    ] = None,
    better: Annotated[
        Better | None, typer.Option(help="Which way it improves.", show_default=False)
    ] = None,
    edit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE", help="A file that may change; may be repeated.", show_default=False
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="The time of one run, like 5m.", show_default=False),
    ] = None,
    researcher: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Who proposes.", show_default=False),
    ] = None,
    evaluate: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND",
            help="What measures, in a box of its own (a sealed study).",
            show_default=False,
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", metavar="", help="Replace a nightlab.toml.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Look at the project and write nightlab.toml."""
    from nightlab.cli import initialising  # noqa: PLC0415  loaded on use

    wanted = initialising.Wanted(
        command=command,
        metric=metric,
        better=better,
        edit=tuple(edit or ()),
        budget=budget,
        researcher=researcher,
        evaluate=evaluate,
    )
    ask = base.is_terminal() and not as_json
    done = initialising.initialise(base.folder(directory), wanted, force=force, ask=ask)
    if as_json:
        base.emit(done.as_dict())
    else:
        base.say(*done.lines())
    return 0
