"""The text of nightlab.toml and of a starter program.md. Pure: strings out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from nightlab.errors import ConfigError
from nightlab.model import Better
from nightlab.process import clean

_PROGRAM = """\
# {name}

What this is about, for a researcher that reads (the embedded optimizer does not). Change it freely.

## The aim

Bring `{metric}` {way}: {metric} is what `{command}` prints, and {better} is better.

## The rules

- Only {edit} may change.
- One run has {budget}; it is killed at twice that.
- Shorter code with an equal result is progress too.

## What is known

(What have you tried? What do you suspect? Bugs first: the largest gain is often a mistake.)

(Phases, if you like: headings such as `## Phase: tuning (20 experiments, one change)`, each with
what to do in it. The last one goes on until you stop: see docs/program.md.)
"""


@dataclass(frozen=True)
class Chosen:
    """What goes into the file.

    ``evaluate`` seals the study; ``recommended`` would, and stands there as a comment, with
    ``why_sealed`` for the person. All three are "" where there is nothing to say.
    """

    command: str
    metric: str
    better: Better
    edit: tuple[str, ...]
    budget: str
    researcher: str
    data: tuple[str, ...]
    outside: tuple[str, ...]
    evaluate: str = ""
    recommended: str = ""
    why_sealed: str = ""


def config_text(chosen: Chosen, *, guard: bool) -> str:
    """nightlab.toml, small enough to read aloud."""
    data = (
        f"data    = {_list(chosen.data)}  # not in git: linked into every run\n"
        if chosen.data
        else ""
    )
    example = (
        '\n# [guards]\n# peak_vram_mb = "<= baseline * 1.2"  # a guard vetoes a keep\n'
        if guard
        else ""
    )
    sandbox = (
        f"\n[sandbox]\nread    = {_list(chosen.outside)}  # the box shows nothing else of yours\n"
        if chosen.outside
        else ""
    )
    return (
        "[study]\n"
        f"command = {_string(chosen.command)}  # run in a fresh copy of the incumbent's commit\n"
        f"edit    = {_list(chosen.edit)}  # may change; everything else is protected\n"
        f"{data}"
        f"budget  = {_string(chosen.budget)}  # handed over as TIME_BUDGET; killed at twice that\n"
        "\n[objective]\n"
        f"metric  = {_string(chosen.metric)}\n"
        f"better  = {_string(chosen.better.value)}\n"
        f"{_sealing(chosen)}"
        f"{example}"
        "\n[researcher]\n"
        f"use     = {_string(chosen.researcher)}\n"
        f"{sandbox}"
    )


def _sealing(chosen: Chosen) -> str:
    if chosen.evaluate:
        return f"evaluate = {_string(chosen.evaluate)}  # measures, in a box of its own\n"
    if chosen.recommended:
        line = f"# evaluate = {_string(chosen.recommended)}"
        return f"{line}  # seals it: loads what training saved in $NIGHTLAB_ARTIFACT\n"
    return ""


def _list(values: Sequence[str]) -> str:
    return "[" + ", ".join(map(_string, values)) + "]"


def _string(text: str) -> str:
    """A TOML basic string. Raises ConfigError for bytes that no TOML file can hold."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"{clean(text)!r} cannot be written into nightlab.toml",
            "it is not UTF-8, and TOML is",
            "rename the file, then: nightlab init",
        ) from error
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def program_text(name: str, chosen: Chosen) -> str:
    """program.md for a project that has none."""
    return _PROGRAM.format(
        name=clean(name).replace("\n", " ") or "The study",
        metric=chosen.metric,
        way="down" if chosen.better is Better.LOWER else "up",
        command=chosen.command,
        better=chosen.better.value,
        edit=", ".join(f"`{path}`" for path in chosen.edit),
        budget=chosen.budget,
    )
