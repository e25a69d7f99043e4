"""Keeps the catalog true to the disk: looks through roots that are new, changed, or due."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from modelpool_client.errors import ModelPoolError

from modelpool.config import PoolConfig
from modelpool.discovery.adopt import Adopted, adopt
from modelpool.discovery.discovery import Discovery, Looking, Tell
from modelpool.discovery.roots import (
    Root,
    can_be_watched,
    file_system_of,
    is_due,
    wanted_roots,
)
from modelpool.jobs.process import run_process
from modelpool.services import Services

log = logging.getLogger(__name__)

WATCHER = "modelpool.discovery.watcher"
MOUNTINFO = Path("/proc/self/mountinfo")
# A watcher that ended is begun again after that.
RESTART_SECONDS = 60.0
GGUF = "gguf"


def roots_of(config: PoolConfig) -> dict[str, Root]:
    """Those of the configuration in force."""
    external = config.external_models_dir
    return wanted_roots(config.discovery_paths, external, os.environ, Path.home())


def open_folders(services: Services) -> frozenset[str]:
    """Those of which all is told: what config file and environment name. What the API has set does
    not count, or whoever reaches it could open any folder to itself."""
    configured = services.configured
    folders = (os.path.abspath(os.path.expanduser(f)) for f in configured.readable_folders)
    return frozenset((*folders, *roots_of(configured)))


def looking(config: PoolConfig) -> Looking:
    """How the configuration wants roots to be looked through."""
    left_out = () if config.enable_gguf_models else (GGUF,)
    return Looking(config.discovery_calm_seconds, config.discovery_stall_seconds, left_out)


async def look(services: Services, paths: Collection[str] | None, tell: Tell) -> Adopted:
    """Look through roots, all of them where none is named, and bring what is there into the
    catalog. One look at a time.

    Raises:
        StoreError: it could not be written down.
    """
    discovery, config = services.discovery, services.pool.config
    async with discovery.is_scanning:
        await discovery.want(roots_of(config), open_folders(services))
        chosen = [p for p in discovery.reports if paths is None or p in paths]
        await discovery.scan(chosen, looking(config), tell)
        return await adopt(services)


class DiscoveryController:
    """Looks by itself. ``wall`` gives seconds since 1970; ``watch`` runs a watcher of some roots
    until it ends, and is given what is told its messages."""

    def __init__(
        self,
        services: Services,
        wall: Callable[[], float],
        watch: Callable[[Collection[str], Callable[[Mapping[str, Any]], object]], Any],
    ) -> None:
        self._services = services
        self._wall = wall
        self._run_watcher = watch
        self._changed: dict[str, tuple[float, float]] = {}
        self._watched: set[str] = set()
        self._watching: frozenset[str] = frozenset()
        self._watcher: asyncio.Task[None] | None = None
        self._begun_at = float("-inf")

    def __repr__(self) -> str:
        return f"<DiscoveryController {len(self._watched)} watched>"

    @property
    def _discovery(self) -> Discovery:
        return self._services.discovery

    async def reconcile(self) -> None:
        """Look through what is due."""
        config = self._services.pool.config
        wanted = roots_of(config)
        if not wanted and not self._discovery.reports:
            return
        async with self._discovery.is_scanning:
            is_other = await self._discovery.want(wanted, open_folders(self._services))
        await self._watch(config)
        due = self._due(config)
        if due or is_other or self._may_go():
            for path in due:
                self._changed.pop(path, None)
            with contextlib.suppress(ModelPoolError):  # a store that fails says so elsewhere
                await look(self._services, due, lambda *_: None)

    def _due(self, config: PoolConfig) -> list[str]:
        now, interval = self._wall(), config.discovery_interval_seconds
        calm = config.discovery_calm_seconds
        return [
            path
            for path, report in self._discovery.reports.items()
            if is_due(report, now, interval, self._changed.get(path), calm, path in self._watched)
        ]

    def _may_go(self) -> bool:
        """Whether a model whose files went was unloaded meanwhile."""
        pool = self._services.pool
        return any(
            not any(status.state.has_worker for status in pool.statuses(model_id))
            for model_id in self._services.vanished
            if pool.has(model_id)
        )

    async def _watch(self, config: PoolConfig) -> None:
        """Have a watcher for just those roots that can be watched."""
        mounts = await asyncio.to_thread(_mountinfo) if config.watch_discovery_paths else None
        wanted = frozenset(
            path
            for path, report in self._discovery.reports.items()
            if mounts is not None
            and report.state == "ready"
            and can_be_watched(file_system_of(path, mounts))
        )
        is_running = self._watcher is not None and not self._watcher.done()
        if wanted == self._watching and (is_running or not wanted):
            return
        if wanted == self._watching and self._wall() - self._begun_at < RESTART_SECONDS:
            return
        await self.close()
        self._watching, self._begun_at = wanted, self._wall()
        if wanted:
            self._watcher = asyncio.ensure_future(self._watch_on(wanted))

    async def _watch_on(self, roots: Collection[str]) -> None:
        try:
            await self._run_watcher(sorted(roots), self._on_message)
        except ModelPoolError as e:
            log.warning("folders of models are not watched: %s", e)
        finally:
            self._watched.clear()

    def _on_message(self, message: Mapping[str, Any]) -> None:
        if path := message.get("changed"):
            now = self._wall()
            first, _ = self._changed.get(path, (now, now))
            self._changed[path] = (first, now)
        elif path := message.get("watched"):
            self._watched.add(path)
            # What changed between the last look and now was not told.
            self._changed.setdefault(path, (self._wall(), self._wall()))
        elif path := message.get("unwatched"):
            log.warning("%s is not watched: %s; it is looked at now and then", path, message)

    async def close(self) -> None:
        """End the watcher."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
            self._watcher = None


def _mountinfo() -> str:
    """Empty where the system has none: then everything can be watched."""
    try:
        return MOUNTINFO.read_text(errors="replace")
    except OSError:
        return ""


async def run_watcher(
    roots: Collection[str], on_message: Callable[[Mapping[str, Any]], object]
) -> None:
    """In a process of its own, until it is cancelled or ends.

    Raises:
        ModelPoolError: it ended.
    """
    await run_process(WATCHER, {"roots": list(roots)}, on_message)
