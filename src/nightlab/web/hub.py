"""All studies of all projects, kept up to date by one thread that looks twice a second."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nightlab.config import Paths
from nightlab.errors import NightlabError
from nightlab.process import clean
from nightlab.web.following import Followed, explained

EVERY_S = 0.5


class Hub:
    """What is followed. ``roots`` are the projects' folders; their place is their name.

    ``changed`` is waited for by whoever tells pages; ``closing`` ends them all.
    """

    def __init__(self, roots: Sequence[Path]) -> None:
        self.roots = tuple(roots)
        self.studies: dict[str, Followed] = {}
        self.closing = False
        self._changed = asyncio.Event()
        self._wanted = asyncio.Event()

    def projects(self) -> list[dict[str, str]]:
        """The projects, as the page names them."""
        return [
            {"project": str(i), "name": root.name, "path": str(root)}
            for i, root in enumerate(self.roots)
        ]

    async def follow(self) -> None:
        """Look for what is new until cancelled."""
        while True:
            began = time.monotonic()
            try:
                changed = await asyncio.to_thread(self._look)
            except Exception as error:  # noqa: BLE001  pages go on with what was read
                sys.stderr.write(clean("".join(traceback.format_exception(error))))
                changed = False
                await asyncio.sleep(EVERY_S)
            if changed:
                self.tell()
            if any(s.loading and s.error is None and not s.gone for s in self.studies.values()):
                await asyncio.sleep(0)
                continue
            with contextlib.suppress(TimeoutError):
                rest = max(0.05, EVERY_S - (time.monotonic() - began))
                await asyncio.wait_for(self._wanted.wait(), rest)
            self._wanted.clear()

    def hurry(self) -> None:
        """Look at once: a person asked for something."""
        self._wanted.set()

    def tell(self) -> None:
        """Wake all who wait for news."""
        self._changed.set()
        self._changed = asyncio.Event()

    def close(self) -> None:
        """End every stream; from the event loop's thread, a signal's handler included."""
        self.closing = True
        self.tell()

    def next(self) -> asyncio.Event:
        """What is set when something changes from now on."""
        return self._changed

    async def happened(self, event: asyncio.Event, seconds: float) -> bool:
        """Wait for it; False when nothing changed for so long."""
        try:
            await asyncio.wait_for(event.wait(), seconds)
        except TimeoutError:
            return False
        return True

    def _look(self) -> bool:
        changed = self._discover()
        newest = sorted(self.studies.values(), key=lambda s: s.started, reverse=True)
        for study in newest:
            changed |= study.poll()
        for study in newest:
            if study.gone:
                studies = dict(self.studies)
                del studies[study.id]
                self.studies, changed = studies, True
        return changed

    def _discover(self) -> bool:
        """Take in studies that are new; whether there were any."""
        found: dict[str, Followed] = {}
        for i, root in enumerate(self.roots):
            with contextlib.suppress(OSError):  # a study vanished while its folder was read
                for tag in Paths(root).tags():
                    if f"{i}/{tag}" not in self.studies:
                        found[f"{i}/{tag}"] = Followed(str(i), root, tag)
        if found:
            self.studies = {**self.studies, **found}
        return bool(found)

    def listed(self) -> list[dict[str, Any]]:
        """Every study in short, the one that something happened in last first."""
        told = [_short(study) for study in self.studies.values()]
        return sorted(told, key=lambda s: -(s["last_event_at"] or 0.0))


_SHORT = (
    "state",
    "paused",
    "experiments",
    "baseline",
    "incumbent",
    "gain",
    "researcher",
    "started_at",
    "last_event_at",
)


def _short(study: Followed) -> dict[str, Any]:
    try:
        status = study.status()
    except NightlabError as error:
        status = {"error": explained(error)}
    objective = status.get("objective") or {}
    return {
        "id": study.id,
        "project": study.project,
        "tag": study.tag,
        "name": study.root.name,
        "path": str(study.root),
        "metric": objective.get("name"),
        "better": objective.get("better"),
        "loading": study.loading,
        "error": status.get("error"),
        **{key: status.get(key) for key in _SHORT},
    }
