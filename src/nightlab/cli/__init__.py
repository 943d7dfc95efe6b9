"""The command line: thin. Verbs read through views and act through the engine.

``app`` is the typer application; ``main`` runs it and turns every ending into an exit code
(design: 0 done, 1 expected error, 2 usage, 3 a bug, 4 a bound without a keep, 130 interrupted).
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import Abort, TyperException

from nightlab import __version__
from nightlab.cli import (
    asking,
    base,
    bugs,
    checking,
    demonstrating,
    finalizing,
    importing,
    reading,
    running,
    serving,
    setting_up,
    watching,
)
from nightlab.errors import (
    EXIT_BUG,
    EXIT_DONE,
    EXIT_ERROR,
    EXIT_INTERRUPTED,
    NightlabError,
    UsageError,
)

__all__ = ["app", "main"]

# What the machine refuses is the person's to mend, not a bug of ours.
_MACHINE = {
    errno.ENOENT: "ls -ld the folder that should hold it",
    errno.ENOTDIR: "ls -ld the folder that should hold it",
    errno.ENOSPC: "df -h .",
    errno.EDQUOT: "df -h .",
    errno.EFBIG: "ulimit -f; df -h .",
    errno.EROFS: "ls -ld . .nightlab",
    errno.EACCES: "ls -ld . .nightlab",
    errno.EPERM: "ls -ld . .nightlab",
    errno.EIO: "dmesg | tail",
    errno.EMFILE: "ulimit -n 4096",
    errno.EEXIST: "ls -ld . .nightlab",
    errno.EISDIR: "ls -ld . .nightlab",
}


class _PlainHelp:
    """Its ``--help`` is shown as the other flags are: without a type beside it."""

    def get_help_option(self, ctx: Any) -> Any:
        option = super().get_help_option(ctx)  # type: ignore[misc]
        if option is not None:
            option.metavar = ""
        return option


class _Verb(_PlainHelp, TyperCommand): ...


class _Verbs(_PlainHelp, TyperGroup): ...


class _App(typer.Typer):
    def command(self, *args: Any, **options: Any) -> Any:
        return super().command(*args, cls=_Verb, **options)


app = _App(
    name="nightlab",
    cls=_Verbs,
    no_args_is_help=False,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Every verb has examples: [bold]nightlab run --help[/bold]",
)


def _version(value: bool) -> None:
    if value:
        base.say(f"nightlab {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _first_screen(
    context: typer.Context,
    _version_asked: Annotated[
        bool,
        typer.Option(
            "--version", metavar="", help="Print the version.", callback=_version, is_eager=True
        ),
    ] = False,
) -> int:
    """Autoresearch overnight, the truth in the morning.

    Your first night:

      [bold]nightlab init[/bold]                 look at the script, write nightlab.toml
      [bold]nightlab run --until 07:00[/bold]    propose, run, judge, keep what really helps
      [bold]nightlab report[/bold]               the debrief, with a plot

    No script at hand? [bold]nightlab demo[/bold] does all of it in three minutes.
    """
    if context.invoked_subcommand is None:
        base.say(context.get_help())
    return EXIT_DONE


for _group in (
    setting_up,
    running,
    reading,
    finalizing,
    asking,
    importing,
    serving,
    checking,
    demonstrating,
    watching,
):
    _group.register(app)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code and never raises."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a path need not be UTF-8, nor the terminal
            stream.reconfigure(errors="backslashreplace")
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _run(words)
    except OSError:  # there is nobody left to tell
        return EXIT_ERROR
    finally:
        _let_go()


def _run(words: Sequence[str]) -> int:
    as_json = "--json" in words
    try:
        return int(app(words, prog_name="nightlab", standalone_mode=False) or EXIT_DONE)
    except (KeyboardInterrupt, Abort):
        base.say("interrupted", stderr=True)
        return EXIT_INTERRUPTED
    except SystemExit as end:  # a closed pipe, as typer ends it
        return end.code if isinstance(end.code, int) else EXIT_BUG
    except NightlabError as error:
        base.tell_error(error, as_json=as_json)
        return error.exit_code
    except TyperException as error:
        wrong = _usage(error, words)
        base.tell_error(wrong, as_json=as_json)
        return wrong.exit_code
    except OSError as error:
        if error.errno not in _MACHINE:
            return bugs.tell(error, words, as_json=as_json)
        refused = _refused(error)
        base.tell_error(refused, as_json=as_json)
        return refused.exit_code
    except Exception as error:  # noqa: BLE001 - the last line of defence: a log, no traceback
        return bugs.tell(error, words, as_json=as_json)


def _let_go() -> None:
    """Flush; what cannot be written any more goes nowhere, and changes no exit code."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _usage(error: TyperException, words: Sequence[str]) -> UsageError:
    verb = next((w for w in words if not w.startswith("-")), "")
    known = any(
        verb == (c.name or getattr(c.callback, "__name__", "")) for c in app.registered_commands
    )
    help_line = f"nightlab {verb} --help" if known else "nightlab --help"
    return UsageError(
        error.format_message().splitlines()[0].rstrip("."),
        "the command line is not understood",
        help_line,
    )


def _refused(error: OSError) -> NightlabError:
    where = f": {error.filename}" if error.filename else ""
    return NightlabError(
        f"the machine refused{where}",
        error.strerror or str(error),
        _MACHINE.get(error.errno or 0, "nightlab doctor"),
    )
