"""Edits as a language model writes them: search/replace blocks, or a whole file. Text in, text out.

    train.py
    <<<<<<< SEARCH
    LR = 0.1
    =======
    LR = 0.03
    >>>>>>> REPLACE

Small models do not keep to a form, so what is unambiguous is understood: Markdown fences,
a missing path where only one file is in scope, other white space than the file has. What is
ambiguous is refused, in words that say which block, and why.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

_OPEN = re.compile(r"\s*<{5,9}\s*(?:SEARCH|ORIGINAL|HEAD|OLD)?\b[^<]*")
_MIDDLE = re.compile(r"\s*={5,9}\s*")
_CLOSE = re.compile(r"\s*>{5,9}\s*(?:REPLACE|UPDATED|NEW)?\b[^>]*")
_FENCE = re.compile(r"\s*(`{3,}|~{3,})\s*([^`]*)")
_LEFT_OUT = re.compile(
    r"^\s*(?:#|//|--)?\s*(?:\.\.\.|…)\s*"
    r"(?:\(?(?:rest|the rest|existing|unchanged|same|remaining)\b.*)?$"
    r"|^\s*(?:#|//).*\b(?:rest of (?:the )?(?:code|file)|existing code|unchanged)\b.*$",
    re.IGNORECASE | re.MULTILINE,
)
_THINKING = re.compile(r"<(think|thinking|reasoning)>.*?(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_QUOTED_CHARS = 400


@dataclass(frozen=True)
class Block:
    """One edit. ``search`` None: ``replace`` is the whole file. ``path`` "": it names none."""

    path: str
    search: str | None
    replace: str


class EditError(Exception):
    """The blocks do not fit. ``problems`` are sentences for the model, one a block."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


def without_thinking(text: str) -> str:
    """The answer without what a reasoning model thought aloud."""
    return _THINKING.sub("", text)


def blocks(text: str) -> list[Block]:
    """The edits in an answer, in order; whole files only where there is no search block.

    Raises EditError for a block that does not end.
    """
    lines = text.replace("\r\n", "\n").split("\n")
    found: list[Block] = []
    at = 0
    while at < len(lines):
        if not _OPEN.fullmatch(lines[at]) or not lines[at].strip("< \t"):
            at += 1
            continue
        middle = _next(lines, at + 1, _MIDDLE)
        end = _next(lines, middle + 1, _CLOSE) if middle is not None else None
        if middle is None or end is None:
            missing = "=======" if middle is None else ">>>>>>> REPLACE"
            raise EditError([f"block {len(found) + 1} has no line {missing}: it was cut off"])
        search, replace = lines[at + 1 : middle], lines[middle + 1 : end]
        path = _path_before(lines, at)
        found.append(Block(path, _unfenced(search), _unfenced(replace)))
        at = end + 1
    return found or _whole_files(lines)


def _next(lines: Sequence[str], start: int, marker: re.Pattern[str]) -> int | None:
    for at in range(start, len(lines)):
        if marker.fullmatch(lines[at]):
            return at
        if _OPEN.fullmatch(lines[at]) and "SEARCH" in lines[at]:
            return None  # the next block begins: this one has no end
    return None


def _path_before(lines: Sequence[str], at: int) -> str:
    """The path on the line before a block, or in the fence that opens it."""
    for before in reversed(lines[max(0, at - 4) : at]):
        fence = _FENCE.fullmatch(before)
        words = fence.group(2) if fence else before
        if fence or not before.strip():
            path = _as_path(words.split()[-1]) if words.split() else ""
            if path:
                return path
            continue
        return _as_path(words)
    return ""


def _as_path(line: str) -> str:
    """A line that is a path and its decoration, as the path; "" for any other line."""
    bare = re.sub(r"^[\s#*`>-]*(?:(?:file|path|in|edit)\s*:?\s+)?", "", line, flags=re.IGNORECASE)
    bare = bare.strip().strip("*`'\":").strip()
    return bare.removeprefix("./") if re.fullmatch(r"[\w./+-]*\.\w+|Makefile", bare) else ""


def _unfenced(lines: Sequence[str]) -> str:
    """A section's text; a Markdown fence around all of it is not part of it."""
    held = list(lines)
    if len(held) >= 2 and _FENCE.fullmatch(held[0]) and held[-1].strip() in ("```", "~~~"):
        held = held[1:-1]
    return "\n".join(held)


def _whole_files(lines: Sequence[str]) -> list[Block]:
    """Fenced code as whole files."""
    found: list[Block] = []
    at = 0
    while at < len(lines):
        fence = _FENCE.fullmatch(lines[at])
        if fence is None:
            at += 1
            continue
        mark = fence.group(1)
        end = next((n for n in range(at + 1, len(lines)) if lines[n].strip() == mark), None)
        if end is None:
            raise EditError(["the code block has no end: the answer was cut off"])
        words = fence.group(2).split()
        if words and words[0].lower() == "nightlab":  # what it says of the change, not the change
            at = end + 1
            continue
        path = next((p for w in reversed(words) if (p := _as_path(w))), "")
        text = "\n".join(lines[at + 1 : end]) + "\n"
        found.append(Block(path or _path_before(lines, at), None, text))
        at = end + 1
    return found


