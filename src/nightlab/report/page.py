"""The debrief as GitHub-flavoured Markdown, in the order in which a person wants it. Pure.

Every word that came from a researcher, a script or a person passes ``escape`` or ``code``.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import quote

from nightlab.report import summary
from nightlab.report.schema import Attempt, Discovery, Facts, Tally
from nightlab.report.words import NOTHING, code, count, duration, escape, number, percent, signed

_TOP = 12  # lines of a table that a person reads
_REASON = 160
_CLEAR = {True: "beyond noise", False: "within noise", None: "noise unknown"}


def page(f: Facts, *, plot: str | None = None, final: Sequence[str] = ()) -> str:
    """The whole debrief. ``plot`` is the address of the progress plot's image, if there is one.

    ``final`` are the paragraphs on the study's finalization.
    """
    parts = [
        f"# {escape(summary.title(f))}",
        _happened(f),
        *_picture(f, plot),
        *final,
        *_discoveries(f),
        *_lessons(f),
        *_costs(f),
        *_front(f),
        *_steps(f),
        *_appendix(f),
    ]
    return "\n\n".join(parts) + "\n"


def _happened(f: Facts) -> str:
    claim = escape(summary.claim(f), 600)
    told = summary.parts(f), summary.naive(f), summary.effort(f), summary.cost(f)
    rest = [s for s in (*told, summary.answers(f), summary.stopped(f), summary.ended(f)) if s]
    return f"**{claim}**\n" + "\n".join(escape(s, 600) for s in rest)


def _picture(f: Facts, plot: str | None) -> Iterator[str]:
    if plot is None:
        return
    address = quote(plot, safe="/:", errors="surrogateescape")
    yield f"![Progress of {escape(f.metric)} over the experiments]({address})"


# --- what worked ------------------------------------------------------------------------------


def _discoveries(f: Facts) -> Iterator[str]:
    yield "## Notable discoveries"
    if not f.discoveries:
        yield "No change was kept." + _chance(f)
        return
    sigma = f.noise.sigma
    shown = f.discoveries[:_TOP]
    yield _table(
        (
            "exp",
            "change",
            f"effect on {escape(f.metric)}",
            f"{_level(f)} interval",
            "runs",
            "commit",
        ),
        "rlrrrl",
        (
            (
                str(d.experiment),
                _change(d),
                signed(d.effect, sigma),
                _interval(d.low, d.high, sigma),
                str(d.runs),
                code(d.commit[:7]),
            )
            for d in shown
        ),
    )
    after = (
        "Positive is better. Each change is held against the incumbent that it replaced; the run "
        "that selected it is not counted where there are others, so the effects add up to the gain."
    )
    if len(f.discoveries) > len(shown):
        after += f" {len(f.discoveries) - len(shown)} smaller ones are in the appendix."
    yield after
    more = [_certified(f)]
    if f.top_share is not None and len(f.discoveries) > 3:
        if f.top_share <= 1:
            more.append(f"The top three carry {percent(f.top_share)} of the gain.")
        else:
            more.append("The top three carry all of the gain: the others add up to a loss.")
    more.append(f"{count(len(f.discoveries), 'change was', 'changes were')} kept.{_chance(f)}")
    yield " ".join(more)


def _certified(f: Facts) -> str:
    """Which keeps are claims, and what the others are."""
    c = f.certificates
    rate = f"at a false discovery rate of {percent(c.level)}"
    sure = [k for k in c.keeps if k.certified]
    if not sure:
        return (
            f"No keep is certified {rate}: they steered the search, and the claim is the study's "
            "whole gain on fresh runs."
        )
    named = ", ".join(f"exp {k.experiment} (e-value {k.e_value:.3g})" for k in sure)
    return f"Certified {rate}, of {count(c.tested, 'experiment')} tested in fresh pairs: {named}."


def _change(d: Discovery) -> str:
    words = f"{escape(d.description, 120)}"
    if d.rule == "simplification":
        words += f" (a simplification: {d.lines_added} lines added, {d.lines_removed} removed)"
    return words


def _chance(f: Facts) -> str:
    if f.chance_keeps is None or f.chance_keeps == 0.0:
        return ""
    looked = summary.kept(f) + f.totals.discard + f.totals.inconclusive
    return (
        f" For scale: a loop that keeps whatever beats the recorded number would have kept about "
        f"{f.chance_keeps:.1f} of {count(looked, 'change that does', 'changes that do')} nothing."
    )


# --- what did not -----------------------------------------------------------------------------


def _lessons(f: Facts) -> Iterator[str]:
    yield "## What does not work"
    any_lesson = False
    named = [t for t in f.categories if t.name != "(no category)"]
    for title, first, tallies in (
        ("By category", "category", f.categories if named else ()),
        ("Constants that never helped", "move", [m for m in f.moves if not m.keep]),
    ):
        if tallies:
            any_lesson = True
            yield f"**{title}**"
            yield _tallies(first, tallies[:_TOP], f)
    if any_lesson:
        yield (
            "Effects are those that the judge measured, most of them on one run; changes made "
            "together share theirs."
        )
    for title, attempts in (
        ("Hurt most clearly", f.losses),
        ("Near misses, worth a second look", f.near_misses),
    ):
        if attempts:
            any_lesson = True
            yield f"**{title}**"
            yield "\n".join(_attempt(a, f) for a in attempts)
    if f.crashes:
        any_lesson = True
        yield "**Crashes by cause**"
        yield "\n".join(
            f"- {c.count} × {code(c.outcome)} {escape(c.cause, 120)} "
            f"(exp {_numbers(c.experiments, c.count)})"
            for c in f.crashes[:_TOP]
        )
    if not any_lesson:
        yield "Nothing was tried yet that failed."


def _tallies(first: str, tallies: Sequence[Tally], f: Facts) -> str:
    sigma = f.noise.sigma
    return _table(
        (first, "tried", "kept", "inconclusive", "crashed", "median effect", "largest"),
        "lrrrrrr",
        (
            (
                escape(t.name, 80),
                str(t.tried),
                str(t.keep),
                str(t.inconclusive),
                str(t.crash),
                signed(t.median, sigma),
                signed(t.largest, sigma),
            )
            for t in tallies
        ),
    )


def _attempt(a: Attempt, f: Facts) -> str:
    sigma = f.noise.sigma
    bounds = _interval(a.low, a.high, sigma)
    inside = "" if bounds == NOTHING else f" ({bounds})"
    return (
        f"- exp {a.experiment}, {a.verdict}: {escape(a.description, 120)}: "
        f"{signed(a.effect, sigma)}{inside} over {count(a.runs, 'run')}"
    )


# --- guards, trade-offs, next steps -----------------------------------------------------------


def _costs(f: Facts) -> Iterator[str]:
    if not f.guards and not f.declared.checks and not f.trade_offs:
        return
    yield "## Guards and trade-offs"
    vetoes = [(f"guard {code(f'{g.metric} {g.text}')} vetoed", g) for g in f.guards]
    vetoes += [(f"check {escape(c.metric)} ({code(c.text)}) refused", c) for c in f.declared.checks]
    if vetoes:
        yield "\n".join(
            f"- {what} "
            + (f"{g.vetoed} (exp {_numbers(g.experiments, g.vetoed)})" if g.vetoed else "nothing")
            for what, g in vetoes
        )
    if f.trade_offs:
        yield _table(
            ("metric", "baseline", "incumbent", "change", ""),
            "lrrrl",
            (
                (
                    escape(t.metric, 60),
                    number(t.baseline, t.sigma),
                    number(t.incumbent, t.sigma),
                    "none" if t.baseline == t.incumbent else _plus(percent(t.relative)),
                    "" if t.baseline == t.incumbent else _CLEAR[t.clear],
                )
                for t in f.trade_offs[: 2 * _TOP]
            ),
        )


def _front(f: Facts) -> Iterator[str]:
    shown = f.declared.pareto
    if not shown:
        return
    names = list(shown[0].values)
    yield "## The Pareto front"
    yield _table(
        ("exp", "change", *(escape(name, 60) for name in names), "runs", "verdict", "commit", ""),
        "rl" + "r" * len(names) + "rlll",
        (
            (
                str(p.experiment),
                escape(p.description, 120),
                *(number(p.values[name], None) for name in names),
                str(p.runs),
                p.verdict,
                code(p.commit[:7]),
                f"within noise of exp {p.dominated_within_noise_by}"
                if p.dominated_within_noise_by
                else "",
            )
            for p in shown[: 2 * _TOP]
        ),
    )
    left = len(shown) - 2 * _TOP
    more = f" {left} more: `nightlab status --json`." if left > 0 else ""
    yield (
        f"No experiment beats one of these in {escape(' and '.join(names), 200)} at once; each "
        "commit stays reachable, kept or not. “Within noise of” names one that may be as good."
        + more
    )


def _steps(f: Facts) -> Iterator[str]:
    yield "## Recommended next steps"
    if not f.steps:
        yield "Nothing stands out: let it run on."
        return
    yield "\n".join(
        f"{n}. **{escape(s.do, 300)}**: {escape(s.why, 300)}."
        + (f" {code(s.command)}" if s.command else "")
        for n, s in enumerate(f.steps, 1)
    )


# --- appendix ---------------------------------------------------------------------------------


def _appendix(f: Facts) -> Iterator[str]:
    yield "## Appendix: every experiment"
    sigma = f.noise.sigma
    yield _table(
        ("exp", "verdict", escape(f.metric), "runs", "effect", "change", "reason"),
        "rlrrrll",
        (
            (
                str(r.experiment),
                f"**{r.verdict}**" if r.verdict == "keep" else r.verdict,
                number(r.value, sigma),
                str(r.runs),
                signed(r.effect, sigma),
                escape(r.description, 120),
                escape(r.reason, _REASON),
            )
            for r in f.rows
        ),
    )
    if f.rows_left_out:
        yield (
            f"{count(f.rows_left_out, 'experiment is', 'experiments are')} left out here, none of "
            f"the {min(f.totals.keep, len(f.rows))} latest keeps among them. All of them: "
            "`nightlab export --format tsv`"
        )
    yield "## Appendix: how to reproduce"
    yield "\n".join(_reproduce(f))
    for title, texts in (("Notes that people left", f.notes), ("Warnings", f.warnings)):
        if texts:
            yield f"**{title}**"
            yield "\n".join(f"- “{escape(text, 300)}”" for text in texts[-_TOP:])


def _reproduce(f: Facts) -> Iterator[str]:
    s = f.setting
    began = dt.datetime.fromtimestamp(f.started_at, tz=dt.UTC)
    yield f"- all changes that were kept: {code(f'git diff {s.base_commit[:7]}..{s.branch}')}"
    yield "- one experiment, kept or not: `nightlab show N --diff`, `nightlab show N --log`"
    yield (
        f"- one run: {code(s.command)} with {code(f'TIME_BUDGET={s.budget_s:g}')} and "
        f"{code(s.seed_env + '=' + _seed(f))}"
        + (f" in {code(s.prefix)}" if s.prefix else "")
        + f"; killed at {duration(s.budget_s * s.kill_factor)}"
    )
    for name, one in (("baseline", f.baseline), ("incumbent", f.incumbent)):
        if one is not None and one.seeds:
            yield f"- seeds of the {name}: {_some(one.seeds)} (commit {code(one.commit[:7])})"
    sigma = f.noise.sigma
    known = "unknown" if sigma is None else f"{sigma:.2g} ({f.noise.df} degrees of freedom)"
    yield f"- noise of one run (sd): {'none seen' if f.noise.deterministic else known}"
    if f.drift is not None:
        clear = "significant" if f.drift.significant else "within noise"
        yield (
            f"- drift: re-runs of the same code moved by {signed(f.drift.total, sigma)} over the "
            f"study (t = {f.drift.t:.1f}, {clear}; positive is better)"
        )
    if s.guards:
        yield f"- guards: {', '.join(code(g) for g in s.guards)}"
    yield f"- files that may change: {', '.join(code(e) for e in s.edit)}"
    who = (("researcher", s.researcher), ("judge", s.judge), ("sandbox", s.sandbox))
    yield "- " + ", ".join(f"{name} {code(value or '?')}" for name, value in who)
    yield (
        f"- nightlab {escape(s.version) or '?'}, begun {began:%Y-%m-%d %H:%M} UTC"
        + (f", on {', '.join(code(x) for x in s.slots)}" if s.slots else "")
    )
    if s.machine:
        yield "- machine: " + ", ".join(
            f"{escape(k, 40)} {escape(v, 120)}" for k, v in s.machine.items()
        )


# --- small things -----------------------------------------------------------------------------


def _table(head: Sequence[str], align: str, rows: Iterable[Sequence[str]]) -> str:
    rule = ["--:" if a == "r" else "---" for a in align]
    every = (head, rule, *rows)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in every)


def _interval(low: float | None, high: float | None, sigma: float | None) -> str:
    if low is None or high is None:
        return NOTHING
    return f"{signed(low, sigma)} to {signed(high, sigma)}"


def _level(f: Facts) -> str:
    return f"{f.discoveries[0].level * 100:.0f} %"


def _plus(text: str) -> str:
    return text if text.startswith(("-", NOTHING)) else f"+{text}"


def _numbers(numbers: Sequence[int], of: int) -> str:
    more = ", …" if of > len(numbers) else ""
    return ", ".join(map(str, numbers)) + more


def _some(numbers: Sequence[int], most: int = 12) -> str:
    return _numbers(numbers[:most], len(numbers))


def _seed(f: Facts) -> str:
    return str(f.baseline.seeds[0]) if f.baseline and f.baseline.seeds else "1"
