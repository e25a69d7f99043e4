"""Requests that are over, as workers and the gateway tell of them: to the log and to usage."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import cache

from modelpool_client.errors import ModelPoolError
from modelpool_client.http1.message import Request
from modelpool_client.http1.request_ids import id_of
from modelpool_client.wire import CLIENT_LEFT, Ended, EndedRequest, FactsReply

from modelpool.catalog.catalog import Catalog
from modelpool.catalog.model import Model, is_trial
from modelpool.observe.captures import Captures
from modelpool.observe.requests import RequestLog
from modelpool.observe.usage_hours import UsageHours

LONGEST_NAME = 200


class EndedRequests:
    """Takes them in."""

    def __init__(
        self, catalog: Catalog, log: RequestLog, usage: UsageHours, captures: Captures
    ) -> None:
        self._captures = captures
        self._catalog = catalog
        self._log = log
        self._usage = usage

    def told(self, worker_id: str, model: Model, ended: Ended, reply: FactsReply) -> FactsReply:
        """What the worker of a model tells; the reply with what it is told of that."""
        if is_trial(model.model_id):
            saved = max((row.number for row in ended.usage), default=0)
            return replace(reply, ended_after=ended.last, usage_saved=saved, request_log=False)

        @cache  # there may be many requests, and they are for few models
        def model_id(name: str) -> str:
            """One of a provider's, perhaps, whose worker calls it as the provider does."""
            for called in (name, f"{model.model_id}:{name}"):
                own = self._catalog.find(called)
                if own is not None and model.model_id in (own.model_id, own.served_by):
                    return own.model_id
            return model.model_id

        return replace(
            reply,
            ended_after=self._log.take(worker_id, ended, model_id, self._captures.is_kept),
            usage_saved=self._usage.take(worker_id, ended.usage, model_id),
            request_log=self._log.is_wanted,
            capture=self._captures.order_for(model.model_id),
        )

    def refused(
        self,
        request: Request,
        path: str,
        name: object,
        error: ModelPoolError | None,
        seconds: float,
        *,
        is_stream: bool = False,
        via: bytes = b"",
    ) -> None:
        """A request of the gateway's ended before a worker had it. ``error`` None: its client has
        left. ``via``: the virtual model that it was for."""
        model = self._catalog.find(name) if isinstance(name, str) else None
        ended = EndedRequest(
            request_id=_text(id_of(request)),
            path=path,
            model=name[:LONGEST_NAME] if isinstance(name, str) else "",
            served=model.model_id if model is not None else "",
            started_at=time.time() - seconds,
            waited_seconds=seconds,
            seconds=seconds,
            status=CLIENT_LEFT if error is None else error.status,
            code="client_left" if error is None else error.code,
            is_stream=is_stream,
            via=_text(via),
        )
        if model is not None:
            self._usage.refused(model.model_id, seconds, is_error=ended.is_error)
        self._log.refused(ended.served, ended)


def _text(value: bytes) -> str:
    return value.decode("latin-1")[:LONGEST_NAME]
