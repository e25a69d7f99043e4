"""An engine that computes elsewhere: its worker has a front and no child."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from modelpool_client.errors import LoadFailed
from modelpool_client.wire import WORKER_EXIT_LOAD_FAILED, PromptCacheLimits, ServedModels

from modelpool_worker.backend import Listener
from modelpool_worker.engine import EngineJob, RemoteEngine, Status
from modelpool_worker.left_behind import note_job, strike_out
from modelpool_worker.link import HoldsMemory

from .names import Names
from .server import Server


class RemoteBackend:
    """Opens the engine's link when it is attached, and reports how that went.

    Raises LoadFailed where the job cannot be right.
    """

    pid = None
    started = None

    def __init__(self, engine: RemoteEngine, job: EngineJob, folder: str = "") -> None:
        """
        Args:
            folder: where it is noted what the server holds, for whoever ends it if we are killed.
        """
        self.exit_code: int | None = None
        self.last_lines: deque[str] = deque()
        engine.check(job.options)
        self.link = engine.connect(job)
        self.probe = self.link.probe
        # Links to one model of a server that has no limits need neither this nor names.
        self._server: Server | None = getattr(self.link, "server", None)
        self.held = self.link.held if isinstance(self.link, HoldsMemory) else None
        self._engine = engine
        self._job = job
        self._folder = folder
        self._opening: asyncio.Task[None] | None = None
        self._gone = asyncio.Event()

    def __repr__(self) -> str:
        return f"<RemoteBackend {self._engine.name}>"

    @property
    def _names(self) -> Names | None:
        return getattr(self.link, "names", None)

    @property
    def serves_others(self) -> bool:
        """See ``Backend``."""
        return self._names is not None and self._names.is_provider

    @property
    def served(self) -> Sequence[str]:
        """See ``Backend``."""
        return () if self._names is None else self._names.served

    def resolve(self, name: str) -> bool:
        """See ``Backend``."""
        return self._names is not None and self._names.knows(name)

    def serve(self, models: ServedModels) -> None:
        """See ``Backend``."""
        if self._names is not None and self._names.is_provider:
            self._names.become(models.names, is_open=models.is_open)

    def upstream(self) -> Mapping[str, Any]:
        """See ``Backend``."""
        return {} if self._server is None else self._server.shown()

    def attach(self, loop: asyncio.AbstractEventLoop, listener: Listener) -> None:
        """See ``Backend``."""
        self._opening = loop.create_task(self._open(listener))

    async def _open(self, listener: Listener) -> None:
        status = Status(listener.on_status)
        status.begins(self._engine.honours)
        if isinstance(self.link, HoldsMemory):
            note_job(self._folder, asdict(self._job))
        try:
            await self.link.open(status)
        except LoadFailed as e:
            status.failed(e.code, e.message)
        except Exception as e:
            status.failed("load_failed", repr(e))
        else:
            return
        self.exit_code = WORKER_EXIT_LOAD_FAILED
        self._gone.set()
        listener.on_exit(self.exit_code)

    async def wait(self) -> None:
        """See ``Backend``."""
        await self._gone.wait()

    async def stop(self, grace: float, save: PromptCacheLimits | None = None) -> None:
        """See ``Backend``."""
        if self._opening is not None:
            self._opening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._opening
        if isinstance(self.link, HoldsMemory):
            await self.link.unload()
            strike_out(self._folder)
        self.kill()

    def kill(self) -> None:
        """See ``Backend``."""
        self.link.close()
        if self.exit_code is None:
            self.exit_code = 0
        self._gone.set()
