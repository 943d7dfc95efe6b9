"""The thread in which researchers think: one question after another, what they learn between."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import SimpleQueue

from nightlab.errors import ConfigError, NightlabError, ResearcherError
from nightlab.model import Answer, Experiment, Proposal, Usage
from nightlab.researchers import Closing, Context, Plan, Researcher, Task, Thoughtful

_CLOSE_S = 10.0


@dataclass
class Thought:
    """One question: who was asked, what it was shown, and what it will answer.

    ``base`` is the commit that it was shown, ``seconds`` how long it thought.
    """

    researcher: Researcher
    context: Context
    base: str
    future: Future[Proposal | Plan] = field(default_factory=Future)
    seconds: float = 0.0

    def spent(self) -> Usage:
        """What it has cost, once the future is done, whatever came of it."""
        found = self.future.exception() or self.future.result()
        usage = getattr(found, "usage", None)
        return usage if isinstance(usage, Usage) else Usage()

    def proposal(self) -> Proposal:
        """What came of it, once the future is done. Raises what the researcher raised."""
        found = self.future.result()
        if not isinstance(found, Proposal):
            raise ResearcherError("the researcher returned no proposal", f"but {found!r:.200}")
        return found


@dataclass(frozen=True)
class _Lesson:
    researcher: Researcher
    experiments: tuple[Experiment, ...]


class Worker:
    """``propose``, ``plan`` and ``learn`` of all researchers are called here only, in order.

    ``unlearned`` says what went wrong in ``learn``, until it is told.
    """

    def __init__(self) -> None:
        self.unlearned = ""
        self._tasks: SimpleQueue[_Lesson | Thought | None] = SimpleQueue()
        # A daemon: a researcher that hangs must not keep a lab from ending.
        self._thread = threading.Thread(target=self._work, name="researcher", daemon=True)
        self._thread.start()

    def think(self, thought: Thought) -> None:
        """Queue a question."""
        self._tasks.put(thought)

    def learn(self, researcher: Researcher, experiments: tuple[Experiment, ...]) -> None:
        """Queue settled experiments, in order."""
        self._tasks.put(_Lesson(researcher, experiments))

    def close(self, researchers: tuple[Researcher, ...]) -> None:
        """Stop what is thought of, where a researcher can; the others end by themselves."""
        self._tasks.put(None)
        closing = [r for r in researchers if isinstance(r, Closing)]
        for researcher in closing:
            try:
                researcher.close()
            except Exception as error:  # noqa: BLE001  a third party's; the lab must end
                self.unlearned = f"{type(error).__name__}: {error}"
        if closing:
            self._thread.join(_CLOSE_S)

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            if isinstance(task, _Lesson):
                for experiment in task.experiments:
                    self._learn(task.researcher, experiment)
                continue
            began = time.monotonic()
            try:
                answer = _ask(task.researcher, task.context)
                task.seconds = time.monotonic() - began
                task.future.set_result(answer)
            except BaseException as error:  # noqa: BLE001  it crosses to the loop's thread
                task.seconds = time.monotonic() - began
                task.future.set_exception(_as_failure(error))

    def _learn(self, researcher: Researcher, experiment: Experiment) -> None:
        try:
            researcher.learn(experiment)
        except BaseException as error:  # noqa: BLE001  the thread must live to propose
            self.unlearned = f"{type(error).__name__}: {error}"


def _ask(researcher: Researcher, context: Context) -> Proposal | Plan:
    """Ask, and check what really came: a third party's may be anything."""
    if context.task is Task.PLAN and isinstance(researcher, Thoughtful):
        plan = researcher.plan(context)
        if not isinstance(plan, Plan):
            raise ResearcherError("the researcher returned no plan", f"but {plan!r:.200}")
        return plan
    proposal = researcher.propose(context)
    right = isinstance(proposal, Proposal) and all(
        isinstance(path, str) and isinstance(text, str | None)
        for path, text in proposal.files.items()
    )
    if not right:
        raise ResearcherError("the researcher returned no proposal", f"but {proposal!r:.200}")
    return proposal


def kind(error: NightlabError) -> Answer:
    """What kind of no proposal an error is; a third party may name one that there is not."""
    try:
        return Answer(getattr(error, "answer", Answer.FAILED))
    except ValueError:
        return Answer.FAILED


def _as_failure(error: BaseException) -> Exception:
    """A researcher's own bug is a proposal that did not come; the night goes on."""
    if isinstance(error, (ResearcherError, ConfigError)):
        return error
    return ResearcherError(
        "the researcher failed", f"{type(error).__name__}: {error}", "nightlab status"
    )
