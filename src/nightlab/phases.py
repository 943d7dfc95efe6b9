"""Phases of a study, as the person wrote them into program.md. Pure: a text in, phases out.

A phase is a heading such as ``## Phase: tuning (20 experiments, one change)``; its bounds and
rules may also stand in lines of their own below it (``until: 20 experiments or plateau 10``,
``rules: free hand, web``). docs/program.md is the description for people.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from nightlab.history import History

_HEADING = re.compile(r" {0,3}(#{1,6})\s+(.*?)(?:\s+#+)?\s*")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_PHASE = re.compile(r"phase\b\s*(.*)", re.IGNORECASE)
# "Phase: x", "Phase 2: x", "Phase 2 - x", "Phase II", "Phase 2"; not "Phase space".
_NAMED = re.compile(r"(\d+|[ivx]+)?\s*(?:[:.–—-]\s*(.*))?", re.IGNORECASE)
_IN_BRACKETS = re.compile(r"(.*?)\s*\(([^()]*)\)\s*")
_LINE = re.compile(
    r"\s*(?:[-*+]\s+)?[*_]*(until|rules?|bounds?)[*_]*\s*:[*_]*\s*(.+)", re.IGNORECASE
)
_ITEMS = re.compile(r"\s*(?:[,;]|\bor\b|\band\b)\s*", re.IGNORECASE)
_EXPERIMENTS = re.compile(r"(\d{1,9})\s*(?:more\s+)?exp(?:eriment)?s?\.?", re.IGNORECASE)
_PLATEAU = re.compile(
    r"(?:a\s+)?plateau\s*(?:of|at|:|=)?\s*(\d{1,9})(?:\s*exp(?:eriment)?s?)?"
    r"|(\d{1,9})\s*exp(?:eriment)?s?\s+without\s+(?:a\s+)?keep",
    re.IGNORECASE,
)
_SPAN = re.compile(
    r"(\d{1,6}(?:\.\d+)?)\s*(seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h|days?|d)(?![a-z])",
    re.IGNORECASE,
)
_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_KNOWN = '"20 experiments", "2h", "plateau 15", "one change", "free hand", "web"'


@dataclass(frozen=True)
class Phase:
    """One phase. It ends at the first of its bounds that is reached; None: no such bound.

    ``experiments`` and ``plateau`` count settled experiments (the latter since the last keep,
    within the phase); ``seconds`` is time that labs work. ``text`` is what stands below the
    heading.
    """

    name: str
    number: int
    text: str = ""
    experiments: int | None = None
    seconds: float | None = None
    plateau: int | None = None
    free_hand: bool = False
    web: bool = False

    @property
    def bounded(self) -> bool:
        return any(b is not None for b in (self.experiments, self.seconds, self.plateau))

    def until(self) -> str:
        """The bounds in words; "" without one."""
        words = []
        if self.experiments is not None:
            words.append(f"{self.experiments} experiments")
        if self.seconds is not None:
            words.append(f"{self.seconds / 3600:g} h")
        if self.plateau is not None:
            words.append(f"{self.plateau} experiments without a keep")
        return " or ".join(words)

    def rules(self) -> tuple[str, ...]:
        """The rules in the words of program.md."""
        return ("free hand" if self.free_hand else "one change", *(("web",) if self.web else ()))


@dataclass(frozen=True)
class Program:
    """program.md read: its text outside of phases, the phases, and what could not be understood."""

    text: str
    phases: tuple[Phase, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Current:
    """The phase of now, one of ``of``; what was done in it so far."""

    phase: Phase
    of: int
    experiments: int
    seconds: float
    since_keep: int


def parse(text: str) -> Program:
    """Read program.md. Never raises: what looks like a phase and cannot be read is a warning."""
    outside: list[str] = []
    phases: list[Phase] = []
    warnings: list[str] = []
    body: list[str] | None = None
    level = 0
    for line, heading in _lines(text):
        if heading is not None:
            if body is not None and len(heading[1]) <= level:
                phases[-1], body = _closed(phases[-1], body, warnings), None
            title = _PHASE.fullmatch(heading[2])
            if title is not None and body is None:
                phase = _titled(title[1], len(phases) + 1, warnings)
                if phase is not None:
                    phases.append(phase)
                    body, level = [], len(heading[1])
                    continue
        (outside if body is None else body).append(line)
    if body is not None:
        phases[-1] = _closed(phases[-1], body, warnings)
    warnings += [
        f"phase {p.name!r} has no end, so those after it never begin: write how long it lasts, "
        "like (20 experiments)"
        for p in phases[:-1]
        if not p.bounded
    ]
    return Program("\n".join(outside).strip(), tuple(phases), tuple(warnings))


def current(phases: Sequence[Phase], history: History, now: float) -> Current | None:
    """The phase at Unix second ``now``; None without phases. The last one goes on without end."""
    if not phases:
        return None
    digest = history.digest
    worked = history.lab_seconds_at(now)
    place, began = 0, 0.0  # settled experiments, and seconds of work, before the phase
    for phase in phases:
        ends = _end(phase, history, place, began, worked)
        if phase is phases[-1] or ends is None:
            keeps = bisect_right(digest.keeps, place - 1)
            last = digest.keeps[-1] + 1 if len(digest.keeps) > keeps else place
            done = len(digest.order)
            return Current(phase, len(phases), done - place, worked - began, done - last)
        place, began = ends
    return None


def stretches(
    phases: Sequence[Phase], history: History, now: float
) -> Iterator[tuple[Phase, int, int | None]]:
    """The phases that have begun by ``now``, each with its begin and its end.

    Both are places in ``history.digest.order``; None for the end of the one that goes on.
    """
    worked = history.lab_seconds_at(now)
    place, began = 0, 0.0
    for phase in phases:
        ends = _end(phase, history, place, began, worked)
        if phase is phases[-1] or ends is None:
            yield phase, place, None
            return
        yield phase, place, ends[0]
        place, began = ends


def _end(
    phase: Phase, history: History, place: int, began: float, worked: float
) -> tuple[int, float] | None:
    """Where a phase that began there ended: (settled experiments, seconds); None: not yet."""
    digest = history.digest
    done = len(digest.order)
    by_count = place + phase.experiments if phase.experiments is not None else math.inf
    if phase.plateau is not None:
        since = place
        for kept in digest.keeps[bisect_right(digest.keeps, place - 1) :]:
            if kept - since >= phase.plateau:
                break
            since = kept + 1
        by_count = min(by_count, since + phase.plateau)
    over = began + phase.seconds if phase.seconds is not None else math.inf
    in_time = bisect_right(digest.seconds, over) if phase.seconds is not None else done
    if by_count <= min(done, max(in_time, place)):
        ended = int(by_count)
        return ended, (digest.seconds[ended - 1] if ended > place else began)
    return (max(in_time, place), over) if over <= worked else None


def _lines(text: str) -> Iterator[tuple[str, re.Match[str] | None]]:
    """Each line, and the match of a heading; what stands in a code fence is no heading."""
    fence = ""
    for line in text.splitlines():
        mark = _FENCE.match(line)
        if fence:
            if mark and mark[1].startswith(fence) and not line.strip().strip(fence[0]):
                fence = ""
            yield line, None
            continue
        if mark:
            fence = mark[1]
        yield line, None if mark else _HEADING.fullmatch(line)


def _titled(title: str, number: int, warnings: list[str]) -> Phase | None:
    """The phase that a heading names, after the word "phase"; None where it names none."""
    named = _NAMED.fullmatch(title)
    bounds = ""
    if named is None or not title:
        bare = _IN_BRACKETS.fullmatch(title)
        named = _NAMED.fullmatch(bare[1]) if bare and bare[1] else None
        if named is None or bare is None:
            warnings.append(
                f'the heading "Phase {title}" looks like a phase and cannot be read: '
                'write "## Phase: tuning (20 experiments)"'
            )
            return None
        bounds = bare[2]
    name = (named[2] or "").strip()
    bracketed = _IN_BRACKETS.fullmatch(name)
    if bracketed and not bounds:
        name, bounds = bracketed[1], bracketed[2]
    if name.count("(") != name.count(")"):
        warnings.append(f"the brackets of the phase {name!r} do not match: its end is not known")
    phase = Phase(name=(name or named[1] or str(number))[:80], number=number)
    return _with(phase, bounds, warnings) if bounds else phase


def _closed(phase: Phase, body: list[str], warnings: list[str]) -> Phase:
    """The phase with the lines below its heading read."""
    fenced = ""
    for line in body:
        mark = _FENCE.match(line)
        if mark:
            fenced = "" if fenced and mark[1].startswith(fenced) else fenced or mark[1]
        found = None if fenced or mark else _LINE.fullmatch(line)
        if found is not None:
            phase = _with(phase, found[2].rstrip("."), warnings)
    return replace(phase, text="\n".join(body).strip())


def _with(phase: Phase, items: str, warnings: list[str]) -> Phase:
    """The phase with bounds and rules taken in."""
    for item in filter(None, (i.strip(" `*_.") for i in _ITEMS.split(items))):
        low = " ".join(item.lower().split())
        if found := _PLATEAU.fullmatch(low):
            phase = replace(phase, plateau=max(1, int(found[1] or found[2])))
        elif found := _EXPERIMENTS.fullmatch(low):
            phase = replace(phase, experiments=max(1, int(found[1])))
        elif _SPAN.findall(low) and not _SPAN.sub("", low).strip():
            spans = _SPAN.findall(low)
            phase = replace(phase, seconds=sum(float(n) * _UNITS_S[u[0]] for n, u in spans))
        elif low in ("one change", "one change per experiment", "one change at a time"):
            phase = replace(phase, free_hand=False)
        elif low in ("free hand", "free-hand"):
            phase = replace(phase, free_hand=True)
        elif low in ("web", "web access", "with web", "with web access"):
            phase = replace(phase, web=True)
        elif low not in ("no web", "until", "all"):
            warnings.append(f"phase {phase.name!r}: {item!r} means nothing here; known: {_KNOWN}")
    return phase
