"""A passage between a client and a server that are the test."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from modelpool_client.errors import PoolStopping
from modelpool_client.http1.passage import Passage
from modelpool_client.http1.upstream_connection import UpstreamConnection
from support.upstream import chunk, response, stream_head

REQUEST = b"POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n"
END = chunk(b"")


class Wire(asyncio.Transport):
    """To the server."""

    def __init__(self) -> None:
        super().__init__()
        self.is_over = self.is_paused = False

    def write(self, data: Any) -> None: ...

    def abort(self) -> None:
        self.is_over = True

    def is_closing(self) -> bool:
        return self.is_over

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False


class Client:
    """A connection whose buffer is full after ``holds`` writes."""

    since = 0.0
    is_full = False

    def __init__(self, holds: int) -> None:
        self.sent = b""
        self.turn: Any = None
        self._holds = holds

    def now(self) -> float:
        return 0.0

    def begin_passage(self, turn: Any) -> None:
        self.turn = turn

    def send(self, data: bytes) -> None:
        self.sent += data
        self._holds -= 1
        if self._holds == 0:
            self.is_full = True
            self.turn.on_full(True)

    def answered(self, turn: Any) -> None:
        self.turn = None


class Errand:
    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.handed_over = 0
        self.tail = b""

    def answer(self, head: bytes, request_id: bytes, body: bytes) -> bytes:
        return body

    def stream_head(self, headers: Any) -> bytes:
        return b"HEAD"

    def ended(
        self,
        status: int,
        answered_at: float | None,
        sent_bytes: int,
        tail: bytes,
        *,
        has_left: bool,
    ) -> None:
        self.statuses.append(status)
        self.tail = tail

    def hand_over(self, client: Any, reply: Any) -> Any:
        self.handed_over += 1
        raise AssertionError("nothing is left to go on with")


class Scene:
    def __init__(self, holds: int = 1000) -> None:
        self.kept: list[UpstreamConnection] = []
        self.wire, self.errand = Wire(), Errand()
        self.client: Any = Client(holds)
        self.reply = UpstreamConnection(("127.0.0.1", 1), self.kept.append)
        self.reply.connection_made(self.wire)
        errand: Any = self.errand
        self.passage = Passage(self.client, self.reply, errand)
        self.passage.begin(REQUEST)


def play(scene: Callable[[], None]) -> None:
    async def run() -> None:
        scene()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("parts", "holds"),
    [
        ([response(b"{}")], 1),
        ([stream_head() + chunk(b"data: 1\n\n") + END], 1),
        ([stream_head(), chunk(b"data: 1\n\n"), chunk(b"data: 2\n\n") + END], 3),
        ([stream_head(), chunk(b"data: 1\n\n"), END], 3),
    ],
    ids=["whole", "stream at once", "last piece", "end alone"],
)
def test_a_client_that_the_end_fills_does_not_stop_the_server_connection(
    parts: list[bytes], holds: int
) -> None:
    """It is another's by then, who would wait for ever."""

    def scene() -> None:
        it = Scene(holds)
        for part in parts:
            it.reply.data_received(part)
        assert it.client.is_full
        assert it.kept == [it.reply]
        assert not it.wire.is_paused
        assert it.errand.statuses == [200]

    play(scene)


def test_what_is_cut_after_its_client_has_left_is_left_alone() -> None:
    """Who has sent its end is gone, while the rest of the answer may be on its way for long."""

    def scene() -> None:
        it = Scene()
        it.reply.data_received(stream_head() + chunk(b"data: 1\n\n"))
        it.passage.on_gone()
        it.passage.stop(PoolStopping("the pool is shutting down"))
        assert it.errand.statuses == [200]
        assert not it.errand.handed_over

    play(scene)


@pytest.mark.parametrize(
    ("parts", "tail"),
    [
        ([response(b"{}")], b""),
        ([stream_head(), END], b""),
        ([stream_head() + chunk(b"a") + END], b"\na"),
        ([stream_head() + chunk(b"a"), chunk(b"b"), chunk(b"c") + END], b"\nabc"),
        ([stream_head(), *(chunk(b"%d" % n) for n in range(10)), END], b"23456789"),
        # What a slow client lets come at once is not kept beside, and no more is looked at than an
        # error takes.
        (
            [stream_head(), *(chunk(b"%d" % n * 32768) for n in range(10)), END],
            b"9" * 16384,
        ),
        (
            [stream_head(), *(chunk(b"%d" % n * 8000) for n in range(10)), END],
            b"7" * 8000 + b"8" * 8000 + b"9" * 8000,
        ),
    ],
)
def test_the_end_of_a_stream_is_told(parts: list[bytes], tail: bytes) -> None:
    def scene() -> None:
        it = Scene()
        for part in parts:
            it.reply.data_received(part)
        assert it.errand.statuses == [200]
        assert it.errand.tail == tail

    play(scene)
