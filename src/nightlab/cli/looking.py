"""``nightlab status --watch``: a running lab from another process, as its own terminal shows it.

What happened comes from the journal, read as it grows; what happens from the lab's pulse. So a
second costs as much at ten thousand experiments as at ten.
"""

from __future__ import annotations

import time
from typing import Any

from nightlab import contexts, journal, pulse, views
from nightlab.budget import Bounds
from nightlab.cli import base, follow, texts, words
from nightlab.cli.base import Place
from nightlab.cli.screen import Screen, is_possible
from nightlab.errors import EXIT_DONE, EXIT_INTERRUPTED
from nightlab.events import AnyEvent

_EVERY_S = 1.0
_FRESH_S = 5.0  # a pulse older than this proves nothing


def watch(place: Place, *, as_json: bool) -> int:
    """Show the study until no lab works on it any more; 130 when the person has seen enough."""
    study = _Study(place)
    return _objects(study) if as_json else _screen(study)


def _screen(study: _Study) -> int:
    if not study.works:
        base.say(*texts.status(study.status()), "", "no lab works on it now: nightlab run")
        return EXIT_DONE
    live = is_possible()
    if not live:
        base.say(*texts.status(study.status()), "")
    screen = Screen(live=live)
    try:
        _show(study, screen)
    except KeyboardInterrupt:
        screen.close()
        base.say("the lab goes on; nightlab stop ends it", stderr=True)
        return EXIT_INTERRUPTED
    screen.close()
    base.say(words.counts(study.history), study.end())
    return EXIT_DONE


def _show(study: _Study, screen: Screen) -> None:
    while study.works:
        if screen.is_live:
            _draw(study, screen)
        time.sleep(_EVERY_S)
        for event in study.take():
            line = None if screen.is_live else follow.line(event, study.history)
            if line is not None:
                screen.line(line)


def _draw(study: _Study, screen: Screen) -> None:
    from nightlab.cli import live  # noqa: PLC0415  it imports rich

    told, now = study.pulse or {}, time.time()
    session = study.history.session
    shown = live.of(
        study.history,
        doing=study.doing,
        runs=told.get("runs", ()),
        bounds=Bounds(**told.get("bounds", {})),
        now=now,
        session_s=max(0.0, now - session.at) if session else 0.0,
    )
    screen.frame(lambda: live.Frame(shown))


def _objects(study: _Study) -> int:
    """One object a line, now and whenever something has changed."""
    said = None
    try:
        while True:
            works, doing = study.works, study.doing
            if (study.history.last_seq, works, doing) != said:
                said = (study.history.last_seq, works, doing)
                base.emit({**study.status(), "live": study.pulse if works else None})
            if not works:
                return EXIT_DONE
            time.sleep(_EVERY_S)
            study.take()
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


class _Study:
    """A study that another process writes. ``take`` brings it up to date.

    ``works`` says whether a lab holds it, ``pulse`` what that lab said last.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._tail = journal.Tail(place.paths.journal(place.tag))
        self.pulse: dict[str, Any] | None = None
        self.works = False
        self.history, _ = self._tail.replay(None)
        self.take()

    def take(self) -> list[AnyEvent]:
        """What was appended since the last call. Raises JournalError for a damaged journal."""
        self.works = self._is_held()  # asked first: an end is then among the events
        self.pulse = pulse.read(self._place.paths.live(self._place.tag))
        self.history, events = self._tail.replay(self.history)
        return events

    def _is_held(self) -> bool:
        """Looks at the lock, which a lab that starts just now wants, only where it must."""
        try:
            beat = self._place.paths.live(self._place.tag).stat().st_mtime
        except OSError:
            beat = 0.0
        return abs(time.time() - beat) < _FRESH_S or self._place.locked()

    @property
    def doing(self) -> str:
        """What the lab does now, in a sentence."""
        if self.pulse is not None:
            return str(self.pulse["doing"])
        final = self.history.final
        if final is not None and final.closed is None:
            return "finalizing"
        return "beginning" if self.history.ended is None else "ending"

    def status(self) -> dict[str, Any]:
        """As ``status --json`` has it."""
        program = contexts.program(self._place.root)
        return views.status(self.history, locked=self.works, now=time.time(), program=program)

    def end(self) -> str:
        """How the lab ended, in a line."""
        ended = self.history.ended
        if ended is None:
            return "the lab is gone without a word; it goes on with: nightlab run"
        detail = f": {ended.detail}" if ended.detail else ""
        return f"the lab has ended: {ended.reason}{detail}; the debrief: nightlab report"
