"""How a call of an agent ended: one of ``model.Answer``, told from its own words and what it did.

No exit code is trusted: agents end with 0 on failed requests, and with a signal's number on a
status of their provider.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from nightlab.model import Answer
from nightlab.process import Finished
from nightlab.researchers.agents.seam import Said


@dataclass(frozen=True)
class Ending:
    """``why`` is the agent's or provider's own words, cut; untrusted text."""

    answer: Answer
    what: str
    why: str = ""
    retry_after_s: float | None = None


_STATUS = re.compile(
    r"(?:status(?: ?code)?|HTTP(?:/[\d.]+)?|API Error|\"?code\"?|error)[\s:(=]+([45]\d\d)\b"
    r"|^([45]\d\d)\b",
    re.IGNORECASE | re.MULTILINE,
)
_LATER = re.compile(
    r"(?:retry[-_ ]?after|(?:try again|retry|reset\w*) in|retryDelay)\D{0,4}?"
    r"(\d+(?:\.\d+)?)\s*(ms|s|m|h)?",
    re.IGNORECASE,
)
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
# In this order: the first that is found in an error's words names it.
_WORDS = (
    (
        Answer.NO_CREDIT,
        (
            r"insufficient_quota|credit balance|out of credits?|payment required|billing_hard_limit"
            r"|insufficient (?:credits?|funds|balance)"
        ),
    ),
    (
        Answer.RATE_LIMITED,
        (
            r"rate.?limit|too many requests|RESOURCE_EXHAUSTED|exceeded your current quota"
            r"|usage limit|hit your (?:\w+ )?limit"
        ),
    ),
    (
        Answer.NO_AUTH,
        (
            r"invalid (?:x-)?api.?key|key (?:is )?not valid|incorrect api key|no api.?key"
            r"|unauthorized|unauthenticated|authentication|not logged in|/login|auth method"
            r"|permission_error|token (?:has )?expired|credentials"
        ),
    ),
    (
        Answer.OVERLOADED,
        (
            r"overloaded|service unavailable|internal server error|bad gateway|at capacity"
            r"|InternalServerError"
        ),
    ),
    (
        Answer.UNREACHABLE,
        (
            r"ECONN(?:REFUSED|RESET|ABORTED)|ENOTFOUND|EAI_AGAIN|ETIMEDOUT|EPIPE|unable to connect"
            r"|connection (?:error|refused|reset|closed|timed out)|fetch failed|network|socket"
            r"|stream (?:disconnected|closed|ended|error)|terminated|premature|incomplete|aborted"
            r"|timed? ?out|APIConnectionError|error sending request"
        ),
    ),
)
_KILLED = (137, 143)  # a shell's words for SIGKILL and SIGTERM
_MESSAGE = re.compile(r'"message"\s*:\s*"((?:[^"\\]|\\.)+)"')
_STATUSES = {
    401: Answer.NO_AUTH, 402: Answer.NO_CREDIT, 403: Answer.NO_AUTH, 408: Answer.UNREACHABLE,
    429: Answer.RATE_LIMITED,
}  # fmt: skip
_REFUSAL = re.compile(
    r"\bI(?:'m| am) (?:sorry|unable|not able)\b"
    r"|\bI (?:can(?:no|')t|won't|will not|must decline|decline)\b"
    r"|\b(?:against|violates?) (?:my|the|our) (?:guidelines|policy|policies)\b",
    re.IGNORECASE,
)
_QUESTION = re.compile(
    r"\?\s*$|\b(?:should I|shall I|would you like|do you want|which (?:one|of)|please (?:confirm"
    r"|clarify|let me know|tell me))\b",
    re.IGNORECASE,
)
_SAYS = {
    Answer.NO_CREDIT: "the account has no credit",
    Answer.RATE_LIMITED: "the provider asks to slow down",
    Answer.NO_AUTH: "the provider does not accept the key or login",
    Answer.OVERLOADED: "the provider is overloaded",
    Answer.UNREACHABLE: "the model cannot be reached",
    Answer.FAILED: "the provider refused the request",
}


def of_trouble(said: Said, finished: Finished, err: str, wall_s: float) -> Ending | None:
    """Why the call gave nothing that can be judged; None where its turn came to its end."""
    if finished.timed_out or finished.stopped:
        known = _of_error(said, f"{said.error}\n{err}") if said.status or said.error else None
        if known is not None and known.answer.passes:
            return known  # it was waiting for its provider all the time
        return Ending(Answer.HUNG, f"it was not done after {wall_s:g} s and was killed")
    if said.stop is Answer.LOOPED:
        of = "the money that was left" if "budget" in said.error else "its turns"
        return Ending(Answer.LOOPED, f"it used up {of}", said.error)
    by_code = said.ended is None
    ended = finished.exit_code == 0 if by_code else bool(said.ended)
    if ended and (by_code or not said.error):
        return None
    found = _of_error(said, said.error or err)
    if found is not None:
        return found
    if finished.exit_code is None:
        return Ending(Answer.DIED, f"it was killed by signal {finished.signal}", said.error)
    if not ended:
        by = "was killed" if finished.exit_code in _KILLED else "ended"
        code = f"it {by} (exit code {finished.exit_code})"
        return Ending(Answer.DIED, f"{code} before it had a result", said.error or err)
    return Ending(Answer.FAILED, "it failed", said.error)


def of_nothing(said: Said, outside: tuple[str, ...], told: tuple[str, ...]) -> Ending:
    """Why a call that came to its end changed nothing in scope."""
    text = said.text.strip()
    if said.stop is Answer.REFUSAL or (_REFUSAL.search(text[:600]) and not said.denied):
        return Ending(Answer.REFUSAL, "it refused", text)
    if outside:
        what = f"it changed only what is not in scope: {', '.join(outside[:5])}"
        return Ending(Answer.OUT_OF_SCOPE, what, text)
    if said.denied:
        return Ending(Answer.DENIED, "it had no permission for what it tried", "; ".join(told))
    if _QUESTION.search(text):
        return Ending(Answer.QUESTION, "it asked a question, and nobody answers at night", text)
    return Ending(Answer.NO_EDIT, "it changed nothing", text)


def _of_error(said: Said, text: str) -> Ending | None:
    status = said.status or _status(text)
    later = _LATER.search(text)
    wait_s = said.retry_after_s
    if wait_s is None and later:
        wait_s = float(later[1]) * _UNITS_S[(later[2] or "s").lower()]
    worded = next((a for a, words in _WORDS if re.search(words, text, re.IGNORECASE)), None)
    answer = worded
    if status is not None and worded is not Answer.NO_CREDIT:
        answer = _STATUSES.get(status) or (
            Answer.OVERLOADED if status >= 500 else worded or Answer.FAILED
        )
    if answer is None:
        return None
    inner = _MESSAGE.search(text)  # of a body that was passed on as it came
    why = inner[1] if inner else text
    return Ending(answer, _SAYS[answer], why, wait_s if answer.passes else None)


def _status(text: str) -> int | None:
    found = list(_STATUS.finditer(text))
    return int(found[-1][1] or found[-1][2]) if found else None
