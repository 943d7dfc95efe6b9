"""Words to a running lab: ``stop`` and ``note``."""

from __future__ import annotations

from typing import Annotated

import typer

from nightlab import inbox
from nightlab.cli import base
from nightlab.cli.base import AsJson, Directory, Tag
from nightlab.errors import NightlabError, UsageError


def register(app: typer.Typer) -> None:
    """Add these verbs to the application."""
    app.command(
        rich_help_panel=base.MEANWHILE,
        epilog="[bold]Examples[/bold]\n  nightlab stop          after the run in flight\n"
        "  nightlab stop --now    at once; the run counts for nothing",
    )(stop)
    app.command(
        rich_help_panel=base.MEANWHILE,
        epilog="[bold]Examples[/bold]\n  nightlab note 'try a lower warmup'\n"
        "  nightlab note 'leave the tokenizer alone'\n"
        "\nA researcher that reads is shown it with its next proposal; the embedded ones do not.",
    )(note)


def stop(
    directory: Directory = None,
    tag: Tag = None,
    now: Annotated[
        bool, typer.Option("--now", metavar="", help="Do not wait for the run in flight: end it.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Ask the running lab to end; nothing is lost."""
    place = base.place(directory, tag)
    if not place.locked():
        raise NightlabError(
            f"no lab works on study {place.tag}",
            "there is nothing to stop",
            "nightlab status",
        )
    inbox.send(place.paths.inbox(place.tag), "stop", now=now)
    if as_json:
        base.emit({"asked": "stop", "now": now, "tag": place.tag})
    else:
        when = "at once" if now else "after the run in flight"
        base.say(f"asked: the lab on study {place.tag} ends {when}")
    return 0


def note(
    text: Annotated[str, typer.Argument(help="What the researcher should know.")],
    directory: Directory = None,
    tag: Tag = None,
    as_json: AsJson = False,
) -> int:
    """Tell the researcher something, while it works or before."""
    place = base.place(directory, tag)
    if not text.strip():
        raise UsageError("the note is empty", "", "nightlab note 'try a lower warmup'")
    if len(text) > inbox.MAX_TEXT_CHARS:
        raise UsageError(
            f"the note has {len(text)} characters",
            f"at most {inbox.MAX_TEXT_CHARS} are passed on",
            "put the long form into program.md, which the researcher reads too",
        )
    inbox.send(place.paths.inbox(place.tag), "note", text=text)
    locked = place.locked()
    if as_json:
        base.emit({"noted": text, "tag": place.tag, "running": locked})
    else:
        when = "with its next proposal" if locked else "when the lab runs again"
        base.say(
            f"noted: a researcher that reads is shown it {when} (optuna and sweep do not read)"
        )
    return 0
