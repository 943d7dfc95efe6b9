"""The debrief as one HTML file that needs nothing else: no network, no other file, no script.

Every text that came from a researcher, a run, a ledger or a person is escaped by the template
engine, and stripped before of what no reader sees (control and bidirectional characters). The
page forbids itself, by its content security policy, any script, style or image but its own.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, Protocol

from nightlab.process import clean as shown
from nightlab.report import marks, summary
from nightlab.report.again import again
from nightlab.report.finalized import Told
from nightlab.report.schema import Attempt, Facts, Tally
from nightlab.report.words import clean, count, duration, number, percent, signed

if TYPE_CHECKING:
    from jinja2 import Environment

ROWS = 2000  # of the appendix; an export holds the rest
_TOP = 12  # lines of a table that a person reads
_DIFF_BYTES, _LOG_BYTES = 16_000, 4_000  # of one experiment
_EVIDENCE_BYTES = 6_000_000  # of all diffs and logs together
_SOURCE_BYTES = 24_000
_RAW_CHARS = 2_000  # of a ledger's line


class Drawing(Protocol):
    """A plot inside the page: ``svg`` is safe markup, ``legend`` what is to be seen in it."""

    @property
    def svg(self) -> str: ...
    @property
    def legend(self) -> Sequence[tuple[str, str]]: ...
    @property
    def silent(self) -> int: ...


@dataclass(frozen=True)
class Evidence:
    """An experiment's patch, and the end of what its last run printed; "" for none."""

    diff: str
    log: str


# The evidence of experiments, asked for a few at a time, the most important first.
Look = Callable[[Sequence[int]], Mapping[int, Evidence]]


@dataclass(frozen=True)
class Source:
    """A file that somebody needs to do it again: its text, and the SHA-256 of all of it."""

    name: str
    text: str
    digest: str
    cut: bool = False


@dataclass(frozen=True)
class _Piece:
    diff: str
    diff_cut: bool
    log: str
    log_cut: bool

    @property
    def size(self) -> int:
        return len(self.diff) + len(self.log)


def page(
    f: Facts,
    *,
    drawing: Drawing | None = None,
    final: Told | None = None,
    look: Look | None = None,
    sources: Sequence[Source] = (),
) -> str:
    """The whole debrief. ``look`` gives the diffs and logs of experiments."""
    pieces = _pieces(f, look)
    sigma = f.noise.sigma
    kept = f.discoveries[:_TOP]
    scale = marks.Scale([d.low for d in kept] + [d.high for d in kept] + [d.effect for d in kept])
    listed = {r.experiment for r in f.rows}
    return render(
        "debrief.html",
        title=clean(summary.title(f)),
        f=f,
        sigma=sigma,
        when=_when(f),
        claim=clean(summary.claim(f), 800),
        sentences=_sentences(f),
        tiles=list(_tiles(f, final)),
        final=final,
        drawing=drawing,
        caption=_caption(f, drawing),
        kept=kept,
        level=f"{kept[0].level * 100:.0f} %" if kept else "",
        chance=summary.chance(f),
        after_kept=summary.keeps(f),
        maps=list(_maps(f)),
        lists=list(_lists(f)),
        vetoes=[
            *(("guard", g.metric, g.text, g) for g in f.guards),
            *(("check", c.metric, c.text, c) for c in f.declared.checks),
        ],
        front=f.declared.pareto,
        kinds=kinds(r.verdict for r in f.rows),
        pieces=_Pieces(pieces),
        limits=list(_limits(f, pieces)),
        setting=list(again(f)),
        sources=[_bounded(s) for s in sources],
        told=[
            (name, texts[-_TOP:])
            for name, texts in (("Notes that people left", f.notes), ("Warnings", f.warnings))
            if texts
        ],
        strip=lambda low, mid, high: marks.strip(scale, low, mid, high),
        bar=marks.bar,
        reach=marks.reach,
        link=lambda n: marks.link(n, listed),
        interval=lambda low, high: _interval(low, high, sigma),
    )


def _maps(f: Facts) -> Iterator[tuple[str, str, Sequence[Tally]]]:
    """(title, first column, groups) of what was tried."""
    if any(t.name != "(no category)" for t in f.categories):
        yield "By category", "category", f.categories[:_TOP]
    idle = [m for m in f.moves if not m.keep][:_TOP]
    if idle:
        yield "Constants that never helped", "move", idle


def _lists(f: Facts) -> Iterator[tuple[str, Sequence[Attempt]]]:
    """(title, experiments) worth naming one by one."""
    if f.losses:
        yield "Hurt most clearly", f.losses
    if f.near_misses:
        yield "Near misses and open questions, worth a second look", f.near_misses


