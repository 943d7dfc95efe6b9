"""The tunable constants of a program: found in its source, changed in place.

Three shapes are found: module-level ``ALL_CAPS`` literals (a tuple of numbers gives one
constant per element, ``ADAM_BETAS[0]``), dataclass fields with a literal default
(``Config.lr``), and argparse options with one (``--lr``). A name that two files share is
told apart by its file: ``LR@b/train.py``. The source is read with libcst, never executed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from nightlab.errors import ConfigError, ResearcherError
from nightlab.researchers.hints import GRAMMAR, declared, infer, is_knob
from nightlab.researchers.source import Literal, Source, read
from nightlab.researchers.spaces import Scalar, Scale, Space


@dataclass(frozen=True)
class Constant:
    """One literal that may change. ``span`` is its place in the UTF-8 bytes of its file."""

    name: str
    path: str
    line: int
    value: Scalar
    space: Space
    span: tuple[int, int]


@dataclass(frozen=True)
class Survey:
    """What was found: ``constants`` in order of file and place, ``skipped`` path → reason."""

    constants: tuple[Constant, ...]
    skipped: dict[str, str]


def find(files: Mapping[str, str]) -> tuple[Constant, ...]:
    """The tunable constants of ``files`` (path → text), in order of path and place.

    A file that is not Python, or does not parse, has none. Raises ConfigError for a
    ``# nightlab:`` comment that cannot be understood.
    """
    return survey(files).constants


def nameable(files: Mapping[str, str]) -> tuple[str, ...]:
    """The names of all literals that a person may name in a sweep, knobs or not."""
    names = [x.name for s in _read_all(files, {}) for x in s.literals if not x.dead]
    return tuple(c.name for c in survey(files, wanted=names).constants)


def survey(files: Mapping[str, str], wanted: Collection[str] = ()) -> Survey:
    """As ``find``, and with the files that could not be read and why.

    A constant that is ``wanted`` by name is found even where it looks like no knob.
    """
    skipped: dict[str, str] = {}
    sources = _read_all(files, skipped)
    used = frozenset[str]().union(*(s.used for s in sources))
    strings = frozenset[str]().union(*(s.strings for s in sources))
    found = [c for s in sources for c in _tunable(s, used, strings, wanted)]
    counts = Counter(c.name for c in found)
    named = (replace(c, name=f"{c.name}@{c.path}") if counts[c.name] > 1 else c for c in found)
    return Survey(tuple(named), skipped)


def apply(files: Mapping[str, str], values: Mapping[str, Scalar]) -> dict[str, str]:
    """The files that change, path → new text, when the named constants get these values.

    Only the bytes of the literals differ; a constant that has its value already is left as
    it is written. Raises ResearcherError for a name that ``find`` does not find and for a
    value that is not of the constant's kind.
    """
    known = {c.name: c for c in survey(files, wanted=values).constants}
    edits: dict[str, list[tuple[tuple[int, int], str]]] = {}
    for name, value in values.items():
        constant = known.get(name)
        if constant is None:
            raise ResearcherError(
                f"there is no constant {name} to change",
                f"the files in scope have {', '.join(known) or 'none'}",
                "nightlab status",
            )
        if not constant.space.holds(value):
            raise ResearcherError(
                f"{name} cannot become {value!r}",
                f"it is {written(constant.value)} in {constant.path}:{constant.line}",
                f"give it a value of the kind {constant.space.scale}",
            )
        if value != constant.value:
            new = written(_of_kind(constant, value))
            edits.setdefault(constant.path, []).append((constant.span, new))
    changed: dict[str, str] = {}
    for path, places in edits.items():
        raw = files[path].encode()
        for (start, end), new in sorted(places, reverse=True):
            text = _quoted_like(new, raw[start:end].decode())
            raw = raw[:start] + text.encode() + raw[end:]
        changed[path] = raw.decode()
    return changed


def written(value: Scalar) -> str:
    """A value as it stands in source and in sentences: 0.032, 3.2e-05, 64, True, "gelu"."""
    return f'"{value}"' if isinstance(value, str) and value.isidentifier() else repr(value)


def _of_kind(constant: Constant, value: Scalar) -> Scalar:
    if isinstance(value, (bool, str)):
        return value
    if isinstance(constant.value, float):
        return float(value)
    return int(value) if float(value).is_integer() and constant.space.whole else value


def _quoted_like(new: str, old: str) -> str:
    return f"'{new[1:-1]}'" if new.startswith('"') and old.startswith("'") else new


def _read_all(files: Mapping[str, str], skipped: dict[str, str]) -> list[Source]:
    sources: list[Source] = []
    for path in sorted(files):
        source = read(path, files[path]) if path.endswith(".py") else "it is not a Python file"
        if isinstance(source, str):
            skipped[path] = source
        else:
            sources.append(source)
    return sources


def _tunable(
    source: Source, used: frozenset[str], strings: frozenset[str], wanted: Collection[str]
) -> Iterator[Constant]:
    counts = Counter(x.name for x in source.literals)
    # A file that reads none of its own constants is there for others to import.
    settings = not any(_bare(x.name) in source.used for x in source.literals)
    for x in source.literals:
        asked = x.name in wanted or f"{x.name}@{source.path}" in wanted
        dead = x.dead or counts[x.name] > 1
        if x.words is None and (dead or (x.quiet and not asked)):
            continue
        space = guess = _among(x) if x.choices else infer(x.name, x.value, strings)
        if x.words is not None:
            space = _as_declared(source.path, x, guess, dead=dead)
        elif not is_knob(x.name) or not (settings or source.reads_all or _bare(x.name) in used):
            space = None
        if asked:
            space = space or guess or _loose(x.value)
        if space is not None:
            yield Constant(x.name, source.path, x.line, x.value, space, x.span)
    for line, said in source.stray:
        if said != "fixed":
            raise _misplaced(source.path, line, "it stands beside no literal that can change")


def _bare(name: str) -> str:
    """The name that code reads: ``lr`` of ``Config.lr``, ``batch_size`` of ``--batch-size``."""
    return name.rpartition(".")[2].partition("[")[0].lstrip("-").replace("-", "_")


def _loose(value: Scalar) -> Space:
    """A space for a value that a person moves by hand: its kind, no bounds worth the name."""
    if isinstance(value, bool):
        return Space(Scale.CHOICE, options=(False, True))
    if isinstance(value, str):
        return Space(Scale.CHOICE, options=(value,))
    return Space(Scale.INT if isinstance(value, int) else Scale.LINEAR)


def _among(x: Literal) -> Space | None:
    options = tuple(c for c in x.choices if isinstance(c, bool) == isinstance(x.value, bool))
    if x.value not in options or len(options) < 2:
        return None
    return Space(Scale.CHOICE, options=options, fixed_bounds=True)


def _as_declared(path: str, x: Literal, guess: Space | None, *, dead: bool) -> Space | None:
    try:
        space = declared(x.words or "", x.value, guess)
    except ValueError as error:
        raise _misplaced(path, x.words_line, f"{x.name}: {error}") from None
    if space is not None and dead:
        why = f"{x.name} is assigned more than once, or every call passes another value"
        raise _misplaced(path, x.words_line, why)
    return space


def _misplaced(path: str, line: int, why: str) -> ConfigError:
    return ConfigError(
        f"{path}:{line}: this nightlab comment cannot be followed",
        why,
        f"write one of {GRAMMAR} beside a constant, or remove the comment",
    )


def spoken(value: Scalar | None) -> str:
    """A value as a sentence has it: 0.1, 0 (not 0.0), gelu."""
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    return value if isinstance(value, str) else repr(value)
