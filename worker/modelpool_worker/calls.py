"""One completion request in flight: it can be stopped from outside, readably."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Protocol

from modelpool_client.errors import ModelPoolError
from modelpool_client.surfaces.openai import Request

from .activity import Activity
from .relay import Relay, Send


class Callee(Protocol):
    """The worker that a call is made to, which counts it."""

    activity: Activity
    relay: Relay

    def now(self) -> float:
        """Seconds, monotonic."""
        ...

    def begin(self, call: Call) -> None: ...
    def end(self, call: Call, *, failed: bool) -> None: ...

    def worked(self) -> None:
        """The engine gave something."""
        ...


class Call:
    """A context manager around the work for one request, run in the request's own task.

    ``stop`` cancels that task; leaving the context turns the cancellation into the error given,
    or into ConnectionResetError when the client left.
    """

    def __init__(self, worker: Callee) -> None:
        self._worker = worker
        self._error: ModelPoolError | None = None
        self._is_stopped = self._is_over = False
        self._waits_since: float | None = None  # None: the engine is not asked, or has given
        self.tokens = 0
        self.overtaken = 0

    def __enter__(self) -> Call:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._worker.begin(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._is_over = True
        if self._is_stopped and isinstance(error, asyncio.CancelledError):
            self._task.uncancel()
            error = self._error or ConnectionResetError()
        self._worker.end(self, failed=_is_failure(error))
        if error is not None:
            raise error

    def leave(self) -> None:
        """The client left."""
        self.stop(None)

    def stop(self, error: ModelPoolError | None) -> None:
        """End the call with that error; a second stop changes nothing."""
        if not self._is_stopped and not self._is_over:
            self._is_stopped, self._error = True, error
            self._task.cancel()

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

    async def stream(self, path: str, request: Request, send: Send, headers: list[Any]) -> None:
        """See ``Relay.stream``."""
        self.tokens = await self._worker.relay.stream(path, request, send, headers, self)

    async def collect(self, path: str, request: Request) -> dict[str, Any]:
        """See ``Relay.collect``."""
        answer, self.tokens = await self._worker.relay.collect(path, request, self)
        return answer


def _is_failure(error: BaseException | None) -> bool:
    """The worker's or the engine's fault; not the client's, who asked wrongly or left."""
    if error is None or isinstance(error, ConnectionResetError):
        return False
    return not isinstance(error, ModelPoolError) or error.status >= 500
