"""The protocol, by the ``mcp`` package: the tools as it calls them.

Whatever goes wrong in a tool is its result, so that the model that asked reads what to do next;
errors of the protocol are what it wants to be one: a tool that there is not, a message that is
none (https://modelcontextprotocol.io/specification, Server features, Tools, "Error handling").

Imported with the first request: the package takes 0.4 s and 37 MB, more than half of what the
whole manager takes without it.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from mcp.server.caching import CacheHint
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    CancelledNotificationParams,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    ToolAnnotations,
)
from mcp_types import Tool as ToolEntry
from modelpool_client import __version__
from modelpool_client import _calls as calls
from modelpool_client._async_transport import AsyncTransport
from modelpool_client._connection import ONCE
from modelpool_client.errors import InternalError, ModelPoolError
from pydantic import BaseModel
from starlette.requests import Request

from modelpool.asgi import AsgiApp
from modelpool.mcp_server.progress import WHOLE, news
from modelpool.mcp_server.running_calls import RunningCalls
from modelpool.mcp_server.tools import TOOLS
from modelpool.mcp_server.tools.contract import Tool

log = logging.getLogger(__name__)

INSTRUCTIONS = (
    "A pool of AI models on one machine. list_models says which there are; chat, embed, rerank and"
    " transcribe ask one of them, which is loaded first if it is cold; pull_model fetches another."
    " Errors say what to do next."
)
# The tools are those of this version: until a restart, nothing about them changes.
TOOLS_KEEP_MS = 60 * 60 * 1000
LOOK_SECONDS = 0.25
# Of a call that nobody waits for any more.
CANCELLED = ModelPoolError("the call was taken back", code="cancelled", source="client")
# Below warnings they log ids that open sessions, each request, and what is in it.
TALKATIVE = ("mcp", "sse_starlette", "httpx", "httpcore")

Context = ServerRequestContext[Any, Any]


@asynccontextmanager
async def serving(url: str, max_body_bytes: int) -> AsyncIterator[AsgiApp]:
    """What answers ``/mcp`` of the pool at ``url``, by asking that pool. All calls end with the
    context.

    Nothing is kept between requests: most clients never end a session, one of the package's takes
    190 KB, and none would outlive a restart of the manager.
    """
    # A tool's caller decides by itself whether to ask again.
    pool = AsyncTransport(url, retry=ONCE)
    try:
        manager = StreamableHTTPSessionManager(
            _server(pool), stateless=True, max_request_body_size=max_body_bytes
        )
        async with manager.run():
            yield AsgiApp(manager.handle_request)
    finally:
        await pool.close()


def _server(pool: AsyncTransport) -> Server[Any]:
    entries = [entry(tool) for tool in TOOLS.values()]
    schemas = {found.name: found.input_schema for found in entries}
    running = RunningCalls()

    async def list_tools(_: Context, params: PaginatedRequestParams | None) -> ListToolsResult:
        if params is not None and params.cursor is not None:
            raise MCPError(INVALID_PARAMS, "there is one page of tools only; leave cursor out")
        return ListToolsResult(tools=entries)

    async def call_tool(context: Context, params: CallToolRequestParams) -> CallToolResult:
        tool = TOOLS.get(params.name)
        if tool is None:
            text = f"there is no tool {params.name[:200]!r}; these are: {', '.join(TOOLS)}"
            raise MCPError(INVALID_PARAMS, text)
        try:
            wanted = tool.read(params.arguments)
        except ModelPoolError as e:
            return failed(e)
        with running.call(context):
            return await _call(pool, tool, wanted, context)
        return failed(CANCELLED)  # nobody reads it

    async def cancel(context: Context, params: CancelledNotificationParams) -> None:
        running.cancel(context, params.request_id)

    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    server = Server[Any](
        "modelpool",
        title="Model pool",
        version=__version__,
        instructions=INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        get_tool_input_schema=schemas.get,
        cache_hints={"tools/list": CacheHint(TOOLS_KEEP_MS, "public")},
    )
    server.add_notification_handler("notifications/cancelled", CancelledNotificationParams, cancel)
    return server


def entry(tool: Tool[Any, Any]) -> ToolEntry:
    """A tool as clients are told of it."""
    return ToolEntry(
        name=tool.name,
        title=tool.title,
        description=tool.description,
        input_schema=tool.input_schema,
        output_schema=tool.output_schema,
        annotations=ToolAnnotations(
            title=tool.title,
            read_only_hint=tool.is_read_only,
            destructive_hint=tool.is_destructive,
            idempotent_hint=tool.is_idempotent,
            open_world_hint=False,
        ),
    )


async def _call(
    pool: AsyncTransport, tool: Tool[Any, Any], wanted: Any, context: Context
) -> CallToolResult:
    """The tool's result, unless its client leaves: then what was asked of the pool ends, too."""
    result = failed(CANCELLED)
    async with anyio.create_task_group() as group:
        if context.request is not None:
            group.start_soon(_until_left, context.request, group.cancel_scope)
        if tool.may_load and (context.meta or {}).get("progress_token") is not None:
            group.start_soon(_tell_progress, pool, wanted.model, context)
        result = await _outcome(pool, tool, wanted)
        group.cancel_scope.cancel()
    return result


async def _outcome(pool: AsyncTransport, tool: Tool[Any, Any], wanted: BaseModel) -> CallToolResult:
    try:
        result = await tool.run(pool, wanted)
    except ModelPoolError as e:
        return failed(e)
    except Exception as e:
        log.exception("the tool %s failed", tool.name)
        return failed(InternalError(f"{type(e).__name__}: a bug of the pool; its log has more"))
    return CallToolResult(
        content=[TextContent(type="text", text=tool.text(result))],
        structured_content=result.model_dump(mode="json"),
    )


def failed(error: ModelPoolError) -> CallToolResult:
    """An error as a result: its text, and all of it as structured content."""
    structured = error.body()
    retry = ""
    if error.retry_after is not None:
        structured["error"]["retry_after"] = error.retry_after
        retry = f"; try again in {error.retry_after:g} s"
    text = f"{error.message} ({error.code}, from the {error.source}{retry})"
    return CallToolResult(
        content=[TextContent(type="text", text=text)], structured_content=structured, is_error=True
    )


async def _until_left(request: Request, scope: anyio.CancelScope) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


async def _tell_progress(pool: AsyncTransport, model: str, context: Context) -> None:
    """As often as there is something new, until the model answers."""
    last = None
    while last is None or last.progress < WHOLE:
        await anyio.sleep(LOOK_SECONDS)
        try:
            view = await pool.do(calls.model(model))
        except ModelPoolError:  # the call itself will say so
            continue
        told = news(view, last)
        if told is not None:
            last = told
            await context.session.report_progress(told.progress, WHOLE, told.message)
