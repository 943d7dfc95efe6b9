"""Every path that nightlab uses on disk, and the names that may stand in one."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path

from nightlab.errors import ConfigError

CONFIG_NAME = "nightlab.toml"
STATE_NAME = ".nightlab"
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Paths:
    """Where things lie. ``root`` is the project's folder, which holds nightlab.toml."""

    root: Path

    @property
    def config(self) -> Path:
        return self.root / CONFIG_NAME

    @property
    def state(self) -> Path:
        return self.root / STATE_NAME

    @property
    def current(self) -> Path:
        """A file that holds the tag of the study that was worked on last."""
        return self.state / "current"

    def study(self, tag: str) -> Path:
        return self.state / tag

    def journal(self, tag: str) -> Path:
        return self.study(tag) / "journal.jsonl"

    def lock(self, tag: str) -> Path:
        return self.study(tag) / "lock"

    def inbox(self, tag: str) -> Path:
        """Where notes and requests to stop are dropped for a running lab."""
        return self.study(tag) / "inbox"

    def live(self, tag: str) -> Path:
        """What a running lab does now, for screens; gone when it ends."""
        return self.study(tag) / "live.json"

    def notified(self, tag: str) -> Path:
        """What was told to a person who is elsewhere, and when."""
        return self.study(tag) / "notified.json"

    def run(self, tag: str, run_id: int) -> Path:
        return self.study(tag) / "runs" / f"{run_id:06d}"

    def cache(self, tag: str) -> Path:
        """What every run of a study may write to, where the person wants such a folder."""
        return self.study(tag) / "cache"

    def log(self, tag: str, run_id: int) -> Path:
        return self.run(tag, run_id) / "log.txt"

    def indexes(self, tag: str) -> Path:
        """Where the private git indexes lie."""
        return self.study(tag) / "index"

    def scratchpad(self, tag: str) -> Path:
        """The researcher's own memory, kept from experiment to experiment and night to night."""
        return self.study(tag) / "scratchpad.md"

    @property
    def knowledge(self) -> Path:
        """What the person wants the researcher to draw on."""
        return self.root / "knowledge"

    @property
    def knowledge_index(self) -> Path:
        return self.state / "knowledge.sqlite"

    def ledger(self, tag: str) -> Path:
        return self.study(tag) / "results.tsv"

    def public_ledger(self) -> Path:
        """results.tsv where the reference's users look for it: a link to ``ledger``."""
        return self.root / "results.tsv"

    def final(self, tag: str) -> Path:
        """What a finalization leaves for people: its page, its patches."""
        return self.study(tag) / "final"

    def report(self, tag: str) -> Path:
        return self.study(tag) / "report"

    def tags(self) -> list[str]:
        """Studies that exist here, oldest journal first; those set aside (``tag~1``) are not."""
        found = (p for p in self.state.glob("*/journal.jsonl") if _TAG.fullmatch(p.parent.name))
        return [p.parent.name for p in sorted(found, key=lambda p: p.stat().st_ctime)]

    def make_state(self) -> None:
        """Create the state folder, invisible to the person's git."""
        self.state.mkdir(exist_ok=True)
        ignore = self.state / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")


def find_root(start: Path) -> Path | None:
    """The nearest folder at or above ``start`` that holds nightlab.toml."""
    for folder in (start, *start.parents):
        if (folder / CONFIG_NAME).is_file():
            return folder
    return None


def default_tag(now: float) -> str:
    """The reference's tag: month and day, ``nov21``."""
    day = time.localtime(now)
    months = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
    return f"{months[day.tm_mon - 1]}{day.tm_mday}"


def check_tag(tag: str) -> str:
    """The tag, if git and the file system can take it. Raises ConfigError."""
    bad_end = tag.endswith((".lock", "."))
    if not _TAG.fullmatch(tag) or ".." in tag or bad_end or tag == "current":
        raise ConfigError(
            f"--tag {tag!r} cannot name a branch and a folder",
            "letters, digits, '.', '_' and '-' only, at most 64",
            "nightlab run --tag nov21",
        )
    return tag