def render(template: str, *, sigma: float | None, **values: Any) -> str:
    """A page of a template; ``sigma`` is the noise that says how many digits a number has."""
    return _environment().get_template(template).render(sigma=sigma, **_parts(), **values)


@cache
def _environment() -> Environment:
    from jinja2 import (  # noqa: PLC0415  loaded on use
        Environment,
        PackageLoader,
        StrictUndefined,
        pass_context,
    )

    made = Environment(
        loader=PackageLoader("nightlab.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "clean": clean,
        "percent": percent,
        "hunks": hunks,
        "raw": lambda text: shown(text[:_RAW_CHARS]) + ("…" if len(text) > _RAW_CHARS else ""),
        "signed": pass_context(lambda context, value: signed(value, context["sigma"])),
        "measured": pass_context(lambda context, value: number(value, context["sigma"])),
    }
    made.globals |= {
        "count": count,
        "duration": duration,
        "spread": number,
        "plain": lambda v: number(v, None),
        "plus": lambda v: _plus(percent(v)),
    }
    return made


@cache
def _parts() -> Mapping[str, Any]:
    """The page's own style and script, with the digests by which its policy knows them."""
    from markupsafe import Markup  # noqa: PLC0415  loaded on use

    folder = resources.files("nightlab.report") / "templates"
    found: dict[str, Any] = {}
    for name in ("style", "script"):
        file = "page.css" if name == "style" else "page.js"
        text = (folder / file).read_text("utf-8")
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        found |= {name: Markup(text), f"{name}_hash": f"sha256-{digest}"}  # noqa: S704  our files
    return found


# --- what happened ----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Tile:
    name: str
    value: str
    note: str = ""
    kind: str = ""


def _tiles(f: Facts, final: Told | None) -> Iterator[_Tile]:
    """The figures on top: what may be claimed beside the naive one, and what it took."""
    sigma, t = f.noise.sigma, f.totals
    if final is not None and final.gain:
        whole = "" if summary.begin(f) == "baseline" else " of the whole study"
        yield _Tile(f"certified gain{whole}", final.gain, final.bounds, "sure" if final.win else "")
    if f.gain is not None:
        level = f"{f.gain.level * 100:.0f} % interval"
        bounds = "exact as far as seen" if f.noise.deterministic else "no interval: noise unknown"
        if f.gain.low is not None and f.gain.high is not None and not f.noise.deterministic:
            bounds = f"{level} {_interval(f.gain.low, f.gain.high, sigma)}"
        share = "" if f.gain.relative is None else f"{_plus(percent(f.gain.relative))}, "
        name = "gain, provisional"
        if final is not None and final.gain and summary.begin(f) == "baseline":
            name = "gain of the night's runs"
        yield _Tile(name, signed(f.gain.effect, sigma), share + bounds)
    if f.naive is not None and summary.naive(f):
        where = "baseline" if f.naive.experiment == 1 else f"exp {f.naive.experiment}"
        note = f"the luckiest single run, of {where}"
        yield _Tile("naive gain", signed(f.naive.gain, sigma), note, "naive")
    changes = summary.changed(f)
    yield _Tile("kept", f"{summary.kept(f)} of {changes:,}", _verdicts(f))
    runs = f"{count(t.runs, 'run')} over {duration(t.wall_s)}"
    yield _Tile("device time", duration(t.device_s), runs)
    if t.tokens:
        price = "price not known" if t.usd is None else f"{t.usd:.2f} USD"
        yield _Tile("thinking", price, f"{t.tokens:,} tokens")


def _verdicts(f: Facts) -> str:
    t = f.totals
    crashed = summary.changed(f) - summary.kept(f) - t.discard - t.inconclusive
    words = (
        f"{n:,} {word}"
        for n, word in (
            (t.discard, "discarded"),
            (t.inconclusive, "inconclusive"),
            (crashed, "crashed"),
            (t.open, "open"),
        )
        if n > 0
    )
    return ", ".join(words)


def _sentences(f: Facts) -> list[str]:
    told = summary.parts(f), summary.naive(f), summary.effort(f), summary.cost(f)
    return [clean(s, 800) for s in (*told, summary.stopped(f), summary.ended(f)) if s]


def _when(f: Facts) -> str:
    began = dt.datetime.fromtimestamp(f.since.at if f.since else f.started_at, tz=dt.UTC)
    ended = dt.datetime.fromtimestamp(began.timestamp() + f.totals.wall_s, tz=dt.UTC)
    until = f"{ended:%H:%M}" if began.date() == ended.date() else f"{ended:%Y-%m-%d %H:%M}"
    return f"{began:%Y-%m-%d %H:%M} to {until} UTC"


def _caption(f: Facts, drawing: Drawing | None) -> str:
    if drawing is None:
        return ""
    told = "Point at an experiment, or go through them with the arrow keys, for what it claimed "
    told += "and what was decided; a click leads to its diff and log."
    if drawing.silent:
        told += f" {count(drawing.silent, 'experiment is a dot', 'experiments are dots')} only, to "
        told += "bound this page."
    if f.drift is not None:
        clear = "significant" if f.drift.significant else "within noise"
        told += (
            f" Re-runs of the same code moved by {signed(f.drift.total, f.noise.sigma)} over the "
        )
        told += f"study (t = {f.drift.t:.1f}, {clear}; positive is better)."
    return told


# --- the appendix -----------------------------------------------------------------------------


class _Pieces(dict[int, _Piece | None]):
    """The evidence by experiment, None where there is none."""

    def __missing__(self, key: int) -> None:
        return None


def _pieces(f: Facts, look: Look | None) -> dict[int, _Piece]:
    """Diffs and logs, the important ones first, until there is enough for one file."""
    found: dict[int, _Piece] = {}
    if look is None:
        return found
    wanted = dict.fromkeys(
        [
            *(d.experiment for d in f.discoveries),
            *(a.experiment for a in (*f.near_misses, *f.losses)),
            *(n for c in f.crashes for n in c.experiments),
            *(r.experiment for r in reversed(f.rows)),
        ]
    )
    listed = {r.experiment for r in f.rows} | {d.experiment for d in f.discoveries[:_TOP]}
    order = [n for n in wanted if n in listed]
    left = _EVIDENCE_BYTES
    for at in range(0, len(order), 64):
        for experiment, seen in look(order[at : at + 64]).items():
            piece = _cut(seen)
            left -= piece.size
            if left < 0:
                return found
            found[experiment] = piece
    return found


def _cut(seen: Evidence) -> _Piece:
    """The first part of the diff and the last of the log, safe to show."""
    diff, log = shown(seen.diff[: 2 * _DIFF_BYTES]), shown(seen.log[-2 * _LOG_BYTES :])
    short, end = diff[:_DIFF_BYTES], log[-_LOG_BYTES:]
    cut, log_cut = len(short) < len(seen.diff), len(end) < len(seen.log)
    if cut and "\n" in short:
        short = short[: short.rindex("\n") + 1]
    if log_cut and "\n" in end[:-1]:
        end = end[end.index("\n") + 1 :]
    return _Piece(short, cut, end, log_cut)


def hunks(patch: str) -> Iterator[tuple[str, str]]:
    """(kind, lines) of a patch: a added, r removed, h hunk's head, f file's head, "" context."""
    kind, lines = "", ""
    body = False
    for line in patch.splitlines(keepends=True):
        if line.startswith("diff "):
            body = False
        if line.startswith("@@"):
            now, body = "h", True
        elif not body:
            now = "f"
        else:
            now = {"+": "a", "-": "r"}.get(line[:1], "")
        if now != kind and lines:
            yield kind, lines
            lines = ""
        kind, lines = now, lines + line
    if lines:
        yield kind, lines


def kinds(verdicts: Iterable[str]) -> list[tuple[str, int]]:
    """What the rows can be filtered by, and how many there are of each."""
    every = list(verdicts)
    return [
        (v, every.count(v)) for v in ("keep", "discard", "inconclusive", "crash", "open", "other")
    ]


def _limits(f: Facts, pieces: Mapping[int, _Piece]) -> Iterator[str]:
    if f.rows_left_out:
        yield (
            f"{count(f.rows_left_out, 'experiment is', 'experiments are')} left out here, to bound "
            "this page; all of them: nightlab export --format tsv"
        )
    bare = sum(r.experiment not in pieces for r in f.rows)
    if bare and pieces:
        yield (
            f"The diffs and logs of {count(bare, 'experiment')} are not in this page: "
            "nightlab show N --diff, nightlab show N --log"
        )


def _bounded(source: Source) -> Source:
    text = shown(source.text[: 2 * _SOURCE_BYTES])
    return Source(source.name, text[:_SOURCE_BYTES], source.digest, len(text) > _SOURCE_BYTES)


def _interval(low: float | None, high: float | None, sigma: float | None) -> str:
    if low is None or high is None:
        return ""
    return f"{signed(low, sigma)} to {signed(high, sigma)}"


def _plus(text: str) -> str:
    return text if text.startswith(("-", "—")) else f"+{text}"
