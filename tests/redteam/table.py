"""What each sandbox stops, as Markdown: ``python -m tests.redteam.table``.

It is made from what the attacks declare, and ``test_redteam`` holds each declaration to what
happens, both ways.
"""

from __future__ import annotations

from itertools import groupby

from tests.redteam.attack import BUBBLEWRAP, CONTAINER, LANDLOCK, MUST, PROCESS, Attack
from tests.redteam.attacks import ATTACKS

COLUMNS = (BUBBLEWRAP, CONTAINER, LANDLOCK, PROCESS)
BEGIN, END = "<!-- redteam -->", "<!-- /redteam -->"


def cell(attack: Attack, sandbox: str) -> str:
    if sandbox not in attack.through:
        return "stopped"
    return "**through** (root)" if attack.as_root else "**through**"


def table() -> str:
    lines = [
        f"| attack | {' | '.join(COLUMNS)} |",
        f"| --- |{' --- |' * len(COLUMNS)}",
    ]
    for category, members in groupby(ATTACKS, lambda attack: attack.category):
        lines.append(f"| *{category}: {MUST[category]}* |{' |' * len(COLUMNS)}")
        for attack in members:
            name = f"{attack.name} ({attack.why})" if attack.why else attack.name
            cells = " | ".join(cell(attack, sandbox) for sandbox in COLUMNS)
            lines.append(f"| {name} | {cells} |")
    totals = (
        f"{sum(s not in a.through for a in ATTACKS)} of {len(ATTACKS)} stopped" for s in COLUMNS
    )
    lines.append(f"| **all** | {' | '.join(totals)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())  # noqa: T201 - its output
