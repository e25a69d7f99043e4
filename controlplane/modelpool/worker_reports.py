"""Where workers send their facts. Not part of the public API, and not on its way either: with 49
workers five of them come in every second."""

from __future__ import annotations

import re
import secrets

from modelpool_client.errors import Forbidden, InvalidRequest, MethodNotAllowed, Unavailable
from modelpool_client.http1.exchange import Exchange
from modelpool_client.surfaces.body import parse_object
from modelpool_client.wire import DecodeError, Facts, FactsReply, decode, encode

from modelpool.catalog.model import is_trial
from modelpool.observe.peaks import PeakMeter
from modelpool.observe.usage import UsageMeter
from modelpool.pool.pool import Pool

MAX_BYTES = 1 << 20
_ROUTE = re.compile(r"/internal/workers/([^/]+)/facts")


def reporter(path: str) -> str | None:
    """The id of the worker that reports by a request for ``path``; None where that is no report."""
    match = _ROUTE.fullmatch(path)
    return match[1] if match is not None else None


class WorkerReports:
    """Takes them in for a pool."""

    def __init__(self, pool: Pool, pool_id: str, peaks: PeakMeter, usage: UsageMeter) -> None:
        self._pool = pool
        self._pool_id = pool_id
        self._peaks = peaks
        self._usage = usage

    async def __call__(self, exchange: Exchange, path: str, worker_id: str) -> None:
        """Answer a worker.

        Raises:
            ModelPoolError: for the worker.
        """
        if exchange.request.method != "POST":
            raise MethodNotAllowed.of(path, exchange.request.method, ("POST",))
        try:
            facts = decode(Facts, parse_object(await exchange.read_body(MAX_BYTES)))
        except DecodeError as e:
            raise InvalidRequest(str(e), param="body") from None
        authorization = exchange.request.fields.get(b"authorization", b"")
        exchange.send_json(200, encode(self._hear(worker_id, authorization, facts)))

    def _hear(self, worker_id: str, authorization: bytes, facts: Facts) -> FactsReply:
        status = self._pool.status_of_worker(worker_id)
        if status is None or facts.pool_id != self._pool_id:
            return FactsReply(False, self._pool_id)
        if status.worker is None:  # its start is not written down yet, nor its secret known
            raise Unavailable("not known yet; say it again", retry_after=1)
        expected = f"Bearer {status.worker.record.secret}".encode()
        if not secrets.compare_digest(authorization, expected):
            raise Forbidden("that is not this worker's secret")
        if not is_trial(status.model.model_id):
            if status.started_with is not None:  # else nobody knows its options
                self._peaks.record(status.started_with, facts)
            self._usage.reported(worker_id, status.model.model_id, facts.tokens_total)
        return self._pool.record_facts(worker_id, facts)
