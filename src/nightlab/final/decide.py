"""What comes next in a finalization, and what it found. Pure: the same runs, the same answer."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nightlab import stats
from nightlab.final.numbers import Blocks, blocks, contest
from nightlab.final.state import Finalization
from nightlab.final.values import (
    BASELINE,
    CLEANED,
    FINAL,
    NOT_TESTED,
    TEST,
    Contest,
    Effect,
    Kept,
    Result,
    Stage,
    Status,
    Turn,
    Word,
    without,
)
from nightlab.final.vetoes import broken_guard, failed_check, unchecked
from nightlab.final.words import amount, full_length, sentence

_EFFECT_LEVEL = 0.9  # of the intervals in the ablation's table, and one-sided of "not worse"
_RECHECK_SURE = 0.8  # one-sided; what is dropped has passed the above on other seeds
_FAILS = 2  # failed runs of an arm after which it is not run again


@dataclass(frozen=True)
class Measure:
    """Make these runs, in this order as far as slots are free; ``stage`` is theirs."""

    stage: Stage
    turns: tuple[Turn, ...]


@dataclass(frozen=True)
class Clean:
    """Build the tree without ``dropped``; ``notes`` are to be recorded with it."""

    dropped: tuple[int, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Decide:
    """Nothing is left to measure."""

    result: Result


def step(f: Finalization) -> Measure | Clean | Decide:
    """What comes next. Turns whose runs are in flight are among those to measure."""
    turns = _open(f, Stage.VERIFY, (BASELINE, FINAL))
    if turns:
        return Measure(Stage.VERIFY, turns)
    if f.cleaned is None:
        turns = _open(f, Stage.ABLATE, _ablated(f))
        return Measure(Stage.ABLATE, turns) if turns else _clean(f)
    if f.cleaned.commit not in ("", f.plan.baseline):
        turns = unchecked(f)
        if turns:
            return Measure(Stage.CHECK, turns)
        turns = () if failed_check(f) else _open(f, Stage.RECHECK, (BASELINE, FINAL, CLEANED))
        if turns:
            return Measure(Stage.RECHECK, turns)
    chosen = _chosen(f)
    if chosen != BASELINE:
        turns = _open(f, Stage.FULL, (BASELINE, chosen))
        if turns:
            return Measure(Stage.FULL, turns)
    return Decide(_result(f, chosen))


# --- what is to be run ------------------------------------------------------------------------


def _open(f: Finalization, stage: Stage, arms: Sequence[str]) -> tuple[Turn, ...]:
    """The turns that nothing was measured for yet, as far as the device time goes.

    Seed by seed, for half a block says nothing; within a seed in an order drawn by lot.
    """
    if not arms:
        return ()
    bound_s = f.plan.device_s - _reserved_s(f, stage)
    cost_s = f.run_s(stage)
    found: list[Turn] = []
    for seed in f.plan.seeds_of(stage):
        row = [Turn(stage, arm, seed) for arm in arms]
        waiting = [turn for turn in row if turn not in f.measured]
        if f.spent_s + (len(found) + len(waiting)) * cost_s > bound_s:
            break
        found += sorted(waiting, key=lambda turn: _lot(f.plan.lot, turn))
    return tuple(found)


def _lot(lot: int, turn: Turn) -> int:
    return zlib.crc32(f"{lot} {turn.stage} {turn.seed} {turn.arm}".encode())


def _reserved_s(f: Finalization, stage: Stage) -> float:
    """Device time that a stage leaves to those after it."""
    plan = f.plan
    if stage in (Stage.VERIFY, Stage.FULL):
        return 0.0
    reserved = 2 * plan.full * f.run_s(Stage.FULL)
    if stage is Stage.ABLATE:
        reserved += 3 * plan.recheck * f.run_s(Stage.RECHECK)
    return reserved


def _ablated(f: Finalization) -> tuple[str, ...]:
    """The arms of the ablation that still make sense to run; () without any."""
    metric = f.plan.objective.metric
    verified = (Turn(Stage.VERIFY, FINAL, seed) for seed in f.plan.seeds_of(Stage.VERIFY))
    if not f.plan.blocks or all(f.value(turn, metric) is None for turn in verified):
        return ()
    arms = [without(n) for n in f.plan.ablated]
    alive = [arm for arm in arms if _failures(f, Stage.ABLATE, arm) < _FAILS]
    if not alive or _failures(f, Stage.ABLATE, FINAL) >= _FAILS:
        return ()
    return (FINAL, *alive)


def _failures(f: Finalization, stage: Stage, arm: str) -> int:
    metric = f.plan.objective.metric
    turns = [Turn(stage, arm, seed) for seed in f.plan.seeds_of(stage)]
    return sum(turn in f.measured and f.value(turn, metric) is None for turn in turns)


def _was_run(f: Finalization, arm: str) -> bool:
    """Whether there was time for a run of an arm of the ablation."""
    return any(turn.stage is Stage.ABLATE and turn.arm == arm for turn in f.measured)


def expected(f: Finalization) -> tuple[int, float]:
    """(runs, seconds) still to come at most, one after another."""
    plan = f.plan
    stages: list[tuple[Stage, Sequence[str]]] = [(Stage.VERIFY, (BASELINE, FINAL))]
    ablates = bool(plan.ablated) and f.cleaned is None
    if ablates:
        stages.append((Stage.ABLATE, (FINAL, *map(without, plan.ablated))))
    if ablates or (f.cleaned is not None and f.cleaned.commit not in ("", plan.baseline)):
        stages.append((Stage.RECHECK, (BASELINE, FINAL, CLEANED)))
    stages.append((Stage.FULL, (BASELINE, FINAL)))
    runs, seconds = 0, 0.0
    for stage, arms in stages:
        made = sum(turn.stage is stage for turn in f.measured)
        many = max(0, len(plan.seeds_of(stage)) * len(arms) - made)
        runs += many
        seconds += many * f.run_s(stage)
    return runs, seconds


# --- what each change is worth ----------------------------------------------------------------


def effects(f: Finalization) -> tuple[Effect, ...]:
    """What the ablation says of every kept change, in their order."""
    plan = f.plan
    arms = [without(n) for n in plan.ablated]
    failing = [arm for arm in arms if _failures(f, Stage.ABLATE, arm)]
    arms = [arm for arm in arms if arm not in failing]
    seen = blocks(f, Stage.ABLATE, (FINAL, *arms)) if plan.blocks and arms else None
    return tuple(_effect(f, kept, seen, failing) for kept in plan.kept)


def _effect(f: Finalization, kept: Kept, seen: Blocks | None, failing: Sequence[str]) -> Effect:
    number, arm = kept.experiment, without(kept.experiment)
    if not kept.without:
        return Effect(experiment=number, status=Status.UNTESTED, why=kept.why)
    if number not in f.plan.ablated or not _was_run(f, arm):
        return Effect(experiment=number, status=Status.UNTESTED, why="no device time for it")
    if arm in failing:
        many = _failures(f, Stage.ABLATE, arm)
        why = f"without it {many} of its runs failed"
        return Effect(experiment=number, status=Status.NEEDED, why=why)
    if seen is None:
        why = "too few of its runs could be compared"
        return Effect(experiment=number, status=Status.UNTESTED, why=why)
    compared = seen.difference(FINAL, arm, f.plan.objective.better.sign)
    low, high = compared.interval(_EFFECT_LEVEL)
    status, why = _status(f, kept, seen, compared)
    return Effect(
        experiment=number,
        status=status,
        effect=compared.effect,
        low=low,
        high=high,
        level=_EFFECT_LEVEL,
        p=stats.t_p_value(compared.z, compared.df) if compared.se > 0.0 else None,
        n=compared.n,
        seeds=seen.seeds,
        why=why,
    )


def _status(
    f: Finalization, kept: Kept, seen: Blocks, compared: stats.Comparison
) -> tuple[Status, str]:
    low, high = compared.interval(_EFFECT_LEVEL)
    if low > 0.0:
        return Status.HELPS, ""
    if kept.lines_removed > kept.lines_added:  # without it there would be more code, not less
        if high < 0.0:
            return Status.NOTHING, "it hurts"
        return Status.UNCLEAR, "it makes the code simpler"
    if _not_worse(f, seen, compared, _EFFECT_LEVEL):
        return Status.NOTHING, "it hurts" if high < 0.0 else ""
    return Status.UNCLEAR, ""


def _not_worse(f: Finalization, seen: Blocks, lost: stats.Comparison, sure: float) -> bool:
    """Non-inferiority of the tree without something: less is ``lost`` than the noise floor.

    One-sided t test of effect >= margin, the margin being the sd of one run: Wellek 2010,
    Testing Statistical Hypotheses of Equivalence and Noninferiority, ch. 2.
    """
    margin = f.plan.sigma if f.plan.sigma is not None else seen.within
    if lost.se == 0.0:
        return lost.effect <= margin
    return lost.effect + stats.t_quantile(sure, lost.df) * lost.se <= margin


def _clean(f: Finalization) -> Clean:
    found = effects(f)
    dropped = tuple(e.experiment for e in found if e.status is Status.NOTHING)
    if len(dropped) == len(f.plan.kept) and contest(f, Stage.VERIFY, FINAL, BASELINE).is_win:
        note = "each change can go by itself, but together they are the gain: all stay"
        return Clean((), (note,))
    return Clean(dropped)


# --- the result -------------------------------------------------------------------------------


def _chosen(f: Finalization) -> str:
    cleaned = f.cleaned
    if cleaned is None or not cleaned.commit:
        return FINAL
    if cleaned.commit == f.plan.baseline:
        return BASELINE
    return CLEANED if _recheck(f)[0] else FINAL


def _recheck(f: Finalization) -> tuple[bool, str]:
    """Whether the cleaned tree may take the full one's place, and what to say."""
    failed = failed_check(f)
    if failed:
        return False, f"without what adds nothing {failed}: all changes stay"
    found = contest(f, Stage.RECHECK, CLEANED, FINAL)
    if found.mine.failed:
        return False, f"the cleaned tree failed in {found.mine.failed} runs: all changes stay"
    if not found.is_complete:
        return False, "the cleaned tree could not be verified: all changes stay"
    broken = broken_guard(f, Stage.RECHECK, CLEANED)
    if broken and not broken_guard(f, Stage.RECHECK, FINAL):
        return False, f"the cleaned tree breaks {broken}: all changes stay"
    # The baseline's runs sharpen the estimate of the noise, where they all ended well.
    seen = blocks(f, Stage.RECHECK, (BASELINE, FINAL, CLEANED))
    if seen is None or len(seen.seeds) < found.n:
        seen = blocks(f, Stage.RECHECK, (FINAL, CLEANED))
    if seen is None:
        return False, "the cleaned tree could not be verified: all changes stay"
    lost = seen.difference(FINAL, CLEANED, f.plan.objective.better.sign)
    moved = amount(lost.effect, f.plan.sigma or seen.within)
    if not _not_worse(f, seen, lost, _RECHECK_SURE):
        return False, f"the cleaned tree is worse by {moved} on fresh seeds: all changes stay"
    return True, ""


