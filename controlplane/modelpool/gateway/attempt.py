"""The answer of one model of several that may be asked: passed on if it is one, else kept back, so
that the next can be asked. What ``gateway.relay`` needs of an exchange."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import TracebackType
from typing import TypeAlias

from modelpool_client.errors import InternalError, ModelPoolError, PayloadTooLarge
from modelpool_client.http1.exchange import JSON_TYPE, Exchange, Source
from modelpool_client.http1.message import Headers, Request
from modelpool_client.surfaces.dialect import Dialect

from modelpool.gateway.errors import as_error

MOST_KEPT_BYTES = 64 << 20

Outlet: TypeAlias = "Exchange | Attempt"


class Attempt:
    """Writes to ``outlet`` what a model answers; without one all is kept: ``body``.

    As a context it lets every error out that its client has not been told of.

    Attributes:
        request: what the client asked, or what a model is asked in its place.
        headers: go with the answer, after ``before``, if it is passed on.
        via: the virtual model that it is for, and its version.
        own_headers: the answer's own, where it is kept.
        is_passed: the client has some of the answer, or all.
    """

    def __init__(
        self,
        request: Request,
        outlet: Outlet | None,
        dialect: Dialect,
        before: Headers,
        may_begin: Callable[[], bool] = lambda: True,
    ) -> None:
        """``may_begin`` is asked when an answer is about to be passed on; where it says no, that
        goes nowhere."""
        self.request = request
        self.headers: Headers = []
        self.via = b""
        self.own_headers: Headers = []
        self.is_passed = False
        self._before = before
        self._may_begin = may_begin
        self._outlet = outlet
        self._dialect = dialect
        self._wait_reason: Callable[[], str] | None = None
        self._source: Source | None = None
        self._pieces: list[bytes] = []
        self._size = self._status = 0
        self._is_lost = False

    def __repr__(self) -> str:
        return f"<Attempt {self.request.raw_path!r}: {self.status}>"

    # -- as an exchange --------------------------------------------------------------------------

    @property
    def status(self) -> int:
        """Of the answer; 0 until it has begun. Comments begin the client's answer, too."""
        return self._status or (self._outlet.status if self._outlet is not None else 0)

    @property
    def dialect(self) -> Dialect:
        """See ``Exchange``."""
        return self._dialect

    @dialect.setter
    def dialect(self, dialect: Dialect) -> None:
        self._dialect = dialect
        if self._outlet is not None:
            self._outlet.dialect = dialect

    @property
    def wait_reason(self) -> Callable[[], str] | None:
        """See ``Exchange``."""
        return self._wait_reason

    @wait_reason.setter
    def wait_reason(self, reason: Callable[[], str] | None) -> None:
        self._wait_reason = reason
        if self._outlet is not None:
            self._outlet.wait_reason = reason

    @property
    def is_full(self) -> bool:
        """See ``Exchange``."""
        return self.is_passed and self._outlet is not None and self._outlet.is_full

    @property
    def source(self) -> Source | None:
        """See ``Exchange``."""
        return self._source

    @source.setter
    def source(self, source: Source | None) -> None:
        self._source = source
        if self.is_passed and self._outlet is not None:
            self._outlet.source = source

    async def drain(self) -> None:
        """See ``Exchange``."""
        if self.is_passed and self._outlet is not None:
            await self._outlet.drain()

    def send_json(self, status: int, value: object, *headers: tuple[bytes, bytes]) -> None:
        """See ``Exchange``."""
        self.send(status, [JSON_TYPE, *headers], json.dumps(value).encode())

    def send(self, status: int, headers: Headers, body: bytes) -> None:
        """See ``Exchange``."""
        if self._passes(status) and self._outlet is not None:
            self._outlet.send(status, headers, body)
            return
        self.begin(status, headers, len(body))
        self.write(body)

    def begin(self, status: int, headers: Headers, length: int | None = None) -> None:
        """See ``Exchange``."""
        if self._passes(status) and self._outlet is not None:
            self._outlet.begin(status, headers, length)
        self.own_headers = headers

    def pass_comments(self, headers: Headers, data: bytes) -> None:
        """They are for the client, and no answer: another may still be asked."""
        outlet = self._outlet
        if outlet is None or self._is_lost:
            return
        if not outlet.status:
            outlet.headers = [*self._before, *self.headers]
        outlet.pass_comments(headers, data)

    def _passes(self, status: int) -> bool:
        self._status = status
        if self._outlet is None or status >= 400 or self._is_lost:
            return False
        if not self.is_passed and not self._may_begin():
            self._is_lost = True
            return False
        if not self._outlet.status:
            self._outlet.headers = [*self._before, *self.headers]
        if not self.is_passed:
            self.is_passed = True
            self._flow_on(self._outlet)
        return True

    def _flow_on(self, outlet: Outlet) -> None:
        """A stream that was held back until now goes no faster than its client takes it."""
        if self._source is None:
            return
        outlet.source = self._source
        if outlet.is_full:
            self._source.pause()

    def write(self, data: bytes) -> None:
        """See ``Exchange``."""
        if self._has_comments():
            # The stream was begun by a comment, and this is the first of its content.
            self._passes(200)
        if self.is_passed and self._outlet is not None:
            self._outlet.write(data)
        elif not self._is_lost:
            self._size += len(data)
            if self._size > MOST_KEPT_BYTES:
                raise PayloadTooLarge(f"an answer is over {MOST_KEPT_BYTES} bytes")
            self._pieces.append(data)

    def _has_comments(self) -> bool:
        outlet = self._outlet
        return outlet is not None and outlet.status == 200 and not self.is_passed

    def end(self) -> None:
        """See ``Exchange``."""
        if self.is_passed and self._outlet is not None:
            self._outlet.end()

    def fail(self, error: ModelPoolError) -> None:
        """See ``Exchange``; where its client was told nothing yet the error is raised."""
        self._status = error.status
        if not self.is_passed or self._outlet is None:
            raise error
        self._outlet.fail(error)

    def __enter__(self) -> Attempt:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if isinstance(error, ModelPoolError):
            self._status = error.status
        elif isinstance(error, Exception):
            self._status = InternalError.status

    # -- what came of it -------------------------------------------------------------------------

    @property
    def body(self) -> bytes:
        """What is kept of the answer."""
        return b"".join(self._pieces)

    def error(self) -> ModelPoolError | None:
        """What the answer says went wrong; None where nothing did."""
        if self.status < 400:
            return None
        return as_error(self.status, self.own_headers, self.body)
