"""What providers answer in place of an answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool_client import errors
from modelpool_worker.remote.errors import Provider, error_of, read, stream_error

WHO = Provider("acme (api.acme.test:443)", "environment variable ACME_KEY", True, str)


def of(status: int, body: Any, **headers: str) -> errors.ModelPoolError:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = [(k.encode(), v.encode()) for k, v in headers.items()]
    return error_of(WHO, status, fields, data, 7.0, "m-1")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": {"message": "a", "type": "t", "code": None}}, "a"),
        ({"type": "error", "error": {"type": "t", "message": "b"}}, "b"),
        ([{"error": {"code": 400, "message": "c", "status": "INVALID_ARGUMENT"}}], "c"),
        ({"error": "d"}, "d"),
        ({"object": "error", "message": "e"}, "e"),
        ({"detail": "f"}, "f"),
        ("g", "g"),
    ],
)
def test_shapes_of_errors(body: Any, message: str) -> None:
    assert read(json.dumps(body).encode()).message == message


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (400, {"error": {"message": "x"}}, errors.InvalidRequest, "invalid_request"),
        (422, {"detail": "x"}, errors.InvalidRequest, "invalid_request"),
        (
            400,
            {"error": {"message": "x", "code": "context_length_exceeded"}},
            errors.ContextLengthExceeded,
            "context_length_exceeded",
        ),
        (
            400,
            {"error": {"type": "invalid_request_error", "message": "prompt is too long: 9 > 8"}},
            errors.ContextLengthExceeded,
            "context_length_exceeded",
        ),
        (401, {}, errors.UpstreamFailed, "upstream_refused_key"),
        (403, {}, errors.UpstreamFailed, "upstream_refused_key"),
        (402, {}, errors.RateLimited, "insufficient_quota"),
        (404, {"error": {"code": "model_not_found"}}, errors.ModelNotFound, "model_not_found"),
        (404, {"error": {"message": "model: x"}}, errors.ModelNotFound, "model_not_found"),
        (404, b"nothing here", errors.UpstreamFailed, "upstream_failed"),
        (408, {}, errors.UpstreamTimeout, "upstream_timeout"),
        (413, {}, errors.PayloadTooLarge, "payload_too_large"),
        (429, {}, errors.RateLimited, "rate_limited"),
        (498, {}, errors.Unavailable, "upstream_overloaded"),
        (500, {}, errors.UpstreamFailed, "upstream_failed"),
        (503, {}, errors.Unavailable, "upstream_overloaded"),
        (504, {}, errors.UpstreamTimeout, "upstream_timeout"),
        (529, {}, errors.Unavailable, "upstream_overloaded"),
        (302, b"", errors.UpstreamFailed, "upstream_redirect"),
    ],
)
def test_kinds_of_errors(
    status: int, body: Any, kind: type[errors.ModelPoolError], code: str
) -> None:
    error = of(status, body)
    assert type(error) is kind
    assert error.code == code
    assert error.source == "upstream"
    assert "acme" in error.message
    # What a client makes of it is the same.
    again = errors.from_response(error.status, error.body())
    assert type(again) is kind


def test_a_refused_key_says_where_it_is_from() -> None:
    assert "refused the key from environment variable ACME_KEY" in of(401, {}).message
    none = Provider(WHO.name, "environment variable ACME_KEY", False, str)
    said = error_of(none, 401, [], b"{}", None, "m").message
    assert "there is none: set environment variable ACME_KEY" in said


def test_when_to_come_again() -> None:
    assert of(429, {}).headers()["retry-after"] == "7"
    spent = of(429, {"error": {"code": "insufficient_quota"}})
    assert spent.headers()["x-should-retry"] == "false"


@pytest.mark.parametrize("data", [{"choices": []}, {"error": None}, [], 3, "x", {}])
def test_what_is_no_error_in_a_stream(data: Any) -> None:
    assert stream_error(WHO, data) is None


@pytest.mark.parametrize("kind", ["overloaded_error", "rate_limit_error", "api_error", "429"])
def test_what_has_begun_is_never_told_as_what_is_sent_again(kind: str) -> None:
    error = stream_error(WHO, {"type": "error", "error": {"type": kind, "message": "x"}})
    assert error is not None
    assert error.code != "upstream_overloaded"


@given(st.integers(300, 599), st.binary(max_size=200))
def test_any_answer_is_an_error_that_says_who(status: int, body: bytes) -> None:
    error = of(status, body)
    assert "acme" in error.message
    assert error.status >= 400
    assert len(error.message) < 3000
