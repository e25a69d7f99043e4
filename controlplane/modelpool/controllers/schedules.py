"""Loads and unloads by the clock."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime

from modelpool_client.errors import ModelPoolError

from modelpool.catalog.model import Model
from modelpool.controllers.cron import due
from modelpool.pool.pool import Pool

log = logging.getLogger(__name__)


class ScheduleController:
    """``wall`` gives local time; ``prepare`` is awaited before a load, and raises why there can be
    none."""

    def __init__(
        self,
        pool: Pool,
        wall: Callable[[], datetime],
        prepare: Callable[[str], Awaitable[None]],
    ) -> None:
        self._pool = pool
        self._wall = wall
        self._prepare = prepare
        self._looked = wall()
        self._edition = -1
        self._scheduled: list[Model] = []

    async def reconcile(self) -> None:
        """Do what has come due since the last time; failures of loads are in the models' own state
        and events."""
        now, since = self._wall(), self._looked
        self._looked = now
        # Side by side: the files of one may be long in being read.
        await asyncio.gather(
            *(
                self._act(model.model_id, due(model.schedule, since, now))
                for model in self._with_schedules()
            )
        )

    def _with_schedules(self) -> list[Model]:
        if self._edition != self._pool.edition:
            self._edition = self._pool.edition
            self._scheduled = [model for model in self._pool.models if model.schedule]
        return self._scheduled

    async def _act(self, model_id: str, actions: Iterable[str]) -> None:
        for action in actions:
            with contextlib.suppress(ModelPoolError):
                if action == "load":
                    await self._prepare(model_id)
                    await self._pool.load(model_id, "scheduled", None)
                else:
                    ending = self._pool.unload(model_id, "scheduled")
                    ending.add_done_callback(_log_refusal)


def _log_refusal(ending: asyncio.Future[str]) -> None:
    """A plain unload of what is pinned or a warm-up model is refused; nobody waits to hear it."""
    if not ending.cancelled() and (error := ending.exception()) is not None:
        log.warning("scheduled unload: %s", error)
