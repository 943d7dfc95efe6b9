"""What other loops' ledgers claim, for a researcher: ideas, and no measurement of this study."""

from __future__ import annotations

from collections.abc import Iterator

from nightlab.brief.pieces import listed, number, one_line, signed
from nightlab.history import History
from nightlab.model import Prior


def section(history: History, room: int) -> str:
    """The ideas of every imported ledger, what they kept first; "" without one."""
    if not history.priors:
        return ""
    ledgers = list(history.priors.values())
    said = "; ".join(
        f"{one_line(p.source, 60)} ({p.rows} rows, {one_line(p.metric, 40)}, {p.better.value} is "
        "better)"
        for p in ledgers[-3:]
    )
    title = (
        f"# Prior ideas, to be re-validated: claims of another loop ({said}). Measured on other "
        "code, another machine, often once: none counts here before it is measured here"
    )

    def lines() -> Iterator[str]:
        for kept in (True, False):
            for ledger in reversed(ledgers):
                wanted = (i for i in ledger.ideas if (i.status == "keep") is kept)
                yield from map(_line, wanted)

    return listed(title, lines(), room, more="and others")


def _line(idea: Prior) -> str:
    told = f"it kept this ({signed(idea.gain)})" if idea.gain is not None else "it kept this"
    if idea.status != "keep":
        value = f" at {number(idea.value)}" if idea.value is not None else ""
        told = f"there: {idea.status}{value}"
    category = f"{one_line(idea.category, 40)}: " if idea.category else ""
    return f"{category}{one_line(idea.text, 220)} · {told}"
