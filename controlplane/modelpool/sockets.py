"""The socket that the manager listens on: taken, or left by the one before it."""

from __future__ import annotations

import logging
import os
import socket

from modelpool_client.errors import ModelPoolError

log = logging.getLogger(__name__)

BACKLOG = 2048
FIRST_FD = 3  # where systemd's protocol puts the first socket


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


def inherited_socket(host: str, port: int) -> socket.socket | None:
    """The listening socket that a former manager, or systemd, has left for this address."""
    pid, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    if pid != str(os.getpid()) or not count.isdecimal() or int(count) < 1:
        return None
    os.set_inheritable(FIRST_FD, False)
    sock = socket.socket(fileno=FIRST_FD)
    wanted = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    if sock.getsockname()[:2] in [address[:2] for *_, address in wanted]:
        sock.setblocking(False)
        return sock
    log.info("the address has changed: %s:%s instead of %s", host, port, sock.getsockname()[:2])
    sock.close()
    return None
