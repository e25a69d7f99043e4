"""Tools that load and unload."""

from __future__ import annotations

from typing import Annotated

from modelpool_client import _calls as calls
from modelpool_client._async_transport import AsyncTransport
from pydantic import BaseModel, Field

from modelpool.mcp_server.tools.contract import ARGUMENTS, ModelName, Tool
from modelpool.mcp_server.tools.views import ModelStatus, status

LONGEST_WAIT_SECONDS = 3600  # the management API's own limit


class LoadArguments(BaseModel):
    """Which model, and how long to wait for it."""

    model_config = ARGUMENTS
    model: ModelName
    wait_seconds: Annotated[float, Field(ge=0, le=LONGEST_WAIT_SECONDS)] = Field(
        calls.DEFAULT_WAIT,
        description="How long to wait until it is loaded; 0: begin the load and return at once."
        " The load goes on when this is over",
    )


class UnloadArguments(BaseModel):
    """Which model, and whether to wait for its end."""

    model_config = ARGUMENTS
    model: ModelName
    wait: bool = Field(True, description="Return when its memory is back, not at once")


async def _load(pool: AsyncTransport, wanted: LoadArguments) -> ModelStatus:
    return status(await pool.do(calls.load(wanted.model, wanted.wait_seconds)))


async def _unload(pool: AsyncTransport, wanted: UnloadArguments) -> ModelStatus:
    return status(await pool.do(calls.unload(wanted.model, force=False, wait=wanted.wait)))


def _is_now(told: ModelStatus) -> str:
    where = f" at {told.endpoint}" if told.endpoint else ""
    return f"{told.model} is {told.state}{where}: {told.reason}"


TOOLS = (
    Tool(
        "load_model",
        "Load a model",
        "Load a model into memory and wait until it answers; others that are idle may have to"
        " leave for it. Not needed before chat and the like, which load what they ask.",
        LoadArguments,
        ModelStatus,
        _load,
        _is_now,
        may_load=True,
    ),
    Tool(
        "unload_model",
        "Unload a model",
        "Give a model's memory back. Requests under way end first; models that are protected"
        " (warm-up, pinned) stay and the answer says so. It is loaded again when it is asked.",
        UnloadArguments,
        ModelStatus,
        _unload,
        _is_now,
        is_destructive=True,
    ),
)
