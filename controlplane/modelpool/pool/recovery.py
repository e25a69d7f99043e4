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
from modelpool.pool.crew import Burial, Crew, Journal, Worker, WorkerLink
from modelpool.pool.patience import in_time
from modelpool.pool.pool import Pool

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
        crew: Crew,
        launcher: Launcher,
        link: WorkerLink,
        journal: Journal,
        is_running: Callable[[int, float | None], bool] = is_process,
    ) -> None:
        self._pool = pool
        self._crew = crew
        self._launcher = launcher
        self._link = link
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
            await self._crew.forget(row)
            return "gone"
        worker = Worker(row, process)
        facts = await self._facts(worker)
        is_sound = facts is not None and self._is_sound(row, process, facts)
        if facts is not None and is_sound and self._pool.adopt(worker, facts):
            return "adopted"
        self._pool.strays.end(worker, facts, self._end(worker, facts))
        return "ended"

    async def _end(self, worker: Worker, facts: Facts | None) -> Burial:
        if facts is None:  # it hangs
            return await self._crew.bury(worker, None, killed=True)
        grace, told = self._pool.config.graceful_shutdown_seconds, facts.phase is Phase.DRAINING
        return await self._crew.retire(worker, cut=False, grace=grace, told=told)

    async def _facts(self, worker: Worker) -> Facts | None:
        for again in range(ASKED):
            await asyncio.sleep(PAUSE_SECONDS if again else 0)
            with contextlib.suppress(OSError):
                facts = await in_time(lambda: self._link.facts(worker), FACTS_SECONDS)
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
