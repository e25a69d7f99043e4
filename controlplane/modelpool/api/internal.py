"""Where workers send their facts. Not part of the public API."""

from __future__ import annotations

import secrets
from typing import Annotated, Any

from fastapi import APIRouter, Body, Header
from modelpool_client.errors import Forbidden, InvalidRequest, Unavailable
from modelpool_client.wire import DecodeError, Facts, FactsReply, decode, encode

from modelpool.services import Services


def routes(services: Services) -> APIRouter:
    """The routes of one pool."""
    router = APIRouter(include_in_schema=False)

    @router.post("/internal/workers/{worker_id}/facts")
    async def facts(
        worker_id: str,
        body: Annotated[Any, Body()],
        authorization: Annotated[str, Header()] = "",
    ) -> dict[str, Any]:
        try:
            heard = decode(Facts, body)
        except DecodeError as e:
            raise InvalidRequest(str(e), param="body") from None
        status = services.pool.status_of_worker(worker_id)
        if status is None or heard.pool_id != services.pool_id:
            return _plain(FactsReply(False, services.pool_id))
        if status.worker is None:  # its start is not written down yet, nor its secret known
            raise Unavailable("not known yet; say it again", retry_after=1)
        expected = f"Bearer {status.worker.record.secret}"
        if not secrets.compare_digest(authorization.encode(), expected.encode()):
            raise Forbidden("that is not this worker's secret")
        if status.started_with is not None:  # else nobody knows its options
            services.peaks.record(status.started_with, heard)
        return _plain(services.pool.record_facts(worker_id, heard))

    return router


def _plain(reply: FactsReply) -> dict[str, Any]:
    plain: dict[str, Any] = encode(reply)
    return plain
