"""A unified diff applied to texts: tolerant of line numbers, never of context."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from nightlab.errors import ResearcherError
from nightlab.model import Answer

_HUNK = re.compile(r"@@ -(\d+)(?:,\d+)? \+\d+(?:,\d+)? @@")


def apply(
    patch: str, texts: Mapping[str, str], may_change: Callable[[str], bool] = lambda _: True
) -> dict[str, str | None]:
    """The files that a diff changes: path -> new text, None where it removes the file.

    Of a path that ``may_change`` denies the text is "": that it was to change is all there is.
    A hunk goes where its old lines stand, nearest to where it says. Raises ResearcherError
    (UNUSABLE) when they stand nowhere.
    """
    found: dict[str, str | None] = {}
    lines = patch.splitlines(keepends=True)
    at = 0
    while at < len(lines) - 1:
        if not (lines[at].startswith("--- ") and lines[at + 1].startswith("+++ ")):
            at += 1
            continue
        old, new = _name(lines[at]), _name(lines[at + 1])
        at += 2
        path = new if new != "/dev/null" else old
        text = found.get(path, texts.get(path, "")) or ""
        shift = 0
        while at < len(lines) and (head := _HUNK.match(lines[at])):
            hunk = []
            at += 1
            while at < len(lines) and lines[at][:1] in (" ", "+", "-", "\\", "\n"):
                if (
                    lines[at].startswith("--- ")
                    and lines[at + 1 : at + 2]
                    and (lines[at + 1].startswith("+++ "))
                ):
                    break
                hunk.append(lines[at])
                at += 1
            if may_change(path):
                text, shift = _applied(text, hunk, int(head[1]) - 1 + shift, path)
        found[path] = None if new == "/dev/null" else text
    return found


def _name(line: str) -> str:
    name = line[4:].split("\t", 1)[0].strip()
    return name if name == "/dev/null" else re.sub(r"^[ab]/", "", name)


def _applied(text: str, hunk: list[str], where: int, path: str) -> tuple[str, int]:
    """The text with one hunk in it, and how much longer it became."""
    while hunk and hunk[-1] == "\n":  # the blank line before what follows the diff
        hunk.pop()
    plain = [line for line in hunk if not line.startswith("\\")]
    old = [line[1:] or "\n" for line in plain if line[0] in " -\n"]
    new = [line[1:] or "\n" for line in plain if line[0] in " +\n"]
    have = text.splitlines(keepends=True)
    bare, wanted = [line.rstrip("\r\n") for line in have], [line.rstrip("\r\n") for line in old]
    places = [i for i in range(len(have) - len(old) + 1) if bare[i : i + len(old)] == wanted]
    if not places:
        raise ResearcherError(
            f"the diff does not fit {path}",
            f"its lines do not stand there: {''.join(old)[:200]!r}",
            "answer with a diff against the files as they are",
            answer=Answer.UNUSABLE,
        )
    place = min(places, key=lambda i: abs(i - where))
    tail = have[place + len(old) :]
    if new and not new[-1].endswith("\n") and tail:
        new[-1] += "\n"
    return "".join((*have[:place], *new, *tail)), len(new) - len(old)
