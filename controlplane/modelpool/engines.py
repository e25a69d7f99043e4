"""Which engines are usable here: asked of a worker process, for the manager imports none."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Sequence
from typing import Any

log = logging.getLogger(__name__)

DESCRIBE_SECONDS = 60.0


class Engines:
    """Asks once, in the background, and remembers."""

    def __init__(self, command: Sequence[str] = (sys.executable, "-m", "modelpool_worker")) -> None:
        self._command = tuple(command)
        self._asking: asyncio.Task[list[dict[str, Any]]] | None = None

    async def all(self) -> list[dict[str, Any]]:
        """``name, usable, reason, install_hint, formats`` of each; empty if it cannot be known."""
        if self._asking is None:
            self._asking = asyncio.ensure_future(self._ask())
        return await asyncio.shield(self._asking)

    async def names(self) -> frozenset[str] | None:
        """Names that a model's engine may have; None, any, if it cannot be known."""
        found = frozenset(str(engine["name"]) for engine in await self.all())
        return found or None

    async def _ask(self) -> list[dict[str, Any]]:
        process = await asyncio.create_subprocess_exec(
            *self._command,
            "describe",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(DESCRIBE_SECONDS):
                out, _ = await process.communicate()
            return list(json.loads(out)["engines"])
        except (TimeoutError, ValueError, KeyError) as e:
            if process.returncode is None:
                process.kill()
                await process.wait()
            log.error("the worker could not describe its engines: %r", e)
            return []
