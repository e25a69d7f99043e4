"""How long requests want their model kept: it acts on the lease, as far as others let it."""

from __future__ import annotations

import math

from modelpool_client.errors import Conflict

from modelpool.pool.pool import Pool

REASON = "a request asked that it be unloaded (keep_alive 0)"


def keep(pool: Pool, model_id: str, seconds: float | None) -> None:
    """After a request. None: as ever. 0: its worker goes if it is idle. Else its lease is at least
    so many seconds long from now on, as far as ``max_ttl_minutes`` allows; a lease that others have
    is never made shorter."""
    if seconds is None or not pool.has(model_id):
        return
    if seconds == 0:
        for status in pool.statuses(model_id):
            pool.evict_if_idle(status.key, REASON)
        return
    left = pool.status(model_id).lease.remaining(pool.clock.now())
    longest = pool.config.max_ttl_minutes * 60
    wanted = longest if math.isinf(seconds) else seconds
    if left is None or wanted <= left:
        return
    try:
        pool.extend(model_id, wanted - left)
    except Conflict:  # it is gone already
        return
