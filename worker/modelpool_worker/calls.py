"""One completion request in flight: counted, watched, and stopped from outside, readably."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Protocol

from modelpool_client.errors import ModelPoolError
from modelpool_client.http1.exchange import Exchange

from .activity import Activity


class Callee(Protocol):
    """The worker that a call is made to, which counts it."""

    activity: Activity

    def now(self) -> float:
        """Seconds, monotonic."""
        ...

    def begin(self, call: Call) -> None: ...
    def end(self, call: Call, *, failed: bool) -> None: ...

    def worked(self) -> None:
        """The engine gave something."""
        ...


class Call:
    """A context around the work for one request. Hears of it as a ``Watch``."""

    def __init__(self, worker: Callee, exchange: Exchange, *, is_direct: bool = False) -> None:
        self.is_direct = is_direct
        self._worker = worker
        self._exchange = exchange
        self._waits_since: float | None = None  # None: the engine is not asked, or has given
        self.tokens = 0
        self.overtaken = 0

    def __enter__(self) -> Call:
        self._worker.begin(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if isinstance(error, asyncio.CancelledError):
            error = self._exchange.stopped_by  # None: the client left
        self._worker.end(self, failed=_is_failure(error))

    def stop(self, error: ModelPoolError) -> None:
        """End the call with that error."""
        self._exchange.stop(error)

    def silent_seconds(self, now: float) -> float:
        """Since the engine gave anything for it; 0 before it was asked, and while it is the client
        who does not read."""
        return 0.0 if self._waits_since is None else now - self._waits_since

    def sent(self) -> None:
        """It goes to the engine."""
        self._waits_since = self._worker.now()
        self._worker.activity.asked()

    def gave(self) -> None:
        """The engine gave something for it."""
        self._waits_since = None
        self.overtaken = 0
        self._worker.worked()

    def asks(self) -> None:
        """It waits for more."""
        self._waits_since = self._worker.now()

    def rests(self) -> None:
        """Its client takes nothing."""
        self._waits_since = None

    def describe_wait(self) -> str:
        """For the client of a stream that is silent."""
        silent = self.silent_seconds(self._worker.now())
        return f"the engine is at work, and gave nothing for {silent:.0f} s"


def _is_failure(error: BaseException | None) -> bool:
    """The worker's or the engine's fault; not the client's, who asked wrongly or left."""
    if error is None:
        return False
    return not isinstance(error, ModelPoolError) or error.status >= 500
