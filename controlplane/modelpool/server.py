"""The manager process: its port, its signals, its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from socket import socket as Socket
from typing import Any

import uvicorn
from modelpool_client.errors import ModelPoolError, PoolStopping
from modelpool_client.surfaces.connections import close_stalled

from modelpool.app import Running, running
from modelpool.config import PoolConfig
from modelpool.launchers import Launcher
from modelpool.reload import reload_config
from modelpool.restart import STOP_ASKED, STOPPING, cut_off, replace_process
from modelpool.services import Services
from modelpool.sockets import bind, inherited_socket

log = logging.getLogger(__name__)

KEEP_ALIVE_SECONDS = 75
# After the workers have ended their work only a few answers are left to be written.
LAST_WORDS_SECONDS = 5


class _Server(uvicorn.Server):
    """Leaves the signals to us: a pool ends its workers before it stops answering."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@dataclass(frozen=True)
class Heir:
    """What the next manager gets: the listening socket, and the wish to stop if that came when it
    was too late to end the workers."""

    sock: Socket
    is_to_stop: bool


async def serve(config: PoolConfig, launcher: Launcher | None = None) -> Heir | None:
    """Run a pool until TERM or INT, then end its workers gracefully; HUP reads the config file
    again. Asked to restart it leaves them running and returns what the next manager needs.

    ``launcher`` takes the place of the local one: benchmarks start stand-ins with it.

    Raises:
        ModelPoolError: it could not be started; the text says why.
    """
    asked_to_stop = _stop_signal()
    sock = inherited_socket(config.host, config.port) or bind(config.host, config.port)
    heir: Socket | None = None
    try:
        async with running(config, launcher) as pool:
            if await _served(pool, sock, asked_to_stop):
                heir = sock.dup()
    finally:
        sock.close()
    return Heir(heir, asked_to_stop.is_set()) if heir is not None else None


async def _served(pool: Running, sock: Socket, asked_to_stop: asyncio.Event) -> bool:
    """Whether it is to go on in another manager."""
    server = _Server(_settings(pool.app))
    _reload_on_hangup(pool.services)
    serving = asyncio.ensure_future(server.serve(sockets=[sock.dup()]))
    config = pool.services.pool.config
    connections = server.server_state.connections
    closing = asyncio.ensure_future(close_stalled(connections, config.client_timeouts, "pool"))
    serving.add_done_callback(lambda _: closing.cancel())
    log.info("the pool listens on http://%s:%s", config.host, config.port)
    await _until_told(pool, serving, asked_to_stop)
    if pool.services.restart.is_asked:
        await _make_way(pool, server, serving, asked_to_stop)
        if not asked_to_stop.is_set():
            log.info("restarting: the workers wait for the next manager")
            await pool.leave()
            return True
    sock.close()  # the server has one of its own; nobody is to take over from this manager
    log.info("stopping: workers end their work first")
    await pool.stop()
    server.should_exit = True
    if pool.services.restart.is_asked:  # who may still take its time takes it from a restart only
        pool.cut(PoolStopping("the pool is shutting down"))
    await serving
    return False


async def _until_told(
    pool: Running, serving: asyncio.Future[None], asked_to_stop: asyncio.Event
) -> None:
    pool.services.restart.is_possible = True
    told: list[asyncio.Future[Any]] = [
        asyncio.ensure_future(asked_to_stop.wait()),
        asyncio.ensure_future(pool.services.restart.wait()),
    ]
    await asyncio.wait([serving, *told], return_when=asyncio.FIRST_COMPLETED)
    for waiting in told:
        waiting.cancel()


async def _make_way(
    pool: Running,
    server: _Server,
    serving: asyncio.Future[None],
    asked_to_stop: asyncio.Event,
) -> None:
    """Take no more connections, let requests under way end in time, then cut the rest."""
    seconds = pool.services.restart.seconds
    log.info("restarting: requests have %.0f s to end, workers go on", seconds)
    pool.services.events.close()  # who follows them resumes at the next manager
    server.config.timeout_graceful_shutdown = math.ceil(seconds) + LAST_WORDS_SECONDS
    server.should_exit = True
    told: asyncio.Future[Any] = asyncio.ensure_future(asked_to_stop.wait())
    await asyncio.wait({serving, told}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    if asked_to_stop.is_set():
        return
    if not serving.done():
        log.warning("restarting: %d requests are cut off", pool.cut(cut_off()))
    await serving


def _settings(app: object) -> uvicorn.Config:
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        http="httptools",
        ws="none",
        loop="none",
        lifespan="off",
        access_log=False,
        proxy_headers=False,
        log_config=None,
        server_header=False,
        date_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=LAST_WORDS_SECONDS,
    )


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


def run(config: PoolConfig, launcher: Launcher | None = None) -> None:
    """``serve`` on the fastest loop there is, and again after a restart."""
    try:
        import uvloop
    except ImportError:  # not on this platform
        heir = asyncio.run(serve(config, launcher))
    else:
        heir = uvloop.run(serve(config, launcher))
    if heir is not None:
        replace_process(heir.sock, is_to_stop=heir.is_to_stop)
