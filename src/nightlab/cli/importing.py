"""``nightlab import``, and the debrief of a ledger: ``nightlab report --import``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nightlab.cli import base
from nightlab.cli.base import AsJson, Directory
from nightlab.errors import UsageError
from nightlab.model import Better

if TYPE_CHECKING:
    from nightlab.exchange import Ledger, Segment
    from nightlab.exchange.choosing import Chosen

_SHOWN = 12  # rows of a segment that a terminal is shown
_MENDED = 12

BetterFlag = Annotated[
    Better | None,
    typer.Option(
        "--better", help="Which way the metric improves; never guessed.", show_default=False
    ),
]
MetricFlag = Annotated[
    str | None,
    typer.Option(
        "--metric", metavar="NAME", help="The column that counts, by its name.", show_default=False
    ),
]
SegmentFlag = Annotated[
    int | None,
    typer.Option(
        "--segment",
        metavar="N",
        help="Which of the parts that do not compare.",
        show_default=False,
    ),
]


def register(app: typer.Typer) -> None:
    """Add these verbs to the application."""
    app.command(
        "import",
        rich_help_panel=base.MEANWHILE,
        epilog="[bold]Examples[/bold]\n"
        "  nightlab import results.tsv                  what is in it; nothing is written\n"
        "  nightlab import .auto/log.jsonl --json\n"
        "  nightlab import results.tsv --into mar5      its ideas, for the researcher of mar5\n"
        "  nightlab report --import results.tsv         its debrief, with honest statistics",
    )(import_)


def import_(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="A ledger's file, or the folder of a loop.")
    ],
    directory: Directory = None,
    into: Annotated[
        str | None,
        typer.Option(
            "--into",
            metavar="TAG",
            help="Hand its ideas to this study's researcher; a new study if there is none.",
            show_default=False,
        ),
    ] = None,
    better: BetterFlag = None,
    metric: MetricFlag = None,
    segment: SegmentFlag = None,
    as_json: AsJson = False,
) -> int:
    """Read another loop's ledger; say what is in it, and what was mended."""
    from nightlab.exchange import read  # noqa: PLC0415  loaded on use

    ledger = read(path.expanduser(), metric=metric)
    told: dict[str, Any] | None = None
    if into is not None:
        chosen = choose(
            ledger,
            better=better,
            segment=segment,
            metric=metric,
            as_json=as_json,
            again=f"nightlab import {path} --into {into}",
        )
        told = _hand_over(chosen, directory, into)
    if as_json:
        base.emit_pretty(_json(ledger, better) | {"into": told})
        return 0
    base.say(*_lines(ledger, better))
    if told is not None:
        base.say(
            "",
            f"{told['ideas']} prior ideas are in study {told['tag']}: its researcher is to "
            "re-validate them; none counts as a measurement",
            f"next: nightlab run --tag {told['tag']}",
        )
    return 0


def choose(
    ledger: Ledger,
    *,
    better: Better | None,
    segment: int | None,
    metric: str | None,
    as_json: bool,
    again: str,
) -> Chosen:
    """The segment, metric and direction; what the file does not tell is asked on a terminal.

    Raises UsageError, naming the flag, where nobody can be asked; ``again`` is the command that
    it belongs to.
    """
    from nightlab.cli.initialising import answer  # noqa: PLC0415
    from nightlab.exchange import choosing, read  # noqa: PLC0415  loaded on use

    ask = base.is_terminal() and not as_json
    while True:
        try:
            return choosing.choose(ledger, better=better, number=segment, metric=metric)
        except UsageError as error:
            flag = error.hint.split()[0]
            if not ask or flag not in ("--better", "--metric", "--segment"):
                raise UsageError(error.what, error.why, f"{again} {error.hint}") from error
            base.say(f"{error.what}: {error.why}")
            if flag == "--better" and better is None:
                better = Better(answer("Which is better?", ("lower", "higher")))
            elif flag == "--metric" and metric is None:
                known = {c for s in ledger.segments for c in s.candidates}
                metric = answer("Which column counts?", sorted(known))
                ledger = read(Path(ledger.source), metric=metric)
            elif flag == "--segment" and segment is None:
                segment = int(answer("Which segment?", [str(s.number) for s in ledger.segments]))
            else:
                raise


