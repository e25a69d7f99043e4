"""How long requests want their model kept: it acts on the lease, as far as others let it."""

from __future__ import annotations

import asyncio

from modelpool_client.errors import Conflict
from modelpool_client.http1.message import Headers

from modelpool.pool.pool import Pool

HEADER = b"x-modelpool-keep-alive"
REASON = "a request asked that it be unloaded (keep_alive 0)"
# A worker may not have counted the end of a request yet whose answer its client has already.
TRIES_SECONDS = (0.0, 0.1, 0.5, 2.0)
# By what the worker's own count of its last use may differ from ours.
COUNTED_SECONDS = 0.05


class KeepAlive:
    """After a request, for its model."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._tasks: set[asyncio.Task[None]] = set()

    def keep(self, model_id: str, seconds: float | None) -> None:
        """None: as ever. 0: its workers go if they are idle, and nobody uses them meanwhile. Else
        its lease is at least so many seconds long from now on, as far as ``max_ttl_minutes``
        allows; a lease that others have is never made shorter."""
        if seconds is None or not self._pool.has(model_id):
            return
        if seconds == 0:
            task = asyncio.create_task(self._end(model_id))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return
        left = self._pool.status(model_id).lease.remaining(self._pool.clock.now())
        wanted = self._granted(seconds)
        if left is None or wanted <= left:
            return
        try:
            self._pool.extend(model_id, wanted - left)
        except Conflict:  # it is gone already
            return

    def told(self, seconds: float | None) -> Headers:
        """What an answer says of a wish that is longer than ``max_ttl_minutes``: how many seconds
        it is kept."""
        if seconds is None or (granted := self._granted(seconds)) == seconds:
            return []
        return [(HEADER, f"{granted:g}".encode())]

    def _granted(self, seconds: float) -> float:
        return min(seconds, self._pool.config.max_ttl_minutes * 60)

    async def _end(self, model_id: str) -> None:
        since = self._pool.clock.now() + COUNTED_SECONDS
        for pause in TRIES_SECONDS:
            await asyncio.sleep(pause)
            if not self._pool.has(model_id):
                return
            self._pool.unload_if_unused(model_id, since, REASON)
