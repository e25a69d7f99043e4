"""Asks the workers of models what workloads say, as clients do, and sees how fast they answer."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

from modelpool_client.errors import EngineFailed, from_response
from modelpool_client.http1.exchange import JSON_TYPE
from modelpool_client.http1.upstream import Upstream
from modelpool_client.http1.upstream_connection import UpstreamConnection, UpstreamError
from modelpool_client.wire import RESOLVED_HEADER

from modelpool.pool.pool import Pool
from modelpool.pool.waiters import USED, Grant

from .requests import Workload
from .samples import Batch, Sample, Timed, read_results, read_stream

# One that takes longer says nothing that anybody would wait for.
REQUEST_SECONDS = 120.0


class Asking:
    """``now`` gives seconds, monotonic.

    Attributes:
        own: requests that were made here and are not over, by model id.
        made: all that were made here and had a worker to go to, by model id.
    """

    def __init__(self, pool: Pool, upstream: Upstream, now: Callable[[], float]) -> None:
        self._pool = pool
        self._upstream = upstream
        self._now = now
        self.own: Counter[str] = Counter()
        self.made: Counter[str] = Counter()

    async def batch(self, model_id: str, workload: Workload, streams: int, first: int) -> Batch:
        """So many requests at once, numbered from ``first``.

        Raises:
            ModelPoolError: one of them has no answer; the others are given up.
        """
        began = self._now()
        try:
            async with asyncio.TaskGroup() as group:
                numbers = range(first, first + streams)
                asked = [group.create_task(self._ask(model_id, workload, n)) for n in numbers]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        seconds = self._now() - began
        # Only now: reading many numbers takes a while, in which others would have to wait.
        return Batch([_sample(workload, *task.result()) for task in asked], seconds)

    async def _ask(
        self, model_id: str, workload: Workload, number: int
    ) -> tuple[list[Timed], float]:
        """What came, and when it was asked for."""
        began = self._now()
        self.own[model_id] += 1
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                grant = await self._pool.acquire(model_id, priority="low")
                self.made[model_id] += 1
                try:
                    return await self._answered(grant, workload.path, workload.body(number)), began
                finally:
                    grant.release(USED)
        except TimeoutError:
            raise EngineFailed(f"{model_id} did not answer in {REQUEST_SECONDS:g} s") from None
        except (UpstreamError, OSError) as e:
            raise EngineFailed(f"{model_id} gave no answer: {e}") from None
        finally:
            self.own[model_id] -= 1

    async def _answered(self, grant: Grant, path: str, body: bytes) -> list[Timed]:
        headers = [JSON_TYPE, (RESOLVED_HEADER, grant.model_id.encode())]
        asked = self._upstream.request(grant.endpoint, "POST", path.encode(), headers, body)
        with await asked as reply:
            if reply.status != 200:
                raise from_response(reply.status, (await reply.read()).decode(errors="replace"))
            return await self._pieces(reply)

    async def _pieces(self, reply: UpstreamConnection) -> list[Timed]:
        pieces = []
        while piece := await reply.piece():
            pieces.append((self._now(), piece))
        return pieces


def _sample(workload: Workload, pieces: list[Timed], began: float) -> Sample:
    if workload.is_text:
        return read_stream(pieces, began)
    return read_results(pieces, began, workload.form, workload.texts)
