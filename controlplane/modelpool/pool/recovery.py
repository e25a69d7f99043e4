"""At the start: workers that a former manager left are adopted, or ended; never tripped over."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass

from modelpool_client.wire import Facts, Phase

from modelpool.catalog.database import WorkerRow
from modelpool.launchers import Launcher, WorkerProcess
from modelpool.launchers.local import is_process
from modelpool.pool.pool import Pool
from modelpool.pool.timeouts import in_time
from modelpool.pool.worker import ExitReport, Worker
from modelpool.pool.workers import Journal, WorkerClient, Workers

log = logging.getLogger(__name__)

FACTS_SECONDS = 5.0
# A worker that is starting, or has much to do, may miss one question.
ASKED = 2
PAUSE_SECONDS = 1.0


@dataclass(frozen=True)
class Recovery:
    """What became of the workers on record, by worker id. The ``ended`` ones may still be at it."""

    adopted: tuple[str, ...] = ()
    ended: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()


class Recoverer:
    """Goes through the journal once, before the pool takes requests.

    ``is_running`` says whether the process of that pid and start (None: unknown) is alive.
    """

    def __init__(
        self,
        pool: Pool,
        workers: Workers,
        launcher: Launcher,
        client: WorkerClient,
        journal: Journal,
        is_running: Callable[[int, float | None], bool] = is_process,
    ) -> None:
        self._pool = pool
        self._workers = workers
        self._launcher = launcher
        self._client = client
        self._journal = journal
        self._is_running = is_running

    async def recover(self) -> Recovery:
        """Adopt what serves and is ours, end what is ours and does not, forget what is gone."""
        rows = await self._journal.workers()
        fates = await asyncio.gather(*(self._decide(row) for row in rows))
        found: dict[str, list[str]] = {"adopted": [], "ended": [], "gone": []}
        for row, fate in zip(rows, fates, strict=True):
            found[fate].append(row.worker_id)
            log.info("worker %s of %s: %s", row.worker_id, row.model_id, fate)
        return Recovery(**{fate: tuple(ids) for fate, ids in found.items()})

    async def _decide(self, row: WorkerRow) -> str:
        process = await self._launcher.attach(row)
        if process is None:
            await self._launcher.sweep(row)
            await self._workers.forget(row)
            return "gone"
        worker = Worker(row, process, host=self._pool.config.host)
        facts = await self._facts(worker)
        is_sound = facts is not None and self._is_sound(row, process, facts)
        if facts is not None and is_sound and self._pool.adopt(worker, facts):
            return "adopted"
        self._pool.orphans.end(worker, facts, self._end(worker, facts))
        return "ended"

    async def _end(self, worker: Worker, facts: Facts | None) -> ExitReport:
        if facts is None:  # it hangs
            return await self._workers.reap(worker, None, is_killed=True)
        return await self._workers.stop(
            worker,
            lambda: facts,
            cut=False,
            grace=self._pool.config.graceful_shutdown_seconds,
            is_draining=facts.phase is Phase.DRAINING,
        )

    async def _facts(self, worker: Worker) -> Facts | None:
        for again in range(ASKED):
            await asyncio.sleep(PAUSE_SECONDS if again else 0)
            with contextlib.suppress(OSError):
                facts = await in_time(lambda: self._client.facts(worker), FACTS_SECONDS)
                if facts is not None:
                    return facts
        return None

    def _is_sound(self, row: WorkerRow, process: WorkerProcess, facts: Facts) -> bool:
        """It is the one on record, and its engine is the one that it started."""
        if (facts.worker_id, facts.pid) != (row.worker_id, process.pid):
            return False
        if facts.phase is Phase.FAILED:
            return False
        if facts.engine_pid is None:
            return facts.phase is not Phase.READY
        return self._is_running(facts.engine_pid, facts.engine_started)
