"""Researchers: what they are asked, what they answer, what it cost, the ideas that wait."""

from __future__ import annotations

from enum import StrEnum

from nightlab.model.study import Value


class Answer(StrEnum):
    """What came of asking a researcher once. Told apart, counted, and never the night's end."""

    PROPOSED = "proposed"  # a proposal that became an experiment, or fixed one
    PLANNED = "planned"  # a planning call that gave ideas
    NO_EDIT = "no_edit"  # it ended without changing anything
    QUESTION = "question"  # it asked the person instead
    REFUSAL = "refusal"  # it would not
    OUT_OF_SCOPE = "out_of_scope"  # it changed what is not its to change, and nothing else
    BROKEN_SYNTAX = "broken_syntax"  # what it wrote does not parse
    DUPLICATE = "duplicate"  # an earlier experiment tried just that
    UNUSABLE = "unusable"  # an answer in no form that could be read
    LOOPED = "looped"  # it used up its turns or its budget
    HUNG = "hung"  # it used up its time
    DIED = "died"  # its program crashed or was killed
    DENIED = "denied"  # it had no permission to do its work
    OVERTAKEN = "overtaken"  # the incumbent moved on under it: nobody's fault
    STOPPED = "stopped"  # the lab ended while it thought
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    UNREACHABLE = "unreachable"
    NO_CREDIT = "no_credit"
    NO_AUTH = "no_auth"
    FAILED = "failed"  # anything else

    @property
    def words(self) -> str:
        """For a person: ``rate limited``."""
        return self.value.replace("_", " ")

    @property
    def passes(self) -> bool:
        """Whether waiting cures it: then nobody is to blame and it is no attempt."""
        return self in (Answer.RATE_LIMITED, Answer.OVERLOADED, Answer.UNREACHABLE)

    @property
    def locked_out(self) -> bool:
        """Whether only the person can cure it: another researcher goes on meanwhile."""
        return self in (Answer.NO_CREDIT, Answer.NO_AUTH)


class Usage(Value, frozen=True):
    """What asking a researcher cost. ``tokens_in`` holds ``tokens_cached``; ``usd`` None: unknown.

    ``seconds`` is wall-clock time of thinking; ``calls`` counts requests to a model.
    """

    tokens_in: int = 0
    tokens_out: int = 0
    tokens_cached: int = 0
    usd: float | None = None
    seconds: float = 0.0
    calls: int = 0
    model: str = ""

    @property
    def tokens(self) -> int:
        return self.tokens_in + self.tokens_out


class IdeaState(StrEnum):
    """What became of an idea in the backlog."""

    OPEN = "open"
    TAKEN = "taken"  # an experiment of it exists
    VETOED = "vetoed"  # a person, or a later plan, does not want it


class Idea(Value, frozen=True):
    """A line of the backlog: a hypothesis that nobody has tried yet, or since.

    ``id`` counts from 1. ``priority`` is higher for sooner; ``expects`` and ``cost`` are the
    proposer's own words. ``source`` is "person", or the researcher that planned it.
    ``after`` names experiments that it combines or tests again.
    """

    id: int
    text: str
    category: str = ""
    priority: float = 0.0
    expects: str = ""
    cost: str = ""
    source: str = ""
    after: tuple[int, ...] = ()
    state: IdeaState = IdeaState.OPEN
    experiments: tuple[int, ...] = ()


class Prior(Value, frozen=True):
    """What another loop's ledger says of one change: a claim nobody measured here.

    ``status`` is keep, discard, crash, inconclusive or other; ``gain`` over what was kept
    before it, positive is better; ``line`` of the file.
    """

    text: str
    status: str
    value: float | None = None
    gain: float | None = None
    category: str = ""
    line: int = 0


class Change(Value, frozen=True):
    """One constant's move, as the embedded researcher makes it: ``LR 0.1 → 0.032``."""

    name: str
    old: float | bool | str | None
    new: float | bool | str | None


class Proposal(Value, frozen=True):
    """A claim before any measurement: a hypothesis and the files as they would be.

    ``files`` maps a path in scope (relative to the project) to its whole new text, or to
    None where the file is removed. It is not stored in the journal: git holds it.
    ``expects`` is what the researcher believes the effect will be, ``idea`` the id of the
    backlog's idea that it follows, ``told`` what it did that it may not, which was undone;
    ``scratchpad`` replaces the researcher's memory where it is not None.
    """

    description: str
    files: dict[str, str | None]
    hypothesis: str = ""
    category: str = ""
    researcher: str = ""
    changes: tuple[Change, ...] = ()
    expects: str = ""
    idea: int | None = None
    usage: Usage = Usage()
    told: tuple[str, ...] = ()
    scratchpad: str | None = None


class Claim(Value, frozen=True):
    """What the journal keeps of a proposal; the text itself is in the commit.

    ``nodes`` is by how many nodes of the syntax tree it grows the code, None where unknown.
    """

    description: str
    hypothesis: str = ""
    category: str = ""
    researcher: str = ""
    changes: tuple[Change, ...] = ()
    lines_added: int = 0
    lines_removed: int = 0
    nodes: int | None = None
    expects: str = ""
    idea: int | None = None
