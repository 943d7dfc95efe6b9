"""Which experiments a tracker has already, where it can not be asked: a file beside its own."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path


def read(mark: Path) -> set[int]:
    """Their numbers; none where the file is not there or is not ours."""
    try:
        found = json.loads(mark.read_text(encoding="utf-8"))
        return {int(n) for n in found}
    except (OSError, ValueError, TypeError):
        return set()


def write(mark: Path, numbers: Iterable[int]) -> None:
    """Note that the tracker has these."""
    mark.write_text(json.dumps(sorted(numbers)), encoding="utf-8")
