"""One completion request in flight: counted, watched, and stopped from outside, readably."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import NamedTuple, Protocol, TypeAlias

from modelpool_client.errors import ModelPoolError
from modelpool_client.http1.exchange import Exchange
from modelpool_client.tracing.context import WorkerTrace

from .activity import Activity
from .capture import Recording
from .tokens import NO_TOKENS


class Callee(Protocol):
    """The worker that a call is made to, which counts it."""

    activity: Activity

    def now(self) -> float:
        """Seconds, monotonic."""
        ...

    def begin(self, call: Call, now: float) -> None: ...
    def end(self, call: Call, error: BaseException | None, *, has_left: bool) -> None: ...


class Answering(Protocol):
    """Whoever answers the request."""

    def stop(self, error: ModelPoolError, /) -> None:
        """End it, with ``error`` for its client."""


class _Nobody:
    """Who answers what was answered."""

    def stop(self, error: ModelPoolError, /) -> None:
        """It has ended."""


_NOBODY = _Nobody()


class CallInfo(NamedTuple):
    """What is remembered of a request, see ``EndedRequest``; ``model`` empty: it named none,
    ``trace`` None: it is not traced. ``recording``: what is said in it, where that is captured."""

    path: str = ""
    model: str = ""
    request_id: bytes = b""
    via: bytes = b""
    is_stream: bool = False
    is_direct: bool = False
    trace: WorkerTrace | None = None
    recording: Recording | None = None


# As ``CallInfo(…)`` without ``trace`` and ``recording``; that is a function in Python.
InfoFields: TypeAlias = "tuple[str, str, bytes, bytes, bool, bool, None, None]"
info_of: Callable[[InfoFields], CallInfo] = partial(tuple.__new__, CallInfo)
NO_INFO = CallInfo()


class Call:
    """A context around the work for one request, whose end is its end, whether or not ``begin`` was
    called before. Hears of it as a ``Watch``.

    Attributes:
        exchange: who answers; another may go on with it.
        asked: what is remembered of the request.
        began_at, sent_at, gave_at: when it came, when the engine was asked, and when that gave
            something first; seconds, monotonic.
    """

    __slots__ = (
        *("_has_begun", "_waits_since", "_worker", "asked", "began_at", "exchange"),
        *("gave_at", "is_direct", "overtaken", "sent_at", "tokens"),
    )

    def __init__(self, worker: Callee, exchange: Answering, asked: CallInfo = NO_INFO) -> None:
        self.is_direct = asked.is_direct
        self._worker = worker
        self.exchange = exchange
        self._has_begun = False
        self._waits_since: float | None = None  # None: the engine is not asked, or has given
        self.asked = asked
        self.tokens = NO_TOKENS
        self.overtaken = 0
        self.began_at = worker.now()
        self.sent_at: float | None = None
        self.gave_at: float | None = None

    def begin(self) -> None:
        """The work begins."""
        if not self._has_begun:
            self._has_begun = True
            self._worker.begin(self, self._worker.now())

    def begin_sent(self) -> None:
        """The work begins: it goes to the engine as it came."""
        self._has_begun = True
        self._waits_since = self.sent_at = self.began_at
        self._worker.begin(self, self.began_at)
        self._worker.activity.asked()

    def end(self, *, has_left: bool = False) -> None:
        """It was done, or is not wanted any more, for its client has left."""
        self._worker.end(self, None, has_left=has_left)
        # Who has answered holds the call as well: a circle that would wait for the collector.
        self.exchange = _NOBODY

    def __enter__(self) -> Call:
        self.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        has_left = False
        if isinstance(error, asyncio.CancelledError):
            own = self.exchange
            error = own.stopped_by if isinstance(own, Exchange) else None
            has_left = error is None
        self._worker.end(self, error, has_left=has_left)

    def stop(self, error: ModelPoolError) -> None:
        """End the call with that error."""
        self.exchange.stop(error)

    def silent_seconds(self, now: float) -> float:
        """Since the engine gave anything for it; 0 before it was asked, and while it is the client
        who does not read."""
        return 0.0 if self._waits_since is None else now - self._waits_since

    def sent(self) -> None:
        """It goes to the engine."""
        self._waits_since = self._worker.now()
        if self.sent_at is None:
            self.sent_at = self._waits_since
        self._worker.activity.asked()

    def gave(self) -> None:
        """The engine gave something for it."""
        now, self._waits_since = self._worker.now(), None
        self.overtaken = 0
        if self.gave_at is None:
            self.gave_at = now
        self._worker.activity.sign_of_work(now)

    def asks(self) -> None:
        """It waits for more."""
        self._waits_since = self._worker.now()

    def goes_on(self) -> None:
        """The engine gave something, and more is waited for."""
        now = self._waits_since = self._worker.now()
        self.overtaken = 0
        if self.gave_at is None:
            self.gave_at = now
        self._worker.activity.sign_of_work(now)

    def rests(self) -> None:
        """Its client takes nothing."""
        self._waits_since = None

    def describe_wait(self) -> str:
        """For the client of a stream that is silent."""
        silent = self.silent_seconds(self._worker.now())
        return f"the engine is at work, and gave nothing for {silent:.0f} s"


def is_failure(error: BaseException | None) -> bool:
    """The worker's or the engine's fault; not the client's, who asked wrongly or left."""
    if error is None:
        return False
    return not isinstance(error, ModelPoolError) or error.status >= 500
