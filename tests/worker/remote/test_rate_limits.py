"""What providers say of their limits, and until when nothing is sent."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool_worker.remote.rate_limits import (
    LONGEST_BLOCK_SECONDS,
    Limit,
    RateLimits,
    limits,
    retry_after,
)

NOW = 1_800_000_000.0


def at(seconds: float) -> str:
    return datetime.fromtimestamp(NOW + seconds, UTC).isoformat().replace("+00:00", "Z")


@pytest.mark.parametrize(
    ("name", "value", "seconds"),
    [
        ("x-ratelimit-reset-requests", "12ms", 0.012),
        ("x-ratelimit-reset-requests", "1s", 1),
        ("x-ratelimit-reset-requests", "6m0s", 360),
        ("x-ratelimit-reset-requests", "1h2m3.5s", 3723.5),
        ("x-ratelimit-reset-requests", "7m12s", 432),
        ("x-ratelimit-reset-requests", "30", 30),
        ("x-ratelimit-reset-requests", str(NOW + 9), 9),
        ("x-ratelimit-reset", "3", 3),
        ("x-ratelimit-reset", str(int((NOW + 9) * 1000)), 9),
        ("anthropic-ratelimit-requests-reset", at(42), 42),
    ],
)
def test_when_a_limit_resets(name: str, value: str, seconds: float) -> None:
    told = limits([(name.encode(), value.encode())], NOW)
    reset = told["requests"].resets_at
    assert reset is not None
    assert reset - NOW == pytest.approx(seconds, abs=1e-5)


def test_names_of_limits() -> None:
    said = {
        "anthropic-ratelimit-input-tokens-limit": "80000",
        "anthropic-ratelimit-input-tokens-remaining": "0",
        "x-ratelimit-limit-tokens_usage_based": "5",
        "x-ratelimit-limit": "20",
        "x-ratelimit-remaining": "19",
        "x-tokenlimit-limit": "9000",
        "x-ratelimit-remaining-tokens": "-1",
        "x-ratelimit-reset-tokens": "soon",
        "x-request-id": "7",
    }
    told = limits([(k.encode(), v.encode()) for k, v in said.items()], NOW)
    assert told == {
        "input-tokens": Limit(80000, 0, None),
        "tokens_usage_based": Limit(5, None, None),
        "requests": Limit(20, 19, None),
        "tokens": Limit(9000, None, None),
    }


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-3"}, 0),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "Fri, 15 Jan 2027 08:00:30 GMT"}, 30),
        ({"retry-after": "Fri, 15 Jan 1999 08:00:30 GMT"}, 0),
        ({"retry-after": "tomorrow"}, None),
        ({"retry-after": "nan"}, None),
        ({}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after([(k.encode(), v.encode()) for k, v in headers.items()], NOW) == seconds


def test_a_model_is_blocked_and_another_is_not() -> None:
    known = RateLimits.empty()
    assert known.heard("a", 429, [(b"retry-after", b"20")], NOW) == 20
    assert known.wait("a", NOW) == 20
    assert known.wait("b", NOW) == 0
    assert known.wait("a", NOW + 20) == 0
    assert known.shown(NOW + 30) == {}


def test_the_last_one_that_passes_blocks_the_next() -> None:
    known = RateLimits.empty()
    said = [
        (b"x-ratelimit-limit-requests", b"60"),
        (b"x-ratelimit-remaining-requests", b"0"),
        (b"x-ratelimit-reset-requests", b"8s"),
    ]
    assert known.heard("a", 200, said, NOW) is None
    assert known.wait("a", NOW) == 8
    assert known.shown(NOW)["a"]["limits"]["requests"]["reset_seconds"] == 8


@given(
    st.integers(100, 599),
    st.dictionaries(
        st.sampled_from(
            [
                *(b"retry-after", b"retry-after-ms", b"x-ratelimit-reset-a"),
                *(b"x-ratelimit-remaining-a", b"anthropic-ratelimit-a-reset"),
                b"x-ratelimit-limit-a",
            ]
        ),
        st.one_of(st.binary(max_size=20), st.integers().map(lambda i: str(i).encode())),
    ),
)
def test_nothing_blocks_for_ever(status: int, headers: dict[bytes, bytes]) -> None:
    known = RateLimits.empty()
    pause = known.heard("a", status, headers.items(), NOW)
    assert pause is None or pause >= 0
    assert 0 <= known.wait("a", NOW) <= LONGEST_BLOCK_SECONDS
    known.shown(NOW)
