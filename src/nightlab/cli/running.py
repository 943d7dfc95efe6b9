"""``nightlab run``: the lab itself."""

from __future__ import annotations

import dataclasses
import time
from typing import Annotated

import typer

from nightlab import config
from nightlab.budget import Bounds
from nightlab.cli import base
from nightlab.cli.base import AsJson, Directory
from nightlab.config import Settings
from nightlab.errors import ConfigError, UsageError

_EXAMPLES = """[bold]Examples[/bold]
  nightlab run --until 07:00          until the morning
  nightlab run --for 8h --slots 2     eight hours, two runs at a time
  nightlab run --max-experiments 30   the baseline is one of them
  nightlab run --researcher sweep --tag bigger
  nightlab run --json | jq .verdict   one object per experiment

Without a bound it runs until it is stopped. Ctrl-C once: the run in flight finishes first. \
Twice: it is stopped at once. The same command goes on later, and nothing is lost.

Exit codes: 0 done, 1 an error (also a baseline that does not run), 2 usage, 3 a bug, \
4 the end came without a keep, 130 interrupted."""


StudyTag = Annotated[
    str | None,
    typer.Option(
        "--tag",
        metavar="TAG",
        help="Which study, new or old. Default: the one worked on last, or today's date.",
        show_default=False,
    ),
]
Most = Annotated[
    int | None,
    typer.Option(
        "--max-experiments",
        "-n",
        metavar="N",
        min=1,
        help="Stop when the study has this many experiments, the baseline included.",
        show_default=False,
    ),
]
Until = Annotated[
    str | None,
    typer.Option("--until", metavar="HH:MM", help="Stop at this time of day.", show_default=False),
]
For = Annotated[
    str | None,
    typer.Option(
        "--for",
        metavar="DURATION",
        help="Stop after this long, like 8h or 90m.",
        show_default=False,
    ),
]
MaxUsd = Annotated[
    float | None,
    typer.Option(
        "--max-usd",
        metavar="USD",
        min=0.0,
        help="Stop when researchers have cost this much, over the whole study.",
        show_default=False,
    ),
]
MaxTokens = Annotated[
    int | None,
    typer.Option(
        "--max-tokens",
        metavar="N",
        min=1,
        help="Stop when researchers have used so many tokens, in and out.",
        show_default=False,
    ),
]
MaxDeviceHours = Annotated[
    float | None,
    typer.Option(
        "--max-device-hours",
        metavar="H",
        min=0.0,
        help="Stop when runs have taken so many hours, over the whole study.",
        show_default=False,
    ),
]
Researcher = Annotated[
    str | None,
    typer.Option(
        "--researcher",
        metavar="NAME",
        help="Who proposes, instead of nightlab.toml's \\[researcher] use.",
        show_default=False,
    ),
]
Slots = Annotated[
    int | None,
    typer.Option(
        "--slots",
        metavar="N",
        min=1,
        help="Runs at a time. Default: one per GPU, or one on the CPU.",
        show_default=False,
    ),
]
Plain = Annotated[
    bool, typer.Option("--plain", metavar="", help="Plain lines, also on a terminal.")
]


def register(app: typer.Typer) -> None:
    """Add these verbs to the application."""
    app.command(rich_help_panel=base.NIGHT, epilog=_EXAMPLES)(run)


def run(
    directory: Directory = None,
    tag: StudyTag = None,
    max_experiments: Most = None,
    until: Until = None,
    for_: For = None,
    max_usd: MaxUsd = None,
    max_tokens: MaxTokens = None,
    max_device_hours: MaxDeviceHours = None,
    researcher: Researcher = None,
    slots: Slots = None,
    plain: Plain = False,
    as_json: AsJson = False,
) -> int:
    """Run the lab: propose, run, judge, keep. Goes on where it stopped."""
    from nightlab.cli import session  # noqa: PLC0415  the engine, loaded on use

    root = base.project(directory)
    settings = with_flags(config.load(root), researcher=researcher, slots=slots)
    bounds = dataclasses.replace(
        _bounds(max_experiments, until, for_, time.time()),
        max_usd=max_usd,
        max_tokens=max_tokens,
        max_device_s=None if max_device_hours is None else 3600.0 * max_device_hours,
    )
    mode = session.mode(plain=plain, as_json=as_json)
    return session.hold(session.Plan(root, settings, tag, bounds, mode))


def with_flags(
    settings: Settings, *, researcher: str | None = None, slots: int | None = None
) -> Settings:
    """The settings with what the command line says instead."""
    if researcher is not None:
        table = {**settings.researcher, "use": researcher}
        settings = dataclasses.replace(settings, researcher=table)
    if slots is not None:
        settings = dataclasses.replace(settings, slots=slots)
    return settings


def _bounds(most: int | None, until: str | None, for_: str | None, now: float) -> Bounds:
    ends = []
    if until is not None:
        ends.append(config.until_unix(until, now))
    if for_ is not None:
        ends.append(now + duration_s("--for", for_, "nightlab run --for 8h"))
    return Bounds(max_experiments=most, until=min(ends) if ends else None)


def duration_s(flag: str, text: str, example: str) -> float:
    """Seconds of a flag's duration. Raises UsageError that names the flag."""
    try:
        return config.duration_s(flag, text)
    except ConfigError as error:
        raise UsageError(
            f"{flag} {text!r} is not a duration", "write it like 8h, 90m, 1h30m or 300s", example
        ) from error
