"""PURE. Errors that workers answer with, as the gateway's own."""

from __future__ import annotations

import json
from typing import Any

from modelpool_client.errors import ModelPoolError, from_response
from modelpool_client.http1.message import Headers


def as_error(status: int, headers: Headers, body: bytes) -> ModelPoolError:
    """What an answer says went wrong, whatever its body is."""
    told: Any
    try:
        told = json.loads(body)
    except ValueError:
        told = body.decode(errors="replace")
    retry_after = dict(headers).get(b"retry-after", b"").decode("latin-1")
    return from_response(status, told, retry_after or None)
