"""The whole of a context in words, for a language model: bounded, however long the study.

The budget is in tokens; a token is taken as four bytes of UTF-8. Each section has a share of it,
and what one leaves over goes to those after it in importance. A section is trimmed by whole
lines or items, least important first; no fence is ever left open. The size at experiment 10,000
is that at experiment 100.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from nightlab import plateau
from nightlab.brief import prior, tried, words
from nightlab.brief.pieces import BYTES_PER_TOKEN, fence, fenced, head, listed, one_line, size
from nightlab.history import History
from nightlab.knowledge import Passage
from nightlab.model import Experiment
from nightlab.phases import Current, Program
from nightlab.researchers import Context, Task

DEFAULT_TOKENS = 24_000
LEAST_TOKENS = 2_000  # below, there is no room for the task itself
_NEAR_DIFFS = 3

Diff = Callable[[Experiment], str]


@dataclass(frozen=True)
class Sources:
    """What a brief draws on besides the history and the context.

    ``program`` is program.md read, ``current`` its phase of now; ``passages`` fit from the
    person's documents. ``show_files``: the files in scope stand in the brief, for a model that
    cannot read them itself. ``diff`` gives an experiment's patch, for near misses at a plateau.
    """

    program: Program
    current: Current | None = None
    passages: Sequence[Passage] = ()
    show_files: bool = False
    diff: Diff | None = None


@dataclass(frozen=True)
class _Section:
    """``share`` is the most of the budget that it takes; ``make`` gets its room in bytes."""

    share: float
    make: Callable[[int], str]


def tokens_of(text: str) -> int:
    """How many tokens a text is taken for."""
    return -(-size(text) // BYTES_PER_TOKEN)


def render(
    history: History, context: Context, sources: Sources, *, tokens: int = DEFAULT_TOKENS
) -> str:
    """The brief for one question; at most ``tokens`` tokens where that is LEAST_TOKENS or more."""
    whole = max(tokens, LEAST_TOKENS) * BYTES_PER_TOKEN
    settled = len(history.digest.order)
    first = words.task(context, sources.current, settled)
    last = words.answer(context)
    left = whole - size(first) - size(last) - 4
    made: dict[str, str] = {}
    sections = _sections(history, context, sources)
    for name in _IMPORTANCE:
        section = sections[name]
        text = section.make(min(int(section.share * whole), left - 2))
        if text and size(text) + 2 <= left:
            made[name] = text
            left -= size(text) + 2
    middle = [made[name] for name in sections if name in made]
    return "\n\n".join([first, *middle, last])


# The first of them to be given room; the order in which they are read is that of ``_sections``.
_IMPORTANCE = (
    "objective", "refused", "failure", "notes", "phase", "files", "program", "plateau", "backlog",
    "kept", "near", "failed", "scratchpad", "runs", "knowledge", "prior", "diffs", "record",
)  # fmt: skip


def _sections(history: History, context: Context, sources: Sources) -> dict[str, _Section]:
    fixes, plans = context.task is Task.FIX, context.task is Task.PLAN
    shown = sources.show_files
    # In reading order; what changes least comes first, so that a provider's cache can serve it.
    return {
        "program": _Section(
            0.20,
            lambda room: fenced(
                "# program.md: what the person wants and what the objective means, in their "
                "own words",
                sources.program.text,
                "markdown",
                room,
            ),
        ),
        "files": _Section(
            0.45 if shown else 0.03, lambda room: show_files(context.files, room, whole=shown)
        ),
        "objective": _Section(0.08, lambda room: words.objective(history, room)),
        "phase": _Section(0.08, lambda room: words.phase(sources.current, sources.program, room)),
        "notes": _Section(0.08, lambda room: _notes(context.notes, room)),
        "refused": _Section(0.06, lambda room: _refused(context.refused, room)),
        "failure": _Section(0.30, lambda room: words.failure(context.failure, room)),
        "plateau": _Section(0.03, lambda room: "" if fixes else words.standing(history, room)),
        "kept": _Section(0.10, lambda room: tried.kept(history, room)),
        "near": _Section(0.10 if plans else 0.07, lambda room: tried.near(history, room)),
        "failed": _Section(0.03 if fixes else 0.16, lambda room: tried.failed(history, room)),
        "runs": _Section(0.07, lambda room: tried.last_runs(history, room)),
        "diffs": _Section(0.10, lambda room: _diffs(history, context, sources.diff, room)),
        "record": _Section(0.02, lambda room: head(_record(context, history), room)),
        "backlog": _Section(
            0.12 if plans else 0.06, lambda room: "" if fixes else _backlog(history, room)
        ),
        "prior": _Section(0.08, lambda room: "" if fixes else prior.section(history, room)),
        "knowledge": _Section(
            0.12, lambda room: "" if fixes else _knowledge(sources.passages, room)
        ),
        "scratchpad": _Section(
            0.09,
            lambda room: fenced(
                "# Your scratchpad, as you left it", context.scratchpad, "data", room
            ),
        ),
    }


def show_files(files: Mapping[str, str], room: int, *, whole: bool = True) -> str:
    """The files in scope within ``room`` bytes: whole ones, the smallest first; the rest by name.

    A file is never cut: a model that edits what it half knows breaks it. Texts are as they are.
    """
    title = "# The files in scope"
    names = sorted(files)
    left = room - size(title) - 1 - sum(size(one_line(n)) + 60 for n in names[:40])
    blocks: dict[str, str] = {}
    for name in sorted(names, key=lambda n: len(files[n])) if whole else ():
        block = f"`{one_line(name)}`:\n{fence(files[name].rstrip(chr(10)), _language(name))}"
        if size(block) + 2 <= left:
            blocks[name] = block
            left -= size(block) + 2
    listing = [
        f"- `{one_line(n)}`, {len(files[n].splitlines())} lines"
        + ("" if n in blocks or not whole else ": too long to stand here")
        for n in names[:40]
    ]
    if len(names) > 40:
        listing.append(f"- and {len(names) - 40} more")
    told = "\n\n".join(["\n".join([title, *listing]), *(blocks[n] for n in names if n in blocks)])
    return told if size(told) <= room else head("\n".join([title, *listing]), room)


def _language(name: str) -> str:
    return {"py": "python", "sh": "sh", "toml": "toml", "json": "json", "yaml": "yaml"}.get(
        name.rpartition(".")[2], ""
    )


def _notes(notes: Sequence[str], room: int) -> str:
    lines = (f"- {one_line(note, 1500)}" for note in reversed(notes))
    return listed(
        "# From the person, while the study runs (newest first). This counts",
        lines,
        room,
        label="markdown",
    )


def _refused(refused: Sequence[str], room: int) -> str:
    lines = (f"- {one_line(reason, 600)}" for reason in reversed(refused))
    return listed(
        "# Your last attempts at this proposal gave nothing that could be run (newest first). "
        "Do not repeat them",
        lines,
        room,
    )


def _backlog(history: History, room: int) -> str:
    waiting = history.backlog.open()
    if not waiting:
        return ""
    lines = (
        f"idea {i.id} (priority {i.priority:g}{', from the person' * (i.source == 'person')}) · "
        + one_line(f"{i.category or 'other'}: {i.text}", 300)
        + (f" · expects {one_line(i.expects, 100)}" if i.expects else "")
        + (f" · after exp {', '.join(map(str, i.after))}" if i.after else "")
        for i in waiting
    )
    return listed(
        f"# The backlog: {len(waiting)} ideas wait, the most urgent first. Take one, or a better "
        "one of your own; name its number in your answer if you follow it",
        lines,
        room,
        more="and less urgent ones",
    )


def _knowledge(passages: Sequence[Passage], room: int) -> str:
    title = "# From the person's documents (cite what you use, as in [thesis.pdf p. 12])"
    made, left = [], room - size(title) - 1
    for passage in passages:
        piece = fenced(one_line(passage.cite, 200) + ":", passage.text, "data", left)
        if piece:
            made.append(piece)
            left -= size(piece) + 1
    return "\n".join([title, *made]) if made else ""


def _diffs(history: History, context: Context, diff: Diff | None, room: int) -> str:
    """The patches of the nearest misses, where the plateau or a plan asks to build on them."""
    stage = plateau.stand(history).stage
    wanted = context.task is Task.PLAN or stage.name == "restart"
    if diff is None or not wanted or context.task is Task.FIX:
        return ""
    numbers = history.digest.near()[:_NEAR_DIFFS]
    each = (room - 60) // max(1, len(numbers))
    made = [fenced(f"exp {n}:", diff(history.experiments[n]), "data", each - 1) for n in numbers]
    return "\n".join(["# Patches of the nearest misses", *filter(None, made)]) if any(made) else ""


def _record(context: Context, history: History) -> str:
    if context.desk is None or not history.digest.order:
        return ""
    return (
        "# The whole record\n\nEvery settled experiment, with its hypothesis, effect and reason, "
        "stands in `.nightlab/history.md` and `.nightlab/experiments.jsonl`. Search them before "
        "you repeat one, and where a line above says too little."
    )
