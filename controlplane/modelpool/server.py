"""The manager process: its port, its signals, its end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from socket import socket as Socket
from typing import Any

from modelpool_client.errors import ModelPoolError, PoolStopping
from modelpool_client.http1.server import HttpServer

from modelpool.app import Running, running
from modelpool.config import PoolConfig
from modelpool.describing import Describer
from modelpool.launchers import Launcher
from modelpool.reload import reload_config
from modelpool.restart import STOP_ASKED, STOPPING, cut_off, replace_process
from modelpool.services import Services
from modelpool.sockets import listening

log = logging.getLogger(__name__)

KEEP_ALIVE_SECONDS = 75
# After the workers have ended their work only a few answers are left to be written.
LAST_WORDS_SECONDS = 5


@dataclass(frozen=True)
class Heir:
    """What the next manager gets: the listening sockets, and the wish to stop if that came when it
    was too late to end the workers."""

    socks: Sequence[Socket]
    is_to_stop: bool


async def serve(
    config: PoolConfig, launcher: Launcher | None = None, describer: Describer | None = None
) -> Heir | None:
    """Run a pool until TERM or INT, then end its workers gracefully; HUP reads the config file
    again. Asked to restart it leaves them running and returns what the next manager needs.

    ``launcher`` takes the place of the local one: benchmarks start stand-ins with it.
    ``describer`` is asked about engines, and ended in the end.

    Raises:
        ModelPoolError: it could not be started; the text says why.
    """
    asked_to_stop = _stop_signal()
    socks = listening(config)
    heirs: list[Socket] = []
    try:
        async with running(config, launcher, describer=describer) as pool:
            if await _served(pool, socks, asked_to_stop):
                heirs = [sock.dup() for sock in socks]
    finally:
        _close(socks)
    return Heir(heirs, asked_to_stop.is_set()) if heirs else None


async def _served(pool: Running, socks: Sequence[Socket], asked_to_stop: asyncio.Event) -> bool:
    """Whether it is to go on in another manager."""
    config = pool.services.pool.config
    server = HttpServer(
        pool.entry,
        *socks,
        source="pool",
        timeouts=config.client_timeouts,
        keep_alive_seconds=KEEP_ALIVE_SECONDS,
        shortcut=pool.shortcut,
        on_ended=None if pool.access_log is None else pool.access_log.ended,
    )
    _reload_on_hangup(pool.services)
    await server.start()
    for port in config.ports_of_its_own:
        log.info("the pool listens on http://%s:%s", config.host, port)
    await _until_told(pool, asked_to_stop)
    if pool.services.restart.is_asked:
        await _make_way(pool, server, asked_to_stop)
        if not asked_to_stop.is_set():
            log.info("restarting: the workers wait for the next manager")
            await pool.leave()
            return True
    log.info("stopping: workers end their work first")
    await pool.stop()
    if pool.services.restart.is_asked:  # who may still take its time takes it from a restart only
        server.cut(PoolStopping("the pool is shutting down"))
    server.stop_accepting()
    await server.take_queued()  # nobody is to take over from this manager
    _close(socks)
    await server.close(LAST_WORDS_SECONDS)
    return False


def _close(socks: Sequence[Socket]) -> None:
    for sock in socks:
        sock.close()


async def _until_told(pool: Running, asked_to_stop: asyncio.Event) -> None:
    pool.services.restart.is_possible = True
    told: list[asyncio.Future[Any]] = [
        asyncio.ensure_future(asked_to_stop.wait()),
        asyncio.ensure_future(pool.services.restart.wait()),
    ]
    await asyncio.wait(told, return_when=asyncio.FIRST_COMPLETED)
    for waiting in told:
        waiting.cancel()


async def _make_way(pool: Running, server: HttpServer, asked_to_stop: asyncio.Event) -> None:
    """Take no more connections, let requests under way end in time, then cut the rest."""
    seconds = pool.services.restart.seconds
    log.info("restarting: requests have %.0f s to end, workers go on", seconds)
    pool.services.events.close()  # who follows them resumes at the next manager
    closing = asyncio.ensure_future(server.close(seconds + LAST_WORDS_SECONDS, is_restarting=True))
    told: asyncio.Future[Any] = asyncio.ensure_future(asked_to_stop.wait())
    await asyncio.wait({closing, told}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    if asked_to_stop.is_set():
        closing.cancel()
        return
    if not closing.done() and (count := server.cut(cut_off())):
        log.warning("restarting: %d requests are cut off", count)
    await closing


def _stop_signal() -> asyncio.Event:
    """Set by the first TERM or INT, even if that came to the manager before this one; the second
    ends the process at once, workers left as they are for the next manager."""
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if asked.is_set():
            log.warning("asked twice: leaving at once")
            sys.exit(1)
        asked.set()

    for number in STOPPING:
        loop.add_signal_handler(number, on_signal)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
    if os.environ.pop(STOP_ASKED, ""):
        asked.set()
    return asked


def _reload_on_hangup(services: Services) -> None:
    """Reloads wait for each other; what is wrong with the file is logged."""
    tasks: set[asyncio.Task[None]] = set()

    async def reload() -> None:
        try:
            await reload_config(services, "SIGHUP")
        except ModelPoolError as e:
            log.error("%s", e.message)

    def on_signal() -> None:
        task = asyncio.ensure_future(reload())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, on_signal)


def run(
    config: PoolConfig, launcher: Launcher | None = None, describer: Describer | None = None
) -> None:
    """``serve`` on the fastest loop there is, and again after a restart."""
    try:
        import uvloop
    except ImportError:  # not on this platform
        heir = asyncio.run(serve(config, launcher, describer))
    else:
        heir = uvloop.run(serve(config, launcher, describer))
    if heir is not None:
        replace_process(heir.socks, is_to_stop=heir.is_to_stop)
