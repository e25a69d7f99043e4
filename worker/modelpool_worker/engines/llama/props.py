"""What llama.cpp's server says of the model that it has loaded: asked from within its process.

By hand, for a client library would take longer to import than both questions take.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
from typing import Any

_RECEIVE_BYTES = 1 << 16


def template_capabilities(path: str, timeout: float) -> dict[str, Any]:
    """What the chat template has a place for; empty where it cannot be known. ``path`` is that of
    the server's unix socket, ``timeout`` in seconds."""
    with _told("its chat template"):
        found = json.loads(_ask(path, "GET", "/props", timeout)[1])["chat_template_caps"]
        return dict(found)
    return {}


def can_fill_in(path: str, timeout: float) -> bool:
    """Whether the model has the tokens for it; True where it cannot be known, for the server says
    so with every request."""
    with _told("fill in the middle"):
        # It looks for the tokens before it reads what it is asked.
        return _ask(path, "POST", "/infill", timeout)[0] != 501
    return True


def _ask(path: str, method: str, target: str, timeout: float) -> tuple[int, bytes]:
    """Status and body.

    Raises:
        OSError, ValueError: no answer, or none that makes sense.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout)
        connection.connect(path)
        head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        head += "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
        connection.sendall(head.encode())
        parts = []
        while part := connection.recv(_RECEIVE_BYTES):
            parts.append(part)
    first, _, body = b"".join(parts).partition(b"\r\n\r\n")
    return int(first.split(b" ", 2)[1]), body


@contextlib.contextmanager
def _told(what: str) -> Any:
    """Whatever goes wrong with a question, the load goes on."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, IndexError) as e:
        print(f"llama.cpp does not tell of {what}: {e!r}", file=sys.stderr, flush=True)
