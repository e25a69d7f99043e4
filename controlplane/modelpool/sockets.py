"""The sockets that the manager listens on: taken, or left by the one before it."""

from __future__ import annotations

import logging
import os
import socket

from modelpool_client.errors import ModelPoolError

from modelpool.config import PoolConfig

log = logging.getLogger(__name__)

BACKLOG = 2048
ANOTHER_PORT = "Another pool or program is there; stop it, or set MODELPOOL_PORT to another port"
OLLAMA_IS_THERE = "Ollama itself is there, perhaps; stop it, or leave ollama_port out"
FIRST_FD = 3  # where systemd's protocol puts the first socket


class PortTaken(ModelPoolError):
    """Somebody else listens on a port of the manager's."""

    default_code = "port_taken"


def listening(config: PoolConfig) -> list[socket.socket]:
    """One for ``port`` and, where it is set, one for ``ollama_port``, in that order.

    Raises:
        PortTaken: see ``bind``.
    """
    left = _inherited()
    found: list[socket.socket] = []
    try:
        for port in config.ports_of_its_own:
            inherited = _taken_from(left, config.host, port)
            found.append(inherited or bind(config.host, port, _advice(config, port)))
    except PortTaken:
        for sock in found:
            sock.close()
        raise
    finally:
        for sock in left:
            log.info("nothing is served at %s any more", sock.getsockname()[:2])
            sock.close()
    return found


def check_free(config: PoolConfig) -> None:
    """See that a manager could take its ports.

    Raises:
        PortTaken: see ``bind``.
    """
    for port in config.ports_of_its_own:
        bind(config.host, port, _advice(config, port)).close()


def bind(host: str, port: int, advice: str = ANOTHER_PORT) -> socket.socket:
    """Take a port before anything else is done; ``advice`` is for whoever cannot have it.

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
        text = f"port {port} on {host} cannot be taken: {e.strerror}"
        raise PortTaken(f"{text}. {advice}") from None
    sock.setblocking(False)
    return sock


def _advice(config: PoolConfig, port: int) -> str:
    return OLLAMA_IS_THERE if port == config.ollama_port else ANOTHER_PORT


def _inherited() -> list[socket.socket]:
    """What a former manager, or systemd, has left."""
    pid, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    if pid != str(os.getpid()) or not count.isdecimal():
        return []
    found = range(FIRST_FD, FIRST_FD + int(count))
    for fd in found:
        os.set_inheritable(fd, False)
    return [socket.socket(fileno=fd) for fd in found]


def _taken_from(left: list[socket.socket], host: str, port: int) -> socket.socket | None:
    """That for an address, which is left no more."""
    wanted = [at[:2] for *_, at in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    for sock in left:
        if sock.getsockname()[:2] in wanted:
            left.remove(sock)
            sock.setblocking(False)
            return sock
    return None
