"""Lets each controller look at the pool, for ever."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

from modelpool.ticks import tick

log = logging.getLogger(__name__)

PERIOD_SECONDS = 5.0


class Controller(Protocol):
    """Something that compares what is with what should be."""

    async def reconcile(self) -> None:
        """Once."""
        ...


async def run(controllers: Sequence[Controller]) -> None:
    """None waits for another: one may be at the files of a disk that hangs."""
    await asyncio.gather(*map(_repeat, controllers))


async def _repeat(controller: Controller) -> None:
    """Every ``PERIOD_SECONDS``."""
    while True:
        await tick(PERIOD_SECONDS)
        await reconcile(controller)


async def reconcile(controller: Controller) -> None:
    """Once; a bug in it is not its end."""
    try:
        await controller.reconcile()
    except Exception:
        log.exception("a bug of the pool: %r failed", controller)
