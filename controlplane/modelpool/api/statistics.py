"""What was counted, with what the pool knows of those that it was counted of."""

from __future__ import annotations

from typing import Any

from modelpool.api.schemas import concurrency_view
from modelpool.observe.usage import ModelFacts
from modelpool.pool.pool import Pool
from modelpool.services import Services


def statistics_view(services: Services) -> dict[str, Any]:
    """``GET /statistics``."""
    pool = services.pool
    facts = {m: _facts(m, pool) for m in services.usage.used if pool.has(m)}
    loaded = sum(s.state.is_serving for s in pool.holders)
    return {**services.usage.statistics(facts), "loaded_models": loaded}


def _facts(model_id: str, pool: Pool) -> ModelFacts:
    copies = pool.statuses(model_id)
    model, now = copies[0].model, concurrency_view(copies, pool)
    price = model.metadata.get("cost_per_token")
    has_price = isinstance(price, (int, float)) and not isinstance(price, bool)
    held = sum(pool.reserved_bytes(s.key) for s in copies)
    limit = now["limit"]
    return ModelFacts(
        model.engine,
        float(price) if has_price and price is not None else None,
        {
            "memory": held / pool.config.memory_limit_bytes,
            "concurrency": now["in_flight"] / limit if limit else 0.0,
        },
    )
