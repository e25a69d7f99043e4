"""When to try again: the policy as a table, the counting, and what broken connections mean."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool_client import errors
from modelpool_client._connection import Attempts, RetryPolicy, retry_delay, unreachable

REFUSED = errors.PoolUnreachable("refused")
LOST = errors.PoolUnreachable("lost", code="connection_lost")
SILENT = errors.PoolUnreachable("silent", code="pool_silent")
BUSY = errors.PoolBusy("busy", retry_after=2)
STOPPING = errors.PoolStopping("stopping", retry_after=1)
POLICY = RetryPolicy(attempts=5, down_seconds=8, busy_seconds=60)


@pytest.mark.parametrize(
    ("error", "repeatable", "attempt", "elapsed", "delay"),
    [
        (REFUSED, True, 1, 0, 0.1),
        (REFUSED, True, 3, 0, 0.4),
        (REFUSED, True, 4, 0, 0.8),
        (REFUSED, False, 1, 0, 0.1),  # nothing was sent
        (REFUSED, True, 5, 0, None),  # enough attempts
        (REFUSED, True, 1, 7.95, None),  # would pass the deadline
        (LOST, True, 1, 0, 0.1),
        (LOST, False, 1, 0, None),  # may have been done
        (SILENT, True, 1, 0, None),  # waited long enough already
        (BUSY, True, 1, 0, 2.0),
        (BUSY, True, 2, 57, 2.0),
        (BUSY, True, 2, 59, None),
        (BUSY, False, 1, 0, None),
        (STOPPING, True, 1, 0, 1.0),
        (errors.PoolBusy("busy"), True, 1, 0, None),  # no Retry-After
        (errors.LoadFailed("no memory", code="oom", retry_after=1), True, 1, 0, None),
        (errors.LoadCancelled("unloaded", retry_after=1), True, 1, 0, None),
        (errors.LoadTimeout("slow"), True, 1, 0, None),
        (errors.ModelNotFound("what?"), True, 1, 0, None),
        (errors.InternalError("a bug"), True, 1, 0, None),
    ],
)
def test_policy(
    error: errors.ModelPoolError,
    repeatable: bool,
    attempt: int,
    elapsed: float,
    delay: float | None,
) -> None:
    got = retry_delay(
        POLICY, error, repeatable=repeatable, attempt=attempt, elapsed=elapsed, jitter=0
    )
    assert got == delay


@given(
    st.sampled_from([REFUSED, LOST, BUSY, STOPPING]),
    st.integers(1, 100),
    st.floats(0, 100),
    st.floats(0, 1),
)
def test_never_past_the_deadline(
    error: errors.ModelPoolError, attempt: int, elapsed: float, jitter: float
) -> None:
    delay = retry_delay(
        POLICY, error, repeatable=True, attempt=attempt, elapsed=elapsed, jitter=jitter
    )
    limit = 60 if error in (BUSY, STOPPING) else 8
    assert delay is None or (delay > 0 and elapsed + delay <= limit and attempt < 5)


def test_time_counts_from_the_first_failure() -> None:
    now = [0.0]
    attempts = Attempts(POLICY, True, lambda: now[0], jitter=0)
    now[0] = 200.0  # a long load; then the manager restarts
    assert attempts.delay_after(LOST) == 0.1
    now[0] = 207.0
    assert attempts.delay_after(REFUSED) == 0.2
    now[0] = 207.9
    with pytest.raises(errors.PoolUnreachable, match="refused"):
        attempts.delay_after(REFUSED)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (httpx.ConnectError("no"), "pool_unreachable"),
        (httpx.ConnectTimeout("no"), "pool_unreachable"),
        (httpx.ReadTimeout(""), "pool_silent"),
        (httpx.ReadError(""), "connection_lost"),
        (httpx.RemoteProtocolError("cut"), "connection_lost"),
    ],
)
def test_broken_connections(error: httpx.RequestError, code: str) -> None:
    got = unreachable(error, "http://pool")
    assert (got.code, got.source) == (code, "client")
    assert "http://pool" in got.message
