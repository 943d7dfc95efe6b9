"""What somebody needs to do it again, as rows of a table. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence

from nightlab.report.schema import Facts
from nightlab.report.words import clean, duration, number, signed

Line = tuple[str, str, bool]  # name, value, whether the value is code


def again(f: Facts) -> Iterator[Line]:
    """Commands, commits, seeds, noise, versions, the machine; the values are plain text."""
    s, sigma = f.setting, f.noise.sigma
    yield "all that was kept", f"git diff {s.base_commit[:7]}..{clean(s.branch)}", True
    yield "one experiment", "nightlab show N --diff", True
    yield "its log", "nightlab show N --log", True
    seed = f.baseline.seeds[0] if f.baseline and f.baseline.seeds else 1
    with_ = f"TIME_BUDGET={s.budget_s:g} {s.seed_env}={seed}"
    yield "one run", clean(f"{with_} {s.command}", 400), True
    if s.prefix:
        yield "in", clean(s.prefix), True
    yield "killed at", duration(s.budget_s * s.kill_factor), False
    for name, one in (("baseline", f.baseline), ("incumbent", f.incumbent)):
        if one is not None and one.seeds:
            found = (
                f"experiment {one.experiment}, commit {one.commit[:10]}, seeds {_some(one.seeds)}"
            )
            yield name, found, False
    known = "unknown" if sigma is None else f"{sigma:.2g} ({f.noise.df} degrees of freedom)"
    yield "noise of one run (sd)", "none seen" if f.noise.deterministic else known, False
    if f.drift is not None:
        clear = "significant" if f.drift.significant else "within noise"
        told = f"{signed(f.drift.total, sigma)} over the study, t = {f.drift.t:.1f}, {clear}"
        yield "drift of re-runs", told, False
    if f.baseline is not None and f.baseline.mean is not None:
        yield f"{clean(f.metric, 60)} of the baseline", number(f.baseline.mean, sigma), False
    if s.guards:
        yield "guards", clean(", ".join(s.guards), 400), True
    yield "files that may change", clean(", ".join(s.edit), 400), True
    for name, value in (("researcher", s.researcher), ("judge", s.judge), ("sandbox", s.sandbox)):
        yield name, clean(value or "?"), False
    began = dt.datetime.fromtimestamp(f.started_at, tz=dt.UTC)
    yield "begun", f"{began:%Y-%m-%d %H:%M} UTC", False
    yield "nightlab", clean(s.version) or "?", False
    if s.slots:
        yield "slots", clean(", ".join(s.slots), 200), False
    for name, value in s.machine.items():
        yield clean(name, 40), clean(value, 160), False


def _some(numbers: Sequence[int], most: int = 12) -> str:
    return ", ".join(map(str, numbers[:most])) + (", …" if len(numbers) > most else "")
