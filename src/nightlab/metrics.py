"""Measurements: what a program printed, read strictly, and what became of its run.

Three sources, the first that names a metric wins:

1. JSON in the file named by ``$NIGHTLAB_RESULT``: ``{"val_bpb": 0.98, "test": {"acc": 0.9}}``;
   one level of nesting is read as ``test.acc``.
2. Lines ``METRIC name=value``.
3. Lines ``name: value``. Where a line ``---`` was printed, only what follows the last one counts.

Nothing is guessed: a number with a unit, a thousands comma or a word beside it is not a
measurement, NaN and infinity are *diverged*, and what was not printed is absent.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator

import msgspec

from nightlab.model import Objective, Outcome, Value

MAX_METRICS = 256
_ABSURD = 1e100  # beyond it squares overflow; a metric of that size has diverged
MAX_NAME_CHARS = 64
MAX_LINE_BYTES = 4096
MAX_RESULT_BYTES = 1 << 20
MAX_NOTES = 20
MAX_TRACEBACK_CHARS = 4096
MAX_DETAIL_CHARS = 300

_NAME = rb"[A-Za-z_][A-Za-z0-9_./@-]*"
_NUMBER = re.compile(rb"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_NOT_FINITE = re.compile(rb"[+-]?(?:nan|inf|infinity)(?:\(ind\))?", re.IGNORECASE)
_COLON = re.compile(rb"(" + _NAME + rb")[ \t]*:[ \t]*([^ \t].*)", re.DOTALL)
_METRIC = re.compile(rb"METRIC[ \t]+(" + _NAME + rb")[ \t]*=[ \t]*([^ \t].*)", re.DOTALL)
# CSI sequences (colours, cursor), OSC sequences (titles, links), other two-byte escapes.
_ANSI = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_=>78c])")


class Measurement(Value, frozen=True):
    """What was measured. ``values`` are finite; a metric that is missing is absent.

    ``diverged`` names the metrics whose last value was NaN or infinite. ``notes`` say, for
    a person, what was refused or contradictory; at most 20.
    """

    values: dict[str, float] = msgspec.field(default_factory=dict)
    diverged: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class _Source:
    """Values of one source in printed order. NaN stands for *diverged* inside this module only."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.found: dict[str, float] = {}
        self.changed: dict[str, float] = {}  # first value of a name that was printed differently
        self.notes: list[str] = []
        self.in_block = False
        self.before: dict[str, float] = {}  # of blocks that another one followed

    def put(self, name: str, value: float) -> None:
        # Re-inserted last: the oldest names are dropped first.
        before = self.found.pop(name, self.before.get(name))
        if (
            before is not None
            and before != value
            and not (math.isnan(before) and math.isnan(value))
        ):
            self.changed.setdefault(name, before)
        self.found[name] = value
        if len(self.found) > MAX_METRICS:
            del self.found[next(iter(self.found))]
            self.note(f"more than {MAX_METRICS} metrics in {self.label}: the last ones count")

    def turn(self) -> None:
        """A new block begins: the one before it does not count, but may contradict it."""
        self.changed = {}
        if self.in_block:
            self.before |= self.found
        self.in_block = True
        self.found = {}

    def note(self, text: str) -> None:
        if len(self.notes) < MAX_NOTES and text not in self.notes:
            self.notes.append(text)


