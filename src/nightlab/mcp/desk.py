"""The operations behind the tools: each safe to repeat, none of them chooses a verdict."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import re
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nightlab import config, scratchpad
from nightlab.budget import Bounds
from nightlab.commits import one_line
from nightlab.config import Paths
from nightlab.errors import ConfigError, NightlabError, UsageError
from nightlab.events import IdeaAdded
from nightlab.mcp import telling
from nightlab.mcp.client import Submission
from nightlab.mcp.session import Debrief, Session
from nightlab.model import Idea, Proposal
from nightlab.researchers.edits import Block

Facts = dict[str, Any]
Progress = Callable[[float, str], Awaitable[None]]

_BEGIN_S = 20.0  # that begin_experiment waits for the engine to take a proposal
_FINISH_S = 20.0
_MOST_WAIT_S = 3600.0
_ALREADY = re.compile(r"experiment (\d+) already tried")


class Desk:
    """What one server holds: at most one session. ``folder`` is where the project is looked for."""

    def __init__(self, folder: Path, debrief: Debrief) -> None:
        self.session: Session | None = None
        self._folder = folder
        self._debrief = debrief
        self._lock = threading.Lock()

    @property
    def held(self) -> Session:
        """The session. Raises UsageError where none was started."""
        if self.session is None:
            raise UsageError("no study is open", "this server has not started one", "start_study")
        return self.session

    def start(self, tag: str, bounds: Bounds, client: str) -> Facts:
        """Open the study and begin with its baseline, or say how the open one stands."""
        root = config.find_root(self._folder)
        if root is None:
            raise ConfigError(
                f"there is no {config.CONFIG_NAME} in {self._folder} or above",
                "it says which command to run and which metric counts",
                "nightlab init (in a shell, with the person), then start_study again",
            )
        with self._lock:
            open_one = self.session is not None and not self.session.over.is_set()
            if self.session is not None and open_one:
                self._check_same(self.session, tag)
            else:
                self.session = Session(
                    Paths(root), config.load(root), tag=tag or None, bounds=bounds, client=client
                )
                self.session.start(self._debrief)
        told = () if open_one else self.session.opened.told
        return {**self.status(), "resumed": open_one or self.session.opened.resumed, "told": told}

    def _check_same(self, session: Session, tag: str) -> None:
        if session.stopping:
            raise NightlabError(
                f"the session on study {session.tag} is ending",
                "a run in flight is waited for",
                "await_experiment, then start_study",
            )
        if tag and tag != session.tag:
            raise UsageError(
                f"study {session.tag} is open", "a server works on one at a time", "finish"
            )

    def status(self) -> Facts:
        """How the study and the session stand."""
        session = self.held
        if session.failed is not None and session.over.is_set():
            raise session.failed
        return session.ask(lambda: telling.standing(session))

    def context(self, tokens: int) -> str:
        """The brief for the next proposal."""
        session = self.held
        return session.ask(lambda: telling.context(session, tokens))

    def file(self, path: str, first: int, lines: int) -> str:
        """Lines of a file in scope, as the next proposal finds it."""
        session = self.held
        return session.ask(lambda: telling.text_of(session, path, first, lines))

    async def begin(
        self,
        proposal: Proposal,
        edits: Sequence[Block],
        *,
        fixes: int | None,
        key: str,
        wait_s: float = _BEGIN_S,
    ) -> Facts:
        """Hand a proposal over, and wait a while for its number or the reason why it has none."""
        session = self.held
        if not edits and not proposal.files:
            raise UsageError("nothing changes", "there are neither edits nor files", "get_context")
        key = key or _digest(proposal, edits, fixes)
        submission = session.seen.get(key)
        if submission is None:
            submission = Submission(key, proposal, edits, fixes=fixes)
            await asyncio.to_thread(session.ask, lambda: _submit(session, submission))
        deadline = time.monotonic() + wait_s
        while not submission.done.is_set() and time.monotonic() < deadline:  # noqa: ASYNC110  a thread's
            await asyncio.sleep(0.05)
        session_now = await asyncio.to_thread(session.ask, lambda: telling.standing(session))
        facts: Facts = {"key": key, "session": session_now["session"]}
        if submission.number is not None:
            return facts | {"state": "begun", "experiment": submission.number}
        if submission.refused:
            already = _ALREADY.search(submission.refused)
            again = int(already.group(1)) if already else None
            return facts | {"state": "refused", "why": submission.refused, "already": again}
        return facts | {"state": "queued", "experiment": None}

    async def wait(self, number: int | None, wait_s: float, progress: Progress) -> Facts:
        """Wait for an experiment's verdict, at most ``wait_s``; then say how far it is."""
        session = self.held
        began = time.monotonic()
        step_s = 0.1
        while True:
            over = session.over.is_set()
            which = number
            facts = await asyncio.to_thread(
                session.ask,
                lambda which=which: telling.progress(session, which),
            )
            number = facts["experiment"] or number
            elapsed = time.monotonic() - began
            settled = facts["state"] in ("settled", "needs_fix", "none") and not session.stopping
            if settled or over or elapsed >= min(wait_s, _MOST_WAIT_S):
                if session.failed is not None and over:
                    raise session.failed
                return facts
            await progress(elapsed, f"exp {number}: {facts['state']}" if number else facts["state"])
            await asyncio.sleep(min(step_s, max(0.0, wait_s - elapsed)))
            step_s = min(1.0, step_s * 1.5)

    def verdict(self, number: int) -> Facts:
        """What was measured and decided."""
        session = self.held
        return session.ask(lambda: telling.progress(session, number))

    def log(self, number: int, run: int | None, lines: int) -> str:
        """The end of what a run printed."""
        session = self.held

        def found() -> str:
            experiment = telling.find(session, number)
            return telling.log(session, experiment, run, lines) if experiment else ""

        return session.ask(found)

    def diff(self, number: int) -> str:
        """What an experiment changed."""
        session = self.held

        def found() -> str:
            experiment = telling.find(session, number)
            return telling.patch(session, experiment) if experiment else ""

        return session.ask(found)

    def note(self, text: str) -> Facts:
        """Put lines to the scratchpad, once."""
        session = self.held
        path = session.engine.paths.scratchpad(session.tag)
        text = text.strip()
        if not text:
            raise UsageError("the note is empty", "", "note")

        def put() -> Facts:
            before = scratchpad.read(path)
            known = text in before
            if not known:
                before = scratchpad.write(path, f"{before.rstrip()}\n{text}\n".lstrip("\n"))
            return {"noted": text, "new": not known, "bytes": len(before.encode())}

        return session.ask(put)

    def idea(self, text: str, category: str, expects: str, priority: float) -> Facts:
        """Put an idea into the backlog, once."""
        session = self.held
        text = " ".join(one_line(text).split())
        if not text:
            raise UsageError("the idea is empty", "", "add_idea")

        def put() -> Facts:
            backlog = session.history.backlog
            for idea in backlog:
                if idea.text == text:
                    return {"idea": idea.id, "state": idea.state.value, "new": False}
            if session.stopping:
                raise NightlabError("the session is over", "nothing is recorded", "start_study")
            idea = Idea(
                id=backlog.next_id(),
                text=text,
                category=one_line(category),
                expects=one_line(expects),
                priority=priority,
                source=session.client.name,
            )
            session.engine.record(IdeaAdded(idea=idea))
            return {"idea": idea.id, "state": idea.state.value, "new": True}

        return session.ask(put)

    async def finish(self, *, now: bool) -> Facts:
        """End the session after the run in flight, or at once; the study can go on later."""
        session = self.held
        if not session.stopping:
            session.stop("stopped", f"asked by {session.client.name}", now=now)
        elif now and not session.over.is_set() and session.loop.stopping is not None:
            session.loop.stop(session.loop.stopping, now=True)
        deadline = time.monotonic() + _FINISH_S
        while not session.over.is_set() and time.monotonic() < deadline:  # noqa: ASYNC110  a thread's
            await asyncio.sleep(0.05)
        return await asyncio.to_thread(self.status)

    def leave(self) -> None:
        """The client is gone: end the session after the run in flight, and wait for that."""
        session = self.session
        if session is None:
            return
        if not session.stopping:
            session.stop("stopped", "the client went away")
        with contextlib.suppress(KeyboardInterrupt):
            session.over.wait()


def _submit(session: Session, submission: Submission) -> None:
    """In the loop's thread. Raises NightlabError where it cannot even be queued."""
    waiting = session.client.waiting
    if session.stopping:
        raise NightlabError(
            f"the session on study {session.tag} is over", "nothing new begins", "start_study"
        )
    if waiting is not None:
        raise UsageError(
            f"a proposal waits already: {waiting.proposal.description}",
            "they are taken one at a time",
            "await_experiment",
        )
    fixing = session.client.fixing
    number = fixing.failure.number if fixing and fixing.failure else None
    if submission.fixes is not None and submission.fixes != number:
        now = "none does" if number is None else f"experiment {number} does"
        raise UsageError(f"experiment {submission.fixes} waits for no fix", now, "status")
    submission.based_on = session.shown
    session.seen[submission.key] = submission
    session.client.submit(submission)


def _digest(proposal: Proposal, edits: Sequence[Block], fixes: int | None) -> str:
    said = (proposal.description, proposal.hypothesis, proposal.category, fixes)
    whole: Mapping[str, str | None] = proposal.files
    blocks = [(b.path, b.search, b.replace) for b in edits]
    text = json.dumps([said, sorted(whole.items()), blocks])
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