def apply(files: Mapping[str, str], edits: Sequence[Block]) -> dict[str, str]:
    """The files that the edits change, whole. Raises EditError that names every misfit."""
    texts = dict(files)
    problems: list[str] = []
    for number, block in enumerate(edits, 1):
        which = f"block {number}" if len(edits) > 1 else "the block"
        try:
            path = _resolve(block, files, edits[:number])
            texts[path] = _applied(texts.get(path), block, path)
        except EditError as error:
            problems += [f"{which}: {problem}" for problem in error.problems]
    if problems:
        raise EditError(problems)
    return {path: text for path, text in texts.items() if files.get(path) != text}


def _resolve(block: Block, files: Mapping[str, str], so_far: Sequence[Block]) -> str:
    known = ", ".join(files)
    path = block.path or next((b.path for b in reversed(so_far) if b.path), "")
    if not path:
        if len(files) == 1:
            return next(iter(files))
        raise EditError([f"it names no file; write the path on the line before it: {known}"])
    if path in files:
        return path
    near = [f for f in files if PurePosixPath(f).name == PurePosixPath(path).name]
    if len(near) == 1:
        return near[0]
    if block.search is None or not block.search.strip():
        return path  # a new file; whether it may be is the scope's question
    raise EditError([f"there is no file {path} in scope; the files are {known}"])


def _applied(old: str | None, block: Block, path: str) -> str:
    crlf = old is not None and "\r\n" in old
    text = (old or "").replace("\r\n", "\n")
    if block.search is None:
        new = _whole(text, block, path)
    elif not block.search.strip():
        if text.strip():
            raise EditError([f"its SEARCH part is empty; quote lines of {path} that it replaces"])
        new = block.replace + "\n"
    else:
        new = _replaced(text, block.search, block.replace, path)
    return new.replace("\n", "\r\n") if crlf else new


def _whole(text: str, block: Block, path: str) -> str:
    if text and (left_out := _LEFT_OUT.search(block.replace)) and left_out.group() not in text:
        said = left_out.group().strip()
        raise EditError([f"it leaves code of {path} out ({said!r}); use SEARCH/REPLACE blocks"])
    if text and not block.path and block.replace.count("\n") < text.count("\n") / 2:
        raise EditError([f"it is only a part of {path}; use SEARCH/REPLACE blocks"])
    return block.replace


def _replaced(text: str, search: str, replace: str, path: str) -> str:
    if search.strip("\n") == replace.strip("\n"):
        raise EditError(["its two parts are the same: it changes nothing"])
    lines, wanted = text.split("\n"), search.strip("\n").split("\n")
    put = replace.strip("\n").split("\n") if replace.strip("\n") else []
    views: tuple[Callable[[str], str], ...] = (str, str.rstrip, str.strip)
    for view in views:
        found = _places(lines, wanted, view)
        if len(found) > 1:
            at = ", ".join(str(n + 1) for n in found[:5])
            raise EditError(
                [f"its SEARCH part stands {len(found)} times in {path} (lines {at}); quote more"]
            )
        if found:
            start = found[0]
            old = lines[start : start + len(wanted)]
            put = _shifted(put, wanted, old) if view is str.strip else put
            return "\n".join([*lines[:start], *put, *lines[start + len(wanted) :]])
        if view is str and len(wanted) == 1 and wanted[0].strip():
            times = text.count(wanted[0].strip())
            if times == 1:  # a part of a line
                return text.replace(wanted[0].strip(), replace.strip("\n").strip())
    raise EditError([_not_found(lines, wanted, path)])


def _places(lines: Sequence[str], wanted: Sequence[str], view: Callable[[str], str]) -> list[int]:
    seen, sought = [view(line) for line in lines], [view(line) for line in wanted]
    last = len(seen) - len(sought)
    return [n for n in range(last + 1) if seen[n : n + len(sought)] == sought]


def _shifted(put: Sequence[str], wanted: Sequence[str], old: Sequence[str]) -> list[str]:
    """The new lines at the indentation that the file has, where the model's was another."""
    pairs = [(w, o) for w, o in zip(wanted, old, strict=True) if w.strip()]
    wrong, right = (_indent(pairs[0][0]), _indent(pairs[0][1])) if pairs else ("", "")
    return [
        right + line[len(wrong) :] if line.strip() and line.startswith(wrong) else line
        for line in put
    ]


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


def _not_found(lines: Sequence[str], wanted: Sequence[str], path: str) -> str:
    size = len(wanted)
    sought = "\n".join(wanted)
    matcher = difflib.SequenceMatcher(None, "", sought, autojunk=False)
    top, near = 0.0, ""
    for start in range(max(1, len(lines) - size + 1)):
        there = "\n".join(lines[start : start + size])
        matcher.set_seq1(there)
        if matcher.real_quick_ratio() > top and matcher.quick_ratio() > top:
            ratio = matcher.ratio()
            if ratio > top:
                top, near = ratio, there
    quoted = f"; the nearest lines there are:\n{near[:_QUOTED_CHARS]}" if top > 0.4 else ""
    return f"its SEARCH part does not stand in {path}{quoted}"
