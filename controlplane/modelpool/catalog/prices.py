"""PURE. What requests cost, by the prices that the catalog has for their model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MILLION = 1_000_000
DOLLARS = "USD"


def cost_of(
    prices: Mapping[str, Any], *, requests: int, prompt: int, cached: int, completion: int
) -> float:
    """In the currency of ``prices``, which are of a million tokens (``input``, ``output``,
    ``cached_input``, else as ``input``) and of a ``request``; what has none costs nothing. The
    ``cached`` tokens are part of the ``prompt``."""
    fresh = _number(prices.get("input"))
    known = prices.get("cached_input")
    kept = fresh if known is None else _number(known)
    tokens = (prompt - cached) * fresh + cached * kept + completion * _number(prices.get("output"))
    return tokens / MILLION + requests * _number(prices.get("request"))


def currency_of(prices: Mapping[str, Any]) -> str:
    """As declared, else dollars."""
    named = prices.get("currency")
    return named if isinstance(named, str) and named else DOLLARS


def _number(value: object) -> float:
    is_price = isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0
    return float(value) if is_price else 0.0  # type: ignore[arg-type]
