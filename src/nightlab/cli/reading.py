"""Verbs that read: ``status``, ``show``, ``report``, ``export``. None takes the lock."""

from __future__ import annotations

import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from nightlab.cli import base, importing
from nightlab.cli.base import AsJson, Directory, Tag
from nightlab.cli.importing import BetterFlag, MetricFlag, SegmentFlag
from nightlab.errors import UsageError


class Format(StrEnum):
    """What ``export`` writes."""

    TSV = "tsv"
    JSONL = "jsonl"
    JSON = "json"
    KARPATHY = "karpathy"
    PI = "pi"
    CSV = "csv"
    MLFLOW = "mlflow"
    WANDB = "wandb"
    TENSORBOARD = "tensorboard"


def register(app: typer.Typer) -> None:
    """Add these verbs to the application."""
    app.command(
        rich_help_panel=base.NIGHT,
        epilog="[bold]Examples[/bold]\n  nightlab status\n"
        "  nightlab status --watch   follow a running lab from another terminal\n"
        "  nightlab status --json | jq .incumbent.mean",
    )(status)
    app.command(
        rich_help_panel=base.MORNING,
        epilog="[bold]Examples[/bold]\n"
        "  nightlab show 17          claim, runs, verdict and reason\n"
        "  nightlab show 17 --diff   what it changed; apply with: git apply\n"
        "  nightlab show 17 --log    all that its last run printed\n"
        "  nightlab show 17 --log --run 40",
    )(show)
    app.command(
        rich_help_panel=base.MORNING,
        epilog="[bold]Examples[/bold]\n  nightlab report\n  nightlab report --out ~/Desktop/night\n"
        "  nightlab report --since yesterday   also 8h, 07:00, 2026-03-05, 17\n"
        "  nightlab report --import results.tsv --better lower   another loop's ledger",
    )(report)
    app.command(
        rich_help_panel=base.MORNING,
        epilog="[bold]Examples[/bold]\n  nightlab export --format tsv > night.tsv\n"
        "  nightlab export --format csv --runs --out runs.csv   for pandas, a row per run\n"
        "  nightlab export --format pi --out log.jsonl          for pi-autoresearch's tools\n"
        "  nightlab export --format mlflow --out sqlite:///mlflow.db",
    )(export)


def status(
    directory: Directory = None,
    tag: Tag = None,
    watch: Annotated[
        bool,
        typer.Option("--watch", "-w", metavar="", help="Go on showing it until the lab ends."),
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Where the study stands: running or not, incumbent, noise, counts."""
    from nightlab import contexts, views  # noqa: PLC0415  loaded on use

    place = base.place(directory, tag)
    if watch:
        from nightlab.cli import looking  # noqa: PLC0415  loaded on use

        return looking.watch(place, as_json=as_json)
    found = views.status(
        place.history(),
        locked=place.locked(),
        now=time.time(),
        program=contexts.program(place.root),
    )
    if as_json:
        base.emit_pretty(found)
    else:
        from nightlab.cli import texts  # noqa: PLC0415  loaded on use

        base.say(*texts.status(found))
    return 0


def show(
    number: Annotated[int, typer.Argument(metavar="N", help="The experiment; 1 is the baseline.")],
    directory: Directory = None,
    tag: Tag = None,
    diff: Annotated[
        bool, typer.Option("--diff", metavar="", help="The change, as a patch.")
    ] = False,
    log: Annotated[
        bool, typer.Option("--log", metavar="", help="What its last run printed.")
    ] = False,
    run: Annotated[
        int | None,
        typer.Option("--run", metavar="ID", help="With --log: this run.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """One experiment: what was claimed, run, measured and decided."""
    from nightlab.cli import showing  # noqa: PLC0415  loaded on use

    showing.check(number, diff=diff, log=log, run=run, as_json=as_json)
    place = base.place(directory, tag)
    experiment = showing.find(place, number)
    if diff:
        showing.tell_diff(place, experiment)
    elif log:
        showing.tell_log(place, experiment, run)
    elif as_json:
        base.emit_pretty(showing.as_json(place, experiment))
    else:
        base.say(*showing.lines(place, experiment))
    return 0


def report(
    directory: Directory = None,
    tag: Tag = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="Write into DIR. Default: .nightlab/TAG/report.",
            show_default=False,
        ),
    ] = None,
    ledger: Annotated[
        Path | None,
        typer.Option(
            "--import",
            metavar="PATH",
            help="Not a study: another loop's ledger, into --out or PATH's name-report.",
            show_default=False,
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            metavar="MOMENT",
            help="Only what happened since: yesterday, 8h, 07:00, a date, an experiment's number.",
            show_default=False,
        ),
    ] = None,
    better: BetterFlag = None,
    metric: MetricFlag = None,
    segment: SegmentFlag = None,
    as_json: AsJson = False,
) -> int:
    """The debrief, for a person at breakfast: report.html, report.md, the plot of the night."""
    if ledger or better or metric or segment is not None:
        return importing.report(
            ledger, out=out, better=better, metric=metric, segment=segment, as_json=as_json
        )
    from nightlab.cli import drawing  # noqa: PLC0415  loaded on use

    return drawing.tell(base.place(directory, tag), out, since=since, as_json=as_json)


def export(
    directory: Directory = None,
    tag: Tag = None,
    format_: Annotated[Format, typer.Option("--format", help="How to write it.")] = Format.TSV,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="Write to FILE (default: print); of a tracker, its URI or folder.",
            show_default=False,
        ),
    ] = None,
    runs: Annotated[
        bool, typer.Option("--runs", metavar="", help="With csv: a row per run.")
    ] = False,
) -> int:
    """Every experiment, for a table or a program."""
    from nightlab.cli import exporting  # noqa: PLC0415  loaded on use

    place = base.place(directory, tag)
    if runs and format_ is not Format.CSV:
        raise UsageError("--runs is of csv", "", "nightlab export --format csv --runs")
    if format_ in (Format.MLFLOW, Format.WANDB, Format.TENSORBOARD):
        from nightlab.exchange import trackers  # noqa: PLC0415  loaded on use

        added, where = trackers.export(format_.value, place.history(), out)
        base.say(f"{added} experiments added to {where}", stderr=True)
        return 0
    pieces = exporting.pieces(place.history(), format_, runs=runs)
    if out is None:
        exporting.to_stdout(pieces)
    else:
        with Path(out).expanduser().open("w", encoding="utf-8", errors="backslashreplace") as file:
            file.writelines(pieces)
        base.say(f"wrote {out}", stderr=True)
    return 0
