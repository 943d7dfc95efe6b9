"""The debrief: what a person reads in the morning. Pure; who calls it writes the files.

``facts`` computes everything that is said, from the history alone; ``page`` and ``short``
put facts into words. Another format (HTML, a notification) is another writer of Facts.
"""

from __future__ import annotations

from typing import Any

from nightlab.history import History
from nightlab.report.build import facts
from nightlab.report.finalized import facts as final_facts
from nightlab.report.finalized import lines as final_lines
from nightlab.report.finalized import page as final_page
from nightlab.report.finalized import section
from nightlab.report.page import page
from nightlab.report.schema import Facts
from nightlab.report.since import Since, after, since
from nightlab.report.summary import lines

__all__ = [
    "Facts",
    "Since",
    "after",
    "facts",
    "final_facts",
    "final_lines",
    "final_page",
    "markdown",
    "page",
    "short",
    "since",
]


def markdown(
    history: History, *, locked: bool, now: float, plot: str | None = None, **other: Any
) -> str:
    """The debrief in GitHub-flavoured Markdown; ``plot`` is the image's address from there.

    The ``other`` arguments are those of ``facts``.
    """
    found = facts(history, locked=locked, now=now, **other)
    return page(found, plot=plot, final=tuple(section(history)))


def short(history: History, *, locked: bool, now: float, since: Since | None = None) -> str:
    """The debrief in three lines of plain text, for a terminal or a notification."""
    return "\n".join(lines(facts(history, locked=locked, now=now, since=since)))
