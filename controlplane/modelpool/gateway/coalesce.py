"""Identical deterministic requests share one computation, as calls do in Go's singleflight.

A computation runs in a task of its own, for no client in particular: whoever asks for it, the first
one too, reads what it has answered so far and then what comes. It ends with its answer, or when
nobody waits for that any more.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from modelpool_client.errors import InternalError, ModelPoolError
from modelpool_client.http1.exchange import Source
from modelpool_client.http1.message import Headers
from modelpool_client.http1.request_ids import REQUEST_ID

from modelpool.catalog.model import Coalescing
from modelpool.gateway.attempt import Outlet
from modelpool.gateway.errors import as_error

log = logging.getLogger(__name__)

# To find what is identical costs a millisecond for each megabyte.
BODY_BYTES = 1 << 20
# Who joins is given the answer from its begin on; of a longer one that is not kept.
KEPT_BYTES = 1 << 20
# As far may its slowest reader be behind before the answer itself has to wait.
LAG_BYTES = 1 << 20
JOINED_HEADER = (b"x-modelpool-coalesced", b"joined")

# Model, path, query, priority, body.
Key: TypeAlias = tuple[str, str, bytes, str, bytes]
Compute: TypeAlias = "Callable[[SharedAnswer], Awaitable[None]]"


def may_share(
    how: Coalescing, body: bytes, data: Mapping[str, Any], options: Mapping[str, Any]
) -> bool:
    """PURE. Whether a request with that ``body``, which says those ``data``, may be given the
    answer of another that is the same.

    Deterministic is what names a seed or a temperature of 0, or leaves it to load ``options`` that
    do; nobody could tell that it was not computed for him.
    """
    if len(body) > BODY_BYTES:
        return False
    if how == "deterministic":
        return (
            _given("seed", data, options) is not None or _given("temperature", data, options) == 0
        )
    return how == "identical"


def _given(name: str, data: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
    value = data.get(name)
    return options.get(name) if value is None else value


class SharedAnswer:
    """An answer while it is computed. What ``gateway.relay`` needs of an exchange, for many.

    Attributes:
        headers: go with the answer.
        status: of the answer; 0 until it has begun.
        source: is paused while the slowest reader is too far behind.
        wait_reason: says in a silent stream's comments what is waited for.
        broken: what its stream has said went wrong; None: nothing.
    """

    def __init__(self) -> None:
        self.headers: Headers = []
        self.status = 0
        self.source: Source | None = None
        self.wait_reason: Callable[[], str] | None = None
        self.is_full = False
        self.has_ended = False
        self.error: ModelPoolError | None = None
        self.broken: ModelPoolError | None = None
        self._own: Headers = []
        self._length: int | None = None
        self._pieces: deque[bytes] = deque()
        self._dropped = 0  # pieces that are not kept any more
        self._size = 0
        self._readers: dict[Outlet, _Reader] = {}

    def __repr__(self) -> str:
        return f"<SharedAnswer {self.status}, {self._size:,} bytes, {len(self._readers)} readers>"

    @property
    def is_complete(self) -> bool:
        """Nothing comes any more."""
        return self.has_ended or self.error is not None

    @property
    def may_be_joined(self) -> bool:
        """All that it has answered is still there."""
        return not self._dropped and not self.error

    # -- for who computes -------------------------------------------------------------------------

    def send(self, status: int, headers: Headers, body: bytes) -> None:
        """A whole answer."""
        self.begin(status, headers, len(body))
        self.write(body)
        self.end()

    def begin(self, status: int, headers: Headers, length: int | None = None) -> None:
        """An answer that comes in pieces, of ``length`` bytes if that is known."""
        own = [pair for pair in headers if pair[0] != REQUEST_ID]  # each reader has another
        self.status, self._own, self._length = status, own, length
        self._wake()

    def pass_comments(self, headers: Headers, data: bytes) -> None:
        """Nothing: each of its readers is told in comments of its own what is waited for."""

    def write(self, data: bytes) -> None:
        """The next piece."""
        self._pieces.append(data)
        self._size += len(data)
        self._wake()
        self._look_back()

    def end(self) -> None:
        """It is complete."""
        if not self.is_complete:
            self.has_ended = True
            self._wake()

    def fail(self, error: ModelPoolError) -> None:
        """It breaks off here."""
        if not self.is_complete:
            self.error = error
            self._wake()

    # -- for who reads ----------------------------------------------------------------------------

    @property
    def readers(self) -> int:
        """How many wait for it."""
        return len(self._readers)

    def waits_for(self) -> str:
        """For the comments of those who read it as a stream."""
        return self.wait_reason() if self.wait_reason is not None else "waiting for its turn"

    async def pass_to(self, exchange: Outlet) -> None:
        """Answer an exchange with it, from its begin on."""
        reader = self._readers[exchange] = _Reader()
        try:
            await self._until(reader, lambda: self.status > 0)
            if not self.status:
                self._tell(exchange)
            elif exchange.status and self.status != 200:  # comments have begun a stream
                await self._until(reader, lambda: False)
                exchange.fail(self.error or as_error(self.status, self._own, self._whole()))
            else:
                await self._pass_body(exchange, reader)
        finally:
            del self._readers[exchange]
            self._look_back()

    async def _pass_body(self, exchange: Outlet, reader: _Reader) -> None:
        if not exchange.status:
            exchange.headers += self.headers
            if self.has_ended and self._length is not None:
                exchange.send(self.status, self._own, self._whole())
                return
            exchange.begin(self.status, self._own, self._length)
        while True:
            while reader.next < self._dropped + len(self._pieces) and not exchange.is_full:
                piece = self._pieces[reader.next - self._dropped]
                reader.took(piece)
                exchange.write(piece)
            self._look_back()
            if exchange.is_full:
                await exchange.drain()
            elif self.is_complete:
                break
            else:
                await reader.change()
        self._tell(exchange)

    def _tell(self, exchange: Outlet) -> None:
        """How it ended."""
        if self.error is not None:
            exchange.fail(self.error)
        else:
            exchange.end()

    def _whole(self) -> bytes:
        return b"".join(self._pieces)

    async def _until(self, reader: _Reader, is_so: Callable[[], bool]) -> None:
        while not (self.is_complete or is_so()):
            await reader.change()

    def _wake(self) -> None:
        for reader in self._readers.values():
            reader.news.set()

    def _look_back(self) -> None:
        """Keep what somebody has still to read, and its source from running away from it."""
        if self.status != 200 or (self._size <= KEPT_BYTES and not self.is_full):
            return  # an error is read as a whole
        slowest = min(self._readers.values(), key=lambda r: r.size, default=None)
        at, size = (slowest.next, slowest.size) if slowest is not None else (0, self._size)
        while self._dropped < at:
            self._pieces.popleft()
            self._dropped += 1
        self._set_full(self._size - size > LAG_BYTES)

    def _set_full(self, is_full: bool) -> None:
        if is_full == self.is_full:
            return
        self.is_full = is_full
        if self.source is not None:
            if is_full:
                self.source.pause()
            else:
                self.source.resume()


class _Reader:
    """How far one has come: the number of the piece that is next, and the bytes before it. ``news``
    is set when there is more."""

    __slots__ = ("news", "next", "size")

    def __init__(self) -> None:
        self.next = self.size = 0
        self.news = asyncio.Event()

    def took(self, piece: bytes) -> None:
        self.next += 1
        self.size += len(piece)

    async def change(self) -> None:
        """Return when there is more."""
        await self.news.wait()
        self.news.clear()


class Coalescer:
    """The computations under way, by what was asked.

    ``on_joined`` is told the model of everyone who is given an answer that was asked for already.
    """

    def __init__(self, on_joined: Callable[[str], None]) -> None:
        self._on_joined = on_joined
        self._computing: dict[Key, _Computation] = {}

    def __repr__(self) -> str:
        return f"<Coalescer, {len(self._computing)} computations>"

    async def answer(
        self, key: Key, exchange: Outlet, compute: Compute, *, is_stream: bool
    ) -> SharedAnswer:
        """Answer an exchange by the computation of ``key``, which ``compute`` is to make if there
        is none; what that has answered. The first of a key is a model's id."""
        computation = self._computing.get(key)
        if computation is not None and computation.answer.may_be_joined:
            self._on_joined(key[0])
            exchange.headers.append(JOINED_HEADER)
        else:
            computation = self._computing[key] = _Computation(
                compute, lambda ended: self._forget(key, ended)
            )
        if is_stream:
            exchange.wait_reason = computation.answer.waits_for
        try:
            await computation.answer.pass_to(exchange)
        finally:
            if not computation.answer.readers:
                self._forget(key, computation)
                computation.stop()
        return computation.answer

    def _forget(self, key: Key, computation: _Computation) -> None:
        if self._computing.get(key) is computation:
            del self._computing[key]


class _Computation:
    """A task that makes a shared answer."""

    def __init__(self, compute: Compute, on_end: Callable[[_Computation], None]) -> None:
        self.answer = SharedAnswer()
        self._on_end = on_end
        self._task = asyncio.ensure_future(self._run(compute))

    async def _run(self, compute: Compute) -> None:
        try:
            await compute(self.answer)
            self.answer.end()
        except ModelPoolError as error:
            self.answer.fail(error)
        except Exception as error:
            log.exception("a shared answer failed", exc_info=error)
            self.answer.fail(InternalError("a bug in the pool, see its log"))
        finally:
            self._on_end(self)

    def stop(self) -> None:
        """Nobody waits for it."""
        self._task.cancel()
