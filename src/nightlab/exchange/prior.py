"""An imported ledger as prior knowledge: ideas to try again, never measurements. Pure."""

from __future__ import annotations

from collections import Counter

from nightlab.events import Imported
from nightlab.exchange.choosing import Chosen
from nightlab.exchange.honest import look
from nightlab.exchange.values import Row, Status
from nightlab.model import Prior

MOST = 200  # ideas that the journal takes of one ledger
_CHARS = 300


def event(chosen: Chosen) -> Imported:
    """The journal's line: what the ledger claims, the kept by their gain first.

    Half of the room at most goes to what was kept, the rest to what was not, latest first;
    rows without words say nothing and are left out.
    """
    seen = look(chosen)
    gains = {step.row.number: step.gain for step in seen.steps}
    rows = [r for r in chosen.segment.counting() if r.description]
    kept = [r for r in rows if r.status is Status.KEEP]
    kept.sort(key=lambda r: -(gains.get(r.number) or 0.0))
    others = [r for r in reversed(rows) if r.status is not Status.KEEP]
    first = kept[: max(MOST // 2, MOST - len(others))]
    ideas = [_prior(r, gains.get(r.number)) for r in [*first, *others[: MOST - len(first)]]]
    return Imported(
        source=chosen.ledger.source.rsplit("/", 1)[-1][:200],
        digest=chosen.ledger.digest,
        form=chosen.ledger.form,
        metric=chosen.metric,
        better=chosen.better,
        rows=seen.rows,
        counts=dict(Counter(r.status.value for r in chosen.segment.counting())),
        ideas=tuple(ideas),
    )


def _prior(row: Row, gain: float | None) -> Prior:
    return Prior(
        text=row.description[:_CHARS],
        status=row.status.value,
        value=row.value,
        gain=gain,
        category=row.category[:60],
        line=row.line,
    )
