"""PURE. The body of a request: a JSON object, of a size that a worker takes."""

from __future__ import annotations

import json
from typing import Any

from modelpool_client.errors import InvalidRequest, PayloadTooLarge

MAX_BODY_BYTES = 64 << 20
_SPACE = " \t\n\r"


def parse_object(raw: bytes) -> dict[str, Any]:
    """The JSON object of a body.

    Raises:
        InvalidRequest: not UTF-8, no JSON, no object, or NaN, infinities, absurd numbers.
    """
    try:
        text = raw.decode()
        try:  # as ``decode``, but without a look for white space around it, which few send
            data, end = _DECODER.raw_decode(text)
        except ValueError:
            end = 0
        if not end or (end != len(text) and text[end:].strip(_SPACE)):
            data = _DECODER.decode(text)
    except UnicodeDecodeError as e:
        why = f"is not valid UTF-8: {e.reason} at byte {e.start}"
    except RecursionError:
        why = "is not valid JSON as far as it can be read: it is nested too deeply"
    except ValueError as e:
        why = f"is not valid JSON: {e}"
    else:
        if isinstance(data, dict):
            _check_pairs(raw, data)
            return data
        why = f"must be a JSON object, not {type(data).__name__}"
    raise InvalidRequest(f"the body {why}", param="body")


def _check_pairs(raw: bytes, data: dict[str, Any]) -> None:
    """Half a surrogate pair is no character: nobody could be told of it, or write it down.

    Raises:
        InvalidRequest: there is one.
    """
    if b"\\ud" not in raw and b"\\uD" not in raw:  # nearly always
        return
    try:
        json.dumps(data, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise InvalidRequest("the body holds half a surrogate pair", param="body") from None


def too_large() -> PayloadTooLarge:
    """The error for a body over ``MAX_BODY_BYTES``."""
    return PayloadTooLarge(f"the body is over {MAX_BODY_BYTES} bytes")


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"the number {text[:40]} is too large")
    return value


# Made once: json.loads with hooks makes a decoder for every call.
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)