def claim_of(f: Finalization, chosen: str) -> Contest:
    """The one planned comparison that the claim rests on: the chosen tree against the baseline."""
    if chosen == CLEANED:
        return contest(f, Stage.RECHECK, CLEANED, BASELINE)
    return contest(f, Stage.VERIFY, FINAL, BASELINE)


def _result(f: Finalization, chosen: str) -> Result:
    cleaned = f.cleaned
    claim = claim_of(f, chosen)
    word = _word(claim)
    reason = sentence(f.plan, claim)
    broken = ""
    if chosen != BASELINE:
        broken = broken_guard(f, Stage.RECHECK if chosen == CLEANED else Stage.VERIFY, chosen)
    if broken:
        word = Word.VETOED if word is Word.WIN else word
        reason = f"{broken} on the fresh runs; {reason}"
    if chosen == BASELINE and word is not Word.INCOMPLETE:
        word = Word.NO_WIN
        reason = f"none of the changes that were kept adds anything: {reason}"
    rechecked = None
    if cleaned is not None and cleaned.commit not in ("", f.plan.baseline):
        rechecked = contest(f, Stage.RECHECK, CLEANED, FINAL)
    full, test = _last(f, chosen)
    return Result(
        word=word,
        reason=reason,
        chosen=chosen,
        claim=claim,
        dropped=cleaned.dropped if cleaned is not None and chosen != FINAL else (),
        effects=effects(f),
        recheck=rechecked,
        full=full,
        test=test,
        notes=tuple(_notes(f, chosen, claim, full, test)),
        runs=len(f.runs),
        spent_s=f.spent_s,
        veto=broken,
    )


