"""The journal as it grows, one plain line per event that a person wants to know of."""

from __future__ import annotations

from pathlib import Path
from typing import assert_never

import msgspec

from nightlab import events
from nightlab.cli import words
from nightlab.events import AnyEvent
from nightlab.history import History
from nightlab.model import Answer, Outcome, Run

_decoder = msgspec.json.Decoder(AnyEvent)


class Follower:
    """Reads what is appended to a journal from now on. Costs nothing while nothing is."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._file.seek(0, 2)
        self._rest = b""

    def new(self) -> list[AnyEvent]:
        """The events since the last call, oldest first."""
        data = self._file.read()
        if not data:
            return []
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [_decoder.decode(line) for line in lines]

    def close(self) -> None:
        self._file.close()


def line(event: AnyEvent, history: History) -> str | None:
    """One line for a person, None for what only the machine cares about."""
    said = _said(event, history)
    return None if said is None else f"{words.clock(event.at)}  {said}"


def _said(event: AnyEvent, history: History) -> str | None:
    match event:
        case events.Proposed():
            return f"exp {event.number:<4} begins        {event.claim.description}"
        case events.Rebased():
            return f"exp {event.number:<4} moved         onto the new incumbent; it runs again"
        case events.Amended():
            return f"exp {event.number:<4} fixed         by its researcher; it runs again"
        case events.RunFinished():
            return _run(event.run, history)
        case events.Settled():
            experiment = history.experiments[event.number]
            reason = experiment.decision.reason if experiment.decision else ""
            return f"exp {event.number:<4} {event.verdict.value.upper():<12}  {reason}"
        case events.Refused():
            return f"refused   {event.description}: {event.reason}"
        case events.Asked():
            return _asked(event)
        case events.IdeaAdded():
            return f"idea {event.idea.id:<4} added        {event.idea.text}"
        case events.IdeaChanged():
            return f"idea {event.idea.id:<4} {event.idea.state.value:<12} {event.idea.text}"
        case events.Noted():
            return f"note      {event.text}"
        case events.Paused():
            return f"paused    {event.reason}"
        case events.Resumed():
            return "resumed"
        case events.Warned():
            return f"warning   {event.text}"
        case events.SessionEnded():
            return f"ended     {event.reason}" + (f": {event.detail}" if event.detail else "")
        case events.Imported():
            return f"imported  {event.source}: {event.rows} rows, as prior ideas"
        case (
            events.StudyStarted()
            | events.SessionStarted()
            | events.Committed()
            | events.RunStarted()
            | events.Judged()
            | events.FinalStarted()  # `nightlab finalize` tells its own story
            | events.FinalCleaned()
            | events.FinalDecided()
            | events.Finalised()
        ):
            return None
    assert_never(event)


def _asked(event: events.Asked) -> str | None:
    if event.answer in (Answer.PROPOSED, Answer.PLANNED):
        # What came of it is told by itself; the detail is what was not taken.
        return f"denied    {event.researcher}: {event.detail}" if event.detail else None
    said = event.detail or "nothing came of it"
    by = "" if said.startswith(f"{event.researcher}: ") else f"{event.researcher}: "
    return f"no answer {by}{said} ({event.answer.words})"


def _run(run: Run, history: History) -> str:
    metric = history.study.objective.metric
    if run.check:
        what = f"exp {run.occasion:<4} check {run.check:<7}"
        detail = f": {run.detail}" if run.detail else ""
        return f"{what} {words.check(run.outcome)} in {words.seconds(run.duration_s)}{detail}"
    what = f"exp {run.occasion:<4} run {run.id:<9} {words.purpose(run.purpose)}, seed {run.seed}: "
    took = f" in {words.seconds(run.duration_s)}"
    if run.outcome is Outcome.OK and metric in run.metrics:
        return f"{what}{metric} {words.number(run.metrics[metric])}{took}"
    # Why a run was hopeless is the reason of the decision, which follows.
    detail = f": {run.detail}" if run.detail and run.outcome is not Outcome.HOPELESS else ""
    return f"{what}{run.outcome.value}{took}{detail}"
