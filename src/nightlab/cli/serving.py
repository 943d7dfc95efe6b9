"""The other way round: ``mcp`` lets an agent hold the loop, ``skill`` tells the agent how."""

from __future__ import annotations

import json
import shutil
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nightlab import config
from nightlab.cli import base
from nightlab.cli.base import AsJson, Directory
from nightlab.config import Paths
from nightlab.errors import EXIT_DONE, EXIT_ERROR, NightlabError, UsageError

if TYPE_CHECKING:
    from nightlab.skill import Step
    from nightlab.skill.agents import Order


class Verb(StrEnum):
    """What ``skill`` does."""

    INSTALL = "install"
    UNINSTALL = "uninstall"
    STOP_HOOK = "stop-hook"


class Scope(StrEnum):
    """Whom it is for."""

    PROJECT = "project"
    USER = "user"


def register(app: typer.Typer) -> None:
    """Add these verbs to the application."""
    app.command(
        rich_help_panel=base.AGENTS,
        epilog="[bold]Examples[/bold]\n  nightlab skill install    writes the configuration that"
        " starts this\n  claude mcp add nightlab -- nightlab mcp\n"
        "\nIt speaks the Model Context Protocol on stdin and stdout: a program starts it.",
    )(mcp)
    app.command(
        rich_help_panel=base.AGENTS,
        epilog="[bold]Examples[/bold]\n  nightlab skill install                  for Claude Code\n"
        "  nightlab skill install --agent codex --dry-run\n"
        "  nightlab skill uninstall\n"
        '\nThen say to the agent: "start autoresearch on my training code" (开始自动实验).\n'
        "\nNo file of yours is overwritten; what cannot be merged is told with what to add."
        "\nstop-hook is for Claude Code: it reads the hook's JSON and holds an open session.",
    )(skill)


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


def skill(
    verb: Annotated[
        Verb,
        typer.Argument(metavar="VERB", help="install, uninstall or stop-hook.", show_default=False),
    ],
    agent: Annotated[
        list[str] | None,
        typer.Option(
            "--agent",
            metavar="NAME",
            help="claude, codex, gemini or opencode; may be given more than once. Default: claude.",
            show_default=False,
        ),
    ] = None,
    scope: Annotated[
        Scope, typer.Option("--scope", help="For this project, or for you everywhere.")
    ] = Scope.PROJECT,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", metavar="", help="Show what would change; change nothing.")
    ] = False,
    directory: Directory = None,
    as_json: AsJson = False,
) -> int:
    """Teach an agent to run the lab: the skill, its MCP configuration, its permissions."""
    if verb is Verb.STOP_HOOK:
        return _stop_hook()
    from nightlab import skill as skills  # noqa: PLC0415  loaded on use
    from nightlab.skill.agents import AGENTS  # noqa: PLC0415

    agents = agent or ["claude"]
    if unknown := [name for name in agents if name not in AGENTS]:
        raise UsageError(
            f"no agent is called {unknown[0]!r} here",
            f"nightlab writes for {', '.join(AGENTS)}; others: docs/mcp.md says what they need",
            "nightlab skill install --agent claude",
        )
    order = _order(directory, scope)
    receipt = skills.receipt_in(Paths(order.root).state)
    if not order.user and not dry_run:
        Paths(order.root).make_state()
    told: list[str] = []
    if verb is Verb.INSTALL:
        steps, told = skills.install(order, agents, receipt, dry_run=dry_run)
    else:
        steps = skills.uninstall(receipt, dry_run=dry_run)
    return _tell(steps, told, dry_run=dry_run, as_json=as_json)


def _order(directory: Path | None, scope: Scope) -> Order:
    from nightlab.skill.agents import Order  # noqa: PLC0415  loaded on use

    folder = base.folder(directory)
    root = config.find_root(folder)
    sealed = [f"{config.STATE_NAME}/**", "results.tsv"]
    if root is not None:
        settings = config.load(root)
        sealed += [*settings.protect, *settings.hidden]
    user = scope is Scope.USER
    found = Path.home() if user else root or folder
    return Order(found, user, _program(), tuple(dict.fromkeys(sealed)))


def _program() -> tuple[str, ...]:
    """How an agent starts this very nightlab."""
    own = Path(sys.executable).with_name("nightlab")
    on_path = shutil.which("nightlab")
    if on_path is not None and Path(on_path).resolve() in (
        own.resolve(),
        Path(sys.argv[0]).resolve(),
    ):
        return ("nightlab",)
    return (str(own),) if own.exists() else (sys.executable, "-m", "nightlab")


def _tell(steps: list[Step], told: list[str], *, dry_run: bool, as_json: bool) -> int:
    refused = [step for step in steps if step.state in ("refused", "kept")]
    if as_json:
        listed = [
            {
                "path": s.path,
                "what": s.what,
                "state": s.state,
                "why": s.why or None,
                "diff": s.diff or None,
            }
            for s in steps
        ]
        base.emit({"dry_run": dry_run, "steps": listed, "then": told})
    else:
        would = "would be " if dry_run else ""
        for step in steps:
            state = "is there already" if step.state == "there" else f"{would}{step.state}"
            why = f": {step.why}" if step.why else ""
            base.say(f"{step.path}  {step.what} {state}{why}")
            if dry_run:
                base.say(*(f"  {line}" for line in step.diff.splitlines()))
        base.say(*(told if steps else ["nothing to do"]))
    return EXIT_ERROR if refused else EXIT_DONE


def _stop_hook() -> int:
    """Never an error: a hook that fails would get in the person's way."""
    from nightlab.skill import hook  # noqa: PLC0415  loaded on use

    try:
        asked = json.load(sys.stdin)
        answer = hook.decide(asked) if isinstance(asked, dict) else None
    except (OSError, ValueError, RecursionError, NightlabError):
        answer = None
    if answer is not None:
        base.emit(answer)
    return EXIT_DONE
