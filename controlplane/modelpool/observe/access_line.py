"""PURE. A line of the access log: a request that is over, as a JSON object or as Apache and nginx
write it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from modelpool_client.wire import EndedRequest

# Longer texts of clients' are cut.
LONGEST = 1000
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_UNSAFE = re.compile(r'[\x00-\x1f"\\\x7f-\U0010ffff]')


@dataclass(slots=True)
class Access:
    """A request that is over, as its client's side has seen it.

    Attributes:
        at: when it came, seconds since 1970.
        request_id: by which its worker knows it, too.
        client: an address; empty where it is not known.
        path: as it was sent, without the query, in which there may be secrets.
        model: the one that was asked; as its name was sent, where none was.
        status: of the answer; 499 where its client has left.
        code: of the error, if there was one.
        sent_bytes: of the answer's body; None where it is not known.
        seconds: until the end of the answer, or of the request.
        first_token_seconds: until the first content of a stream.
        is_direct: it came straight to a worker's port.
    """

    at: float
    request_id: str = ""
    client: str = ""
    method: str = "POST"
    path: str = ""
    protocol: str = "HTTP/1.1"
    model: str = ""
    status: int = 0
    code: str = ""
    sent_bytes: int | None = None
    seconds: float = 0.0
    first_token_seconds: float | None = None
    referer: str = ""
    user_agent: str = ""
    is_direct: bool = False


def direct(request: EndedRequest, model_id: str) -> Access:
    """Of a request that came straight to a worker's port, as that tells of it."""
    return Access(
        request.started_at,
        request.request_id,
        path=request.path,
        model=model_id,
        status=request.status,
        code=request.code,
        seconds=request.seconds,
        first_token_seconds=request.first_seconds,
        is_direct=True,
    )


def json_line(access: Access, rows: Sequence[EndedRequest]) -> str:
    """``rows``: what workers have told of it; its tokens are theirs, and they alone know of a
    stream that broke off: its client reads of that, its status was 200."""
    status, code = access.status, access.code
    if status < 400 and rows and all(row.status >= 400 for row in rows):
        status, code = rows[-1].status, rows[-1].code
    said: dict[str, Any] = {
        "time": datetime.fromtimestamp(access.at, UTC).isoformat(timespec="milliseconds"),
        "request_id": access.request_id,
        "client": access.client or None,
        "method": access.method,
        "path": access.path[:LONGEST],
        "model": access.model[:LONGEST] or None,
        "status": status,
        "code": code or None,
        "bytes": access.sent_bytes,
        "seconds": round(access.seconds, 6),
        "first_token_seconds": _rounded(access.first_token_seconds),
        "prompt_tokens": sum(row.prompt_tokens for row in rows) if rows else None,
        "cached_tokens": sum(row.cached_tokens for row in rows) if rows else None,
        "completion_tokens": sum(row.completion_tokens for row in rows) if rows else None,
        "tokens_estimated": any(row.is_estimated for row in rows),
        "virtual_model": next((row.via for row in rows if row.via), None),
        "user_agent": access.user_agent[:LONGEST] or None,
        "direct": access.is_direct,
    }
    return json.dumps(said) + "\n"


def combined_line(access: Access) -> str:
    """As Apache's ``combined``, in UTC."""
    at = datetime.fromtimestamp(access.at, UTC)
    when = f"{at:%d}/{_MONTHS[at.month - 1]}/{at:%Y:%H:%M:%S} +0000"
    asked = f"{access.method} {access.path[:LONGEST]} {access.protocol}"
    size = "-" if access.sent_bytes is None else access.sent_bytes
    who, by, agent = access.client or "-", _safe(access.referer), _safe(access.user_agent)
    return f'{who} - - [{when}] "{_safe(asked)}" {access.status} {size} "{by}" "{agent}"\n'


def _safe(text: str) -> str:
    """As nginx writes what a client has sent."""
    return _UNSAFE.sub(_escaped, text[:LONGEST]) or "-"


def _escaped(found: re.Match[str]) -> str:
    return "".join(f"\\x{byte:02X}" for byte in found[0].encode("utf-8", "replace"))


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)
