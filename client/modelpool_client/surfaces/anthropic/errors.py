"""PURE. Errors as the Messages API words them."""

from __future__ import annotations

from typing import Any

from modelpool_client.errors import ModelPoolError

# https://docs.claude.com/en/api/errors; refusals beside these are invalid requests, failures
# api_error.
_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def error_body(error: ModelPoolError) -> dict[str, Any]:
    """The JSON body: Anthropic's shape, our code, param, source and details beside."""
    other = "invalid_request_error" if 400 <= error.status < 500 else "api_error"
    ours = error.body()["error"]
    return {"type": "error", "error": {**ours, "type": _TYPES.get(error.status, other)}}
