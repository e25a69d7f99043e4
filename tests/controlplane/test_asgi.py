"""The bridge to the management API: any ASGI application, as an ASGI server runs it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from modelpool.asgi import AsgiApp, Receive, Scope, Send
from modelpool_client.errors import PoolRestarting
from modelpool_client.http1.exchange import Exchange
from starlette.responses import StreamingResponse
from support.upstream import Client

START = {
    "type": "http.response.start",
    "status": 201,
    "headers": [(b"X-Own", b"1"), (b"Content-Length", b"4")],
}


class Bridge:
    """An application behind the bridge; it is shown the path, the headers and the body."""

    def __init__(self, app: Any) -> None:
        self._app = AsgiApp(app)
        self.exchange: Exchange | None = None

    async def __call__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        body = await exchange.read_body(1000)
        await self._app(exchange, "/tidy", exchange.request.headers, body)


def test_what_the_application_sees() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen = {k: scope[k] for k in ("type", "method", "path", "query_string", "http_version")}
        assert seen == {
            "type": "http",
            "method": "POST",
            "path": "/tidy",
            "query_string": b"a=%20b",
            "http_version": "1.1",
        }
        assert (b"x-mine", b"1") in scope["headers"]
        assert await receive() == {"type": "http.request", "body": b"abc", "more_body": False}
        await send(START)
        await send({"type": "http.response.body", "body": b"done"})
        assert await receive() == {"type": "http.disconnect"}

    client = Client(b"abc", path="//tidy?a=%20b", headers=[(b"X-Mine", b"1")])
    asyncio.run(client.ask(Bridge(app)))
    assert (client.status, client.text, client.is_complete) == (201, b"done", True)
    headers = dict(client.answer_headers)
    assert headers.pop("x-request-id")
    assert headers == {"x-own": "1", "content-length": "4"}


@pytest.mark.parametrize("length", [None, 6])
def test_an_answer_in_pieces(length: int | None) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        fields = [(b"content-length", b"%d" % length)] if length is not None else []
        await send({**START, "headers": fields})
        for piece in (b"one", b"", b"two"):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})

    client = Client()
    asyncio.run(client.ask(Bridge(app)))
    assert (client.text, client.is_complete) == (b"onetwo", True)
    expected = ("transfer-encoding", "chunked") if length is None else ("content-length", "6")
    assert expected in client.answer_headers.items()


def test_who_leaves_ends_no_change_in_the_middle() -> None:
    async def main() -> None:
        done: list[Any] = []
        client = Client()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            client.gone.set()
            done.append((await receive())["type"])
            await asyncio.sleep(0.01)
            await send(START)
            await send({"type": "http.response.body", "body": b"nobody reads it"})
            done.append("changed")

        await client.ask(Bridge(app))
        assert done == ["http.disconnect", "changed"]
        assert client.sent == []

    asyncio.run(main())


@pytest.mark.parametrize("has_begun", [False, True])
def test_what_is_cut_off_is_told_or_breaks_off(has_begun: bool) -> None:
    async def main() -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if has_begun:
                await send({**START, "headers": [(b"content-type", b"text/event-stream")]})
            assert bridge.exchange is not None
            bridge.exchange.stop(PoolRestarting("later", retry_after=1))
            await asyncio.Event().wait()

        bridge = Bridge(app)
        client = await Client().ask(bridge)
        if has_begun:
            assert (client.status, client.is_complete, client.text) == (201, False, b"")
        else:
            assert (client.status, client.error["message"]) == (503, "later")

    asyncio.run(main())


def test_a_slow_reader_is_waited_for() -> None:
    async def main() -> None:
        sent: list[int] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send({**START, "headers": []})
            assert bridge.exchange is not None
            bridge.exchange.on_full(True)
            asyncio.get_running_loop().call_later(0.05, bridge.exchange.on_full, False)
            for n in range(3):
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
                sent.append(n)
                assert not bridge.exchange.is_full
            await send({"type": "http.response.body"})

        bridge = Bridge(app)
        assert (await Client().ask(bridge)).text == b"xxx"
        assert sent == [0, 1, 2]

    asyncio.run(main())


def test_a_silent_stream_of_starlettes_ends_with_its_client() -> None:
    """As that of the events, which may have nothing to send for hours."""
    ended = []

    async def endless() -> AsyncIterator[bytes]:
        yield b"first"
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def scene() -> None:
        client = Client(b"")
        client.on_send = lambda message: client.gone.set() if "body" in message else None
        asking = asyncio.ensure_future(client.ask(Bridge(StreamingResponse(endless()))))
        for _ in range(200):
            await asyncio.sleep(0)
        assert ended == [True]
        await asking

    asyncio.run(scene())