def read(output: bytes, result: bytes | None = None, *, complete: bool = True) -> Measurement:
    """Read a run's printed output and its result file; never raises, whatever the bytes.

    ``complete`` is False where the process did not end by itself (killed, crashed): then a
    last line without its newline is not counted, for it may be half a number (``0.99`` of
    ``0.9912``). A program that ended by itself has written all it meant to write.
    """
    block, marked = _Source("`name: value` lines"), _Source("METRIC lines")
    _read_lines(output, complete=complete, block=block, marked=marked)
    filed = _Source("the result file")
    if result is not None:
        _read_result(result, filed)
    values: dict[str, float] = {}
    notes: list[str] = []
    for source in (block, marked, filed):  # the most trusted last, so that it wins
        notes += source.notes
        for name, first in source.changed.items():
            last = source.found.get(name, first)
            notes.append(
                f"{name} was printed more than once ({first:g} … {last:g}): the last counts"
            )
        for name, value in source.found.items():
            other = values.pop(name, value)
            if other != value and not (math.isnan(other) and math.isnan(value)):
                notes.append(
                    f"{name} was given more than once: {source.label} say {value:g}, "
                    f"other lines {other:g}"
                )
            values[name] = value
    while len(values) > MAX_METRICS:
        del values[next(iter(values))]
    return Measurement(
        values={name: value for name, value in values.items() if not math.isnan(value)},
        diverged=tuple(name for name, value in values.items() if math.isnan(value)),
        notes=tuple(notes[:MAX_NOTES]),
    )


def _lines(output: bytes, *, complete: bool) -> Iterator[bytes]:
    """Whole lines as a terminal would leave them: the text after the last carriage return."""
    lines = output.split(b"\n")
    last = lines.pop()
    if complete:
        lines.append(last)
    for raw in lines:
        line = raw.rstrip(b"\r")
        if b"\r" in line:
            line = line[line.rfind(b"\r") + 1 :]
        if b"\x1b" in line:
            line = _ANSI.sub(b"", line)
        yield line.strip(b" \t")


def _read_lines(output: bytes, *, complete: bool, block: _Source, marked: _Source) -> None:
    cut = 0
    for line in _lines(output, complete=complete):
        if len(line) > MAX_LINE_BYTES:
            continue
        if line == b"---":
            cut = len(block.found) or cut
            block.turn()
        elif line.startswith(b"METRIC") and (match := _METRIC.fullmatch(line)):
            _put(marked, match, strict=True)
        elif b":" in line and (match := _COLON.fullmatch(line)):
            _put(block, match, strict=False)
    if cut and not block.found:
        block.note(f"{cut} `name: value` lines before the last `---` line do not count")


def _put(source: _Source, match: re.Match[bytes], *, strict: bool) -> None:
    """Take one line. ``strict``: say so where it was meant as a metric and is not one."""
    name, text = match[1].decode("ascii"), match[2]
    value = _number(text)
    if len(name) > MAX_NAME_CHARS:
        if strict or value is not None:
            source.note(f"metric name longer than {MAX_NAME_CHARS} characters: {name[:20]}…")
    elif value is not None:
        source.put(name, value)
    elif strict or _NUMBER.match(text):
        shown = text[:40].decode("ascii", "replace")
        source.note(f"{name}: {shown!r} is not a plain number")


def _number(text: bytes) -> float | None:
    """A float below 1e100; NaN for what is beyond or not finite; None where it is no number."""
    if _NUMBER.fullmatch(text):
        value = float(text)
        return value if abs(value) < _ABSURD else math.nan
    return math.nan if _NOT_FINITE.fullmatch(text) else None


def _read_result(result: bytes, source: _Source) -> None:
    if len(result) > MAX_RESULT_BYTES:
        source.note(f"the result file has more than {MAX_RESULT_BYTES} bytes: not read")
        return
    if not result.strip():
        return
    try:
        # Integers as floats: no limit on digits to trip over, and an overflow becomes infinite.
        data = json.loads(result, parse_int=float)
    except (ValueError, RecursionError) as error:
        source.note(f"the result file is not JSON: {str(error)[:120]}")
        return
    if not isinstance(data, dict):
        source.note("the result file is not a JSON object of numbers")
        return
    for name, value in data.items():
        if isinstance(value, dict):
            for inner, deep in value.items():
                _put_json(source, f"{name}.{inner}", deep)
        else:
            _put_json(source, name, value)


