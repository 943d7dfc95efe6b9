"""The environment of every git call."""

from __future__ import annotations

import os

_IDENTITY = ("nightlab", "nightlab@localhost")


def environment() -> dict[str, str]:
    """The caller's environment without GIT_*: a hook or alias must not redirect us."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    env |= {
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        # A hash means its own content, whatever a run has put below refs/replace.
        "GIT_NO_REPLACE_OBJECTS": "1",
        "LC_ALL": "C",
        "GIT_AUTHOR_NAME": _IDENTITY[0],
        "GIT_AUTHOR_EMAIL": _IDENTITY[1],
        "GIT_COMMITTER_NAME": _IDENTITY[0],
        "GIT_COMMITTER_EMAIL": _IDENTITY[1],
    }
    return env
