"""A study into experiment trackers, through their own libraries: extras, loaded on use.

Each ``export`` adds what the tracker does not have of the study yet, and returns how many
experiments that were: called again while a study runs, it brings the tracker up to date.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from nightlab.errors import UsageError
from nightlab.history import History

TRACKERS = {  # name -> (module, where to by default)
    "mlflow": ("nightlab.exchange.trackers.mlflow", "sqlite:///mlflow.db"),
    "wandb": ("nightlab.exchange.trackers.wandb", "wandb-offline"),
    "tensorboard": ("nightlab.exchange.trackers.tensorboard", "tensorboard"),
}


def export(name: str, history: History, to: str | None) -> tuple[int, str]:
    """(experiments added, where to). Raises UsageError without the tracker's library."""
    module, default = TRACKERS[name]
    try:
        exporter: Callable[[History, str], int] = import_module(module).export
    except ImportError as error:
        raise missing(name, str(error)) from error
    return exporter(history, to or default), to or default


def missing(name: str, why: str) -> UsageError:
    """The error for a tracker whose library is not there."""
    return UsageError(
        f"the library for {name} is not installed",
        why,
        f"pip install 'nightlab[{name}]'  (or: uv tool install 'nightlab[{name}]')",
    )
