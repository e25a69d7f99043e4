"""GET /models: which models there are, found and shown as the caller likes."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse
from modelpool_client.errors import InvalidRequest

from modelpool.api.answers import ModelList, ModelView, SomeFields
from modelpool.api.route import ApiRoute
from modelpool.api.schemas import MB, model_view
from modelpool.api.whole_number import WHOLE
from modelpool.catalog.model import Model, did_you_mean
from modelpool.catalog.search import ordered
from modelpool.pool.pool import Pool
from modelpool.pool.states import SHOWN, State
from modelpool.services import Services

# The model manager's words of the second document for our states.
STATES_OF_STATUS = {
    "available": (State.COLD,),
    "loading": (State.WARMING,),
    "loaded": (State.HOT, State.COOLING),
    "unloaded": (State.COLD,),
    # Whatever is not COLD: of ten thousand models a few.
    "awake": tuple(s for s in SHOWN if s is not State.COLD),
}

# Shown where nobody says how many.
PAGE = 100
# Views that are made at a time: the pool answers between two such steps.
STEP = 50

Megabytes = Annotated[float | None, Query(ge=0, le=10**9, description="Of its files, in MB")]


def routes(services: Services) -> APIRouter:
    """The routes of one pool."""
    router = APIRouter(tags=["models"], route_class=ApiRoute)
    pool = services.pool

    @router.get("/models", responses={200: {"model": ModelList | SomeFields}})
    async def list_models(
        engine: str | None = None,
        provider: Annotated[str | None, Query(description="The same as engine")] = None,
        capability: str | None = None,
        tag: str | None = None,
        model_type: str | None = None,
        state: Annotated[
            str | None,
            Query(description="A state, awake for all but COLD, or M2's loaded, available …"),
        ] = None,
        status: Annotated[str | None, Query(description="The same as state")] = None,
        min_size_mb: Megabytes = None,
        max_size_mb: Megabytes = None,
        q: Annotated[str | None, Query(description="A part of a name or tag")] = None,
        sort: Annotated[
            str, Query(description="model_id, size, updated_at …; - first: the greatest first")
        ] = "model_id",
        fields: Annotated[
            str | None, Query(description="Only these of each model, with commas between")
        ] = None,
        limit: Annotated[int, WHOLE, Query(ge=0, description="Most models to show")] = PAGE,
        offset: Annotated[int, WHOLE, Query(ge=0, description="Leave out so many: a page on")] = 0,
    ) -> JSONResponse:
        """Models with their states; ``total`` counts those of all pages, and ``next_offset`` is
        where the next one begins, null after the last."""
        shown = _shown_fields(fields)
        found = services.catalog.list(
            engine=_one_of(engine=engine, provider=provider),
            capability=capability,
            tag=tag,
            model_type=model_type,
            q=q,
            min_size_bytes=_bytes(min_size_mb),
            max_size_bytes=_bytes(max_size_mb),
        )
        wanted = in_state(found, _one_of(state=state, status=status), pool)
        end, capacity = offset + limit, pool.capacity()
        views: list[dict[str, Any]] = []
        for i, model in enumerate(_in_order(wanted, sort)[offset:end]):
            if i % STEP == STEP - 1:
                await asyncio.sleep(0)
            if pool.has(model.model_id):
                view = model_view(pool.status(model.model_id), services, capacity)
                views.append(_only(view, shown))
        next_offset = end if limit and end < len(wanted) else None
        return JSONResponse({"models": views, "total": len(wanted), "next_offset": next_offset})

    return router


def in_state(models: Sequence[Model], word: str | None, pool: Pool) -> Sequence[Model]:
    """Those in a state; None is any. What nothing happens to is COLD, and is not looked at."""
    if word is None:
        return models
    states = STATES_OF_STATUS.get(word.casefold(), (word.upper(),))
    awake = pool.awake_models
    known = {model_id: pool.state(model_id) for model_id in awake}
    return [m for m in models if known.get(pool.replica_id(m.model_id), State.COLD) in states]


def _in_order(models: Sequence[Model], sort: str) -> Sequence[Model]:
    try:
        return models if sort == "model_id" else ordered(models, sort)
    except ValueError as e:
        raise InvalidRequest(f"sort {e}", param="sort") from None


def _one_of(**spellings: str | None) -> str | None:
    """The value of a parameter with two names."""
    given = {name: value for name, value in spellings.items() if value is not None}
    if len(set(given.values())) > 1:
        names = " and ".join(given)
        text = f"{names} contradict each other: two names of one parameter"
        raise InvalidRequest(text, param=next(iter(given)))
    return next(iter(given.values()), None)


def _bytes(megabytes: float | None) -> int | None:
    return None if megabytes is None else int(megabytes * MB)


def _shown_fields(fields: str | None) -> Collection[str] | None:
    if fields is None:
        return None
    known = ModelView.__annotations__
    names = [name.strip() for name in fields.split(",") if name.strip()]
    for name in names:
        if name not in ModelView.__required_keys__:
            raise InvalidRequest(
                f"fields {name[:80]!r} is no field of a model{did_you_mean(name, known)}",
                param="fields",
            )
    return names


def _only(view: ModelView, fields: Collection[str] | None) -> dict[str, Any]:
    values: dict[str, Any] = {**view}
    return values if fields is None else {name: values[name] for name in fields}
