"""How a request is called by whoever logs it: ``X-Request-Id``, the client's or one of ours.

A client's is taken as it is if it is up to 128 printable characters without a space.
"""

from __future__ import annotations

import itertools
import re
import secrets

from .message import Headers, Request

REQUEST_ID = b"x-request-id"
_SOUND = re.compile(rb"[!-~]{1,128}")
# A random part for each process, and a count: unlike others, and made in no time.
_OURS = secrets.token_hex(8).encode()
_count = itertools.count(1)


def new_id() -> bytes:
    """One that no other request has."""
    return b"%b-%x" % (_OURS, next(_count))


def is_sound(said: bytes) -> bool:
    """PURE. May be told on as it is."""
    return _SOUND.fullmatch(said) is not None


def id_of(request: Request) -> bytes:
    """The client's, else a new one, which is the request's from then on."""
    said = request.fields.get(REQUEST_ID, b"")
    if not is_sound(said):
        said = request.fields[REQUEST_ID] = new_id()
    return said


def with_id(headers: Headers, request_id: bytes) -> Headers:
    """PURE. Headers with that one added, where there is one."""
    return [*headers, (REQUEST_ID, request_id)] if request_id else headers
