"""The public port, taken before anything heavy is imported; and a socket beside it."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator


def bind(host: str, port: int, backlog: int = 2048) -> socket.socket:
    """A listening socket.

    Raises:
        OSError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Only past a TIME_WAIT of our own; a living listener still refuses us.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(backlog)
    except OSError:
        sock.close()
        raise
    return sock


@contextlib.contextmanager
def bound_beside(path: str, backlog: int = 2048) -> Iterator[tuple[socket.socket, ...]]:
    """A listening unix socket at ``path``, which is removed afterwards; none where ``path`` is
    empty or it cannot be had, for whoever would come that way comes to the port instead."""
    sock = _bind_local(path, backlog) if path else None
    try:
        yield (sock,) if sock is not None else ()
    finally:
        if sock is not None:
            sock.close()
            _remove(path)


def _bind_local(path: str, backlog: int) -> socket.socket | None:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove(path)  # of a dead one's
        sock.bind(path)
        sock.listen(backlog)
    except OSError:
        sock.close()
        return None
    return sock


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
