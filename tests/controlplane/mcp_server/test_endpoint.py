"""Who may ask at /mcp and how, before and after the package is there."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from modelpool.mcp_server import endpoint
from modelpool.mcp_server.endpoint import McpEndpoint
from modelpool.mcp_server.sessions import opens_session
from modelpool_client.http1.exchange import Exchange
from support.upstream import Client

LIST = b'{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}'
BEGIN = json.dumps(
    {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "t", "version": "1"},
        },
    }
).encode()
HEADERS = [
    (b"content-type", b"application/json"),
    (b"accept", b"application/json, text/event-stream"),
    (b"mcp-protocol-version", b"2025-11-25"),
]


class House:
    def __init__(self) -> None:
        self.mcp = McpEndpoint("http://127.0.0.1:1", 10**6)

    async def ask(self, body: bytes = LIST, method: str = "POST") -> Client:
        async def handle(exchange: Exchange) -> None:
            await self.mcp(exchange, "/mcp")

        client = Client(method=method, path="/mcp", headers=HEADERS, body=body)
        await client.ask(handle)
        return client


def test_nothing_is_made_for_what_is_refused_or_never_asked() -> None:
    async def run() -> None:
        house = House()
        for method in ("GET", "DELETE", "PATCH"):
            assert (await house.ask(method=method)).status == 405
        assert house.mcp._serving is None
        await house.mcp.close()

    asyncio.run(run())


def test_many_first_requests_make_one_server() -> None:
    async def run() -> None:
        house = House()
        clients = await asyncio.gather(*(house.ask() for _ in range(5)))
        assert [client.status for client in clients] == [200] * 5
        assert all(b"search_models" in client.text for client in clients)
        serving = house.mcp._serving
        await house.ask()
        assert house.mcp._serving is serving
        await house.mcp.close()
        assert len(asyncio.all_tasks()) == 1 + watchers()

    asyncio.run(run())


def watchers() -> int:
    """Tasks of sse-starlette's own, one a loop."""
    return sum("_shutdown_watcher" in str(task.get_coro()) for task in asyncio.all_tasks())


def test_what_cannot_be_made_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    broken: list[Any] = [ImportError("half installed")]
    real = endpoint._import_serving

    def once() -> Any:
        if broken:
            raise broken.pop()
        return real()

    monkeypatch.setattr(endpoint, "_import_serving", once)

    async def run() -> None:
        house = House()
        assert (await house.ask()).status == 500
        assert (await house.ask()).status == 200
        await house.mcp.close()

    asyncio.run(run())


def test_a_session_gets_an_id() -> None:
    async def run() -> None:
        house = House()
        one, other = await house.ask(BEGIN), await house.ask(BEGIN)
        ids = {client.answer_headers["mcp-session-id"] for client in (one, other)}
        assert len(ids) == 2
        assert "mcp-session-id" not in (await house.ask()).answer_headers
        await house.mcp.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("body", "opens"),
    [
        (BEGIN, True),
        (LIST, False),
        (b'{"method": "tools/call", "params": {"prompt": "\\"initialize\\""}}', False),
        (b'{"method": "tools/call", "params": {"prompt": ["initialize"]}}', False),
        (b'["initialize"]', False),
        (b'{"initialize"', False),
        (b'"initialize"' + b"[" * 100_000, False),
        (b"", False),
    ],
)
def test_what_opens_a_session(body: bytes, opens: bool) -> None:
    assert opens_session(body) is opens
