"""What is worth a message, in words: events of the journal in, lines out. Pure.

A message leaves the machine. It holds numbers, and of what others wrote only the one line that
describes a change, cleaned and cut: no diff, no log, no path, no command.
"""

from __future__ import annotations

from dataclasses import dataclass

from nightlab import plateau, views
from nightlab.events import AnyEvent, Paused, Resumed, SessionEnded, Settled
from nightlab.history import History
from nightlab.model import Experiment, Verdict
from nightlab.report.words import clean, count, number, signed

_MOST_LINES = 12
_MOST_CHARS = 120  # of a description or a detail
_HEADS = ("ended", "storm", "morning", "kept", "plateau", "resumed")  # the first one is the title


@dataclass(frozen=True)
class Line:
    """One thing that happened, and of what kind; ``urgent`` does not wait for its turn."""

    kind: str
    text: str
    urgent: bool = False


class Ear:
    """Turns events into the lines that ``on`` wants, while a session lasts."""

    def __init__(self, history: History, on: tuple[str, ...]) -> None:
        self._history = history
        self._on = on
        self._stage = plateau.stand(history).stage
        self._storm = False

    def line(self, event: AnyEvent) -> Line | None:
        """What is to be told of an event that the history has taken in; None for most."""
        match event:
            case Settled():
                return self._settled(event)
            case Paused(message="") if "storm" in self._on:
                self._storm = True
                return Line("storm", f"paused: {clean(event.reason, _MOST_CHARS)}", urgent=True)
            case Resumed(message="") if self._storm:
                self._storm = False
                return Line("resumed", "it works again")
            case SessionEnded() if "bound" in self._on:
                return ended(event)
        return None

    def _settled(self, event: Settled) -> Line | None:
        before, self._stage = self._stage, plateau.stand(self._history).stage
        if event.verdict is Verdict.KEEP and event.number > 1:
            return kept(self._history, event.number) if "kept" in self._on else None
        if self._stage.after > before.after and "plateau" in self._on:
            since = plateau.stand(self._history).since_keep
            text = f"{count(since, 'experiment')} since the last keep; next: {self._stage.name}"
            return Line("plateau", text)
        return None


def kept(history: History, settled: int) -> Line:
    """A kept change: by how much, and where the objective stands."""
    experiment = history.experiments[settled]
    what = clean(experiment.claim.description, _MOST_CHARS)
    return Line("kept", f"exp {settled} kept: {what} ({_measured(history, experiment)})")


def _measured(history: History, experiment: Experiment) -> str:
    sigma, metric = history.noise.sigma, history.study.objective.metric
    effect = experiment.decision.evidence.effect if experiment.decision else None
    value = views.spread(experiment.runs, metric)["mean"]
    gained = f"{signed(effect, sigma)}, " if effect is not None else ""
    return f"{gained}{metric} {number(value, sigma)}"


def ended(event: SessionEnded) -> Line | None:
    """Why the lab ended; None where a person asked for it and knows."""
    if event.reason == "stopped" or (event.reason == "interrupted" and event.detail == "SIGINT"):
        return None
    detail = f": {clean(event.detail, _MOST_CHARS)}" if event.detail else ""
    return Line("ended", f"the lab has ended ({clean(event.reason, 40)}){detail}", urgent=True)


def title(tag: str, lines: list[Line]) -> str:
    """``nightlab nov21: 2 kept``."""
    kinds = [line.kind for line in lines]
    head = next(kind for kind in _HEADS if kind in kinds)
    words = {
        "ended": "ended",
        "storm": "a failure storm",
        "morning": "good morning",
        "kept": f"{kinds.count('kept')} kept",
        "plateau": "nothing helps any more",
        "resumed": "it works again",
    }
    return f"nightlab {clean(tag, 64)}: {words[head]}"


def body(lines: list[Line]) -> str:
    """The lines, the last ones where there are too many."""
    left_out = len(lines) - _MOST_LINES
    shown = [line.text for line in lines[-_MOST_LINES:]]
    return "\n".join(([f"({left_out} more before these)"] if left_out > 0 else []) + shown)
