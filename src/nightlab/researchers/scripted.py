"""A researcher that plays a list: for tests, for demonstrations, for a recipe one already has.

A step is a Proposal, a callable that makes one from the context, an exception to raise, or
a table as it stands in a script file::

    {"description": "raise LR",
     "replace": [{"path": "train.py", "old": "LR = 0.1", "new": "LR = 0.3"}]}
    {"description": "rewrite", "path": "train.py", "text": "…"}
    {"raise": "the model is overloaded"}

``hypothesis`` and ``category`` are optional in a table; ``"text": null`` removes the file.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from nightlab.errors import ConfigError, Exhausted, ResearcherError
from nightlab.model import Experiment, Proposal
from nightlab.researchers import Context, Settings

Step = Proposal | Exception | Callable[[Context], Proposal] | Mapping[str, Any]

_KEYS = ("description", "hypothesis", "category", "replace", "path", "text", "raise")


class ScriptedResearcher:
    """Plays ``steps`` in order, then raises Exhausted.

    A step that raises is used up too. Told of experiments of its own that it did not propose
    (a resumed study), it goes on behind them.
    """

    name = "scripted"

    def __init__(self, steps: Iterable[Step]) -> None:
        self._steps = tuple(steps)
        self._next = 0
        self._proposed = 0
        self._learned = 0

    def propose(self, context: Context) -> Proposal:
        if self._next >= len(self._steps):
            raise Exhausted(
                f"the script of {len(self._steps)} steps has ended",
                "each step is played once",
                "nightlab report",
            )
        step = self._steps[self._next]
        self._next += 1
        if isinstance(step, Exception):
            raise step
        if isinstance(step, Proposal):
            made = step
        elif callable(step):
            made = step(context)
        else:
            made = _play(step, context)
        self._proposed += 1
        return made if made.researcher else msgspec.structs.replace(made, researcher=self.name)

    def learn(self, experiment: Experiment) -> None:
        if experiment.claim.researcher != self.name:
            return
        self._learned += 1
        while self._proposed < self._learned and self._next < len(self._steps):
            self._proposed += not _raises(self._steps[self._next])
            self._next += 1


def from_settings(settings: Settings) -> ScriptedResearcher:
    """Load ``settings.script``, a JSON or TOML file with a list ``steps`` (JSON: or just the list).

    A relative path counts from the working directory. Raises ConfigError for a file that
    cannot be read and for a step that is not one.
    """
    if not settings.script:
        raise ConfigError(
            "the scripted researcher has no script",
            "[researcher] script is empty",
            'set script = "steps.json" in the [researcher] table of nightlab.toml',
        )
    path = Path(settings.script)
    try:
        text = path.read_text(encoding="utf-8")
        loaded = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"the script {settings.script} cannot be read", str(error), "check [researcher] script"
        ) from error
    steps = loaded.get("steps") if isinstance(loaded, dict) else loaded
    if not isinstance(steps, list):
        raise _wrong(settings.script, "it has no list of steps")
    for at, step in enumerate(steps, 1):
        _check(f"step {at} of {settings.script}", step)
    return ScriptedResearcher(steps)


def _raises(step: Step) -> bool:
    return isinstance(step, Exception) or (isinstance(step, Mapping) and "raise" in step)


def _play(step: Mapping[str, Any], context: Context) -> Proposal:
    if "raise" in step:
        raise ResearcherError(str(step["raise"]), "the script says so", "nightlab run")
    files: dict[str, str | None] = {}
    if "path" in step:
        files[step["path"]] = step["text"]
    for edit in step.get("replace", ()):
        path, old = edit["path"], edit["old"]
        text = files.get(path, context.files.get(path))
        if text is None or text.count(old) != 1:
            times = "is not in scope" if text is None else f"has it {text.count(old)} times"
            raise ResearcherError(
                f"the script's step {step['description']!r} does not fit",
                f"{old!r} must stand exactly once in {path}, which {times}",
                "nightlab status",
            )
        files[path] = text.replace(old, edit["new"])
    return Proposal(
        description=step["description"],
        files=files,
        hypothesis=step.get("hypothesis", ""),
        category=step.get("category", "scripted"),
    )


def _check(where: str, step: object) -> None:
    if not isinstance(step, dict):
        raise _wrong(where, "a step is a table")
    for key in step:
        if key not in _KEYS:
            near = difflib.get_close_matches(str(key), _KEYS, 1, 0.0)
            raise _wrong(where, f"{key!r} is no key of a step; the nearest is {near[0]!r}")
    if "raise" in step:
        return
    if not isinstance(step.get("description"), str):
        raise _wrong(where, "it has no description")
    if ("path" in step) != ("text" in step) or not ("path" in step or "replace" in step):
        raise _wrong(where, "it needs replace, or both path and text")
    edits = step.get("replace", [])
    whole = isinstance(edits, list) and all(
        isinstance(e, dict) and all(isinstance(e.get(k), str) for k in ("path", "old", "new"))
        for e in edits
    )
    if not whole:
        raise _wrong(where, "replace is a list of tables with path, old and new")


def _wrong(where: str, why: str) -> ConfigError:
    example = '{"description": "…", "replace": [{"path": "…", "old": "…", "new": "…"}]}'
    return ConfigError(f"{where} is not a script step", why, f"write a step as {example}")