def _word(claim: Contest) -> Word:
    if not claim.is_complete:
        return Word.INCOMPLETE
    if claim.is_win:
        return Word.WIN
    worse = claim.high is not None and claim.high < 0.0
    return Word.WORSE if worse else Word.NO_WIN


def _last(f: Finalization, chosen: str) -> tuple[Contest | None, Contest | None]:
    """Full-length training and the test split; None for what was not run."""
    if chosen == BASELINE or not any(turn.stage is Stage.FULL for turn in f.measured):
        return None, None
    name = f.plan.objective.metric
    full = contest(f, Stage.FULL, chosen, BASELINE) if f.plan.last.is_long else None
    test = None
    if f.plan.last.test:
        test = contest(f, Stage.FULL, chosen, BASELINE, metric=TEST + name)
    return full, test


def _notes(
    f: Finalization, chosen: str, claim: Contest, full: Contest | None, test: Contest | None
) -> Iterator[str]:
    plan, cleaned = f.plan, f.cleaned
    if plan.number > 1 and claim.is_win:
        yield f"finalization {plan.number} of this study: of several looks, the lucky one flatters"
    if cleaned is not None:
        yield from cleaned.notes
        if cleaned.commit not in ("", plan.baseline) and chosen == FINAL:
            yield _recheck(f)[1]
    untested = [k for k in plan.kept if k.without and not _was_run(f, without(k.experiment))]
    if untested:
        names = ", ".join(str(k.experiment) for k in untested)
        yield (
            f"no device time to ablate experiment {names}: --device-hours "
            f"{_hours_for_all(f)} --again would do"
        )
    if full is not None:
        yield full_length(plan, claim, full)
    elif plan.last.is_long and chosen != BASELINE:
        yield "no device time was left for full-length training"
    if plan.last.test and test is None and chosen != BASELINE:
        yield "the test split was not read: no device time was left"
    yield from _untested(f)
    if test is not None and plan.last.readings:
        times = "once" if plan.last.readings == 1 else f"{plan.last.readings} times"
        yield f"the test split had been read {times} before: this reading is not fresh"


def _untested(f: Finalization) -> Iterator[str]:
    """That the test command failed, how often, and how the last time."""
    runs = [run for turn, run in f.measured.items() if turn.stage is Stage.FULL]
    notes = [note for run in runs for note in run.notes if note.startswith(NOT_TESTED)]
    if notes:
        often = f"in {len(notes)} of {len(runs)} runs"
        yield notes[-1].replace(NOT_TESTED, f"{NOT_TESTED} {often}", 1)


def _hours_for_all(f: Finalization) -> str:
    plan = f.plan
    many = sum(1 for k in plan.kept if k.without)
    runs = 2 * plan.pairs + 6 * (1 + many) + 3 * plan.recheck
    hours = (1.1 * runs * f.run_s(Stage.VERIFY) + 2.2 * plan.full * f.run_s(Stage.FULL)) / 3600
    return f"{hours:.2g}"
