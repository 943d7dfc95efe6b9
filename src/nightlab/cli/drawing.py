"""The files of a debrief: report.html, report.md and the plot, with what git and the logs hold."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nightlab import contexts, phases
from nightlab.cli import base, debrief
from nightlab.config import CONFIG_NAME, Paths
from nightlab.errors import NightlabError
from nightlab.history import History

if TYPE_CHECKING:
    from nightlab.report import Evidence, Since, Source

_LOG_LINES = 60
_SOURCE_BYTES = 1_000_000  # of a file that is shown: more is no configuration


@dataclass(frozen=True)
class Files:
    """Where a debrief lies."""

    html: Path
    markdown: Path
    plot: Path | None

    def json(self) -> dict[str, str | None]:
        """The paths, for programs."""
        plot = str(self.plot) if self.plot else None
        return {"report": str(self.html), "markdown": str(self.markdown), "plot": plot}


def where(files: Files) -> list[str]:
    """The lines that say where the debrief lies, the page for people first."""
    return [f"report: {files.html}"] + ([f"plot:   {files.plot}"] if files.plot else [])


def tell(place: base.Place, out: Path | None, *, since: str | None, as_json: bool) -> int:
    """Write the debrief and say where it lies, and the short form of it."""
    from nightlab import report  # noqa: PLC0415  loaded on use
    from nightlab.history import fold  # noqa: PLC0415

    now, locked = time.time(), place.locked()
    events = place.events()
    history = fold(events)
    moment = report.since(events, since, now=now) if since else None
    files = write(
        place.paths,
        (out or place.paths.report(place.tag)).expanduser(),
        history,
        locked=locked,
        now=now,
        drawings=("progress.png", "progress.svg"),
        since=moment,
    )
    if as_json:
        facts = report.facts(history, locked=locked, now=now, since=moment).json()
        base.emit({"tag": place.tag, **files.json(), "facts": facts})
        return 0
    width = base.width()
    base.say(*where(files))
    base.say(*debrief.closing(history, locked=locked, now=now, width=width, since=moment))
    return 0


def write(
    paths: Paths,
    folder: Path,
    history: History,
    *,
    locked: bool,
    now: float,
    drawings: tuple[str, ...] = ("progress.png",),
    since: Since | None = None,
) -> Files:
    """Write the debrief into ``folder``: report.html, report.md, and the plot as ``drawings``.

    Of the part ``since`` a moment: since.html and since.md.
    """
    from nightlab import report  # noqa: PLC0415  loaded on use
    from nightlab.report import document  # noqa: PLC0415

    folder.mkdir(parents=True, exist_ok=True)
    plan = phases.parse(contexts.program(paths.root)).phases
    facts = report.facts(
        history,
        locked=locked,
        now=now,
        constants=_constants(paths.root, history),
        since=since,
        phases=plan,
        most_rows=document.ROWS,
    )
    name = "since" if since else "report"
    plots: list[Path] = []
    inside = None
    if len(history.settled()) > 1:  # a baseline alone is no progress
        from nightlab import plot  # noqa: PLC0415  matplotlib takes a second

        plots = [plot.draw(history, folder / each, facts.phases) for each in drawings]
        inside = plot.inside(history, facts)
    final = report.told(history)
    html, markdown = folder / f"{name}.html", folder / f"{name}.md"
    text = report.html(
        facts,
        drawing=inside,
        final=final,
        look=_Looking(paths, history),
        sources=sources(paths.root),
    )
    html.write_text(text, encoding="utf-8", errors="replace")
    text = report.page(
        report.fewer_rows(facts),
        plot=plots[0].name if plots else None,
        final=tuple(report.section(history)),
    )
    markdown.write_text(text, encoding="utf-8", errors="replace")
    return Files(html, markdown, plots[0] if plots else None)


def _constants(root: Path, history: History) -> tuple[str, ...]:
    """What could be turned in the incumbent's code: the report names what nobody tried."""
    from nightlab import commits, git  # noqa: PLC0415  loaded on use
    from nightlab.researchers import constants  # noqa: PLC0415

    files = commits.files_in_scope(git.discover(root), history.study, history.tip)
    try:
        return tuple(constant.name for constant in constants.find(files))
    except NightlabError:  # a malformed hint in the code is the researcher's to tell
        return ()


def sources(root: Path) -> list[Source]:
    """The files that say what was asked for, as they are now."""
    from nightlab.report import Source  # noqa: PLC0415  loaded on use

    found = []
    for name in (CONFIG_NAME, "program.md"):
        try:
            with (root / name).open("rb") as file:
                text = file.read(_SOURCE_BYTES).decode("utf-8", "replace")
                file.seek(0)
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            continue
        found.append(Source(name, text, digest))
    return found


class _Looking:
    """Diffs from git, many in one call, and the ends of logs. What cannot be read is left out."""

    def __init__(self, paths: Paths, history: History) -> None:
        from nightlab import git  # noqa: PLC0415  loaded on use

        self._paths, self._history = paths, history
        self._repo = git.discover(paths.root)

    def __call__(self, numbers: Sequence[int]) -> Mapping[int, Evidence]:
        from nightlab.report import Evidence  # noqa: PLC0415  loaded on use

        some = [self._history.experiments[n] for n in numbers]
        pairs = [(e.parent, e.commit) for e in some if e.number > 1 and e.commit]
        diffs = self._diffs(pairs)
        tag = self._history.study.tag
        found = {}
        for experiment in some:
            runs = (*experiment.runs, *experiment.checks)
            log = debrief.log_tail(self._paths.log(tag, runs[-1].id), _LOG_LINES) if runs else []
            diff = diffs.get(experiment.commit, "")
            found[experiment.number] = Evidence(diff, "\n".join(log))
        return found

    def _diffs(self, pairs: Sequence[tuple[str, str]]) -> Mapping[str, str]:
        """One commit that is gone from the repository must not cost the others their patch."""
        try:
            return self._repo.diffs(pairs) if pairs else {}
        except NightlabError:
            if len(pairs) == 1:
                return {}
            half = len(pairs) // 2
            return {**self._diffs(pairs[:half]), **self._diffs(pairs[half:])}
