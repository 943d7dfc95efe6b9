"""What came of asking a researcher once. Pure."""

from __future__ import annotations

from enum import StrEnum


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
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    UNREACHABLE = "unreachable"
    NO_CREDIT = "no_credit"
    NO_AUTH = "no_auth"
    FAILED = "failed"  # anything else

    @property
    def passes(self) -> bool:
        """Whether waiting cures it: then nobody is to blame and it is no attempt."""
        return self in (Answer.RATE_LIMITED, Answer.OVERLOADED, Answer.UNREACHABLE)

    @property
    def locked_out(self) -> bool:
        """Whether only the person can cure it: another researcher goes on meanwhile."""
        return self in (Answer.NO_CREDIT, Answer.NO_AUTH)
