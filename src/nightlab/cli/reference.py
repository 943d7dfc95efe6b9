"""The reference page, made from the commands themselves.

``python -m nightlab.cli.reference > docs/cli.md``; a test holds the page against it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import Any

import typer

from nightlab.cli import app

_HEAD = """\
# The command line

Made by `python -m nightlab.cli.reference > docs/cli.md`; do not edit it by hand.

The project is the nearest folder at or above this one that holds a `nightlab.toml`; `-C DIR`
names another. Every verb that reads can be used while a lab runs. With `--json` an error is
`{"error": {"what", "why", "hint", "exit_code"}}` on stdout; without, it is three lines on stderr:
what happened, why, and what to try.

| exit code | means |
|---|---|
| 0 | done |
| 1 | an expected error; also a baseline that does not run, and `doctor` with something to mend |
| 2 | the command line or nightlab.toml is wrong |
| 3 | a bug in nightlab; the line names a file to send in |
| 4 | the run came to its end without a keep in the study; `finalize` has no win to show |
| 130 | interrupted |
"""


def render() -> str:
    """The whole page as Markdown."""
    group: Any = typer.main.get_command(app)
    parts = [_HEAD, *(section(name, command) for name, command in group.commands.items())]
    return "\n".join(parts)


def section(name: str, command: Any) -> str:
    """One verb."""
    options = [p for p in command.params if p.opts[0].startswith("-")]
    arguments = [p for p in command.params if p not in options]
    usage = " ".join(["nightlab", name, *(p.metavar or p.name.upper() for p in arguments)])
    lines = [f"## {name}", "", _plain(command.help), "", "```", f"{usage} [OPTIONS]", "```", ""]
    lines += ["| | |", "|---|---|"]
    lines += [f"| `{p.metavar or p.name.upper()}` | {_plain(p.help)} |" for p in arguments]
    lines += [f"| {_names(p)} | {_plain(p.help)}{_default(p)} |" for p in options]
    lines += ["", *_examples(command.epilog or "")]
    return "\n".join(lines)


def _names(option: Any) -> str:
    value = "" if option.is_flag else f" {_value(option)}"
    return ", ".join(f"`{name}{value}`" for name in option.opts)


def _value(option: Any) -> str:
    if option.metavar:
        return str(option.metavar)
    choices = option.type_descriptor.choices or ()
    return "{" + ",".join(str(getattr(c, "value", c)) for c in choices) + "}"


def _default(option: Any) -> str:
    if option.is_flag or not option.show_default or option.default is None:
        return ""
    return f" Default: {getattr(option.default, 'value', option.default)}."


def _plain(text: str | None) -> str:
    """Without the terminal's markup."""
    bare = re.sub(r"(?<!\\)\[/?[a-z ]+\]", "", text or "").replace("\\[", "[")
    return bare.replace("|", "\\|") if "\n" not in bare else bare


def _examples(epilog: str) -> Iterator[str]:
    """Lines that begin with spaces are commands; the other paragraphs are prose."""
    lines = epilog.split("\n")
    commands = [line[2:] for line in lines if line.startswith("  ")]
    if commands:
        yield from ("```", *commands, "```", "")
    for line in lines:
        if line and not line.startswith(("  ", "[bold]")):
            yield from (_plain(line), "")


if __name__ == "__main__":
    sys.stdout.write(render())
