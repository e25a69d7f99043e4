"""Which engines are usable here: asked of a worker process, for the manager imports none."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Sequence
from typing import Any

from modelpool_client.errors import InvalidRequest

from modelpool.catalog.model import Model

log = logging.getLogger(__name__)

DESCRIBE_SECONDS = 60.0
# Codes of a worker's refusal that concern the model's entry, and the parameter at fault.
REFUSALS = {"bad_config": "options", "bad_file": "source"}


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

    async def check(self, model: Model) -> int | None:
        """Would the model's engine take its options and its file? Bytes that it expects to need,
        where it can tell.

        Raises:
            InvalidRequest: no, and why; an engine that is merely not installed yet is no reason.
        """
        options = json.dumps(dict(model.options))
        asked = ("--engine", model.engine, "--source", model.source, "--options", options)
        found = await self._describe(*asked)
        param = REFUSALS.get(str((found or {}).get("code")))
        if found is not None and param is not None:
            raise InvalidRequest(str(found["reason"]), param=param, code=found["code"])
        told = (found or {}).get("memory_bytes")
        return told if isinstance(told, int) else None

    async def _ask(self) -> list[dict[str, Any]]:
        found = await self._describe()
        return list((found or {}).get("engines", []))

    async def _describe(self, *arguments: str) -> dict[str, Any] | None:
        """What a worker process says of its engines; None when it says nothing sensible."""
        process = await asyncio.create_subprocess_exec(
            *self._command,
            "describe",
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(DESCRIBE_SECONDS):
                out, _ = await process.communicate()
            found: dict[str, Any] = json.loads(out)
            return found
        except (TimeoutError, ValueError) as e:
            if process.returncode is None:
                process.kill()
                await process.wait()
            log.error("the worker could not describe its engines: %r", e)
            return None
