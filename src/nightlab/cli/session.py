"""One session of a lab, as ``nightlab run`` and ``nightlab demo`` hold it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from nightlab import config, contexts, lab, notify, views
from nightlab.budget import Bounds
from nightlab.cli import base, debrief, drawing, follow, words
from nightlab.cli.screen import Screen, is_possible, json_line
from nightlab.config import Settings
from nightlab.engine import Engine
from nightlab.errors import (
    EXIT_DONE,
    EXIT_ERROR,
    EXIT_INTERRUPTED,
    EXIT_NO_KEEP,
    ConfigError,
    ResearcherError,
)
from nightlab.events import AnyEvent, Paused, Settled, Warned
from nightlab.exchange.trackers.live import Live, check_tracker
from nightlab.history import History
from nightlab.loop import Ending, Loop
from nightlab.researchers import EMBEDDED, RESEARCHERS, Researcher, open_researcher
from nightlab.researchers import Settings as ResearcherSettings

_EVERY_S = 0.25
_EVERY_SLOW_S = 1.0  # where runs take minutes, a second is often enough
_SLOW_BUDGET_S = 30.0


class Mode(StrEnum):
    """How a session speaks."""

    LIVE = "live"
    PLAIN = "plain"
    JSON = "json"


def mode(*, plain: bool, as_json: bool) -> Mode:
    """How to speak: live on a terminal unless the person wants it otherwise."""
    if as_json:
        return Mode.JSON
    return Mode.LIVE if not plain and is_possible() else Mode.PLAIN


@dataclass(frozen=True)
class Plan:
    """What a session is asked to do. ``settings`` are nightlab.toml's with the flags' changes."""

    root: Path
    settings: Settings
    tag: str | None = None
    bounds: Bounds = field(default_factory=Bounds)
    mode: Mode = Mode.PLAIN


def hold(plan: Plan) -> int:
    """Open the study, work on it until something ends it, debrief; returns the exit code.

    Raises NightlabError for all that prevents it, and when the baseline fails.
    """
    researcher = open_researcher(researcher_settings(plan.settings))
    stand_in = fallback(plan.settings)
    services = notify.open_services(plan.settings.notify)
    check_tracker(plan.settings.live)
    opened = lab.open_study(plan.root, tag=plan.tag, settings=plan.settings)
    engine = opened.engine
    try:
        if not opened.resumed:
            _rehearse(plan.settings, engine)
        lines = debrief.opening(opened, researcher.name, plan.bounds, base.width())
        base.say(*lines, "", stderr=plan.mode is Mode.JSON)
        watcher = _Watcher(engine, plan.mode, services)
        try:
            ending = Loop(engine, researcher, plan.bounds, watcher.watch, stand_in).run()
        finally:
            watcher.close()
    finally:
        engine.journal.close()
    if watcher.screen.is_stuck:
        # The writing thread hangs in a write with the stream's lock: nothing can be said, and
        # an orderly exit would wait for that lock. All that matters is on disk.
        os._exit(exit_code(engine.history, ending))
    try:
        return _end(engine, ending, plan.mode)
    except OSError:  # the terminal is gone; the report is written
        return exit_code(engine.history, ending)


def _rehearse(settings: Settings, engine: Engine) -> None:
    """Ask an embedded researcher once, for nothing: what it can not work with costs no device time.

    Raises ConfigError, for a sweep that names what is not there.
    """
    wanted = researcher_settings(settings)
    if wanted.use in ("optuna", "sweep"):
        context = contexts.build(engine.history, engine.files_in_scope(), engine.paths.root)
        with contextlib.suppress(ResearcherError):  # nothing to turn yet
            open_researcher(wanted).propose(context)


def researcher_settings(settings: Settings) -> ResearcherSettings:
    """The ``[researcher]`` table as researchers take it."""
    table = settings.researcher
    return ResearcherSettings(
        use=table.get("use", "optuna"),
        seed=table.get("seed", 0),
        values={name: tuple(values) for name, values in table.get("values", {}).items()},
        script=table.get("script", ""),
        agent=table.get("agent", ""),
        **config.asking(table),
    )


def fallback(settings: Settings) -> Callable[[], Researcher] | None:
    """Who goes on while the researcher can not; None for nobody. Raises ConfigError."""
    wanted = researcher_settings(settings)
    needs_none = wanted.use in EMBEDDED
    name = settings.researcher.get("fallback", "none" if needs_none else "optuna")
    if name == "none":
        return None
    if name not in RESEARCHERS:
        raise ConfigError(
            f"[researcher] fallback = {name!r} is no researcher",
            f"nightlab knows none, {', '.join(RESEARCHERS)}",
            'set fallback = "optuna" under [researcher]',
        )
    return lambda: open_researcher(dataclasses.replace(wanted, use=name))


def exit_code(history: History, ending: Ending) -> int:
    """0; 1 without a baseline, 4 at an end without a keep in the study, 130 for a signal."""
    if ending.reason == "baseline":
        return EXIT_ERROR
    if ending.reason == "interrupted":
        return EXIT_INTERRUPTED
    if ending.reason in ("bound", "exhausted") and not views.keeps(history):
        return EXIT_NO_KEEP
    return EXIT_DONE


class _Watcher:
    """What the loop calls as it goes. It only leaves things for the screen to write."""

    def __init__(self, engine: Engine, mode: Mode, services: Sequence[notify.Service] = ()) -> None:
        self._beside = (notify.Notifier(engine, services), Live(engine))
        self._history = engine.history
        self._mode = mode
        self._new: deque[AnyEvent] = deque()
        engine.listeners.append(self._new.append)
        self.screen = Screen(live=mode is Mode.LIVE)
        self._began = time.monotonic()
        self._next = 0.0
        slow = engine.study.budget_s >= _SLOW_BUDGET_S
        self._every_s = _EVERY_SLOW_S if slow else _EVERY_S

    def watch(self, loop: Loop) -> None:
        for one in self._beside:
            one.watch()
        self._tell()
        if self.screen.is_live and time.monotonic() >= self._next:
            self._next = time.monotonic() + self._every_s
            self._draw(loop)

    def _draw(self, loop: Loop) -> None:
        from nightlab.cli.live import Frame, snapshot  # noqa: PLC0415  it imports rich

        shown = snapshot(loop, self._began)
        self.screen.frame(lambda: Frame(shown))

    def _tell(self) -> None:
        while self._new:
            event = self._new.popleft()
            if self._mode is Mode.JSON:
                self._tell_json(event)
                continue
            if self.screen.is_live and not isinstance(event, (Warned, Paused)):
                continue  # the frame shows it
            line = follow.line(event, self._history)
            if line is not None:
                self.screen.line(line)

    def _tell_json(self, event: AnyEvent) -> None:
        if isinstance(event, Settled):
            experiment = self._history.experiments[event.number]
            metric = self._history.study.objective.metric
            json_line(self.screen, views.row(experiment, metric))

    def close(self) -> None:
        """Tell the last events, here and elsewhere."""
        self._tell()
        for one in self._beside:
            for text in one.close():
                self.screen.line(text)
        self.screen.close()


def _end(engine: Engine, ending: Ending, mode: Mode) -> int:
    """Say how it ended; returns the exit code. Raises NightlabError for a failed baseline."""
    if ending.reason == "baseline":
        tail, error = debrief.failed_baseline(engine)
        if tail:
            base.say("the last lines that it printed:", *(f"  {t}" for t in tail), stderr=True)
        raise error
    code = exit_code(engine.history, ending)
    debriefed = write_report(engine.paths, engine.history, now=engine.now())
    if mode is Mode.JSON:
        base.emit(_final(engine, ending, code, debriefed))
        return code
    base.say("", *debriefed.lines)
    if debriefed.trouble:
        base.say(debriefed.trouble, stderr=True)
    base.say(f"next:   {_next(engine, ending)}")
    return code


def _final(engine: Engine, ending: Ending, code: int, debriefed: Debriefed) -> dict[str, Any]:
    return {
        "ended": {"reason": ending.reason, "detail": ending.detail},
        "exit_code": code,
        "report": str(debriefed.report) if debriefed.report else None,
        "plot": str(debriefed.plot) if debriefed.plot else None,
        "status": views.status(engine.history, locked=False, now=engine.now()),
    }


def _next(engine: Engine, ending: Ending) -> str:
    history, study = engine.history, engine.study
    keeps = views.keeps(history)
    if keeps:
        diff = f"git diff {history.base_commit[:7]} {study.branch}   (all that was kept)"
        return f"{diff}\nthen:   nightlab finalize   (does it hold on fresh seeds?)"
    if len(history.settled()) > 1:
        return f"nightlab show {len(history.settled())}   (what was tried last, and why it lost)"
    if ending.reason == "exhausted":
        return "nightlab doctor   (what there is to turn, and who could propose)"
    return "nightlab run   (goes on where it stopped)"


@dataclass(frozen=True)
class Debriefed:
    """What a debrief left: its lines for the terminal, its files, and what went wrong."""

    lines: list[str]
    report: Path | None = None
    plot: Path | None = None
    trouble: str = ""


def write_report(paths: config.Paths, history: History, *, now: float) -> Debriefed:
    """Debrief at the end of a session.

    The night's result stands in the journal: a report that cannot be drawn is told of, no more.
    """
    lines = [words.counts(history)]
    try:
        lines = debrief.closing(history, locked=False, now=now, width=base.width())
        files = drawing.write(
            paths, paths.report(history.study.tag), history, locked=False, now=now
        )
    except Exception as error:  # noqa: BLE001 - matplotlib meets odd machines
        trouble = f"no report was written: {type(error).__name__}: {error}"
        return Debriefed(lines, trouble=trouble)
    return Debriefed([*lines, *drawing.where(files)], files.html, files.plot)
