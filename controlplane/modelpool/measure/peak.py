"""What a worker that was measured took of the memory, before it is ended."""

from __future__ import annotations

from typing import Protocol

from modelpool_client.http1.upstream_connection import UpstreamError
from modelpool_client.wire import Facts

from modelpool.observe.peaks import PeakMeter
from modelpool.pool.pool import Pool
from modelpool.pool.worker import Worker


class Measuring(Protocol):
    """Has a worker measure its memory."""

    async def measured_facts(self, worker: Worker) -> Facts: ...


async def learn_peak(
    pool: Pool, client: Measuring, peaks: PeakMeter, model_id: str
) -> Facts | None:
    """Have the model's worker measure its memory now, and learn from it: beats may be longer than
    a trial lasts. What it said; None where it has none, or does not answer."""
    status = pool.status(model_id)
    if status.worker is None:
        return None
    try:
        facts = await client.measured_facts(status.worker)
    except (UpstreamError, TimeoutError, ValueError, OSError):
        return None
    if status.started_with is not None:
        peaks.record(status.started_with, facts)
    return facts
