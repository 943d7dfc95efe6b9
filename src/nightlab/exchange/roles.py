"""What each column of a ledger is, by its name and by what stands in it. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from nightlab.exchange import cells
from nightlab.exchange.values import Block, Record


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_COMMIT = _words("commit commit_hash sha git_sha hash commit_sha commit_id candidate_sha cand_hash")
_NUMBER = _words(
    "run iteration iter experiment exp exp_id experiment_id id number n no # trial trial_id "
    "trial_number step sequence cycle round index idx gen generation session optuna_trial thesis"
)
_STATUS = _words("status decision verdict outcome result keep kept accepted state")
_TEXT = _words(
    "description desc summary change_summary experiment_description change rationale strategy "
    "notes note name idea label title message comment details attempt action"
)
_CATEGORY = _words("category kind lane family type tag tags track kernel_type")
_TIME = _words("timestamp time datetime date measured_at finished_at updated_at created_at ts")
_TARGET = _words("target task dataset benchmark instrument")
_PRIMARY = _words("metric primary_metric metric_value metric_after score objective value")
_AGENT = _words("agent agent_id worker author method backend model strategy_name")
# Numbers that tell of a run's cost, its setting or of another row: never what is optimised,
# unless a person names them.
_SIDE = re.compile(
    r"(^|_)(memory|mem|vram|ram|gpu|cpu|mfu|steps?|params|batch|seed|budget|duration|seconds|"
    r"minutes|elapsed|wall|unix|delta|diff|improvement|before|baseline|std|sd|var|p|pval|pvalue|"
    r"prior|confidence|errors|invoices|cost|lines|segment|port|epoch|epochs|time|session|frames|"
    r"returncode|attempt|clock|train|length|size|depth)($|_)|_(mb|gb|kb|bytes)$"
)


@dataclass(frozen=True)
class Roles:
    """Which column is what; None where there is none. ``numbers`` hold numbers only."""

    commit: str | None
    number: str | None
    status: str | None
    description: str | None
    hypothesis: str | None
    category: str | None
    time: str | None
    target: str | None
    numbers: tuple[str, ...]
    metric: str | None
    candidates: tuple[str, ...]


def known(name: str) -> bool:
    """Whether a word is one that heads a ledger's column."""
    word = plain(name)
    listed = (*_COMMIT, *_NUMBER, *_STATUS, *_TEXT, *_CATEGORY, *_TIME, *_PRIMARY, "hypothesis")
    return word in listed or word.startswith(("val_", "metric")) or word.endswith("_commit")


def plain(name: str) -> str:
    """A column's name for comparing: lower case, words joined by "_"."""
    return re.sub(r"[\s\-]+", "_", name.strip().strip("*`").lower())


def of(block: Block) -> Roles:
    """The roles of a block's columns. The metric is the block's own where it names one."""
    columns, records = block.columns, block.records
    names = {plain(c): c for c in reversed(columns)}
    sample = records if len(records) <= 400 else [*records[:200], *records[-200:]]

    def named(words: Sequence[str]) -> str | None:
        return next((names[w] for w in words if w in names), None)

    commit = named(_COMMIT) or next((names[n] for n in names if n.endswith("_commit")), None)
    number = named(_NUMBER)
    status = _status(columns, sample, names)
    taken = {commit, number, status}
    numbers = tuple(c for c in columns if c not in taken and _is_numeric(c, sample))
    text = [c for c in columns if c not in numbers and c not in taken]
    description = next((names[w] for w in _TEXT if w in names and names[w] in text), None)
    if description is None and not (set(names) & set(_TEXT)) and not _is_named(columns):
        description = max(text, key=lambda c: _width(c, sample), default=None)
    time = next((names[w] for w in _TIME if w in names), None)
    numbers = tuple(c for c in numbers if c != time)
    metric, candidates = _metric(block, numbers, names)
    return Roles(
        commit=commit,
        number=number if number != status else None,
        status=status,
        description=description,
        hypothesis=named(["hypothesis"]),
        category=named(_CATEGORY),
        time=time,
        target=next((names[w] for w in _TARGET if w in names and names[w] in text), None),
        numbers=numbers,
        metric=metric,
        candidates=candidates,
    )


def _is_named(columns: Sequence[str]) -> bool:
    return any(known(c) for c in columns)


def _status(columns: Sequence[str], sample: Sequence[Record], names: dict[str, str]) -> str | None:
    """The column of verdicts: by name where its words are any, else by its words."""

    def told(column: str) -> int:
        return sum(cells.status(r.cells.get(column)) is not None for r in sample)

    def filled(column: str) -> int:
        return sum(bool(str(r.cells.get(column, "")).strip()) for r in sample)

    likely = [names[w] for w in _STATUS if w in names]
    most = max(likely, key=told, default=None)
    if most is not None and told(most) >= 0.3 * filled(most):
        return most
    if _is_named(columns):
        return names.get("status")
    shares = {
        c: told(c) / max(1, filled(c))
        for c in columns
        if not _is_numeric(c, sample) and not _is_flag(c, sample)
    }
    likeliest = max(shares, key=lambda c: shares[c], default=None)
    return likeliest if likeliest is not None and shares[likeliest] >= 0.8 else None


def _is_flag(column: str, sample: Sequence[Record]) -> bool:
    """Yes and no in a column without a name may mean anything."""
    words = {str(r.cells.get(column, "")).strip().lower() for r in sample}
    return words <= {"true", "false", "yes", "no", ""}


def _is_numeric(column: str, sample: Sequence[Record]) -> bool:
    """Whether mostly numbers stand in a column, apart from cells that say there is none."""
    filled = [r.cells.get(column) for r in sample]
    filled = [c for c in filled if not cells.is_nothing(c)]
    with_number = sum(cells.number(c)[0] is not None for c in filled)
    return with_number > 0 and with_number > 0.5 * len(filled)


def _width(column: str, sample: Sequence[Record]) -> int:
    return sum(len(str(r.cells.get(column, ""))) for r in sample)


def _metric(
    block: Block, numbers: Sequence[str], names: dict[str, str]
) -> tuple[str | None, tuple[str, ...]]:
    """(the metric or None, what it might be): by its name, or its place right after the ids."""
    if block.metric is not None:
        return block.metric, (block.metric,)
    ids = {*_COMMIT, *_NUMBER, *_AGENT, *_TIME, *_CATEGORY, "config_id", "p", "delta"}
    likely = [c for c in numbers if plain(c) not in ids and not _SIDE.search(plain(c))]
    for word in _PRIMARY:
        if names.get(word) in likely:
            return names[word], (names[word],)
    validated = [c for c in likely if re.search(r"(^|[._])val(idation)?_", plain(c))]
    if len(validated) == 1 or (validated and validated[0] == likely[0]):
        return validated[0], tuple(likely)
    if not _is_named(block.columns):
        return None, tuple(likely)  # a table without a header tells nothing
    if len(likely) == 1:
        return likely[0], tuple(likely)
    if likely:
        before = block.columns[: block.columns.index(likely[0])]
        if likely[0] != names.get("value") and all(
            plain(c) in ids or plain(c).endswith("_commit") for c in before
        ):
            return likely[0], tuple(likely)  # where the reference and its ports have it
    return None, tuple(likely) or tuple(numbers)
