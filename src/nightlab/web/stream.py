"""Server-sent events: what changed since this page was told last.

A page has no queue that could fill. It is told differences between what there is and what it
was sent; while it reads slowly, changes add up to one difference.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

from nightlab.web.answers import encode
from nightlab.web.hub import Hub

MOST_STUDIES = 8
_BEAT_S = 10.0
_LEAST_S = 0.25  # between two looks at what changed
_POSITION = re.compile(
    r"(?P<id>\d{1,4}/[A-Za-z0-9][A-Za-z0-9._-]{0,63})(@(?P<epoch>\w+)\.(?P<seq>\d{1,15}))?"
)


def positions(wanted: list[str], last_id: str) -> dict[str, tuple[str, int]]:
    """``{id: (epoch, seq)}`` of what a page has; ``last_id`` is newer than what it asked with."""
    found: dict[str, tuple[str, int]] = {}
    for text in wanted[:MOST_STUDIES]:
        match = _POSITION.fullmatch(text)
        if match:
            found[match["id"]] = (match["epoch"] or "", int(match["seq"] or 0))
    for text in last_id[:4096].split(","):
        match = _POSITION.fullmatch(text)
        if match and match["id"] in found and match["epoch"]:
            found[match["id"]] = (match["epoch"], int(match["seq"]))
    return found


async def told(hub: Hub, at: dict[str, tuple[str, int]]) -> AsyncIterator[bytes]:
    """The stream of one page, until the server ends or the page is gone."""
    page = _Page(hub, at)
    yield b"retry: 2000\n\n"
    while not hub.closing:
        news = hub.next()
        for piece in await asyncio.to_thread(page.pieces):
            yield piece
        if not await hub.happened(news, _BEAT_S):
            yield b": beat\n\n"
        await asyncio.sleep(_LEAST_S)


class _Page:
    """What one page was told."""

    def __init__(self, hub: Hub, at: dict[str, tuple[str, int]]) -> None:
        self._hub = hub
        self._at = at
        self._versions: dict[str, dict[str, str]] = {name: {} for name in at}
        self._studies = b""
        self._known: set[str] = set()

    def pieces(self) -> list[bytes]:
        """What there is to tell now."""
        found = []
        listed = encode({"projects": self._hub.projects(), "studies": self._hub.listed()})
        if listed != self._studies:
            self._studies = listed
            found.append(_event("studies", listed))
        for name in self._at:
            study = self._hub.studies.get(name)
            if study is None:
                if name in self._known:
                    self._known.discard(name)
                    self._versions[name] = {}
                    found.append(_event("gone", encode({"id": name})))
                continue
            self._known.add(name)
            found += self._of(name)
        return found

    def _of(self, name: str) -> list[bytes]:
        study, seen, found = self._hub.studies[name], self._versions[name], []
        now = dict(study.versions)
        changed = {what for what, version in now.items() if seen.get(what) != version}
        self._versions[name] = now
        if "status" in changed:
            found.append(_event("status", encode(study.status())))
        if "rows" in changed:
            found += self._rows(name)
        if "live" in changed:
            found.append(_event("live", encode(study.live())))
        for what in ("backlog", "scratchpad"):
            if what in changed and seen:
                told: dict[str, Any] = {"id": name, "version": now[what]}
                found.append(_event(what, encode(told)))
        return found

    def _rows(self, name: str) -> list[bytes]:
        epoch, seq = self._at[name]
        rows = self._hub.studies[name].rows(epoch, seq)
        self._at[name] = (rows["epoch"], rows["seq"])
        if not rows["full"] and not rows["columns"]["n"]:
            return []
        where = ",".join(f"{n}@{e}.{s}" for n, (e, s) in self._at.items() if e)
        return [_event("rows", encode(rows), where)]


def _event(name: str, data: bytes, where: str = "") -> bytes:
    head = f"id: {where}\n" if where else ""
    return f"{head}event: {name}\ndata: ".encode() + data + b"\n\n"
