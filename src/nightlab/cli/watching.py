"""The dashboard: ``ui``."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nightlab.cli import base
from nightlab.cli.base import AsJson, Directory

if TYPE_CHECKING:
    from nightlab.web.serving import Address


def register(app: typer.Typer) -> None:
    """Add these verbs to the application."""
    app.command(
        rich_help_panel=base.NIGHT,
        epilog="[bold]Examples[/bold]\n  nightlab ui\n"
        "  nightlab ui ~/lm ~/lm-claude          two projects side by side\n"
        "  ssh -L 8737:127.0.0.1:8737 gpubox     then open the link that it printed there\n"
        "\nThe link holds a token: whoever has it may read the studies and leave notes.",
    )(ui)


def ui(
    directories: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[DIR]...", help="Projects to show. Default: this one.", show_default=False
        ),
    ] = None,
    directory: Directory = None,
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Where to listen.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(
            "--port",
            metavar="N",
            min=0,
            max=65535,
            help="Default: 8737, or where that is taken any; 0: any.",
            show_default=False,
        ),
    ] = None,
    opening: Annotated[
        bool | None,
        typer.Option(
            "--open/--no-open", help="Open a browser. Default: on a desktop.", show_default=False
        ),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """The dashboard in the browser: watch the studies of a project, and have a say."""
    from nightlab.web import serving  # noqa: PLC0415  loaded on use

    asked = [*([directory] if directory else []), *(directories or ())]
    roots = list(dict.fromkeys(base.project(one) for one in asked or [None]))
    wanted = opening if opening is not None else not as_json and _desktop()
    with _door() as door:

        def ready(address: Address) -> None:
            if as_json:
                told = {"url": address.url, "token": address.token, "host": host}
                base.emit({**told, "port": address.port, "projects": [str(r) for r in roots]})
            else:
                base.say(
                    *(f"watching {root}" for root in roots),
                    f"open  {address.url}",
                    "(whoever has this link may read and ask; Ctrl-C ends the dashboard,"
                    " not the lab)",
                )
                if host not in ("127.0.0.1", "::1", "localhost"):
                    base.say("this connection is not encrypted; better: ssh -L  (docs/ui.md)")
            if wanted:
                _open(address.url, door)

        serving.serve(roots, host, port, ready)
    return 0


def _desktop() -> bool:
    """Whether a browser would open in front of the person, and not in the terminal or afar."""
    if not base.is_terminal() or os.environ.get("SSH_CONNECTION"):
        return False
    shown = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return sys.platform == "darwin" or bool(shown)


@contextmanager
def _door() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="nightlab-ui-") as folder:
        yield Path(folder) / "open.html"


def _open(url: str, door: Path) -> None:
    """Open a browser by way of a file that is ours alone: other users see command lines."""
    import webbrowser  # noqa: PLC0415  loaded on use
    from html import escape  # noqa: PLC0415

    page = f'<!doctype html><meta http-equiv="refresh" content="0;url={escape(url)}">'
    door.write_text(f'{page}<a href="{escape(url)}">nightlab</a>\n', encoding="utf-8")
    webbrowser.open(door.as_uri())