def _put_json(source: _Source, name: str, value: object) -> None:
    legal = len(name) <= MAX_NAME_CHARS and re.fullmatch(_NAME.decode(), name)
    if not legal:
        source.note(f"not a metric name in the result file: {name[:40]!a}")
    elif isinstance(value, float):  # json gives bool, str, list, None otherwise: not numbers
        source.put(name, value if abs(value) < _ABSURD else math.nan)
    elif isinstance(value, (bool, dict, list)) or value is None:
        source.note(f"{name} in the result file is not a number")
    # A string beside the numbers ("device": "cuda") is common and no mistake.


# --- what became of the run ---------------------------------------------------------------

_OOM = re.compile(
    r"out of memory|OutOfMemoryError|\bMemoryError\b|std::bad_alloc|RESOURCE_EXHAUSTED"
    r"|CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAllocation|not enough memory|Cannot allocate memory",
    re.IGNORECASE,
)
_TRACEBACK = "Traceback (most recent call last):"
_SYNTAX = re.compile(
    r'^ *File "[^"\n]*", line \d+\n(?:.*\n){0,4}?\w*(?:Syntax|Indentation|Tab)Error: .*',
    re.MULTILINE,
)
# Exceptions by which scripts say "the loss is not finite"; a NameError about ``nan`` is a bug.
_GAVE_UP = re.compile(
    r"(?:FloatingPointError\b.*|(?:\w+\.)*"
    r"(?:ValueError|RuntimeError|AssertionError|ArithmeticError|OverflowError|\w*Diverge\w*): "
    r".*(?:\bnan\b|\binf\b|non-?finite|not finite|diverge|explod).*)",
    re.IGNORECASE,
)
_LOSS_NAN = re.compile(r"\b\w*loss\w*\b[^\w\n]{0,5}[+-]?(?:nan|inf)\b", re.IGNORECASE)
_SIGNALS = {
    4: "SIGILL",
    6: "SIGABRT",
    7: "SIGBUS",
    8: "SIGFPE",
    9: "SIGKILL",
    11: "SIGSEGV",
    15: "SIGTERM",
}


def classify(
    *,
    exit_code: int | None,
    signal: int | None,
    timed_out: bool,
    stopped: bool,
    oom: bool,
    measurement: Measurement,
    objective: Objective,
    tail: str,
) -> tuple[Outcome, str, str]:
    """Tell how a run ended: ``(outcome, detail, traceback)``.

    ``exit_code`` to ``oom`` are of ``process.Finished``; ``tail`` is the end of the output.
    ``detail`` is one line for a person ("" for ok), ``traceback`` the last Python traceback
    in the tail, at most 4,096 characters ("" without one). A program that printed its metric
    and then failed is not ok: what it printed may be of a half-finished run.
    """
    trace, error = _traceback(tail)
    if stopped:
        return Outcome.STOPPED, "stopped on request", ""
    if oom:
        return Outcome.OOM, "ended because it used too much memory", trace
    if timed_out:
        return Outcome.TIMED_OUT, "still running at its deadline", trace
    if exit_code == 0:
        return *_finished(measurement, objective, tail), ""
    last = _last_lines(tail, 20)
    end = trace or "\n".join(last)
    if _OOM.search(end):
        return Outcome.OOM, error or _clip(_line_with(_OOM, end)), trace
    if objective.metric in measurement.diverged:
        return Outcome.DIVERGED, f"{objective.metric} is not finite", trace
    if _gave_up(error, [] if trace else last[-5:]):
        return Outcome.DIVERGED, error or _clip(f"gave up: {last[-1]}"), trace
    return Outcome.CRASHED, error or _clip(_ended(exit_code, signal, last)), trace


