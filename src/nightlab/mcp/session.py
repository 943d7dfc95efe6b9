"""One session of the loop, held open for an MCP client: the engine's own loop in a thread.

The loop's thread is the only one that touches the engine. What a tool wants to know or do is
put to it with ``ask`` and done between two turns.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from nightlab import lab, notify
from nightlab.budget import Bounds
from nightlab.config import Paths, Settings
from nightlab.contexts import Words
from nightlab.engine import Engine
from nightlab.errors import GitError, NightlabError
from nightlab.events import Warned
from nightlab.exchange.trackers.live import Live
from nightlab.loop import Ending, Loop
from nightlab.mcp.client import Client, Submission
from nightlab.model import Answer, Experiment
from nightlab.researchers import Task
from nightlab.skill.hook import MARKER

T = TypeVar("T")
Debrief = Callable[[Engine], dict[str, Any]]


class Session:
    """A study that a client works on. ``over`` once the loop has ended and the lock is free.

    ``ending`` says why it ended, ``failed`` holds the error that ended it badly; ``debriefed``
    is what the debrief left. ``seen`` are submissions by their keys.
    """

    def __init__(
        self, paths: Paths, settings: Settings, *, tag: str | None, bounds: Bounds, client: str
    ) -> None:
        """Open the study and begin. Raises what ``lab.open_study`` raises."""
        # A client tends the backlog itself: no planning call would ever be answered.
        table = {**settings.researcher, "use": "optuna", "plan_every": 0}
        self.opened = lab.open_study(
            paths.root, tag=tag, settings=replace(settings, researcher=table)
        )
        self.engine = self.opened.engine
        self.history = self.engine.history
        self._beside = (notify.Notifier(self.engine, _services(self.engine)), Live(self.engine))
        self.client = Client(client, self.history.accounts)
        self.loop = Loop(self.engine, self.client, bounds, self._watch)
        self.ending: Ending | None = None
        self.failed: NightlabError | None = None
        self.debriefed: dict[str, Any] = {}
        self.seen: dict[str, Submission] = {}
        self.shown = ""  # the incumbent whose files the client was shown last
        self.over = threading.Event()
        self._tasks: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False
        self._marked: object = None
        self._words: Words | None = None

    def start(self, debrief: Debrief) -> None:
        """Let the loop run, in a thread of its own."""
        self._thread = threading.Thread(target=self._run, args=(debrief,), name="loop")
        self._thread.start()

    @property
    def tag(self) -> str:
        return self.engine.study.tag

    @property
    def stopping(self) -> bool:
        """Whether nothing new begins any more."""
        return self.loop.stopping is not None or self.over.is_set()

    def stop(self, reason: str, detail: str, *, now: bool = False) -> None:
        """Ask for the end: after the run in flight, or with ``now`` at once."""
        self.loop.stop(Ending(reason, detail), now=now)

    def ask(self, question: Callable[[], T]) -> T:
        """What ``question`` returns in the loop's thread. Raises what it raises."""
        answer: Future[T] = Future()

        def work() -> None:
            try:
                answer.set_result(question())
            except BaseException as error:  # noqa: BLE001  it crosses to the asking thread
                answer.set_exception(error)

        with self._lock:
            closed = self._closed
            if not closed:
                self._tasks.put(work)
        if closed:
            self.over.wait()  # the journal is closed then; nothing changes any more
            work()
        return answer.result()

    def words(self, tokens: int) -> Words:
        """What a brief for the client is made with. In the loop's thread."""
        if self._words is None:
            self._words = Words(
                self.engine.paths,
                tokens=tokens,
                show_files=True,
                diff=self.diff,
                now=self.engine.now,
            )
        self._words.tokens = tokens
        return self._words

    def diff(self, experiment: Experiment) -> str:
        """An experiment's patch; "" where it has none."""
        try:
            return self.engine.repo.diff(experiment.parent, experiment.commit)
        except GitError:
            return ""

    # -- the loop's thread

    def _run(self, debrief: Debrief) -> None:
        try:
            self.ending = self.loop.run()
        except NightlabError as error:
            self.failed = error
        except Exception as error:  # noqa: BLE001  a bug: the client is told, the server lives
            self.failed = NightlabError(
                "the loop failed", f"{type(error).__name__}: {error}", "start_study goes on"
            )
        with self._lock:
            self._closed = True
        self._resolve()
        self._drain()
        if self._words is not None:
            self._words.close()
        self._unmark()
        for one in self._beside:
            one.close()
        self.engine.journal.close()
        if self.history.incumbent is not None:
            self.debriefed = debrief(self.engine)
        self.over.set()

    def _watch(self, _loop: Loop) -> None:
        """Between two turns of the loop."""
        for one in self._beside:
            one.watch()
        self._resolve()
        self._mark()
        self._drain()

    def _drain(self) -> None:
        while True:
            try:
                work = self._tasks.get_nowait()
            except Empty:
                return
            work()

    def _resolve(self) -> None:
        """Say what became of the proposal that the engine took, by the study's own books."""
        waiting, books = self.client.waiting, self.history.accounts
        if waiting is None:
            return
        if waiting.taken_at is not None and books.asked > waiting.taken_at:
            task = Task.PROPOSE if waiting.fixes is None else Task.FIX
            for answer in books.recent[waiting.taken_at - books.asked :]:
                if answer.task != task.value:
                    continue
                if answer.answer is Answer.PROPOSED and answer.number is not None:
                    waiting.begin(answer.number)
                else:
                    waiting.refuse(answer.detail)
        elif self._closed:
            why = self.ending.detail if self.ending else "the loop failed"
            waiting.refuse(f"the session is over: {why}")
        elif self.client.stranded:
            waiting.refuse("no experiment waits for a fix any more")

    # -- what the stop hook reads

    @property
    def _marker(self) -> Path:
        return self.engine.paths.study(self.tag) / MARKER

    def _mark(self) -> None:
        counts = self.history.counts
        state = (len(self.history.experiments), counts.total, self.stopping)
        if state == self._marked:
            return
        body = {
            "tag": self.tag,
            "client_pid": os.getppid(),
            "begun": state[0],
            "settled": state[1],
            "stopping": state[2],
        }
        with suppress(OSError):  # it serves the hook only
            draft = self._marker.with_suffix(".draft")
            draft.write_text(json.dumps(body), encoding="utf-8")
            draft.replace(self._marker)
            self._marked = state

    def _unmark(self) -> None:
        with suppress(OSError):
            self._marker.unlink(missing_ok=True)


def _services(engine: Engine) -> list[notify.Service]:
    """Where messages go. An agent may start its servers without the person's variables."""
    try:
        return notify.open_services(engine.settings.notify)
    except NightlabError as error:
        engine.record(Warned(text=f"nobody is told of this session: {error.what}"))
        return []
