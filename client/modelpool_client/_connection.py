"""How a call is sent, what a broken connection means, when to try again. No I/O, no clock."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import httpx

from modelpool_client import errors
from modelpool_client._calls import Call
from modelpool_client.types import Endpoint

URL_VARIABLE = "MODELPOOL_URL"
DEFAULT_URL = "http://127.0.0.1:8050"
# As many connections as there are calls: each may wait minutes for its model, and one that waited
# for another of our own would take the pool for dead.
LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=20)
NOBODY_ANSWERS = "nobody answers at {url}; start the pool with `make up` or `modelpool serve`"


def checked_url(url: str | None) -> httpx.URL:
    """The pool's address; None is that of ``MODELPOOL_URL``, else of this machine's pool.

    Raises:
        InvalidRequest: it is no http or https URL.
    """
    url = url or os.environ.get(URL_VARIABLE) or DEFAULT_URL
    try:
        parsed = httpx.URL(url.rstrip("/"))
    except httpx.InvalidURL:
        parsed = httpx.URL()
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise errors.InvalidRequest(
            f"{url!r} is no address of a pool; it should look like {DEFAULT_URL}",
            param="base_url",
            source="client",
        )
    return parsed


def is_loopback(url: httpx.URL) -> bool:
    """Whether the pool is on this machine, so that no proxy can lead to it."""
    return url.host in ("localhost", "::1") or url.host.startswith("127.")


def needs_certificates(url: httpx.URL) -> bool:
    """Whether there are any to check; to read them takes longer than a request over plain HTTP."""
    return url.scheme == "https"


def request_arguments(call: Call[Any], timeout: float) -> dict[str, Any]:
    """What httpx wants to know to build the request of a call; ``timeout`` in seconds."""
    read = None if call.extra_timeout is None else timeout + call.extra_timeout
    return {
        "method": call.method,
        "url": call.path,
        "params": call.params or None,
        "json": call.json,
        "data": call.form or None,
        "files": call.files or None,
        "headers": call.headers,
        "timeout": httpx.Timeout(timeout, read=read, pool=None),
    }


def unreachable(error: httpx.RequestError, url: str) -> errors.PoolUnreachable:
    """Our error for a broken connection; its code says how far the call got."""
    if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout)):
        return errors.PoolUnreachable(NOBODY_ANSWERS.format(url=url), source="client")
    if isinstance(error, httpx.TimeoutException):
        return silent(url, str(error) or type(error).__name__)
    return connection_lost(url, error)


def silent(url: str, why: str) -> errors.PoolUnreachable:
    """Our error for a pool that does not answer as it should."""
    message = f"{url} did not answer in time: {why}"
    return errors.PoolUnreachable(message, code="pool_silent", source="client")


def connection_lost(url: str, why: Exception | str) -> errors.PoolUnreachable:
    """Our error for a connection that ended before the answer did."""
    message = f"{url} broke the connection off: {str(why) or type(why).__name__}"
    return errors.PoolUnreachable(message, code="connection_lost", source="client")


@dataclass(frozen=True)
class RetryPolicy:
    """How long to try again, in seconds: while nobody answers, and while the pool is busy."""

    attempts: int = 10
    down_seconds: float = 8.0
    busy_seconds: float = 60.0
    first_delay: float = 0.1
    longest_delay: float = 2.0


ONCE = RetryPolicy(attempts=1)


def retry_delay(
    policy: RetryPolicy,
    error: errors.ModelPoolError,
    *,
    repeatable: bool,
    attempt: int,
    elapsed: float,
    jitter: float,
) -> float | None:
    """Seconds until the next attempt, None to give up. PURE.

    ``attempt`` counts from 1, ``elapsed`` are the seconds since the first failure, ``jitter``
    is between 0 and 1. Only for errors that came before the first byte of an answer.
    """
    limit = _seconds_worth(policy, error, repeatable)
    if limit is None or attempt >= policy.attempts:
        return None
    backoff = min(policy.longest_delay, policy.first_delay * 2 ** (attempt - 1))
    wanted = float(error.retry_after or backoff)
    delay = wanted + jitter * min(1.0, wanted / 4)
    return delay if elapsed + delay <= limit else None


def _seconds_worth(
    policy: RetryPolicy, error: errors.ModelPoolError, repeatable: bool
) -> float | None:
    if isinstance(error, errors.PoolUnreachable):
        is_unsent = error.code == errors.PoolUnreachable.default_code
        is_lost = error.code == "connection_lost"
        return policy.down_seconds if is_unsent or (is_lost and repeatable) else None
    # A failed or cancelled load is an outcome; trying again is for a person to decide.
    is_outcome = isinstance(error, (errors.LoadFailed, errors.LoadCancelled))
    is_busy = isinstance(error, errors.Unavailable) and error.retry_after is not None
    return policy.busy_seconds if is_busy and repeatable and not is_outcome else None


class Attempts:
    """Counts the attempts of one call and says how long to wait for the next."""

    def __init__(
        self, policy: RetryPolicy, repeatable: bool, clock: Callable[[], float], jitter: float
    ) -> None:
        self._policy, self._repeatable = policy, repeatable
        self._clock, self._jitter = clock, jitter
        self._count, self._first = 0, 0.0

    def delay_after(self, error: errors.ModelPoolError) -> float:
        """Seconds to wait before the next attempt, or ``error`` raised when there is none."""
        now = self._clock()
        self._count += 1
        # From the first failure on, not from the start: a call may rightly have waited minutes.
        self._first = now if self._count == 1 else self._first
        delay = retry_delay(
            self._policy,
            error,
            repeatable=self._repeatable,
            attempt=self._count,
            elapsed=now - self._first,
            jitter=self._jitter,
        )
        if delay is None:
            raise error
        return delay


def openai_sdk() -> ModuleType:
    """The ``openai`` package.

    Raises:
        NotSupported: it is not installed.
    """
    try:
        return importlib.import_module("openai")
    except ModuleNotFoundError as e:
        raise errors.NotSupported(
            "ready-made OpenAI clients need the openai package: pip install 'modelpool[openai]'",
            code="openai_missing",
            source="client",
        ) from e


def worker_url(endpoint: Endpoint) -> str:
    """The base URL of a worker.

    Raises:
        Unavailable: the model has no worker now.
    """
    if endpoint.base_url is None:
        raise errors.Unavailable(f"{endpoint.model_id} has no endpoint now", source="client")
    return endpoint.base_url