def _finished(measurement: Measurement, objective: Objective, tail: str) -> tuple[Outcome, str]:
    metric = objective.metric
    if metric in measurement.diverged:
        return Outcome.DIVERGED, f"{metric} is not finite"
    if metric in measurement.values:
        return Outcome.OK, ""
    if objective.expression and measurement.notes:  # its first note says why it has no value
        return Outcome.NO_METRIC, _clip(f"no value for {measurement.notes[0]}")
    return Outcome.NO_METRIC, _missing(metric, measurement, tail)


def _gave_up(error: str, last: list[str]) -> bool:
    """Whether a failed program says that its loss is not finite, rather than that it has a bug.

    Either by the exception it died of, or, without a traceback, by a last line ``FAIL`` (as
    the reference's script prints) or a ``loss … nan`` among the last few.
    """
    if error:
        return _GAVE_UP.match(error) is not None
    return "FAIL" in last or any(_LOSS_NAN.search(line) for line in last)


def _missing(metric: str, measurement: Measurement, tail: str) -> str:
    for note in measurement.notes:
        if note.startswith(f"{metric}: ") or "result file" in note or "`---`" in note:
            return _clip(f"{metric} was not printed ({note})")
    near = re.search(rf"^.*(?<![\w./@-]){re.escape(metric)}(?![\w./@-]).*\d.*$", tail, re.MULTILINE)
    if near:
        return _clip(
            f"{metric} has no line `{metric}: number` of its own (seen: {near[0].strip()!r})"
        )
    if measurement.values:
        others = ", ".join(list(measurement.values)[-5:])
        return _clip(f"{metric} was not printed; other metrics were: {others}")
    return f"{metric} was not printed; a line `{metric}: number` was expected"


def _ended(exit_code: int | None, signal: int | None, last: list[str]) -> str:
    # A shell reports a child's signal as 128 + n.
    number = signal if signal is not None else (exit_code or 0) - 128
    if signal is not None or number in _SIGNALS:
        how = f"ended by {_SIGNALS.get(number, f'signal {number}')}"
    else:
        how = f"exit code {exit_code}"
    return f"{how}: {last[-1]}" if last else f"{how}, no output"


def _last_lines(tail: str, count: int) -> list[str]:
    lines = [line.strip() for line in tail[-8192:].replace("\r", "\n").split("\n")]
    return [line for line in lines if line][-count:]


def _line_with(pattern: re.Pattern[str], text: str) -> str:
    return next(
        (line.strip() for line in text.split("\n") if pattern.search(line)), "out of memory"
    )


def _traceback(tail: str) -> tuple[str, str]:
    """The last Python traceback and the line that names its exception; ("", "") without one."""
    at = tail.rfind(_TRACEBACK)
    if at < 0:
        match = None
        for match in _SYNTAX.finditer(tail[-16384:]):  # noqa: B007  a syntax error has no heading
            pass
        if match is None:
            return "", ""
        return _bounded(match[0]), _clip(match[0].rsplit("\n", 1)[-1].strip())
    start = tail.rfind("\n", 0, at) + 1
    prefix = tail[start:at]  # "[rank0]: " and the like, printed before every line
    lines = [line.removeprefix(prefix).rstrip("\r") for line in tail[start:].split("\n")]
    end = len(lines)
    error = ""
    for index, line in enumerate(lines[1:], 1):
        if line and not line[0].isspace():
            error, end = line.strip(), index + 1
            break
    # A message of several lines goes on until the first empty line.
    while end < len(lines) and lines[end].strip():
        end += 1
    return _bounded("\n".join(lines[:end])), _clip(error)


def _bounded(text: str) -> str:
    """Keep the heading and the end, where the fault is."""
    text = text.rstrip()
    if len(text) <= MAX_TRACEBACK_CHARS:
        return text
    head = text[:500]
    return f"{head}\n  …\n{text[-(MAX_TRACEBACK_CHARS - len(head) - 5) :]}"


def _clip(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= MAX_DETAIL_CHARS else text[: MAX_DETAIL_CHARS - 1] + "…"
