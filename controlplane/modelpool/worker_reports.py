"""Where workers send their facts. Not part of the public API, and not on its way either: with 49
workers five of them come in every second."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import replace

from modelpool_client import __version__
from modelpool_client.errors import Forbidden, InvalidRequest, MethodNotAllowed, Unavailable
from modelpool_client.http1.exchange import Exchange, not_about_a_request
from modelpool_client.surfaces.body import parse_object
from modelpool_client.wire import DecodeError, Facts, FactsReply, Phase, decode, encode

from modelpool.catalog.model import Model, is_trial
from modelpool.catalog.recent import Recent
from modelpool.observe.ended import EndedRequests
from modelpool.observe.peaks import PeakMeter
from modelpool.observe.usage import UsageMeter
from modelpool.pool.pool import Pool

MAX_BYTES = 2 << 20
# Of so many what was said once is not said again; more than have a worker at a time.
MODELS_REMEMBERED = 256
_ROUTE = re.compile(r"/internal/workers/([^/]+)/facts")


def reporter(path: str) -> str | None:
    """The id of the worker that reports by a request for ``path``; None where that is no report."""
    match = _ROUTE.fullmatch(path)
    return match[1] if match is not None else None


class WorkerReports:
    """Takes them in for a pool."""

    def __init__(
        self,
        pool: Pool,
        pool_id: str,
        peaks: PeakMeter,
        usage: UsageMeter,
        warn: Callable[[Model, str], object] = lambda model, text: None,
        chat_failed: Callable[[Model, str], object] = lambda model, text: None,
        ended: EndedRequests | None = None,
        on_facts: Callable[[str, Phase], object] | None = None,
    ) -> None:
        """``on_facts`` hears of the phase of a model's worker."""
        self._ended = ended
        self._on_facts = on_facts
        self._pool = pool
        self._pool_id = pool_id
        self._peaks = peaks
        self._usage = usage
        self._warn = warn
        self._chat_failed = chat_failed
        # Of which versions, and which worker said that it cannot chat; by model.
        self._warned: Recent[str, str] = Recent(MODELS_REMEMBERED)
        self._mute: Recent[str, str] = Recent(MODELS_REMEMBERED)

    async def __call__(self, exchange: Exchange, path: str, worker_id: str) -> None:
        """Answer a worker.

        Raises:
            ModelPoolError: for the worker.
        """
        not_about_a_request()
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
        if status.started_with is not None:  # else nobody knows its options
            self._peaks.record(status.started_with, facts)
            self._hear_of_chat(worker_id, status.started_with, facts.chat_error)
        if self._on_facts is not None:
            self._on_facts(status.model.model_id, facts.phase)
        self._compare_versions(status.model, facts.version)
        if not is_trial(status.model.model_id):
            self._usage.reported(worker_id, status.model.model_id, facts.tokens_total)
        if facts.ended is None or self._ended is None:
            return self._pool.record_facts(worker_id, facts)
        reply = self._pool.record_facts(worker_id, replace(facts, ended=None))
        return self._ended.told(worker_id, status.model, facts.ended, reply)

    def _hear_of_chat(self, worker_id: str, model: Model, error: str) -> None:
        """Of a chat template that does not work: once from each worker."""
        if error and not is_trial(model.model_id) and self._mute.get(model.model_id) != worker_id:
            self._mute.put(model.model_id, worker_id)
            self._chat_failed(model, error)

    def _compare_versions(self, model: Model, version: str) -> None:
        """A worker from another environment may be of another version: that is said once. One of
        the manager's own is, after an update, until it is loaded again."""
        if version in ("", __version__) or self._warned.get(model.model_id) == version:
            return
        self._warned.put(model.model_id, version)
        place = f"environment {model.environment}" if model.environment else "its environment"
        self._warn(
            model,
            f"its worker is of modelpool {version}, this pool of {__version__}: load it again once"
            f" {place} has this version",
        )
