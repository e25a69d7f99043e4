"""POST /models/find_best: which model suits a purpose, and why not the others."""

from __future__ import annotations

import asyncio
import itertools
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from modelpool.api.answers import Findings, Found
from modelpool.api.route import ApiRoute
from modelpool.api.schemas import in_mb
from modelpool.catalog.find_best import BestFinder, Candidate, Facts, read_wanted
from modelpool.catalog.model import Model
from modelpool.services import Services

# Models that are looked at in a time: the pool answers between two such steps.
STEP = 50
# Of so many, the largest, an answer says why they will not do.
TOLD = 300

Gigabytes = Annotated[float, Field(ge=0, le=10**6)]
Words = Annotated[list[str], Field(max_length=100)]


class FindBody(BaseModel):
    """What the model must be; GB are of 1000 MB. ``min_memory_gb`` is read as a maximum."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
    model_type: str | None = None
    max_memory_gb: Gigabytes | None = None
    min_memory_gb: Gigabytes | None = None
    max_latency_ms: Annotated[float, Field(gt=0)] | None = None
    required_capabilities: Words | None = None
    tags: Words | None = None
    repository: str | None = None


def routes(services: Services) -> APIRouter:
    """The routes of one pool."""
    router = APIRouter(tags=["models"], route_class=ApiRoute)

    @router.post("/models/find_best")
    async def find(body: FindBody) -> Findings:
        """The model that meets the conditions best, the next ones, and of the 300 largest why
        others do not."""
        wanted, warnings = read_wanted(body.model_dump())
        catalog, has = services.catalog, services.pool.has
        known = services.usage.measured() | services.pool.serving_models
        best = BestFinder(
            wanted,
            lambda model, memory: _facts(model, memory, model.model_id in known, services),
            known,
        )
        tagged = catalog.tagged(wanted.tags) if wanted.tags else catalog.heaviest
        models = best.in_order(tagged)
        while some := list(itertools.islice(models, STEP)):
            if best.look(m for m in some if has(m.model_id)):
                break
            await asyncio.sleep(0)
        told = [m for m in itertools.islice(catalog.heaviest, TOLD) if has(m.model_id)]
        findings = best.findings(told)
        return {
            "best": None if findings.best is None else _found(findings.best),
            "runners_up": [_found(c) for c in findings.runners_up],
            "excluded": {name: list(why) for name, why in findings.excluded.items()},
            "warnings": warnings,
        }

    return router


def _facts(model: Model, needs_memory: bool, is_known: bool, services: Services) -> Facts:
    pool = services.pool
    if not pool.has(model.model_id):  # it was deleted in this moment
        return Facts()
    size = pool.requirements(model.model_id).bytes if needs_memory else None
    if not is_known:
        return Facts(size)
    seconds, count = services.usage.latency(model.model_id)
    return Facts(
        size,
        pool.state(model.model_id).is_serving,
        seconds * 1000 if count else None,
        f"average of {count} requests" if count else "",
    )


def _found(candidate: Candidate) -> Found:
    facts = candidate.facts
    return {
        "model_id": candidate.model.model_id,
        "reasons": list(candidate.reasons),
        "memory_mb": in_mb(facts.memory_bytes),
        "latency_ms": None if facts.latency_ms is None else round(facts.latency_ms, 1),
        "is_loaded": facts.is_loaded,
    }
