"""``nightlab demo``."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from nightlab.cli import base
from nightlab.cli.base import AsJson


def register(app: typer.Typer) -> None:
    """Add these verbs to the application."""
    app.command(
        rich_help_panel=base.TROUBLE,
        epilog="[bold]Examples[/bold]\n  nightlab demo\n"
        "  nightlab demo --experiments 10 --dir /tmp/night\n"
        "\nWhat it leaves behind is an ordinary project: look around with status, show, report.",
    )(demo)


def demo(
    experiments: Annotated[
        int,
        typer.Option(
            "--experiments", "-n", metavar="N", min=1, help="How many, the baseline included."
        ),
    ] = 30,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--dir",
            metavar="DIR",
            help="A folder that does not exist yet. Default: ./nightlab-demo.",
            show_default=False,
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="Training time of one run. Default: the example's, 2.5s.",
            show_default=False,
        ),
    ] = None,
    plain: Annotated[
        bool, typer.Option("--plain", metavar="", help="Plain lines, also on a terminal.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Three minutes of the real thing: a bundled task, no key, no GPU."""
    from nightlab import config, demo  # noqa: PLC0415  loaded on use
    from nightlab.budget import Bounds  # noqa: PLC0415
    from nightlab.cli import running, session  # noqa: PLC0415

    if budget is not None:
        running.duration_s("--budget", budget, "nightlab demo --budget 2.5s")
    place = demo.place(folder, base.folder(None))
    demo.prepare(place, budget=budget)
    base.say(
        f"A small network learns handwritten digits; an optimizer turns its constants. In {place}",
        "",
        stderr=as_json,
    )
    plan = session.Plan(
        root=place,
        settings=config.load(place),
        bounds=Bounds(max_experiments=experiments),
        mode=session.mode(plain=plain, as_json=as_json),
    )
    code = session.hold(plan)
    if not as_json:
        name = "nightlab" if shutil.which("nightlab") else f"{sys.executable} -m nightlab"
        base.say(f"look around: cd {place} && {name} status")
    return code
