"""The ``[final]`` table: what a finalization does beyond baseline against final."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from nightlab.config import values
from nightlab.errors import ConfigError


@dataclass(frozen=True)
class Final:
    """``command`` ("" the study's) and ``budget_s`` (None: the study's) of full-length training.

    ``test`` evaluates what training left on a split that the study never saw, ``hidden`` are
    the paths that exist in its box only, ``pairs`` how often baseline and final are run.
    """

    command: str = ""
    budget_s: float | None = None
    test: str = ""
    hidden: tuple[str, ...] = ()
    pairs: int | None = None

    @property
    def is_long(self) -> bool:
        """Whether there is a full-length training at all."""
        return bool(self.command) or self.budget_s is not None


def read(table: Mapping[str, Any], seen: tuple[str, ...]) -> Final:
    """The table as values; ``seen`` are the paths that other runs may see. Raises ConfigError."""
    command, budget = table.get("command", ""), table.get("budget")
    if command and budget is None:
        raise ConfigError(
            "[final] command is set, but [final] budget is not",
            "full-length training has a budget of its own, handed over as TIME_BUDGET",
            'add  budget = "2h"  under [final]',
        )
    pairs = table.get("pairs")
    if pairs is not None and pairs < 3:
        raise values.bad("[final] pairs", pairs, "a whole number from 3: fewer show nothing")
    hidden = values.paths("[final] hidden", table.get("hidden", []), empty=True)
    if hidden and not table.get("test"):
        raise ConfigError(
            "[final] hidden is set, but [final] test is not",
            "what is hidden from the whole study is only seen by the test command",
            'add  test = "python evaluate.py --split test"  under [final]',
        )
    for name in hidden:
        for other in seen:
            if _within(name, other) or _within(other, name):
                raise ConfigError(
                    f"[final] hidden names {name}, and other runs see it through {other}",
                    "a test split that training or validation saw is none",
                    f"move {name} out of {other}" if name != other else f"take {other} out there",
                )
    return Final(
        command=values.text("[final] command", command) if command else "",
        budget_s=None if budget is None else values.duration_s("[final] budget", budget),
        test=values.text("[final] test", table["test"]) if "test" in table else "",
        hidden=hidden,
        pairs=pairs,
    )


def _within(path: str, folder: str) -> bool:
    return PurePosixPath(path).is_relative_to(PurePosixPath(folder))
