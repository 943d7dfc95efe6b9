"""Where the researcher thinks: one thread, so that thinking and training overlap.

``propose`` and ``learn`` are called in that thread only, in order; the engine's operations
only in the loop's. What the loop sees is: ask, and later take.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from dataclasses import dataclass
from queue import SimpleQueue

from nightlab import contexts
from nightlab.engine import Engine
from nightlab.errors import ConfigError, Exhausted, ResearcherError, ScopeError
from nightlab.events import Warned
from nightlab.model import Experiment, Proposal
from nightlab.researchers import Context, Researcher

_REFUSALS_AT_ONCE = 3  # a researcher may err a few times before it is made to wait
_BACKOFF_MOST_S = 300.0


@dataclass(frozen=True)
class _Thought:
    """What the researcher was shown, and what it will answer."""

    context: Context
    base: str
    future: Future[Proposal]
    began: float


class Thinker:
    """One researcher at work for one engine. ``exhausted`` says why nothing more will come.

    ``seconds`` is how long the last proposal took to think of.
    """

    def __init__(self, engine: Engine, researcher: Researcher) -> None:
        self.exhausted = ""
        self.seconds = 0.0
        self._engine = engine
        self._researcher = researcher
        self._tasks: SimpleQueue[tuple[Experiment, ...] | _Thought | None] = SimpleQueue()
        self._thought: _Thought | None = None
        self._failures = 0
        self._proposed = False
        self._unlearned = ""  # set in the researcher's thread, told by the loop's
        self._ask_again_at = 0.0
        # A daemon: a researcher that hangs must not keep a lab from ending.
        self._thread = threading.Thread(target=self._work, name="researcher", daemon=True)
        self._thread.start()

    @property
    def thinking(self) -> bool:
        """Whether a proposal is being thought of now."""
        return self._thought is not None and not self._thought.future.done()

    @property
    def backing_off(self) -> bool:
        """Whether failures in a row make the next question wait."""
        return time.monotonic() < self._ask_again_at

    def learn(self, *experiments: Experiment) -> None:
        """Pass settled experiments on, in order, without waiting."""
        self._tasks.put(experiments)

    def ask(self) -> None:
        """Begin to think of the next proposal unless one is being thought of already."""
        if self._thought is not None or self.exhausted or self.backing_off:
            return
        engine = self._engine
        files = engine.files_in_scope()
        context = contexts.build(engine.history, files, engine.paths.root)
        self._thought = _Thought(context, engine.history.tip, Future(), time.monotonic())
        self._tasks.put(self._thought)

    def take(self, *, wait_s: float) -> int | None:
        """Begin the experiment that was thought of and return its number; None without one.

        Asks first where nobody asked yet. A refusal or a failure is recorded and answered
        with a new question later: it never ends the night. Only a ConfigError at the first
        question is raised.
        """
        self.ask()
        thought = self._thought
        if thought is None:
            return None
        wait_for([thought.future], timeout=wait_s)
        if not thought.future.done():
            return None
        self._thought = None
        self.seconds = time.monotonic() - thought.began
        try:
            proposal = _checked(thought.future.result())
            number = self._engine.begin(proposal, thought.context.files, thought.base)
        except Exhausted as error:
            self.exhausted = f"{error.what}: {error.why}" if error.why else error.what
            return None
        except ScopeError:
            self._back_off(at_once=_REFUSALS_AT_ONCE)
            return None
        except (ResearcherError, ConfigError) as error:
            if isinstance(error, ConfigError) and not self._proposed:
                raise  # a person's mistake, seen at the first question: better told than slept on
            if self._failures == 0:
                text = f"no proposal: {error.what}. {error.why}".strip()
                self._engine.record(Warned(text=text))
            self._back_off(at_once=0)
            return None
        self._failures = 0
        self._proposed = True
        if self._unlearned:
            self._engine.record(Warned(text=f"the researcher did not learn: {self._unlearned}"))
            self._unlearned = ""
        return number

    def close(self) -> None:
        """Let the thread end after what it does now; nobody waits for it."""
        self._tasks.put(None)

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            if isinstance(task, _Thought):
                try:
                    task.future.set_result(self._researcher.propose(task.context))
                except BaseException as error:  # noqa: BLE001  it crosses to the loop's thread
                    task.future.set_exception(_as_failure(error))
            else:
                for experiment in task:
                    self._learn(experiment)

    def _learn(self, experiment: Experiment) -> None:
        try:
            self._researcher.learn(experiment)
        except BaseException as error:  # noqa: BLE001  the thread must live to propose
            self._unlearned = f"{type(error).__name__}: {error}"

    def _back_off(self, *, at_once: int) -> None:
        self._failures += 1
        beyond = self._failures - at_once
        if beyond > 0:
            wait_s = min(_BACKOFF_MOST_S, 0.25 * 2.0 ** min(beyond, 12))
            self._ask_again_at = time.monotonic() + wait_s


def _checked(proposal: Proposal) -> Proposal:
    """What a researcher really returned; a third party's may be anything."""
    right = isinstance(proposal, Proposal) and all(
        isinstance(path, str) and isinstance(text, str | None)
        for path, text in proposal.files.items()
    )
    if not right:
        raise ResearcherError("the researcher returned no proposal", f"but {proposal!r:.200}")
    return proposal


def _as_failure(error: BaseException) -> Exception:
    """A researcher's own bug is a proposal that did not come; the night goes on."""
    if isinstance(error, (ResearcherError, ConfigError)):
        return error
    return ResearcherError(
        "the researcher failed", f"{type(error).__name__}: {error}", "nightlab status"
    )
