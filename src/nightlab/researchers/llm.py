"""No agent at all: a few calls of a language model through any OpenAI-compatible endpoint.

The model is given the brief and the files in scope, answers with search/replace blocks, and is
told exactly which of them did not fit, for a bounded number of rounds. Hosted, Ollama, vLLM,
llama.cpp: whatever serves ``/chat/completions``.
"""

from __future__ import annotations

import ast
import os
import re
import time
from collections.abc import Callable, Mapping
from difflib import SequenceMatcher
from typing import TypeVar

import msgspec

from nightlab import answers
from nightlab.errors import ConfigError, ResearcherError
from nightlab.history.accounts import total
from nightlab.model import Answer, Experiment, Proposal, Usage
from nightlab.researchers import Context, Plan, Settings, Task, edits
from nightlab.researchers._chat import Chat, Said
from nightlab.researchers.agents.prices import priced

_HOSTED = "https://api.openai.com/v1"
_HOSTED_KEY = "OPENAI_API_KEY"
_ROUNDS = 3  # answers of the model to one question
_ANSWER_CHARS = 24_000  # of one, as far as it is sent back
_LEAST_TOKENS = 256  # fewer hold no answer
_REFUSES = re.compile(
    r"\bI(?:'m| am) (?:sorry|unable|not able)|\bI (?:can(?:'|no)t|won't|will not)\b", re.IGNORECASE
)
_FORM = """\
You improve a program by one small change at a time. You cannot run anything and nobody answers \
questions: decide, and answer with the change itself, as search/replace blocks in this form:

train.py
<<<<<<< SEARCH
LR = 0.1
=======
LR = 0.03
>>>>>>> REPLACE

The SEARCH part is copied from the file, line by line, and stands there exactly once. Use as many \
blocks as the change needs, each with the file's path on the line before it. To make a new file, \
leave the SEARCH part empty."""

_T = TypeVar("_T")


class _UnfitError(Exception):
    """An answer that is none. ``say`` tells the model what to mend, ``why`` the journal."""

    def __init__(self, answer: Answer, say: str, why: str = "", *, final: bool = False) -> None:
        super().__init__(say)
        self.answer = answer
        self.say = say
        self.why = " ".join((why or say).split())
        self.final = final


class LlmResearcher:
    """Raises ConfigError where the settings can not work, before anything is asked."""

    name = "llm"

    def __init__(self, settings: Settings) -> None:
        if not settings.model:
            raise ConfigError(
                "the llm researcher has no model",
                "[researcher] model is not set",
                'set model = "…" under [researcher] (and endpoint, for a server of your own)',
            )
        endpoint = settings.endpoint or _HOSTED
        if not endpoint.startswith(("http://", "https://")):
            raise ConfigError(
                f"[researcher] endpoint = {endpoint!r} is no address",
                "it begins with http:// or https:// and usually ends with /v1",
                'endpoint = "http://localhost:11434/v1"',
            )
        key_env = settings.key_env or ("" if settings.endpoint else _HOSTED_KEY)
        key = os.environ.get(key_env, "").strip() if key_env else ""
        if key_env and not key:
            raise ConfigError(
                f"{key_env} is not set",
                "[researcher] key_env names the variable that holds the model's key",
                f"export {key_env}=…, then: nightlab run",
            )
        self._chat = Chat(endpoint, settings.model, key)
        self._timeout_s = settings.timeout_s
        self._price = settings.price

    def learn(self, experiment: Experiment) -> None:
        """Everything it needs to know comes with the next brief."""

    def close(self) -> None:
        """Leave the call in flight."""
        self._chat.close()

    def propose(self, context: Context) -> Proposal:
        def read(said: Said) -> Proposal:
            files = _files(said.text, context)
            words = answers.proposal(said.text)
            return Proposal(
                description=words.description or _named(context, files),
                files=dict(files),
                hypothesis=words.hypothesis,
                category=words.category,
                researcher=self.name,
                expects=words.expects,
                idea=words.idea,
                scratchpad=words.scratchpad,
            )

        made, usage = self._ask(context, read)
        return msgspec.structs.replace(made, usage=usage)

    def plan(self, context: Context) -> Plan:
        def read(said: Said) -> Plan:
            found = answers.plan(said.text)
            if not found.ideas:
                raise _UnfitError(
                    Answer.UNUSABLE, f"There is no idea in it. End with:\n\n{answers.PLAN}"
                )
            return Plan(found.ideas, found.vetoed, found.scratchpad)

        made, usage = self._ask(context, read)
        return Plan(made.ideas, made.vetoed, made.scratchpad, usage)

    def _ask(self, context: Context, read: Callable[[Said], _T]) -> tuple[_T, Usage]:
        """Ask until an answer can be read, within the rounds, the time and the tokens."""
        messages = [
            {"role": "system", "content": "" if context.task is Task.PLAN else _FORM},
            {"role": "user", "content": _question(context)},
        ]
        messages = [m for m in messages if m["content"]]
        usage, until = Usage(), time.monotonic() + self._timeout_s
        unfit = _UnfitError(Answer.HUNG, "no time is left")
        for _ in range(_ROUNDS):
            left_s = until - time.monotonic()
            tokens = None if context.tokens_left is None else context.tokens_left - usage.tokens
            if left_s <= 0 or (tokens is not None and tokens < _LEAST_TOKENS):
                break
            try:
                said = self._chat.say(messages, within_s=left_s, tokens=tokens)
            except ResearcherError as error:
                error.usage = usage
                raise
            usage = total(usage, priced(said.usage, self._price))
            try:
                return read(_readable(said)), usage
            except _UnfitError as found:
                unfit = found
                if found.final:
                    break
            messages += [
                {"role": "assistant", "content": said.text[:_ANSWER_CHARS] or "(nothing)"},
                {"role": "user", "content": unfit.say},
            ]
        raise ResearcherError(
            "the model gave no change that could be used",
            unfit.why[:300],
            "nightlab status",
            answer=unfit.answer,
            usage=usage,
        )


