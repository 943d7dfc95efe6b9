"""The researcher that an MCP client speaks through: a proposal is there when it submits one."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from nightlab.errors import ResearcherError
from nightlab.history.accounts import Accounts
from nightlab.model import Proposal
from nightlab.researchers import Context, Plan, Task
from nightlab.researchers.edits import Block, EditError
from nightlab.researchers.edits import apply as apply_edits


@dataclass
class Submission:
    """What the client wants to try, and what became of it.

    ``files`` maps a path to its whole new text, or None to remove it. ``fixes`` is the
    experiment that it mends; ``based_on`` the incumbent whose files the client was shown.
    Exactly one of ``number`` and ``refused`` is set once ``done``.
    """

    key: str
    proposal: Proposal
    edits: Sequence[Block] = ()
    based_on: str = ""
    fixes: int | None = None
    taken_at: int | None = None  # answers in the books when the engine took it
    number: int | None = None
    refused: str = ""
    done: threading.Event = field(default_factory=threading.Event)

    def begin(self, number: int) -> None:
        """It is an experiment, or mends one."""
        self.number = number
        self.done.set()

    def refuse(self, why: str) -> None:
        """It is none, and why."""
        self.refused = why or "it was refused"
        self.done.set()


class Client:
    """Proposals come from another thread, one at a time; the engine takes them when it can.

    ``fixing`` is the question that waits for a fix of a crash. ``books`` are the study's.
    """

    def __init__(self, name: str, books: Accounts) -> None:
        self.name = name
        self.fixing: Context | None = None
        self._books = books
        self._waiting: Submission | None = None
        self._closed = False
        self._changed = threading.Condition()

    @property
    def ready(self) -> bool:
        waiting = self._waiting
        return waiting is not None and waiting.taken_at is None and waiting.fixes is None

    @property
    def waiting(self) -> Submission | None:
        """The submission that nothing has become of yet."""
        return self._waiting if self._waiting and not self._waiting.done.is_set() else None

    def submit(self, submission: Submission) -> None:
        """Leave it for the engine. There must be no other one ``waiting``."""
        with self._changed:
            self._waiting = submission
            self._changed.notify_all()

    def propose(self, context: Context) -> Proposal:
        if context.task is Task.FIX:
            return self._fix(context)
        submission = self._waiting
        if submission is None:
            raise ResearcherError("nothing was proposed", "the client is silent", answer="no_edit")
        return self._taken(submission, context)

    def _fix(self, context: Context) -> Proposal:
        """Wait for the fix; anything else that the client submits says that there is none."""
        number = context.failure.number if context.failure else None
        with self._changed:
            self.fixing = context
            self._changed.wait_for(lambda: self._closed or self._waiting_now() is not None)
            self.fixing = None
            submission = self._waiting_now()
            fits = not self._closed and submission is not None and submission.fixes == number
            if fits and submission is not None:
                submission.taken_at = self._books.asked
        if not fits or submission is None:
            raise ResearcherError(
                "no fix was proposed", "the client went on with something else", answer="no_edit"
            )
        return self._taken(submission, context)

    @property
    def stranded(self) -> bool:
        """Whether a fix waits that nobody asks for any more."""
        with self._changed:
            waiting = self._waiting_now()
            return waiting is not None and waiting.fixes is not None and self.fixing is None

    def _waiting_now(self) -> Submission | None:
        waiting = self._waiting
        if waiting is None or waiting.taken_at is not None or waiting.done.is_set():
            return None
        return waiting

    def _taken(self, submission: Submission, context: Context) -> Proposal:
        submission.taken_at = self._books.asked
        try:
            return complete(submission, context)
        except EditError as error:
            raise ResearcherError(
                "the edits do not fit", "; ".join(error.problems), answer="unusable"
            ) from error

    def plan(self, context: Context) -> Plan:
        """Never asked: a client tends the backlog with its own tools."""
        raise ResearcherError("the client plans by itself", f"at {context.number}")

    def learn(self, experiment: object) -> None:
        """The client asks for what it wants to know."""

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def complete(submission: Submission, context: Context) -> Proposal:
    """The proposal with whole files, made on the files of ``context``.

    Raises EditError where its edits do not fit them, or where whole files were written for
    another incumbent: they would take back what was kept since.
    """
    whole = dict(submission.proposal.files)
    tip = context.incumbent.commit if context.incumbent else ""
    if whole and submission.based_on != tip and submission.fixes is None:
        raise EditError(
            ["the incumbent has changed since its files were shown; call get_context again"]
        )
    texts = {**context.files, **{p: t for p, t in whole.items() if t is not None}}
    changed = apply_edits(texts, submission.edits) if submission.edits else {}
    return msgspec.structs.replace(submission.proposal, files={**whole, **changed})
