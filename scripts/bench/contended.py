"""An engine whose requests slow each other down in a way that is known, for searches of a limit.

All that is at work goes on at one speed, which depends on how much there is; a request is a first
token and a rest, whose work varies. It says nothing of its slots, so that the pool has to find out.
Plugged in as ``bench.engine`` is.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import uvloop
from modelpool_client.surfaces.schema import Schema
from modelpool_worker.engine import Engine, EngineJob, Status, Usable

NAME = "contended"
LINEAR, COLLAPSING, FLAT = "linear", "collapsing", "flat"
# Alone, in seconds: the first token, then the rest; and how much both vary.
FIRST_TOKEN, REST, SPREAD = 0.06, 0.14, 0.3
# Between two looks whether a client has left.
GONE_SECONDS = 0.05

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_TOKEN = b'data: {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": null}]}\n\n'
_LAST = b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\n'
_END = b"data: [DONE]\n\n"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def speed_of(kind: str, knee: int) -> Callable[[int], float]:
    """PURE. The speed of each of so many at work, 1 where it is alone: all alone up to ``knee`` of
    them and none beyond (linear), the slower together the more there are beyond it (collapsing), or
    all together as fast as one (flat)."""
    if kind == FLAT:
        return lambda n: 1.0 / n
    if kind == LINEAR:
        return lambda n: 1.0
    return lambda n: 1.0 if n <= knee else (knee / n) ** 2


class SharedWork:
    """What is at work, at the speed that is shared; at most ``slots`` at a time, others wait."""

    def __init__(self, speed: Callable[[int], float], slots: int | None) -> None:
        self._speed = speed
        self._places = asyncio.Semaphore(slots) if slots is not None else None
        self._attained = 0.0  # by one at work since the beginning
        self._at = 0.0
        self._due: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()
        self._timer: asyncio.TimerHandle | None = None

    async def place(self) -> None:
        """Wait for a slot."""
        if self._places is not None:
            await self._places.acquire()

    def leave(self) -> None:
        """Give it back."""
        if self._places is not None:
            self._places.release()

    async def do(self, seconds: float) -> None:
        """Work that takes so long alone."""
        loop = asyncio.get_running_loop()
        self._go_on(loop.time())
        done = loop.create_future()
        heapq.heappush(self._due, (self._attained + seconds, next(self._numbers), done))
        self._set_timer(loop)
        try:
            await done
        finally:  # its client may have left
            if not done.done() or done.cancelled():
                self._forget(done)

    def _forget(self, done: asyncio.Future[None]) -> None:
        loop = asyncio.get_running_loop()
        self._go_on(loop.time())
        self._due = [each for each in self._due if each[2] is not done]
        heapq.heapify(self._due)
        self._set_timer(loop)

    def _go_on(self, now: float) -> None:
        if self._due:
            self._attained += (now - self._at) * self._speed(len(self._due))
        self._at = now

    def _set_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._due:
            left = (self._due[0][0] - self._attained) / self._speed(len(self._due))
            self._timer = loop.call_later(max(left, 0.0), self._ring)

    def _ring(self) -> None:
        loop = asyncio.get_running_loop()
        self._go_on(loop.time())
        while self._due and self._due[0][0] <= self._attained + 1e-4:
            done = heapq.heappop(self._due)[2]
            if not done.done():
                done.set_result(None)
        self._set_timer(loop)


class ContendedEngine(Engine):
    """Its source is not read."""

    name = NAME
    formats = ("none",)
    capabilities = ("chat", "streaming")
    options: ClassVar[Mapping[str, Schema]] = {
        "kind": {"type": "string", "enum": [LINEAR, COLLAPSING, FLAT]},
        "knee": {"type": "integer", "minimum": 1},
        "scale": {"type": "number", "description": "of the work; 1: 0.2 s for a request alone"},
    }

    def probe(self) -> Usable:
        return Usable(True)

    def serve(self, job: EngineJob, status: Status) -> None:
        uvloop.run(_serve(job.socket, job.options, status))


async def _serve(path: str, options: Mapping[str, Any], status: Status) -> None:
    kind, knee = options["kind"], options["knee"]
    shared = SharedWork(speed_of(kind, knee), knee if kind == LINEAR else None)
    lots, scale = random.Random(1), options.get("scale", 1.0)

    def draw(mean: float) -> float:
        return float(mean * scale * lots.lognormvariate(0.0, SPREAD))

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                found = _LENGTH.search(head)
                await reader.readexactly(int(found[1]) if found else 0)
                answering = asyncio.ensure_future(_answer(writer, shared, draw))
                left = asyncio.ensure_future(_until_gone(reader, answering))
                await asyncio.wait({answering})
                left.cancel()
                if answering.cancelled():
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()

    await asyncio.start_unix_server(answer, path, backlog=1024)
    status.ready(context_length=4096)
    await asyncio.Event().wait()


async def _until_gone(reader: asyncio.StreamReader, answering: asyncio.Task[None]) -> None:
    """A front sends no second request before it has the answer: what comes is the end."""
    while not reader.at_eof():  # noqa: ASYNC110 - a pending read could not be taken back
        await asyncio.sleep(GONE_SECONDS)
    answering.cancel()


async def _answer(
    writer: asyncio.StreamWriter, shared: SharedWork, draw: Callable[[float], float]
) -> None:
    await shared.place()
    try:
        await shared.do(draw(FIRST_TOKEN))
        writer.write(_HEAD + _chunk(_TOKEN))
        await shared.do(draw(REST))
    finally:
        shared.leave()
    writer.write(_chunk(_TOKEN) + _chunk(_LAST) + _chunk(_END) + b"0\r\n\r\n")


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def plug_in(folder: Path) -> None:
    """Make ``folder``, once it is on the path, bring this engine."""
    info = folder / "modelpool_bench_contended-1.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    metadata = "Metadata-Version: 2.1\nName: modelpool-bench-contended\nVersion: 1\n"
    (info / "METADATA").write_text(metadata, encoding="ascii")
    entry = f"[modelpool.engines]\n{NAME} = bench.contended:ContendedEngine\n"
    (info / "entry_points.txt").write_text(entry, encoding="ascii")
