"""Identical deterministic requests: one computation, an answer for everybody."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool.gateway.coalesce import (
    BODY_BYTES,
    JOINED_HEADER,
    KEPT_BYTES,
    LAG_BYTES,
    Coalescer,
    SharedAnswer,
    may_share,
)
from modelpool_client.errors import LoadFailed, WorkerFailed
from modelpool_client.http1.exchange import Exchange
from modelpool_client.http1.timeouts import Timeouts
from support.upstream import Client
from support.virtual_time import run_virtual

KEY = ("m", "/v1/completions", b"", "normal", b"{}")
EVENTS = [(b"content-type", b"text/event-stream")]
Compute = Callable[[SharedAnswer], Awaitable[None]]


class Scene:
    """A coalescer, and clients that all ask for the same."""

    def __init__(self, compute: Compute, *, is_stream: bool = True) -> None:
        self.compute = compute
        self.is_stream = is_stream
        self.computed = 0
        self.joined: list[str] = []
        self.coalescer = Coalescer(self.joined.append)

    async def _compute(self, answer: SharedAnswer) -> None:
        self.computed += 1
        await self.compute(answer)

    async def handle(self, exchange: Exchange) -> None:
        await self.coalescer.answer(KEY, exchange, self._compute, is_stream=self.is_stream)

    def ask(self, client: Client | None = None, **times: float) -> asyncio.Task[Client]:
        asking = (client or Client(b"{}")).ask(self.handle, Timeouts(**times))
        return asyncio.ensure_future(asking)

    def assert_idle(self) -> None:
        assert "0 computations" in repr(self.coalescer)


async def tokens(answer: SharedAnswer, count: int = 5) -> None:
    """One a second."""
    answer.begin(200, EVENTS)
    for number in range(count):
        await asyncio.sleep(1)
        answer.write(b"data: %d\n\n" % number)
    answer.end()


WHOLE = b"".join(b"data: %d\n\n" % number for number in range(5))


@pytest.mark.parametrize(
    ("how", "data", "options", "is_shared"),
    [
        ("deterministic", {}, {}, False),
        ("deterministic", {"temperature": 0}, {}, True),
        ("deterministic", {"temperature": 0.0}, {}, True),
        ("deterministic", {"temperature": 0.1}, {}, False),
        ("deterministic", {"temperature": None}, {}, False),
        ("deterministic", {"seed": 0}, {}, True),
        ("deterministic", {"seed": 7, "temperature": 1}, {}, True),
        ("deterministic", {"seed": None}, {}, False),
        ("deterministic", {}, {"temperature": 0}, True),
        ("deterministic", {"temperature": 1}, {"temperature": 0}, False),
        ("deterministic", {"temperature": None}, {"temperature": 0}, True),
        ("deterministic", {}, {"seed": 1}, True),
        ("identical", {}, {}, True),
        ("off", {"seed": 1, "temperature": 0}, {}, False),
    ],
)
def test_what_is_shared(how: Any, data: Any, options: Any, is_shared: bool) -> None:
    assert may_share(how, b"{}", data, options) is is_shared
    assert not may_share(how, b" " * (BODY_BYTES + 1), data, options)


def test_a_hundred_share_one_computation_whenever_they_come() -> None:
    async def scene() -> None:
        s = Scene(tokens)
        asking = []
        for number in range(100):
            asking.append(s.ask())
            await asyncio.sleep(0.04)
            assert s.computed == 1, number
        clients = await asyncio.gather(*asking)
        assert {client.text for client in clients} == {WHOLE}
        assert all(client.is_complete for client in clients)
        name = JOINED_HEADER[0].decode()
        assert [name in client.answer_headers for client in clients] == [False, *[True] * 99]
        assert s.joined == ["m"] * 99
        s.assert_idle()
        assert (await s.ask()).text == WHOLE
        assert s.computed == 2, "what has ended is not kept"

    run_virtual(scene())


def test_a_whole_answer_keeps_its_length() -> None:
    async def compute(answer: SharedAnswer) -> None:
        answer.headers.append((b"x-modelpool-ignored", b"num_ctx"))
        await asyncio.sleep(1)
        answer.send(418, [(b"x-own", b"kept")], b"short and stout")

    async def scene() -> None:
        s = Scene(compute, is_stream=False)
        for client in await asyncio.gather(s.ask(), s.ask()):
            assert (client.status, client.text) == (418, b"short and stout")
            assert client.answer_headers["content-length"] == "15"
            assert client.answer_headers["x-own"] == "kept"
            assert client.answer_headers["x-modelpool-ignored"] == "num_ctx"

    run_virtual(scene())


@pytest.mark.parametrize("leaver", [0, 1])
def test_who_leaves_does_not_end_it_for_the_rest(leaver: int) -> None:
    async def scene() -> None:
        s = Scene(tokens)
        clients = [Client(b"{}"), Client(b"{}")]
        asking = [s.ask(client) for client in clients]
        await asyncio.sleep(2.5)
        clients[leaver].gone.set()
        await asyncio.gather(*asking)
        assert clients[1 - leaver].text == WHOLE
        assert clients[leaver].text == WHOLE[:18]
        s.assert_idle()

    run_virtual(scene())


def test_it_ends_with_the_last_who_waits_and_the_next_begins_anew() -> None:
    ended = []

    async def compute(answer: SharedAnswer) -> None:
        try:
            await tokens(answer)
        except asyncio.CancelledError:
            ended.append(asyncio.get_running_loop().time())
            raise

    async def scene() -> None:
        s = Scene(compute)
        clients = [Client(b"{}"), Client(b"{}")]
        asking = [s.ask(client) for client in clients]
        await asyncio.sleep(2.5)
        clients[0].gone.set()
        await asyncio.sleep(1)
        assert not ended
        clients[1].gone.set()
        await asyncio.gather(*asking)
        await asyncio.sleep(0)
        assert ended == [3.5]
        s.assert_idle()
        assert (await s.ask()).text == WHOLE
        assert s.computed == 2

    run_virtual(scene())


def test_all_are_told_what_went_wrong() -> None:
    async def refuse(answer: SharedAnswer) -> None:
        await asyncio.sleep(1)
        raise LoadFailed("m: no such file", code="bad_file")

    async def break_off(answer: SharedAnswer) -> None:
        answer.begin(200, EVENTS)
        answer.write(b"data: 0\n\n")
        await asyncio.sleep(1)
        raise WorkerFailed("the worker died")

    async def bug(answer: SharedAnswer) -> None:
        await asyncio.sleep(1)
        raise RuntimeError("of ours")

    async def scene() -> None:
        s = Scene(refuse)
        for client in await asyncio.gather(s.ask(), s.ask()):
            assert client.error["code"] == "bad_file"
        s = Scene(break_off)
        for client in await asyncio.gather(s.ask(), s.ask()):
            assert client.text.startswith(b"data: 0\n\n")
            assert b"the worker died" in client.text
        s = Scene(bug)
        for client in await asyncio.gather(s.ask(), s.ask()):
            assert (client.status, client.error["source"]) == (500, "pool")
        s.assert_idle()

    run_virtual(scene())


def test_an_error_after_comments_is_told_within_the_stream() -> None:
    error = json.dumps({"error": {"message": "too long", "code": "context_exceeded"}}).encode()

    async def compute(answer: SharedAnswer) -> None:
        answer.wait_reason = lambda: "m is WARMING"
        await asyncio.sleep(10)
        answer.send(400, [(b"content-type", b"application/json")], error)

    async def scene() -> None:
        s = Scene(compute)
        for client in await asyncio.gather(s.ask(stream_ping=4), s.ask(stream_ping=4)):
            assert client.status == 200
            assert client.text.startswith(b": m is WARMING\n\n")
            assert b"too long" in client.text
            assert client.is_complete

    run_virtual(scene())


def test_a_slow_reader_holds_nobody_up_and_the_answer_not_for_ever() -> None:
    pieces = 40
    piece = b"x" * (LAG_BYTES // 8)
    sent: list[float] = []

    async def compute(answer: SharedAnswer) -> None:
        may_go_on = asyncio.Event()
        may_go_on.set()

        class Upstream:
            pause, resume = staticmethod(may_go_on.clear), staticmethod(may_go_on.set)

        answer.source = Upstream()
        answer.begin(200, EVENTS)
        for _ in range(pieces):
            await may_go_on.wait()
            answer.write(piece)
            sent.append(asyncio.get_running_loop().time())
            await asyncio.sleep(0.01)
        answer.end()

    async def scene() -> None:
        slow = Client(b"{}")
        exchanges: list[Exchange] = []
        s = Scene(compute)

        async def slowly(exchange: Exchange) -> None:
            exchanges.append(exchange)
            exchange.on_full(True)
            await s.handle(exchange)

        taking = asyncio.ensure_future(slow.ask(slowly))
        fast = s.ask()
        await asyncio.sleep(5)
        assert 8 <= len(sent) <= 10, "one lag and no more"
        assert s.computed == 1
        exchanges[0].on_full(False)
        await asyncio.gather(fast, taking)
        assert len(fast.result().text) == len(slow.text) == pieces * len(piece) > KEPT_BYTES

    run_virtual(scene())


def test_of_a_long_answer_the_begin_is_not_kept_and_nobody_joins() -> None:
    piece = b"x" * (KEPT_BYTES // 4)

    async def compute(answer: SharedAnswer) -> None:
        answer.begin(200, EVENTS)
        for _ in range(8):
            answer.write(piece)
            await asyncio.sleep(1)
        answer.end()

    async def scene() -> None:
        s = Scene(compute)
        first = s.ask()
        await asyncio.sleep(6.5)
        second = s.ask()
        await asyncio.gather(first, second)
        assert s.computed == 2
        assert first.result().text == second.result().text == piece * 8
        s.assert_idle()

    run_virtual(scene())


@given(
    st.lists(st.binary(min_size=1, max_size=30), max_size=12),
    st.lists(st.tuples(st.integers(0, 14), st.integers(0, 14) | st.none()), min_size=1, max_size=8),
)
def test_everybody_reads_the_same_or_its_begin(
    pieces: Sequence[bytes], clients: Sequence[tuple[int, int | None]]
) -> None:
    """Clients come after so many seconds, and some leave after so many."""

    async def compute(answer: SharedAnswer) -> None:
        answer.begin(200, EVENTS)
        for piece in pieces:
            await asyncio.sleep(1)
            answer.write(piece)

    async def one(s: Scene, comes: int, leaves: int | None) -> None:
        client = Client(b"{}")
        await asyncio.sleep(comes + 0.5)
        asking = s.ask(client)
        if leaves is not None:
            await asyncio.sleep(leaves)
            client.gone.set()
        await asking
        whole = b"".join(pieces)
        if leaves is None:
            assert client.text == whole
            assert client.is_complete
        else:
            assert whole.startswith(client.text)

    async def scene() -> None:
        s = Scene(compute)
        await asyncio.gather(*(one(s, *times) for times in clients))
        await asyncio.sleep(0)
        s.assert_idle()
        assert len(asyncio.all_tasks()) == 1

    run_virtual(scene())
