"""Which keeps are claims: e-values of fresh pairs, and what they certify over the study. Pure."""

from __future__ import annotations

from typing import Any

from nightlab.history import History
from nightlab.model import Verdict
from nightlab.stats import e_bh

LEVEL = 0.05  # false discovery rate of the certified set


def certificates(history: History) -> dict[str, Any]:
    """``{level, tested, certified, keeps}``: a keep is provisional until it is in ``certified``.

    ``tested`` counts the experiments that had a fresh pair with the incumbent, kept or not: that
    many chances luck had. ``keeps`` holds ``{experiment, e_value, certified}`` of each keep,
    ``e_value`` None without a pair. ``certified`` are those that e-BH certifies at ``level``;
    what was tested and not kept counts as no evidence, which keeps the level.
    """
    keeps, tested = [], []
    for experiment in history.settled():
        decision = experiment.decision
        if experiment.number == 1 or decision is None:
            continue
        kept, found = experiment.verdict is Verdict.KEEP, decision.evidence.e_value
        if found is not None:
            tested.append((experiment.number, found if kept else 0.0))
        if kept:
            keeps.append((experiment.number, found))
    certified = {tested[i][0] for i in e_bh([value for _, value in tested], LEVEL)}
    return {
        "level": LEVEL,
        "tested": len(tested),
        "certified": sorted(certified),
        "keeps": [
            {"experiment": number, "e_value": found, "certified": number in certified}
            for number, found in keeps
        ],
    }
