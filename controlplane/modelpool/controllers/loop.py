"""Lets the controllers look at the pool, in turn and for ever."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

log = logging.getLogger(__name__)

PERIOD_SECONDS = 5.0


class Controller(Protocol):
    """Something that compares what is with what should be."""

    async def reconcile(self) -> None:
        """Once."""
        ...


async def run(controllers: Sequence[Controller]) -> None:
    """Every ``PERIOD_SECONDS``; a bug in one of them is the end of none."""
    while True:
        await asyncio.sleep(PERIOD_SECONDS)
        await reconcile(controllers)


async def reconcile(controllers: Sequence[Controller]) -> None:
    """Each of them once."""
    for controller in controllers:
        try:
            await controller.reconcile()
        except Exception:
            log.exception("a bug of the pool: %r failed", controller)
