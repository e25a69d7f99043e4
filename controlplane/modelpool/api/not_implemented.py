"""Routes that this version knows by name only: 501, so that nobody takes them for misspelt."""

from __future__ import annotations

from fastapi import APIRouter, Request
from modelpool_client.errors import NotSupported

ANY = ("GET", "POST", "PUT", "PATCH", "DELETE")
LATER: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("/peers", ("GET",)),
    ("/swaps", ("GET", "POST")),
    ("/swaps/{rest:path}", ANY),
    ("/experiments", ("GET", "POST")),
    ("/experiments/{rest:path}", ANY),
)


def add_to(router: APIRouter) -> None:
    """Add these routes; the description of the API leaves them out."""
    for path, methods in LATER:
        router.add_api_route(path, _not_yet, methods=list(methods), include_in_schema=False)


async def _not_yet(request: Request) -> None:
    raise NotSupported(f"{request.method} {request.url.path} is not in this version yet; see /docs")
