"""The finalization in the debrief and on its own page. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from nightlab.final import BASELINE, CLEANED, Contest, Effect, Finalization, Word
from nightlab.final.words import amount, interval, side, spread_of
from nightlab.history import History
from nightlab.report.schema import Fact
from nightlab.report.words import NOTHING, clean, code, count, duration, escape

_HEAD = {
    Word.WIN: "A win",
    Word.VETOED: "Better, but vetoed",
    Word.NO_WIN: "Not shown to be a win",
    Word.WORSE: "Worse than the baseline",
    Word.INCOMPLETE: "Not decided",
}


def facts(history: History) -> dict[str, Any]:
    """The last finalization as JSON: ``plan``, ``result``, ``branch``, ``commit``, ``told``."""
    f = history.final
    if f is None:
        return {"tag": history.study.tag, "plan": None, "result": None}
    closed = f.closed
    return {
        "tag": history.study.tag,
        "number": f.plan.number,
        "plan": _full(f.plan),
        "result": None if f.result is None else _full(f.result),
        "win": f.result is not None and f.result.word is Word.WIN,
        "branch": closed.branch or None if closed else None,
        "commit": closed.commit if closed else None,
        "told": list(closed.told) if closed else [],
        "runs": [
            {"stage": t.stage.value, "arm": t.arm, "seed": t.seed, "run": r.id}
            | {"outcome": r.outcome.value, "metrics": r.metrics}
            for t, r in f.measured.items()
        ],
        "stale": _stale(history, f),
    }


def _full(value: object) -> object:
    """Plain values with every field present, also those at their default."""
    if isinstance(value, msgspec.Struct):
        return {name: _full(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, (tuple, list)):
        return [_full(v) for v in value]
    return msgspec.to_builtins(value)


def _stale(history: History, f: Finalization) -> bool:
    """Whether the study has kept more since."""
    return history.tip != f.plan.final


def lines(history: History) -> list[str]:
    """The result for a terminal."""
    f = history.final
    if f is None or f.result is None:
        return ["this study is not finalized: nightlab finalize"]
    result, plan = f.result, f.plan
    found = [f"{_HEAD[result.word]}: {result.reason}"]
    for effect in result.effects:
        text = f"  exp {effect.experiment:<4} {_verdict(effect, result.dropped):<24}"
        text += f" {_effect(effect, plan.sigma)}  {plan.kept_change(effect.experiment).description}"
        found.append(text)
    if result.chosen == CLEANED and result.recheck is not None:
        spread = spread_of(plan, result.recheck)
        found.append(
            f"cleaned against all that was kept: {_signed(result.recheck.effect, spread)} "
            f"({interval(result.recheck, spread)})"
        )
    if result.full is not None:
        found.append(f"full length: {_contest(f, result.full)}")
    if result.test is not None:
        found.append(f"test split:  {_contest(f, result.test)}")
    found += [f"note:    {note}" for note in result.notes]
    if f.closed is not None:
        found += [f"note:    {told}" for told in f.closed.told]
        if f.closed.branch:
            found.append(f"branch:  {f.closed.branch} ({f.closed.commit[:7]})")
    if _stale(history, f):
        found.append("note:    the study has kept more since: nightlab finalize --again")
    return found


class Ablated(Fact, frozen=True):
    """One kept change in the final tree, in words."""

    experiment: int
    description: str
    effect: str
    interval: str
    p: str
    seeds: str
    outcome: str


class Told(Fact, frozen=True):
    """A finalization in plain words. ``gain`` on fresh seeds, "" while there is none.

    ``said`` are (what stands out, the sentence) pairs.
    """

    head: str
    reason: str
    win: bool
    gain: str
    bounds: str
    rows: tuple[Ablated, ...]
    said: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


def told(history: History) -> Told | None:
    """The last finalization in plain words, cleaned; None for a study that is not finalized."""
    f = history.final
    if f is None:
        return None
    if f.result is None:
        head, reason = "Begun, and not over", "nightlab finalize goes on where it was"
        return Told(
            head=head, reason=reason, win=False, gain="", bounds="", rows=(), said=(), notes=()
        )
    result, plan = f.result, f.plan
    claim, spread = result.claim, spread_of(plan, result.claim)
    pairs = count(claim.n, "fresh pair")
    return Told(
        head=_HEAD[result.word],
        reason=clean(result.reason, 600),
        win=result.word is Word.WIN,
        gain="" if claim.effect is None else _signed(claim.effect, spread),
        bounds=clean(f"{interval(claim, spread)}, {pairs}", 300),
        rows=tuple(_ablated(e, f) for e in result.effects),
        said=tuple((bold, clean(text, 600)) for bold, text in _said(f)),
        notes=tuple(clean(n, 400) for n in _notes(f)),
    )


def section(history: History) -> Iterator[str]:
    """The paragraphs of the debrief in Markdown; none for a study that is not finalized."""
    f, said = history.final, told(history)
    if f is None or said is None:
        return
    yield "## Finalization"
    if f.result is None:
        yield "Begun, and not over: `nightlab finalize` goes on where it was."
        return
    yield f"**{said.head}.** {escape(said.reason, 600)}."
    yield from _table(f)
    for bold, text in said.said:
        yield (f"**{bold}** " if bold else "") + escape(text, 600)
    if said.notes:
        yield "\n".join(f"- {escape(note, 400)}" for note in said.notes)
    where = []
    if f.closed is not None and f.closed.branch:
        where.append(f"Branch {code(f.closed.branch)} at {code(f.closed.commit[:7])}, ")
        where.append(f"one commit per surviving change on {code(f.plan.baseline[:7])}. ")
    where.append(f"{count(f.result.runs, 'run')}, {duration(f.result.spent_s)} of device time.")
    yield "".join(where)


def _said(f: Finalization) -> Iterator[tuple[str, str]]:
    """What else was measured: without the idle changes, at full length, on the test split."""
    result, plan = f.result, f.plan
    if result is None:
        return
    if any(e.effect is not None for e in result.effects):
        level = f"{result.effects[0].level * 100:.0f} %"
        yield (
            "",
            (
                "Each tested change was taken out of the final code and the rest run again; "
                "positive means that the code is better with it. Intervals are at "
                f"{level}, each by itself."
            ),
        )
    if result.recheck is not None:
        spread = spread_of(plan, result.recheck)
        what = "took its place" if result.chosen == CLEANED else "did not take its place"
        yield (
            "",
            (
                f"The tree without what adds nothing {what}: against all that was kept "
                f"{_signed(result.recheck.effect, spread)} on "
                f"{count(result.recheck.n, 'fresh seed')} ({interval(result.recheck, spread)})."
            ),
        )
    if result.full is not None:
        yield "Full-length training:", f"{_contest(f, result.full)}."
    if result.test is not None:
        first = "not fresh" if plan.last.readings else "read once"
        yield f"Test split ({first}):", f"{_contest(f, result.test)}."


def _notes(f: Finalization) -> tuple[str, ...]:
    notes = f.result.notes if f.result is not None else ()
    return (*notes, *(f.closed.told if f.closed is not None else ()))


def _ablated(e: Effect, f: Finalization) -> Ablated:
    bounds = NOTHING
    if e.low is not None and e.high is not None:
        bounds = f"{_signed(e.low, f.plan.sigma)} to {_signed(e.high, f.plan.sigma)}"
    dropped = f.result.dropped if f.result is not None else ()
    return Ablated(
        experiment=e.experiment,
        description=clean(f.plan.kept_change(e.experiment).description, 160),
        effect=_signed(e.effect, f.plan.sigma),
        interval=bounds,
        p=NOTHING if e.p is None else f"{e.p:.2g}",
        seeds=str(e.n) if e.n else NOTHING,
        outcome=clean(_verdict(e, dropped) + (f" ({e.why})" if e.why else "")),
    )


def page(history: History) -> str:
    """The finalization by itself, as ``final.md``."""
    f = history.final
    parts = [f"# Finalization of {escape(history.study.tag)}"]
    parts += [p for p in section(history) if not p.startswith("## ")]
    if f is not None and f.result is not None:
        parts.append("## Every run")
        parts.append("\n".join(_runs(f)))
    return "\n\n".join(parts) + "\n"


def _runs(f: Finalization) -> Iterator[str]:
    names = dict.fromkeys(name for run in f.measured.values() for name in run.metrics)
    shown = [n for n in names if n.removeprefix("test:") == f.plan.objective.metric]
    yield "| stage | arm | seed | outcome | " + " | ".join(map(escape, shown)) + " | seconds |"
    yield "| --- | --- | --: | --- | " + "--: | " * len(shown) + "--: |"
    for turn, run in f.measured.items():
        values = [f"{run.metrics[n]:.6g}" if n in run.metrics else NOTHING for n in shown]
        cells = (turn.stage, turn.arm, str(turn.seed), run.outcome, *values)
        yield "| " + " | ".join(cells) + f" | {run.duration_s:.1f} |"


def _table(f: Finalization) -> Iterator[str]:
    if f.result is None or not f.result.effects:
        return
    rows = [
        "| exp | change | effect of having it | interval | p | seeds | outcome |",
        "| --: | --- | --: | --: | --: | --: | --- |",
    ]
    for r in (_ablated(e, f) for e in f.result.effects):
        words = escape(r.description, 120)
        cells = (str(r.experiment), words, r.effect, r.interval, r.p, r.seeds, escape(r.outcome))
        rows.append("| " + " | ".join(cells) + " |")
    yield "\n".join(rows)


def _verdict(effect: Effect, dropped: Sequence[int]) -> str:
    text = effect.status.value
    if effect.experiment in dropped:
        return f"{text}: dropped"
    return f"{text}: stays"


def _effect(effect: Effect, sigma: float | None) -> str:
    if effect.effect is None:
        return f"({effect.why})"
    text = _signed(effect.effect, sigma)
    if effect.low is not None and effect.high is not None and effect.low != effect.high:
        text += f" ({_signed(effect.low, sigma)} to {_signed(effect.high, sigma)})"
    return text


def _contest(f: Finalization, found: Contest) -> str:
    spread = spread_of(f.plan, found)
    against = "baseline" if found.arm != BASELINE else ""
    return (
        f"{against} {side(found.against, spread)} → {side(found.mine, spread)}, "
        f"{_signed(found.effect, spread)} ({interval(found, spread)})"
    )


def _signed(value: float | None, spread: float | None) -> str:
    if value is None:
        return NOTHING
    text = amount(value, spread)
    return text if text.startswith("-") else f"+{text}"
