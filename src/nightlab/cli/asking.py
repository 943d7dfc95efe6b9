"""Words to a running lab: ``stop``, ``pause``, ``resume`` and ``note``."""

from __future__ import annotations

import math
from pathlib import Path
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
        epilog="[bold]Examples[/bold]\n  nightlab pause     the GPU is yours after this run\n"
        "  nightlab resume    and the lab's again",
    )(pause)
    app.command(
        rich_help_panel=base.MEANWHILE,
        epilog="[bold]Examples[/bold]\n  nightlab resume",
    )(resume)
    app.command(
        rich_help_panel=base.MEANWHILE,
        epilog="[bold]Examples[/bold]\n  nightlab note 'try a lower warmup'\n"
        "  nightlab note 'leave the tokenizer alone'\n"
        "  nightlab note --idea 'cosine instead of linear decay'\n"
        "  nightlab note --priority 12=5\n"
        "  nightlab note --veto 12\n"
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
    place = _running(directory, tag, "there is nothing to stop")
    inbox.send(place.paths.inbox(place.tag), "stop", now=now)
    if as_json:
        base.emit({"asked": "stop", "now": now, "tag": place.tag})
    else:
        when = "at once" if now else "after the run in flight"
        base.say(f"asked: the lab on study {place.tag} ends {when}")
    return 0


def pause(directory: Directory = None, tag: Tag = None, as_json: AsJson = False) -> int:
    """Ask the running lab to wait: the runs in flight end, nothing new begins."""
    place = _running(directory, tag, "there is nothing to pause")
    inbox.send(place.paths.inbox(place.tag), "pause")
    if as_json:
        base.emit({"asked": "pause", "tag": place.tag})
    else:
        base.say(
            f"asked: the lab on study {place.tag} waits after the run in flight; "
            "it goes on with: nightlab resume"
        )
    return 0


def resume(directory: Directory = None, tag: Tag = None, as_json: AsJson = False) -> int:
    """Let a paused lab go on. A study that was stopped goes on with: nightlab run."""
    place = _running(directory, tag, "a study that was stopped goes on when it is run", "run")
    inbox.send(place.paths.inbox(place.tag), "resume")
    if as_json:
        base.emit({"asked": "resume", "tag": place.tag})
    else:
        base.say(f"asked: the lab on study {place.tag} goes on")
    return 0


def _running(directory: Path | None, tag: str | None, why: str, hint: str = "status") -> base.Place:
    """The place of a study that a lab works on now. Raises NightlabError where none does."""
    place = base.place(directory, tag)
    if not place.locked():
        raise NightlabError(f"no lab works on study {place.tag}", why, f"nightlab {hint}")
    return place


def note(
    text: Annotated[
        str,
        typer.Argument(
            metavar="[TEXT]", help="What the researcher should know.", show_default=False
        ),
    ] = "",
    directory: Directory = None,
    tag: Tag = None,
    idea: Annotated[
        str,
        typer.Option(
            "--idea", metavar="TEXT", help="Put an idea into the backlog.", show_default=False
        ),
    ] = "",
    priority: Annotated[
        str,
        typer.Option(
            "--priority",
            metavar="[ID=]N",
            help="Higher is sooner: of the new --idea, or ID=N of one in the backlog.",
            show_default=False,
        ),
    ] = "",
    veto: Annotated[
        int | None,
        typer.Option(
            "--veto", metavar="ID", help="Take an idea out of the backlog.", show_default=False
        ),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Tell the researcher something, while it works or before; or tend its backlog of ideas."""
    from nightlab import nudges  # noqa: PLC0415  loaded on use

    place = base.place(directory, tag)
    message = nudges.check(_message(text, idea, priority, veto))
    if message.idea is not None:
        nudges.check_known(place.history(), message.idea)
    inbox.send(
        place.paths.inbox(place.tag),
        message.kind,
        text=message.text,
        idea=message.idea,
        priority=message.priority,
    )
    locked = place.locked()
    if as_json:
        told = {"noted": message.text, "kind": message.kind, "idea": message.idea}
        base.emit({**told, "priority": message.priority, "tag": place.tag, "running": locked})
    else:
        base.say(f"noted: {nudges.told(message, locked=locked)}")
    return 0


def _message(text: str, idea: str, priority: str, veto: int | None) -> inbox.Message:
    """What the flags say. Raises UsageError where they say nothing, or two things."""
    hint = "nightlab note 'try a lower warmup'"
    target, _, number = priority.rpartition("=")
    kinds = [bool(text.strip()), bool(idea.strip()), veto is not None, bool(target)]
    if not any(kinds):
        if priority:
            raise UsageError(
                "--priority says not of which idea", "", "nightlab note --priority 12=5"
            )
        raise UsageError("the note is empty", "", hint)
    if sum(kinds) > 1:
        raise UsageError("one thing at a time: a note, --idea, --veto or --priority ID=N", "", hint)
    if priority and (text.strip() or veto is not None):
        raise UsageError("only ideas have a priority", "", "nightlab note --priority 12=5")
    words = text if text.strip() else idea
    rank = None
    if priority:
        try:
            rank, known = float(number), int(target) if target else None
        except ValueError:
            rank, known = math.nan, None
        if not math.isfinite(rank):
            raise UsageError(
                f"--priority {priority!r}", "it must be N or ID=N", "nightlab note --priority 12=5"
            )
        if target:
            return inbox.Message("priority", idea=known, priority=rank)
    if veto is not None:
        return inbox.Message("veto", idea=veto)
    return inbox.Message("note" if text.strip() else "idea", text=words, priority=rank)