def report(
    path: Path | None,
    *,
    out: Path | None,
    better: Better | None,
    metric: str | None,
    segment: int | None,
    as_json: bool,
) -> int:
    """Write the debrief of a ledger: report.html, report.md and a plot, with honest statistics."""
    if path is None:
        raise UsageError(
            "--better, --metric and --segment are of --import",
            "a study knows its own metric",
            "nightlab report --import results.tsv --better lower",
        )
    from nightlab.exchange import honest, page, read  # noqa: PLC0415  loaded on use
    from nightlab.plot import ledger as plot  # noqa: PLC0415

    ledger = read(path.expanduser(), metric=metric)
    chosen = choose(
        ledger,
        better=better,
        segment=segment,
        metric=metric,
        as_json=as_json,
        again=f"nightlab report --import {path}",
    )
    seen = honest.look(chosen)
    folder = (out or Path(f"{path.stem or 'ledger'}-report")).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    points = [(r.number, r.value, r.status.value) for r in chosen.segment.counting()]
    title = f"{path.name} · {chosen.metric}"
    drawn = plot.draw(points, chosen.metric, chosen.better, title, folder / "progress.png")
    inside = plot.inside(points, chosen.metric, chosen.better, page.told(chosen, seen))
    written = folder / "report.html"
    written.write_text(page.html(chosen, seen, drawing=inside), "utf-8", errors="replace")
    plain = folder / "report.md"
    plain.write_text(page.page(chosen, seen, plot=drawn.name), "utf-8", errors="replace")
    if as_json:
        files = {"report": str(written), "markdown": str(plain), "plot": str(drawn)}
        base.emit(_figures(chosen, seen) | files)
        return 0
    base.say(f"report: {written}", f"plot:   {drawn}", *page.lines(chosen, seen))
    return 0


def _hand_over(chosen: Chosen, directory: Path | None, tag: str) -> dict[str, Any]:
    """Record the ledger in a study. Raises LockedError while a lab works on it."""
    from nightlab import lab  # noqa: PLC0415  loaded on use
    from nightlab.exchange import prior  # noqa: PLC0415

    opened = lab.open_study(base.project(directory), tag=tag)
    with opened.engine.journal:
        event = prior.event(chosen)
        opened.engine.record(event)
    return {"tag": opened.engine.study.tag, "ideas": len(event.ideas), "new": not opened.resumed}


# -- what is shown


def _lines(ledger: Ledger, better: Better | None) -> list[str]:
    from nightlab.exchange.page import by_row, mended  # noqa: PLC0415

    lines = [f"{ledger.source}: {ledger.form}"]
    for one in ledger.segments:
        named = f"  {one.name}" if one.name else ""
        lines += ["", f"segment {one.number}: {len(one.rows)} rows{named}"]
        counts = Counter(r.status.value for r in one.rows)
        lines.append("  " + ", ".join(f"{n} {word}" for word, n in sorted(counts.items())))
        lines.append(f"  {_ruler(one, better)}")
        if len(ledger.segments) == 1:
            lines += [by_row(r) for r in one.rows[:_SHOWN]]
            if len(one.rows) > _SHOWN:
                lines.append(f"       and {len(one.rows) - _SHOWN} more")
    told = mended(ledger.repairs)
    if told:
        lines += ["", "mended in reading:"]
        lines += [f"  {line[:300]}" for line in told[:_MENDED]]
        if len(told) > _MENDED:
            lines.append(f"  and {len(told) - _MENDED} other kinds (--json has all)")
    return lines


def _ruler(one: Segment, better: Better | None) -> str:
    if one.metric is None:
        likely = ", ".join(one.candidates[:8])
        return f"metric: unknown; --metric NAME, of: {likely}" if likely else "no metric"
    unit = f" in {one.unit}" if one.unit else ""
    if better is not None:
        return f"metric {one.metric}{unit}, {better.value} is better (--better)"
    if one.better is None:
        return f"metric {one.metric}{unit}; which way is better is unknown: --better says"
    return f"metric {one.metric}{unit}, {one.better.value} is better ({one.better_from})"


def _json(ledger: Ledger, better: Better | None) -> dict[str, Any]:
    segments = []
    for one in ledger.segments:
        way = better or one.better
        rows = [
            {
                "number": r.number,
                "line": r.line,
                "label": r.label,
                "commit": r.commit,
                "status": r.status.value,
                "word": r.word,
                "value": r.value,
                "unit": r.unit,
                "metrics": dict(r.metrics),
                "description": r.description,
                "hypothesis": r.hypothesis,
                "category": r.category,
                "at": r.at,
                "same_as": r.same_as,
                "extra": dict(r.extra),
                "raw": r.raw,
            }
            for r in one.rows
        ]
        segments.append(
            {
                "segment": one.number,
                "name": one.name,
                "metric": one.metric,
                "candidates": list(one.candidates),
                "better": way.value if way else None,
                "better_from": "--better" if better else one.better_from,
                "unit": one.unit,
                "rows": rows,
            }
        )
    return {
        "source": ledger.source,
        "form": ledger.form,
        "digest": ledger.digest,
        "segments": segments,
        "repairs": [{"line": r.line, "what": r.what, "shown": r.shown} for r in ledger.repairs],
    }


def _figures(chosen: Chosen, seen: Any) -> dict[str, Any]:
    return {
        "source": chosen.ledger.source,
        "form": chosen.ledger.form,
        "segment": chosen.segment.number,
        "metric": chosen.metric,
        "better": chosen.better.value,
        "better_from": chosen.better_from,
        "rows": seen.rows,
        "counts": seen.counts,
        "measured": seen.measured,
        "naive_gain": seen.naive,
        "keeps_judged": seen.judged,
        "keeps_not_better": seen.not_better,
        "records": seen.records,
        "chance_records": seen.chance,
        "noise": {"sigma": seen.sigma, "df": seen.df},
        "direction_doubtful": seen.against,
        "repairs": len(chosen.ledger.repairs),
    }
