"""What tokens cost where an agent does not say: list prices, by the beginning of a model's name.

USD per million tokens: input, input from the cache, output. From the providers' public price
pages, without discounts, batch or long-context tiers; a model that is not listed has no price
(None), never a guess. `[researcher] price` overrides them.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from nightlab.model import Usage

AS_OF = "2026-01"
LIST: dict[str, tuple[float, float, float]] = {
    # openai.com/api/pricing
    "gpt-5.2": (1.75, 0.175, 14.0),
    "gpt-5.1-codex-mini": (0.25, 0.025, 2.0),
    "gpt-5.1": (1.25, 0.125, 10.0),
    "gpt-5-mini": (0.25, 0.025, 2.0),
    "gpt-5-nano": (0.05, 0.005, 0.4),
    "gpt-5-codex": (1.25, 0.125, 10.0),
    "gpt-4.1-mini": (0.4, 0.1, 1.6),
    "gpt-4.1-nano": (0.1, 0.025, 0.4),
    "gpt-4.1": (2.0, 0.5, 8.0),
    # ai.google.dev/gemini-api/docs/pricing
    "gemini-2.5-pro": (1.25, 0.125, 10.0),
    "gemini-2.5-flash-lite": (0.1, 0.01, 0.4),
    "gemini-2.5-flash": (0.3, 0.03, 2.5),
}
_EXACT = {"gpt-5": (1.25, 0.125, 10.0)}  # a prefix of models with prices of their own


def priced(usage: Usage, own: Mapping[str, float]) -> Usage:
    """The usage with its cost where that can be told: by ``own`` prices, the report, the list.

    ``own`` has ``input`` and ``output``, perhaps ``cached``, in USD per million tokens.
    """
    if own:
        rates: tuple[float, float, float] | None = (
            own["input"],
            own.get("cached", own["input"]),
            own["output"],
        )
    elif usage.usd is not None:
        return usage
    else:
        rates = _rates(usage.model.rsplit("/", 1)[-1])
    if rates is None:
        return usage
    fresh = max(0, usage.tokens_in - usage.tokens_cached)
    usd = fresh * rates[0] + usage.tokens_cached * rates[1] + usage.tokens_out * rates[2]
    return msgspec.structs.replace(usage, usd=usd / 1e6)


def _rates(model: str) -> tuple[float, float, float] | None:
    if model in _EXACT:
        return _EXACT[model]
    names = [name for name in LIST if model == name or model.startswith(f"{name}-")]
    return LIST[max(names, key=len)] if names else None
