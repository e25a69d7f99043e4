"""The manager process: its port, its signals, its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Iterator

import uvicorn
from modelpool_client.errors import ModelPoolError

from modelpool.app import running
from modelpool.config import PoolConfig
from modelpool.launchers import Launcher

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


async def serve(config: PoolConfig, launcher: Launcher | None = None) -> None:
    """Run a pool until TERM or INT, then end its workers gracefully.

    ``launcher`` takes the place of the local one: benchmarks start stand-ins with it.

    Raises:
        ModelPoolError: it could not be started; the text says why.
    """
    sock = bind(config.host, config.port)
    try:
        async with running(config, launcher) as pool:
            for warning in config.warnings:
                log.warning("%s", warning)
            server = _Server(_settings(pool.app))
            asked_to_stop = _stop_signal()
            serving = asyncio.ensure_future(server.serve(sockets=[sock]))
            stopping = asyncio.ensure_future(asked_to_stop.wait())
            log.info("the pool listens on http://%s:%s", config.host, config.port)
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            log.info("stopping: workers end their work first")
            await pool.stop()
            server.should_exit = True
            await serving
    finally:
        sock.close()


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


def run(config: PoolConfig, launcher: Launcher | None = None) -> None:
    """``serve`` on the fastest loop there is."""
    try:
        import uvloop
    except ImportError:  # not on this platform
        asyncio.run(serve(config, launcher))
    else:
        uvloop.run(serve(config, launcher))
