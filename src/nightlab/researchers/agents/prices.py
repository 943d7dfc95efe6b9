"""What tokens cost where an agent does not say: list prices, by a model's exact name.

USD per million tokens: input, input from the cache, output. The providers' list prices of
November 2026, taken from the price tables that LiteLLM and pi ship; no discounts, batch or
long-context tiers. A model that is not listed has no price (None), never a guess. What
``[researcher] price`` says comes before all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from nightlab.model import Usage

LIST: dict[str, tuple[float, float, float]] = {
    "gpt-5.5": (5.0, 0.5, 30.0),
    "gpt-5.4": (2.5, 0.25, 15.0),
    "gpt-5.4-mini": (0.75, 0.075, 4.5),
    "gpt-5.3-codex": (1.75, 0.175, 14.0),
    "gpt-5.2": (1.75, 0.175, 14.0),
    "gpt-5.2-codex": (1.75, 0.175, 14.0),
    "gpt-5.1": (1.25, 0.125, 10.0),
    "gpt-5.1-codex": (1.25, 0.125, 10.0),
    "gpt-5.1-codex-mini": (0.25, 0.025, 2.0),
    "gpt-5": (1.25, 0.125, 10.0),
    "gpt-5-codex": (1.25, 0.125, 10.0),
    "gpt-5-mini": (0.25, 0.025, 2.0),
    "gpt-5-nano": (0.05, 0.005, 0.4),
    "gpt-4.1": (2.0, 0.5, 8.0),
    "gpt-4.1-mini": (0.4, 0.1, 1.6),
    "gpt-4.1-nano": (0.1, 0.025, 0.4),
    "gemini-3.1-pro": (2.0, 0.2, 12.0),
    "gemini-3-flash": (0.5, 0.05, 3.0),
    "gemini-2.5-pro": (1.25, 0.125, 10.0),
    "gemini-2.5-flash": (0.3, 0.03, 2.5),
    "gemini-2.5-flash-lite": (0.1, 0.01, 0.4),
    "claude-opus-4-5": (5.0, 0.5, 25.0),
    "claude-sonnet-4-5": (3.0, 0.3, 15.0),
}
# A name may come with its provider before it, and with its date behind.
_NAME = re.compile(r"(?:.*/)?(.+?)(?:-\d{4}-?\d{2}-?\d{2}|-preview|-latest)?")


def priced(usage: Usage, own: Mapping[str, float]) -> Usage:
    """The usage with its cost where that can be told: by ``own`` prices, the report, the list.

    ``own`` has ``input`` and ``output``, perhaps ``cached``, in USD per million tokens.
    """
    rates: tuple[float, float, float] | None
    if own:
        rates = own["input"], own.get("cached", own["input"]), own["output"]
    elif usage.usd is not None:
        return usage
    else:
        found = _NAME.fullmatch(usage.model)
        rates = LIST.get(found[1]) if found else None
    if rates is None:
        return usage
    fresh = max(0, usage.tokens_in - usage.tokens_cached)
    usd = fresh * rates[0] + usage.tokens_cached * rates[1] + usage.tokens_out * rates[2]
    return msgspec.structs.replace(usage, usd=usd / 1e6)