def _readable(said: Said) -> Said:
    text = edits.without_thinking(said.text)
    if said.refused is not None:
        raise _UnfitError(Answer.REFUSAL, said.refused, final=True)
    if said.cut:
        raise _UnfitError(
            Answer.LOOPED, "Your answer was cut off. Make a smaller change, with less text."
        )
    return Said(text, said.usage)


def _files(text: str, context: Context) -> Mapping[str, str]:
    """The files that an answer changes. Raises _UnfitError, in words for the model."""
    try:
        blocks = edits.blocks(text)
        files = edits.apply(context.files, blocks)
    except edits.EditError as error:
        raise _UnfitError(Answer.UNUSABLE, _mend(error.problems), str(error)) from error
    if not files:
        raise _no_edit(text)
    broken = [said for path, new in files.items() if (said := _syntax(path, new))]
    if broken:
        raise _UnfitError(Answer.BROKEN_SYNTAX, _mend(broken), "; ".join(broken))
    return files


def _mend(problems: tuple[str, ...] | list[str]) -> str:
    listed = "\n".join(f"- {problem}" for problem in problems)
    return (
        f"That could not be used:\n{listed}\n\nSend all blocks of your change again, mended, "
        "against the files as they were given to you; nothing was changed yet."
    )


def _no_edit(text: str) -> _UnfitError:
    say = f"There is no change in it; nobody reads along, so decide yourself.\n\n{_FORM}"
    stripped = text.strip()
    if _REFUSES.search(stripped[:400]):
        return _UnfitError(Answer.REFUSAL, say, stripped)
    if stripped.rstrip("`*_ ").endswith("?"):
        return _UnfitError(Answer.QUESTION, say, stripped[-300:])
    return _UnfitError(Answer.NO_EDIT, say, stripped or "an empty answer")


def _syntax(path: str, text: str) -> str:
    if not path.endswith(".py"):
        return ""
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None)
        quoted = text.split("\n")[line - 1].strip()[:200] if line else ""
        return f"with it {path} does not parse: {error} {quoted!r}".strip()
    return ""


def _named(context: Context, files: Mapping[str, str]) -> str:
    """A name for a change that was given none: the first line that differs, before and after.

    Not the model's prose, which is the same for every change: names must tell changes apart.
    """
    for path in sorted(files):
        old, new = context.files.get(path, "").split("\n"), files[path].split("\n")
        for op, i, j, k, m in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
            if op != "equal":
                was, now = " ".join(old[i:j][:1]).strip(), " ".join(new[k:m][:1]).strip()
                return f"{path}: {was or '(nothing)'} → {now or '(removed)'}"[:200]
    return f"change {', '.join(sorted(files)[:3])}"


def _question(context: Context) -> str:
    form = answers.PLAN if context.task is Task.PLAN else answers.PROPOSAL
    parts = [context.brief] if context.brief else [_brief(context)]
    parts += [_file(path, text) for path, text in context.files.items()]
    ask = "the blocks and then this" if context.task is not Task.PLAN else "this"
    parts.append(f"Answer now. End with {ask}:\n\n{form}")
    return "\n\n".join(parts)


def _file(path: str, text: str) -> str:
    fence = "`" * max(3, 1 + max((len(m) for m in re.findall(r"`{3,}", text)), default=0))
    return f"The file {path}, as it is now:\n\n{fence}\n{text}\n{fence}"


def _brief(context: Context) -> str:
    """The least that a model must know, where nobody rendered a brief."""
    objective, incumbent, failure = context.objective, context.incumbent, context.failure
    lines = [f"Improve {objective.metric}: {objective.better.value} is better."]
    if incumbent is not None and incumbent.value is not None:
        lines.append(f"It is {incumbent.value:g} now.")
    lines += [context.program] if context.program else []
    for e in context.recent:
        lines.append(f"- experiment {e.number}, {e.verdict}: {e.claim.description}")
    if failure is not None:
        lines.append(
            f"Experiment {failure.number} ({failure.description}) failed; mend it, keep its idea."
        )
        lines += [failure.detail, failure.traceback, *failure.log_tail]
    lines += [f"From the person: {note}" for note in context.notes]
    lines += [f"Not taken last time: {reason}" for reason in context.refused]
    return "\n".join(lines)
