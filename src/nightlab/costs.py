"""What a study and an experiment cost: tokens, money, thinking, device time. Pure."""

from __future__ import annotations

from typing import Any

from nightlab.history import History
from nightlab.model import Usage


def of_study(history: History) -> dict[str, Any]:
    """The ``cost`` of ``status --json``: in all, and for each change that was kept."""
    books = history.accounts
    keeps = history.counts.keep - (history.incumbent_number is not None)  # without the baseline
    return {
        **_spent(books.spent, history.device_seconds),
        "calls": books.spent.calls,
        "asked": books.asked,
        "unpriced": books.silent_usd,
        "answers": {answer.value: count for answer, count in sorted(books.answers.items())},
        "by_researcher": {who: _usage(usage) for who, usage in sorted(books.by_researcher.items())},
        "per_keep": _each(books.spent, history.device_seconds, keeps) if keeps > 0 else None,
    }


def of_experiment(history: History, number: int) -> dict[str, Any]:
    """What one experiment's own questions (proposal, fixes) and own runs cost."""
    runs = history.experiments[number].runs
    seconds = sum(run.duration_s + (run.evaluate_s or 0.0) for run in runs)
    return _spent(history.accounts.by_experiment.get(number, Usage()), seconds)


def _spent(usage: Usage, device_s: float) -> dict[str, Any]:
    return {**_usage(usage), "device_seconds": round(device_s, 3)}


def _usage(usage: Usage) -> dict[str, Any]:
    """Money is null where tokens were used and nobody knows their price."""
    usd = 0.0 if usage.usd is None and not usage.tokens else usage.usd
    return {
        "tokens": usage.tokens,
        "tokens_in": usage.tokens_in,
        "tokens_out": usage.tokens_out,
        "tokens_cached": usage.tokens_cached,
        "usd": None if usd is None else round(usd, 6),
        "thinking_seconds": round(usage.seconds, 3),
    }


def _each(usage: Usage, device_s: float, count: int) -> dict[str, Any]:
    whole = _spent(usage, device_s)
    return {
        key: None if whole[key] is None else round(whole[key] / count, 6)
        for key in ("tokens", "usd", "thinking_seconds", "device_seconds")
    }
