"""Tools about which models there are and how they are."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal, get_args

from modelpool_client import _calls as calls
from modelpool_client._async_transport import AsyncTransport
from modelpool_client.types import ModelView
from pydantic import BaseModel, Field

from modelpool.mcp_server.tools.contract import ARGUMENTS, ModelName, Tool, Unicode
from modelpool.mcp_server.tools.views import ModelStatus, ModelSummary, status, summary

LARGEST_PAGE = 200
PAGE = 50

WITHOUT_WORKER = ("COLD", "FAILED")
State = Literal["COLD", "WARMING", "HOT", "COOLING", "UNLOADING", "FAILED"]
Limit = Annotated[int, Field(ge=1, le=LARGEST_PAGE, description="Most models to tell of")]
Offset = Annotated[int, Field(ge=0, le=2**31, description="Leave out so many: a page on")]
Word = Annotated[Unicode, Field(min_length=1, max_length=255)]


class ListArguments(BaseModel):
    """Conditions; a model that is listed meets all that are given."""

    model_config = ARGUMENTS
    capability: Word | None = Field(
        None, description="For example chat, completion, embeddings, rerank, vision, speech_to_text"
    )
    state: State | None = None
    engine: Word | None = Field(None, description="For example llama.cpp")
    tag: Word | None = None
    limit: Limit = PAGE
    offset: Offset = 0


class SearchArguments(BaseModel):
    """What to look for."""

    model_config = ARGUMENTS
    query: Word = Field(description="A part of an id, alias, display name or tag, in any case")
    limit: Limit = PAGE
    offset: Offset = 0


class Models(BaseModel):
    """A page of models, by id."""

    models: list[ModelSummary]
    total: int = Field(description="How many there are on all pages")
    next_offset: int | None = Field(description="Where the next page begins; null: no more")


class StatusArguments(BaseModel):
    """Which model."""

    model_config = ARGUMENTS
    model: ModelName


class NoArguments(BaseModel):
    """There is nothing to say."""

    model_config = ARGUMENTS


class Worker(BaseModel):
    """A model that takes memory now."""

    model: str
    state: str
    port: int | None
    in_flight: int
    memory_mb: float | None = Field(description="Measured")


class PoolStatus(BaseModel):
    """The pool in figures. Sizes are in MB of 1,000,000 bytes."""

    status: str = Field(description="healthy, stopping or restarting")
    version: str
    models: int = Field(description="In the catalog")
    states: dict[str, int] = Field(description="How many models are in each state")
    workers: list[Worker]
    memory_reserved_mb: float
    memory_limit_mb: float | None
    available_ports: int


async def _list(pool: AsyncTransport, wanted: ListArguments) -> Models:
    conditions = wanted.model_dump(exclude={"limit", "offset"}, exclude_none=True)
    return await _page(pool, conditions, wanted.limit, wanted.offset)


async def _search(pool: AsyncTransport, wanted: SearchArguments) -> Models:
    return await _page(pool, {"q": wanted.query}, wanted.limit, wanted.offset)


async def _page(
    pool: AsyncTransport, conditions: dict[str, str], limit: int, offset: int
) -> Models:
    views, total = await _found(pool, {**conditions, "limit": str(limit), "offset": str(offset)})
    end = offset + limit
    return Models(
        models=[summary(view) for view in views],
        total=total,
        next_offset=end if end < total else None,
    )


async def _found(pool: AsyncTransport, params: dict[str, str]) -> tuple[list[ModelView], int]:
    """A page of models, and how many there are on all pages."""
    call = replace(calls.models(), params=params)
    document = await pool.fetch(call)
    return call.parse(document), int(document["total"])


async def _model_status(pool: AsyncTransport, wanted: StatusArguments) -> ModelStatus:
    return status(await pool.do(calls.model(wanted.model)))


async def _pool_status(pool: AsyncTransport, _: NoArguments) -> PoolStatus:
    health = await pool.fetch(calls.health())
    states, busy = {}, []
    for state in get_args(State):
        # There are no more workers than ports, and of models without one the number will do.
        limit = 0 if state in WITHOUT_WORKER else LARGEST_PAGE
        views, states[state] = await _found(pool, {"state": state, "limit": str(limit)})
        busy += views
    return PoolStatus(
        status=health["status"],
        version=health["version"],
        models=health["total_models"],
        states=states,
        workers=[
            Worker(
                model=view.model_id,
                state=view.state,
                port=view.port,
                in_flight=view.concurrency.in_flight,
                memory_mb=view.memory_measured_mb,
            )
            for view in busy
        ],
        memory_reserved_mb=health["total_memory_mb"],
        memory_limit_mb=health["memory_limit_mb"],
        available_ports=health["available_ports"],
    )


TOOLS = (
    Tool(
        "list_models",
        "List models",
        "The models of the pool with their state and what they can do, by id. A COLD model can be"
        " used, too: it is loaded when it is asked.",
        ListArguments,
        Models,
        _list,
        is_read_only=True,
    ),
    Tool(
        "search_models",
        "Search models",
        "The models whose id, alias, display name or tag holds a text.",
        SearchArguments,
        Models,
        _search,
        is_read_only=True,
    ),
    Tool(
        "model_status",
        "Status of a model",
        "What a model is doing and why: state, address, lease, requests, memory, how far its load"
        " is, why it failed. Loads nothing.",
        StatusArguments,
        ModelStatus,
        _model_status,
        is_read_only=True,
    ),
    Tool(
        "pool_status",
        "Status of the pool",
        "How many models are in which state, which of them take memory, and what memory and ports"
        " are left.",
        NoArguments,
        PoolStatus,
        _pool_status,
        is_read_only=True,
    ),
)
