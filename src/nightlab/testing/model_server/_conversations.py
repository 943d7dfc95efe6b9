"""Which turn a request belongs to, and what is due in it.

A **conversation** is one agent at work on one proposal: it takes one turn of the scenario and
keeps it. Rules, in this order:

1. A request **opens** a conversation when it continues none that is known. It takes the first
   turn, in the file's order, that is not used up and whose ``when`` stands in its prompt (the
   person's text since the model last spoke). Is there none, ``final`` is all it ever gets.
2. A request **continues** the conversation whose opening messages it begins with. Several
   that opened alike are told apart by the ids of tool calls, which the server makes.
3. **Where** it is in its turn is the number of assistant turns since the opening, so a request
   that a client sends again gets the same answer again; but never past an answer that is
   still owed (a client may keep the half of an answer that was cut). Failures before that
   answer are used up one by one, over all the requests for it: a client's own retries and,
   where the prompt is the very same, a new process after a client that gave up.
4. The very opening request again, when it was answered or its turn had failures only, opens
   a new conversation. So does a new prompt in a resumed session, once its turn is played out.
5. Not so after ``nothing`` or ``refuse``: many clients ask again by themselves, with a line of
   their own below the prompt or after the refusal. That is the same conversation still.
6. A tool that a client hides behind a search (Codex) is searched for first, several times if
   it must be: its MCP server may still be starting. Those answers are not counted.

So N agents at once on one server need different prompts only where their turns begin with a
failure, or where they offer no tools and so have no ids to be told apart by.
"""

from __future__ import annotations

import itertools
import re
import secrets
import threading
from collections import Counter
from dataclasses import dataclass, field

from nightlab.testing.model_server._tools import to_search
from nightlab.testing.model_server._wire import Asked, Message
from nightlab.testing.model_server.scenarios import Scenario, Step, Turn

# Answers after which clients ask again without being told to.
NUDGED = ("nothing", "refuse")
SEARCHES_MAX = 20
# (role, length, hash of the text): prompts are long, and a server may see thousands
_Digest = tuple[str, int, int]
SPOKEN = ("say", "ask", "refuse", "nothing")


@dataclass(frozen=True)
class Slot:
    """What is due at one point of a turn: failures first, then the answer's steps."""

    failures: tuple[Step, ...]
    answer: tuple[Step, ...]


@dataclass(frozen=True)
class Due:
    """What a request gets: ``failure`` instead of or around ``answer`` (empty: ``final``).

    ``turn`` counts from 1 and is None when the scenario is spent; ``slot`` counts answers
    from 0; ``attempt`` counts the requests for that answer from 1. ``search``: the name of a
    tool that is to be searched for before the answer can be given.
    """

    mark: str
    conversation: int
    turn: int | None
    slot: int
    attempt: int
    failure: Step | None
    answer: tuple[Step, ...]
    usage: Turn | None
    search: str = ""


@dataclass
class _Conversation:
    number: int
    turn_number: int | None
    turn: Turn | None
    slots: list[Slot]
    opening: tuple[_Digest, ...]
    base: int
    attempts: Counter[int] = field(default_factory=Counter)
    answered: set[int] = field(default_factory=set)
    last: str = ""
    # (slot, assistant turns in the request) of each answer that was a search for a tool
    searches: set[tuple[int, int]] = field(default_factory=set)

    def starts(self, digests: tuple[_Digest, ...]) -> bool:
        return digests[: len(self.opening)] == self.opening

    def nudged_by(self, messages: tuple[Message, ...]) -> bool:
        """Is this the opening with a line of the client's own below it?"""
        if self.last != "nothing" or len(messages) != len(self.opening) or not messages:
            return False
        length, last = self.opening[-1][1], messages[-1]
        above = Message(last.role, last.text[:length])
        below = last.text[length:]
        return below.startswith("\n") and _digests((*messages[:-1], above)) == self.opening

    def place(self, turns: int) -> int:
        """The slot of a request with so many assistant turns."""
        searched = sum(at < turns for _, at in self.searches)
        return max(0, min(turns - self.base - searched, self.owed()))

    def owed(self) -> int:
        """The first answer that was not given yet."""
        return next(at for at in itertools.count() if at not in self.answered)

    def used(self, at: int) -> bool:
        slot = self.slots[at]
        failed = self.attempts[at] >= len(slot.failures)
        return failed and (not slot.answer or at in self.answered)

    @property
    def over(self) -> bool:
        return all(self.used(at) for at in range(len(self.slots)))

    @property
    def waiting(self) -> bool:
        """Nothing was answered yet, and something is left to play."""
        return not self.answered and bool(self.slots) and not self.used(0)


