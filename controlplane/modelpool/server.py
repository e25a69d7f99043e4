"""The manager process: its port, its signals, its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import signal
import socket
import sys
from collections.abc import Iterator
from typing import Any

import uvicorn
from modelpool_client.errors import ModelPoolError

from modelpool.app import Running, running
from modelpool.config import PoolConfig
from modelpool.launchers import Launcher
from modelpool.reload import reload_config
from modelpool.restart import cut_off, inherited_socket, replace_process
from modelpool.services import Services

log = logging.getLogger(__name__)

BACKLOG = 2048
KEEP_ALIVE_SECONDS = 75
# After the workers have ended their work only a few answers are left to be written.
LAST_WORDS_SECONDS = 5


class PortTaken(ModelPoolError):
    """Somebody else listens on the manager's port."""

    default_code = "port_taken"


def bind(host: str, port: int) -> socket.socket:
    """Take the port before anything else is done.

    Raises:
        PortTaken: it is in use, or not ours to take.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except OSError as e:
        sock.close()
        raise PortTaken(
            f"port {port} on {host} cannot be taken: {e.strerror}. Another pool or program is"
            f" there; stop it, or set MODELPOOL_PORT to another port"
        ) from None
    sock.setblocking(False)
    return sock


class _Server(uvicorn.Server):
    """Leaves the signals to us: a pool ends its workers before it stops answering."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(config: PoolConfig, launcher: Launcher | None = None) -> socket.socket | None:
    """Run a pool until TERM or INT, then end its workers gracefully; HUP reads the config file
    again. Asked to restart it leaves them running and returns the socket for the next manager.

    ``launcher`` takes the place of the local one: benchmarks start stand-ins with it.

    Raises:
        ModelPoolError: it could not be started; the text says why.
    """
    sock = inherited_socket(config.host, config.port) or bind(config.host, config.port)
    try:
        async with running(config, launcher) as pool:
            for warning in config.warnings:
                log.warning("%s", warning)
            server = _Server(_settings(pool.app))
            asked_to_stop = _stop_signal()
            _reload_on_hangup(pool.services)
            heir = sock.dup()
            serving = asyncio.ensure_future(server.serve(sockets=[sock]))
            log.info("the pool listens on http://%s:%s", config.host, config.port)
            await _until_told(pool, serving, asked_to_stop)
            if pool.services.restart.is_asked:
                await _make_way(pool, server, serving)
            if pool.services.restart.is_asked and not asked_to_stop.is_set():
                await pool.leave()
                return heir
            heir.close()
            log.info("stopping: workers end their work first")
            await pool.stop()
            server.should_exit = True
            await serving
    finally:
        sock.close()
    return None


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


async def _make_way(pool: Running, server: _Server, serving: asyncio.Future[None]) -> None:
    """Take no more connections, let requests under way end in time, then cut the rest."""
    seconds = pool.services.restart.seconds
    log.info("restarting: requests have %.0f s to end, workers go on", seconds)
    pool.services.events.close()  # who follows them resumes at the next manager
    server.config.timeout_graceful_shutdown = math.ceil(seconds) + LAST_WORDS_SECONDS
    server.should_exit = True
    await asyncio.wait({serving}, timeout=seconds)
    if not serving.done():
        log.warning("restarting: %d requests are cut off", pool.cut(cut_off()))
    await serving


def _settings(app: object) -> uvicorn.Config:
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        http="httptools",
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
    """Set by the first TERM or INT; the second ends the process at once, workers left as they
    are for the next manager."""
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if asked.is_set():
            log.warning("asked twice: leaving at once")
            sys.exit(1)
        asked.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
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
        replace_process(heir)
