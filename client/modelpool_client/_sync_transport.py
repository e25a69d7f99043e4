"""How a call is made, blocking: sent, tried again, read. Twin of ``_async_transport``."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, TypeVar

import httpx

from modelpool_client import _calls as calls
from modelpool_client._connection import (
    LIMITS,
    Attempts,
    RetryPolicy,
    checked_url,
    connection_lost,
    is_loopback,
    needs_certificates,
    request_arguments,
    unreachable,
)

T = TypeVar("T")


class Transport:
    """The connections of a client, and how long it tries."""

    def __init__(
        self,
        base_url: str | None = None,
        *,
        timeout: float = 10.0,
        retry: RetryPolicy | None = None,
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        url = checked_url(base_url)
        self.base_url = str(url)
        self.timeout, self._retry = timeout, retry or RetryPolicy()
        self.clock, self.sleep = clock, sleep
        self.trust_env = not is_loopback(url)
        self._http = httpx.Client(
            base_url=url,
            transport=transport,
            trust_env=self.trust_env,
            verify=needs_certificates(url),
            limits=LIMITS,
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def fetch(self, call: calls.Call[Any], retry: RetryPolicy | None = None) -> Any:
        """The document that answers a call, as it came."""
        with self.stream(call, retry) as response:
            body = response.read()
        return calls.document(response.headers, body)

    def do(self, call: calls.Call[T], retry: RetryPolicy | None = None) -> T:
        return call.parse(self.fetch(call, retry))

    def attempts(self, retry: RetryPolicy | None = None, repeatable: bool = True) -> Attempts:
        return Attempts(retry or self._retry, repeatable, self.clock, random.random())

    @contextmanager
    def stream(
        self, call: calls.Call[Any], retry: RetryPolicy | None = None
    ) -> Iterator[httpx.Response]:
        response = self._open(call, self.attempts(retry, call.repeatable))
        try:
            yield response
        except httpx.RequestError as e:
            raise connection_lost(self.base_url, e) from e
        finally:
            response.close()

    def _open(self, call: calls.Call[Any], attempts: Attempts) -> httpx.Response:
        """Send until an answer begins that is none to try again after."""
        while True:
            try:
                request = self._http.build_request(**request_arguments(call, self.timeout))
                response = self._http.send(request, stream=True)
                if call.is_answered_by(response.status_code):
                    return response
                with closing(response):
                    error = calls.failure(response.status_code, response.headers, response.read())
            except httpx.RequestError as e:
                error = unreachable(e, self.base_url)
            self.sleep(attempts.delay_after(error))
