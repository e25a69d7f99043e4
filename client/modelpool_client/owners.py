"""PURE. Whose a kept answer is: of whoever shows the same key, of which only a digest is known.

There are no accounts. A key is whatever a request brings as one; what was kept without any is
everybody's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from modelpool_client.http1.message import Request
from modelpool_client.wire import OWNER_HEADER

_KEYS = (b"authorization", b"x-api-key")
NOBODY = ""


def owner_of(request: Request) -> str:
    """A digest of the key that a client shows, in whichever header; NOBODY where it shows none."""
    key = next((value for name in _KEYS if (value := request.fields.get(name))), b"").strip()
    scheme, _, rest = key.partition(b" ")
    if scheme.lower() == b"bearer":
        key = rest.strip()
    return hashlib.sha256(b"modelpool owner " + key).hexdigest()[:32] if key else NOBODY


def told_owner(request: Request) -> str:
    """The same of a request that the gateway has passed on, which keeps keys to itself."""
    return request.fields.get(OWNER_HEADER, b"").decode("latin-1")


def is_owned_by(kept: Mapping[str, object], owner: str) -> bool:
    """May that one have it?"""
    return kept.get("owner", NOBODY) in (NOBODY, owner)
