"""The values of a finalization, as the journal stores them.

An *effect* is in the objective's unit and turned so that positive is better. Every interval
is two-sided at the level beside it. A number that is not known is None.
"""

from __future__ import annotations

from enum import StrEnum

from nightlab.model import Guard, Objective, Value

BASELINE = "baseline"
FINAL = "final"  # all that was kept
CLEANED = "cleaned"  # without the changes that add nothing
NOT_TESTED = "the test command failed"  # the beginning of a run's note
TEST = "test:"  # before the names of metrics that the test command printed


def without(number: int) -> str:
    """The arm that is the final tree with one kept change taken out."""
    return f"without {number}"


class Stage(StrEnum):
    """The parts of a finalization, in their order."""

    VERIFY = "verify"  # baseline against final
    ABLATE = "ablate"  # final against itself without each change
    CHECK = "check"  # the study's checks, on the cleaned tree: it is new code
    RECHECK = "recheck"  # baseline, final and cleaned, where something was dropped
    FULL = "full"  # baseline against what was chosen: full-length training, the test split


class Turn(Value, frozen=True):
    """One run of a finalization: whose code, on which seed, for which part.

    In ``Stage.CHECK`` the seed is the number of the check, from 1.
    """

    stage: Stage
    arm: str
    seed: int


class Kept(Value, frozen=True):
    """One kept change: ``parent`` to ``commit``, and what it seemed worth when it was kept.

    ``without`` is the commit of the final tree with it taken out; "" where that cannot be
    made, and ``why`` not.
    """

    experiment: int
    parent: str
    commit: str
    description: str
    effect: float | None = None
    lines_added: int = 0
    lines_removed: int = 0
    without: str = ""
    why: str = ""


class Last(Value, frozen=True):
    """The last stage, as ``[final]`` asks for it.

    ``command`` and ``budget_s`` are those of its runs, ``is_long`` says whether they differ
    from the study's own. ``test`` evaluates them on ``hidden`` (with their digests);
    ``readings`` counts the earlier finalizations that read that split.
    """

    command: str = ""
    budget_s: float = 0.0
    is_long: bool = False
    test: str = ""
    hidden: tuple[str, ...] = ()
    digests: dict[str, str] = {}  # noqa: RUF012  msgspec copies it
    readings: int = 0


class Plan(Value, frozen=True):
    """What one finalization will measure, fixed before its first run.

    ``number`` counts the study's finalizations from 1. ``sigma`` and ``df`` are the pooled
    noise of one run, ``gain`` the provisional gain that ``pairs`` are planned for. ``ablated``
    names the changes to be taken out, in order; ``blocks`` is on how many seeds (0: none),
    ``recheck`` on how many the cleaned tree is verified, ``full`` on how many the last stage
    runs. ``run_s`` and ``full_s`` estimate one run; ``device_s`` bounds them all together.
    ``lot`` draws the order of the runs within a seed. ``guards`` and ``checks`` (by name) are the
    study's: what is to be claimed is held to them.
    """

    number: int
    baseline: str
    final: str
    experiment: int
    objective: Objective
    pairs: int
    seeds: tuple[int, ...]
    lot: int
    sigma: float | None
    df: int
    gain: float | None
    kept: tuple[Kept, ...]
    ablated: tuple[int, ...]
    blocks: int
    recheck: int
    full: int
    run_s: float
    full_s: float
    device_s: float
    last: Last = Last()
    guards: tuple[Guard, ...] = ()
    checks: tuple[str, ...] = ()

    def seeds_of(self, stage: Stage) -> tuple[int, ...]:
        """The seeds of a stage; no two stages share one."""
        counts = {
            Stage.VERIFY: self.pairs,
            Stage.ABLATE: self.blocks,
            Stage.RECHECK: self.recheck,
            Stage.FULL: self.full,
        }
        start = 0
        for each, count in counts.items():
            if each is stage:
                return self.seeds[start : start + count]
            start += count
        return ()

    def kept_change(self, experiment: int) -> Kept:
        return next(k for k in self.kept if k.experiment == experiment)


class Cleaned(Value, frozen=True):
    """What came of dropping: the tree without ``dropped``, as ``commit``; "" where none is made.

    ``notes`` say what had to stay, and why.
    """

    dropped: tuple[int, ...] = ()
    commit: str = ""
    notes: tuple[str, ...] = ()


class Side(Value, frozen=True):
    """One arm of a comparison: ``n`` runs measured, ``failed`` not."""

    mean: float | None
    sd: float | None
    n: int
    failed: int = 0


class Contest(Value, frozen=True):
    """One arm against another over ``n`` of ``planned`` pairs on common seeds.

    ``effect`` is ``mine`` over ``against``; ``low`` to ``high`` the paired t interval at
    ``level``; ``p`` of the paired t test and ``p_wilcoxon`` of the signed-rank test, two-sided,
    None where they say nothing (fewer than two pairs, or no spread).
    """

    arm: str
    mine: Side
    against: Side
    planned: int
    n: int
    seeds: tuple[int, ...] = ()
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    level: float = 0.95
    p: float | None = None
    p_wilcoxon: float | None = None

    @property
    def is_complete(self) -> bool:
        return self.n == self.planned and not self.mine.failed and not self.against.failed

    @property
    def is_win(self) -> bool:
        """All planned pairs measured, and an interval wholly on the better side."""
        return self.is_complete and self.low is not None and self.low > 0.0


class Status(StrEnum):
    """What the ablation says of one kept change."""

    HELPS = "helps"  # the interval of its effect is above nil
    NOTHING = "adds nothing"  # the tree without it is not worse by the noise floor
    UNCLEAR = "unclear"
    NEEDED = "needed"  # without it runs fail
    UNTESTED = "not tested"


class Effect(Value, frozen=True):
    """What one kept change is worth in the final tree, measured by taking it out."""

    experiment: int
    status: Status
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    level: float = 0.9
    p: float | None = None
    n: int = 0
    seeds: tuple[int, ...] = ()
    why: str = ""


class Word(StrEnum):
    """The verdict of a finalization."""

    WIN = "win"
    VETOED = "vetoed"  # better, and a guard is broken
    NO_WIN = "no win"
    WORSE = "worse"
    INCOMPLETE = "incomplete"


class Result(Value, frozen=True):
    """All that a finalization found. ``chosen`` is the arm that goes on the branch.

    ``veto`` says which guard it breaks on the fresh runs, "" for none.
    """

    word: Word
    reason: str
    chosen: str
    claim: Contest
    dropped: tuple[int, ...] = ()
    effects: tuple[Effect, ...] = ()
    recheck: Contest | None = None  # cleaned against final
    full: Contest | None = None
    test: Contest | None = None
    notes: tuple[str, ...] = ()
    runs: int = 0
    spent_s: float = 0.0
    veto: str = ""


class Closed(Value, frozen=True):
    """The end: ``commit`` is the tip, on ``branch`` unless ``told`` says why not ("" then)."""

    branch: str
    commit: str
    told: tuple[str, ...] = ()
