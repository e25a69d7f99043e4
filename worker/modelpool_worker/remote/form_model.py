"""PURE. The model of a form (RFC 7578) under its name there; the rest stays as it came."""

from __future__ import annotations

import re

_FIELD = re.compile(rb'content-disposition:[^\r\n]*\bname="?model"?(?:[;\r\n])', re.IGNORECASE)
_BOUNDARY = re.compile(rb'boundary="?([^";,\s]+)"?', re.IGNORECASE)


def model_of(content_type: bytes, body: bytes) -> str | None:
    """What its field ``model`` says; None where it has none."""
    place = _place(content_type, body)
    return None if place is None else body[place].decode(errors="replace")


def with_model(content_type: bytes, body: bytes, model: str) -> bytes:
    """The same form with another model, added where it had none."""
    place = _place(content_type, body)
    if place is not None:
        return body[: place.start] + model.encode() + body[place.stop :]
    found = _BOUNDARY.search(content_type)
    if found is None:
        return body
    head = b'--%b\r\ncontent-disposition: form-data; name="model"\r\n\r\n' % found[1]
    return head + model.encode() + b"\r\n" + body


def _place(content_type: bytes, body: bytes) -> slice | None:
    boundary = _BOUNDARY.search(content_type)
    if boundary is None:
        return None
    mark, at = b"--" + boundary[1], 0
    while (at := body.find(mark, at)) >= 0:
        start = body.find(b"\r\n\r\n", at)
        end = body.find(b"\r\n" + mark, start)
        if start < 0 or end < 0:
            return None
        if _FIELD.search(body[at:start] + b"\r\n"):
            return slice(start + 4, end)
        at = end + 2
    return None
