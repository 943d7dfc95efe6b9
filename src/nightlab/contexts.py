"""What a researcher is given for one question: built from views, bounded however long the study."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from nightlab import brief, phases, scratchpad
from nightlab.brief import Diff, Sources
from nightlab.config import Paths
from nightlab.history import History
from nightlab.knowledge import Library, Passage, terms_of_code
from nightlab.model import Experiment
from nightlab.phases import Program
from nightlab.researchers import Context, Desk, Failure, Task

RECENT = 30  # settled experiments that a researcher is shown in full
_PROGRAM_CHARS = 50_000
_PASSAGES = 10
_CODE_TERMS = 16


@dataclass
class Words:
    """What the context of a researcher that reads is made with; one for each lab, its thread's.

    ``tokens`` bound a brief; ``show_files`` puts the files in scope into it; ``diff`` gives an
    experiment's patch. Made at the start of a session, it begins to index knowledge/ in the
    background; ``news`` are sentences for the journal, each told once; ``close`` it at the end.
    """

    paths: Paths
    tokens: int = brief.DEFAULT_TOKENS
    show_files: bool = False
    diff: Diff | None = None
    now: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        self.library = Library(self.paths.knowledge, self.paths.knowledge_index)
        self.library.refresh()
        self._told: set[str] = set()

    def news(self) -> list[str]:
        """What cannot be read of program.md and of knowledge/, as far as it was not told."""
        found = [f"program.md: {w}" for w in phases.parse(program(self.paths.root)).warnings]
        fresh = [text for text in found if text not in self._told]
        self._told.update(fresh)
        return fresh + self.library.news()

    def close(self) -> None:
        """End what works in the background."""
        self.library.close()


def build(
    history: History,
    files: Mapping[str, str],
    root: Path,
    *,
    task: Task = Task.PROPOSE,
    failure: Failure | None = None,
    desk: Desk | None = None,
    told: tuple[str, ...] = (),
    words: Words | None = None,
) -> Context:
    """The context of one question, for the incumbent of now (or the failed experiment's files).

    ``told`` are reasons besides the refusals on record why earlier attempts gave nothing.
    ``root`` is the project's folder, where program.md and knowledge/ lie. With ``words`` it has
    a brief, a scratchpad and what the phase allows; researchers that read none cost nothing.
    Quick: it is called in the loop's own thread. Never raises for a file of the person's that
    cannot be read.
    """
    context = Context(
        tag=history.study.tag,
        number=history.next_number(),
        objective=history.study.objective,
        files=files,
        incumbent=history.incumbent,
        recent=_recent(history),
        notes=tuple(n.text for n in history.notes[-20:]),
        refused=(*(r.reason for r in history.refusals), *told),
        program=program(root),
        sigma=history.noise.sigma,
        task=task,
        edit=history.study.edit,
        failure=failure,
        desk=desk,
    )
    return context if words is None else _with_words(history, context, words)


def _with_words(history: History, context: Context, words: Words) -> Context:
    read = phases.parse(context.program)
    current = phases.current(read.phases, history, words.now())
    context = replace(
        context,
        scratchpad=scratchpad.read(words.paths.scratchpad(context.tag)),
        web=current is not None and current.phase.web,
    )
    words.library.refresh()
    sources = Sources(
        program=read,
        current=current,
        passages=_passages(history, context, read, words.library),
        show_files=words.show_files,
        diff=words.diff,
    )
    return replace(context, brief=brief.render(history, context, sources, tokens=words.tokens))


def _passages(history: History, context: Context, read: Program, library: Library) -> list[Passage]:
    """What the documents say that fits the question: what is wanted, planned, and in the code."""

    def query() -> Iterator[str]:
        yield from reversed(context.notes[-3:])
        if context.failure is not None:
            yield context.failure.description
        yield from (idea.text for idea in history.backlog.open()[:5])
        yield history.study.objective.metric.replace("_", " ")
        yield from (e.claim.description for e in context.recent[-3:])
        code = " ".join(sorted(context.files[name] for name in context.files))[:200_000]
        yield from sorted(terms_of_code(code), key=len, reverse=True)[:_CODE_TERMS]
        yield read.text[:2000]

    return library.search(query(), _PASSAGES) if library.there else []


def _recent(history: History) -> tuple[Experiment, ...]:
    """The last settled experiments, newest last; costs the same however long the study."""
    settled: list[Experiment] = []
    for number in range(len(history.experiments), 0, -1):
        experiment = history.experiments[number]
        if experiment.verdict is not None:
            settled.append(experiment)
        if len(settled) == RECENT:
            break
    return tuple(reversed(settled))


def program(root: Path) -> str:
    """program.md, bounded; "" where it is not there or cannot be read."""
    try:
        with (root / "program.md").open(encoding="utf-8", errors="replace") as file:
            return file.read(_PROGRAM_CHARS)
    except OSError:
        return ""
