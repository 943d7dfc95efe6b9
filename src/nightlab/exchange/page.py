"""The debrief of an imported ledger, as Markdown and HTML: what it says, what that is worth."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from nightlab.exchange.choosing import Chosen
from nightlab.exchange.honest import Honest, Step
from nightlab.exchange.values import Repair, Row
from nightlab.report import marks
from nightlab.report.document import ROWS, Drawing, kinds, render
from nightlab.report.words import clean, count, escape, number, percent, signed

_STEPS = 40
_MENDED = 30


def lines(chosen: Chosen, seen: Honest) -> list[str]:
    """The figures in a few sentences, for a terminal and for the top of the page."""
    return [*_ledger(chosen, seen), *_keeps(seen), *_noise(seen)]


def page(chosen: Chosen, seen: Honest, *, plot: str | None = None) -> str:
    """The whole page. Every text of the ledger's is escaped: it shows as it was typed."""
    parts = [
        f"# {escape(_name(chosen))}: an imported ledger",
        "\n".join(f"- {escape(line, 600)}" for line in lines(chosen, seen)),
        "These are the ledger's own numbers. nightlab has measured none of them.",
    ]
    if plot:
        parts.append(f"![every row, and the kept record]({plot})")
    parts += [*_kept_table(chosen, seen), *_missed(seen), *_mended(chosen.ledger.repairs)]
    parts += list(_next())
    return "\n\n".join(parts) + "\n"


def html(chosen: Chosen, seen: Honest, *, drawing: Drawing | None) -> str:
    """The same page as one HTML file. Every text of the ledger's is escaped by its template."""
    rows = chosen.segment.rows[:ROWS]
    listed = {r.number for r in rows}
    steps = _largest(seen)
    told = [clean(line, 800) for line in lines(chosen, seen)]
    lead = next((t for t in told if t.startswith("naive gain")), told[-1])
    left_out = len(chosen.segment.rows) - len(rows)
    return render(
        "ledger.html",
        sigma=seen.sigma,
        title=clean(_name(chosen)),
        form=clean(chosen.ledger.form),
        metric=clean(chosen.metric, 40),
        lead=f"{lead[:1].upper()}{lead[1:]}.",
        tiles=list(_tiles(seen)),
        said=[
            *(t for t in told if t != lead),
            "these are the ledger's own numbers: nightlab has measured none of them",
        ],
        drawing=drawing,
        caption="Point at a row, or go through them with the arrow keys, for what it says.",
        steps=steps[:_STEPS],
        more_steps=len(steps[_STEPS:]),
        missed=seen.missed[:_STEPS],
        mended=mended(chosen.ledger.repairs)[:_MENDED],
        rows=rows,
        kinds=kinds(r.status.value for r in rows),
        left_out=count(left_out, "row") if left_out else "",
        link=lambda n: marks.link(n, listed),
    )


def told(chosen: Chosen, seen: Honest) -> dict[int, str]:
    """What each row that the page lists says of itself, by its number."""
    found = {}
    for row in chosen.segment.rows[:ROWS]:
        value = "" if row.value is None else f" · {number(row.value, seen.sigma)}"
        words = f"row {row.number} · {row.status.value}{value}\n{clean(row.description, 240)}"
        found[row.number] = words.rstrip()
    return found


def _tiles(seen: Honest) -> Iterator[tuple[str, str, str]]:
    if seen.naive is not None:
        yield "naive gain", signed(seen.naive, seen.sigma), "an upper bound in all likelihood"
    within = "" if seen.within is None else f"{seen.within} of {seen.judged} steps within noise"
    yield "kept", f"{seen.counts.get('keep', 0):,} of {seen.rows:,}", within
    if seen.looked:
        told = f"{seen.chance:.1f} would be by chance alone"
        yield "records", f"{seen.records} of {seen.looked:,}", told
    noise = "unknown" if seen.sigma is None else f"{seen.sigma:.3g}"
    yield "noise of one row", noise, "" if seen.sigma is None else f"{seen.df} degrees of freedom"


def _largest(seen: Honest) -> list[Step]:
    return sorted(seen.steps, key=lambda s: -(s.gain if s.gain is not None else 0.0))


def _name(chosen: Chosen) -> str:
    return re.split(r"[/\\]", chosen.ledger.source.rstrip("/"))[-1]