class Conversations:
    """All conversations of a server with its scenario. Safe for threads."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._lock = threading.Lock()
        self._used: Counter[int] = Counter()
        self._known: list[_Conversation] = []
        self._nonce = secrets.token_hex(3)
        self._marks = re.compile(rf"{self._nonce}c(\d+)s\d+")

    def due(self, asked: Asked) -> Due:
        """What this request gets; uses up one attempt."""
        with self._lock:
            conversation = self._of(asked)
            slot = conversation.place(asked.turns)
            attempt = conversation.attempts[slot] + 1
            conversation.attempts[slot] = attempt
            here = conversation.slots[slot] if slot < len(conversation.slots) else Slot((), ())
            failure = here.failures[attempt - 1] if attempt <= len(here.failures) else None
            search = to_search(here.answer[0], asked) if here.answer and failure is None else ""
            if search:
                made = {turns for at, turns in conversation.searches if at == slot}
                if len(made | {asked.turns}) > SEARCHES_MAX:
                    search = ""  # it is not there: the call fails as a model's would
                else:
                    conversation.searches.add((slot, asked.turns))
            if failure is None and not search:
                conversation.answered.add(slot)
                conversation.last = here.answer[-1].does if here.answer else ""
            return Due(
                mark=f"{self._nonce}c{conversation.number}s{slot}{'f' if search else ''}",
                conversation=conversation.number,
                turn=conversation.turn_number,
                slot=slot,
                attempt=attempt,
                failure=failure,
                answer=here.answer,
                usage=conversation.turn,
                search=search,
            )

    @property
    def spent(self) -> bool:
        """Is every turn with a bound taken as often as it says?"""
        with self._lock:
            turns = enumerate(self._scenario.turns)
            return all(turn.repeat is None or self._used[i] >= turn.repeat for i, turn in turns)

    def _of(self, asked: Asked) -> _Conversation:
        found = self._find(asked, _digests(asked.messages))
        if found is None:
            return self._nudged(asked) or self._open(asked)
        if len(asked.messages) == len(found.opening):
            return found if found.waiting else self._open(asked)
        anew = found.over and asked.turns > found.base and found.last not in NUDGED
        return self._open(asked) if anew and _prompts_anew(asked.messages) else found

    def _find(self, asked: Asked, digests: tuple[_Digest, ...]) -> _Conversation | None:
        marks = [n for m in asked.messages for i in m.ids for n in self._marks.findall(i)]
        marked = self._known[int(marks[-1]) - 1] if marks else None
        alike = [c for c in self._known if c.starts(digests)]
        if not alike:
            return marked
        longest = max(len(c.opening) for c in alike)
        alike = [c for c in alike if len(c.opening) == longest]
        if marked in alike:
            return marked
        due = [c for c in alike if asked.turns - c.base - 1 in c.answered or c.waiting]
        return (due or alike)[-1]

    def _nudged(self, asked: Asked) -> _Conversation | None:
        for conversation in reversed(self._known):
            if conversation.nudged_by(asked.messages):
                # The empty answer is not in the request: it counts as the turn that it was.
                conversation.base -= 1
                conversation.opening = _digests(asked.messages)
                return conversation
        return None

    def _open(self, asked: Asked) -> _Conversation:
        prompt = prompt_of(asked)
        taken: int | None = None
        for i, each in enumerate(self._scenario.turns):
            free = each.repeat is None or self._used[i] < each.repeat
            if free and each.when in prompt:
                taken = i
                self._used[i] += 1
                break
        turn = None if taken is None else self._scenario.turns[taken]
        conversation = _Conversation(
            number=len(self._known) + 1,
            turn_number=None if taken is None else taken + 1,
            turn=turn,
            slots=[] if turn is None else _slots(turn, texts_only=not asked.tools),
            opening=_digests(asked.messages),
            base=asked.turns,
        )
        self._known.append(conversation)
        return conversation


def prompt_of(asked: Asked) -> str:
    """What the person (or the harness) said since the model last spoke."""
    said: list[str] = []
    for message in reversed(asked.messages):
        if message.role == "assistant":
            break
        if message.role == "user":
            said.append(message.text)
    return "\n".join(reversed(said))


def _digests(messages: tuple[Message, ...]) -> tuple[_Digest, ...]:
    return tuple((m.role, len(m.text), hash(m.text)) for m in messages)


def _prompts_anew(messages: tuple[Message, ...]) -> bool:
    """Is the last thing said a person's, and not the result of a tool?"""
    others = [message.role for message in messages if message.role != "user"]
    return messages[-1].role == "user" and others[-1:] == ["assistant"]


def _slots(turn: Turn, *, texts_only: bool) -> list[Slot]:
    """A slot for each answer. A client without tools gets all up to a spoken step in one."""
    slots: list[Slot] = []
    failures: list[Step] = []
    answer: list[Step] = []
    for step in turn.steps:
        if step.fails:
            failures.append(step)
            continue
        answer.append(step)
        if not texts_only or step.does in SPOKEN:
            slots.append(Slot(tuple(failures), tuple(answer)))
            failures, answer = [], []
    if failures or answer:
        slots.append(Slot(tuple(failures), tuple(answer)))
    return slots
