"""Documents cut into passages: PDF by page, Markdown and text by heading and paragraph."""

from __future__ import annotations

import codecs
import logging
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from nightlab.knowledge.files import TEXT
from nightlab.process import clean

PASSAGE_CHARS = 1500
_MOST_PAGES = 3000
_MOST_SECONDS = 300.0  # for one document
_MOST_BYTES = 20 * 1024**2  # of a text; of a PDF ten times that
_MOST_PAGE_CHARS = 40_000
_HEADING = re.compile(r"(#{1,6})\s+(.+?)\s*#*$")


@dataclass
class Report:
    """What of a document could not be read."""

    problems: list[str] = field(default_factory=list)


def passages(path: Path, report: Report) -> Iterator[tuple[str, str]]:
    """(place, text) of each passage. Never raises for what is in the document."""
    pieces = _text(path, report) if path.name.lower().endswith(TEXT) else _pdf(path, report)
    found = False
    for place, text in pieces:
        found = True
        yield place, text
    if not found and not report.problems:
        report.problems.append("there is no text in it; scanned pages would need OCR first")


def _pdf(path: Path, report: Report) -> Iterator[tuple[str, str]]:
    from pypdf import PdfReader  # noqa: PLC0415  loaded on use

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # its complaints fill a log
    started = time.monotonic()
    failed = 0
    try:
        if path.stat().st_size > 10 * _MOST_BYTES:
            report.problems.append(f"it is larger than {10 * _MOST_BYTES >> 20} MB")
            return
        reader = PdfReader(path)
        if reader.is_encrypted and not reader.decrypt(""):
            report.problems.append("it is encrypted: save a copy without a password")
            return
        count = len(reader.pages)
    except Exception as error:  # noqa: BLE001  whatever a broken file makes of its parser
        report.problems.append(f"it cannot be read: {_brief(error)}")
        return
    for number in range(1, min(count, _MOST_PAGES) + 1):
        if time.monotonic() - started > _MOST_SECONDS:
            report.problems.append(
                f"only its first {number - 1} of {count} pages were read in {_MOST_SECONDS:g} s"
            )
            return
        try:
            text = reader.pages[number - 1].extract_text()[:_MOST_PAGE_CHARS]
        except Exception:  # noqa: BLE001  as above, for one page
            failed += 1
            continue
        for piece in _pieces(_unbroken(clean(text))):
            yield f"p. {number}", piece
    if count > _MOST_PAGES:
        report.problems.append(f"only its first {_MOST_PAGES} of {count} pages were read")
    if failed:
        report.problems.append(f"{failed} of {count} pages cannot be read")


def _text(path: Path, report: Report) -> Iterator[tuple[str, str]]:
    try:
        with path.open("rb") as file:
            raw = file.read(_MOST_BYTES + 1)
    except OSError as error:
        report.problems.append(f"it cannot be read: {_brief(error)}")
        return
    if len(raw) > _MOST_BYTES:
        report.problems.append(f"only its first {_MOST_BYTES >> 20} MB were read")
        raw = raw[:_MOST_BYTES]
    if b"\0" in raw[:4096] and not raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        report.problems.append("it is no text")
        return
    heading, block, began = "", list[str](), 1
    lines = clean(_decoded(raw)).splitlines()
    for number, line in enumerate([*lines, "# "], start=1):
        found = _HEADING.match(line)
        if found or number > len(lines):
            place = f"§ {heading}" if heading else f"line {began}"
            for piece in _pieces("\n".join(block)):
                yield place, piece
            block, began = [], number
            heading = found[2].strip("*_` ")[:80] if found else ""
        block.append(line)


def _decoded(raw: bytes) -> str:
    for bom, name in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if raw.startswith(bom):
            return raw.decode(name, "replace")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        # A byte off here and there is UTF-8 all the same; more of them is an old Windows text.
        text = raw.decode("utf-8", "replace")
        few = text.count("\ufffd") * 1000 <= len(text)
        return text if few else raw.decode("cp1252", "replace")


def _unbroken(text: str) -> str:
    """Words that a line's end has broken, whole again."""
    return re.sub(r"(?<=[^\W\d_])-\n(?=[a-zß-ÿ])", "", text)


def _pieces(text: str) -> Iterator[str]:
    """The text in passages of at most ``PASSAGE_CHARS``, cut between paragraphs or sentences."""
    rest = text.strip()
    while len(rest) > PASSAGE_CHARS:
        window = rest[:PASSAGE_CHARS]
        cut = max(window.rfind("\n\n"), 0)
        for mark in (". ", "\n", " "):
            if cut < PASSAGE_CHARS // 2:
                cut = window.rfind(mark) + 1
        cut = cut if cut > PASSAGE_CHARS // 4 else PASSAGE_CHARS
        if piece := rest[:cut].strip():
            yield piece
        rest = rest[cut:].strip()
    if rest:
        yield rest


def _brief(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:150]