def _ledger(chosen: Chosen, seen: Honest) -> Iterator[str]:
    counted = ", ".join(f"{n} {word}" for word, n in sorted(seen.counts.items()))
    segment = chosen.segment
    which = f"segment {segment.number}, " if len(chosen.ledger.segments) > 1 else ""
    yield f"{which}{count(seen.rows, 'row')} ({counted}), {seen.measured} with a value"
    yield f"{chosen.metric}: {chosen.better.value} is better ({chosen.better_from})"
    if seen.against:
        yield (
            f"warning: most keeps go the other way. Is {chosen.better.value} really better "
            "(--better says), or does the newest row come first?"
        )
    if seen.start is None:
        yield "nothing was measured"
    elif seen.naive is None:
        yield f"it starts at {number(seen.start.value, seen.sigma)}; nothing measured was kept"
    elif seen.record is not None:
        change = ""
        if seen.start.value:
            change = f" ({percent(abs(seen.naive / seen.start.value))})"
        yield (
            f"naive gain {signed(seen.naive, seen.sigma)}{change}: from "
            f"{number(seen.start.value, seen.sigma)} (row {seen.start.number}) to "
            f"{number(seen.record.value, seen.sigma)} (row {seen.record.number}); the extreme of "
            "many noisy numbers, so an upper bound in all likelihood"
        )
        if seen.last is not None and seen.last.value != seen.record.value:
            yield (
                f"the last keep (row {seen.last.number}) has "
                f"{number(seen.last.value, seen.sigma)}: it is not the kept record"
            )


def _keeps(seen: Honest) -> Iterator[str]:
    if seen.looked:
        yield (
            f"{seen.records} of {count(seen.looked, 'measured row')} after the first beat all "
            f"before them; {seen.chance:.1f} would if no change did anything (H(n + 1) - 1)"
        )
    share = seen.share_not_better
    if share is not None:
        yield (
            f"{seen.not_better} of {count(seen.judged, 'keep')} after the first "
            f"({percent(share) if seen.not_better else 'none'}) did not beat the kept record"
        )
    if seen.missed:
        yield f"{count(len(seen.missed), 'row')} beat the kept record without being kept"


def _noise(seen: Honest) -> Iterator[str]:
    if seen.sigma is None:
        yield "noise unknown: no row repeats another's commit and words, so no step can be judged"
    else:
        yield (
            f"noise of one row {seen.sigma:.3g} (from rows of the same commit and words, "
            f"{seen.df} degrees of freedom); {seen.within} of {count(seen.judged, 'kept step')} "
            "within its 95 % bound"
        )


def _kept_table(chosen: Chosen, seen: Honest) -> Iterator[str]:
    if not seen.steps:
        return
    shown = _largest(seen)[:_STEPS]
    yield "## What it kept, the largest step first"
    yield _table(
        ("row", "line", "step", chosen.metric, "change"),
        (
            (
                str(s.row.number),
                str(s.row.line),
                "first" if s.gain is None else signed(s.gain, seen.sigma),
                number(s.row.value, seen.sigma),
                escape(s.row.description),
            )
            for s in shown
        ),
    )
    if len(seen.steps) > len(shown):
        yield f"And {len(seen.steps) - len(shown)} more."


def _missed(seen: Honest) -> Iterator[str]:
    if seen.missed:
        yield "## Better than the kept record, not kept"
        yield "\n".join(
            f"- row {r.number}, {number(r.value, seen.sigma)}, {escape(r.word or '—', 60)}: "
            f"{escape(r.description)}"
            for r in seen.missed[:_STEPS]
        )


def _mended(repairs: Sequence[Repair]) -> Iterator[str]:
    if repairs:
        yield "## What was mended in reading"
        yield "\n".join(f"- {escape(line, 400)}" for line in mended(repairs)[:_MENDED])


def _next() -> Iterator[str]:
    yield "## What to do with it"
    yield (
        "`nightlab import PATH --into TAG` hands its ideas to the researcher of a study, which "
        "measures them anew; nothing in it counts as a measurement."
    )


def mended(repairs: Iterable[Repair]) -> list[str]:
    """Repairs of one kind on one line, with the numbers of their lines, all of them."""
    kinds: dict[str, list[Repair]] = {}
    for repair in repairs:
        kinds.setdefault(repair.what, []).append(repair)
    found = []
    for what, some in kinds.items():
        shown = list(dict.fromkeys(r.shown for r in some if r.shown))
        examples = f" ({', '.join(shown[:3])}{', …' if len(shown) > 3 else ''})" if shown else ""
        at = spans([r.line for r in some if r.line])
        found.append(f"{what}{examples}" + (f": line {at}" if at else ""))
    return found


def spans(numbers: Sequence[int]) -> str:
    """1, 2, 3, 7 as "1-3, 7"."""
    ordered = sorted(set(numbers))
    pieces: list[list[int]] = []
    for n in ordered:
        if pieces and n == pieces[-1][1] + 1:
            pieces[-1][1] = n
        else:
            pieces.append([n, n])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in pieces)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines_ = [" | ".join(escape(h, 60) for h in head), " | ".join("---" for _ in head)]
    lines_ += [" | ".join(row) for row in rows]
    return "\n".join(f"| {line} |" for line in lines_)


def by_row(row: Row) -> str:
    """One row in words, for a terminal."""
    value = "—" if row.value is None else f"{row.value:.6g}"
    return f"{row.number:>5}  {row.status.value:<12} {value:>12}  {row.description[:120]}"
