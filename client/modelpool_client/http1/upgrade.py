"""The opening handshake of a WebSocket (RFC 6455, 4.2): a request is checked, and its connection
handed over."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable

from modelpool_client.errors import InvalidRequest, UpgradeRequired

from .connection import Connection, Server, ServerConnection
from .exchange import JSON_TYPE, Exchange
from .message import HOP_HEADERS, Headers, Request, end_to_end

VERSION = b"13"
KEY_BYTES = 16
# They are about the handshake, or about a body that it has not.
_NOT_CARRIED = (HOP_HEADERS - {b"host"}) | {b"content-type", b"content-encoding"}
_PREFIX = b"sec-websocket-"


def upgrade(
    exchange: Exchange, path: str, max_bytes: Callable[[], int], limit_key: str = ""
) -> None:
    """Make a WebSocket of the exchange's connection, whose messages are the bodies of requests for
    ``path``, with the headers of this one.

    Raises:
        UpgradeRequired, InvalidRequest: it is no handshake, or not as it should be.
    """
    request, connection = exchange.request, exchange.channel
    key = checked_key(request)
    if not isinstance(connection, Connection):
        raise InvalidRequest("a WebSocket cannot be opened over another")
    # Imported when it is first spoken: a front should start soon.
    from .websocket import WebSocket, handshake_head
    from .websocket_messages import Carried

    carried = Carried(path.encode("ascii"), _carried(request), max_bytes, limit_key)

    def succeed(server: Server, transport: asyncio.Transport, is_full: bool) -> ServerConnection:
        return WebSocket(server, transport, carried, is_full=is_full)

    connection.hand_over(handshake_head(key), succeed)
    exchange.hand_over()


def checked_key(request: Request) -> bytes:
    """The key of a handshake.

    Raises:
        UpgradeRequired: another protocol or version is asked for.
        InvalidRequest: the key is missing, or none.
    """
    fields, path = request.fields, request.path
    if b"websocket" not in fields.get(b"upgrade", b"").lower() or request.is_1_0:
        raise UpgradeRequired(
            f"{path} is spoken to by WebSocket: open ws://HOST{path} with a client of that; a proxy"
            " in between must pass on Upgrade and Connection"
        )
    version = fields.get(b"sec-websocket-version", b"")
    if version != VERSION:
        given = version.decode("latin-1")[:100]
        text = f"Sec-WebSocket-Version must be {VERSION.decode()}, not {given!r}"
        raise UpgradeRequired(text, param="sec-websocket-version")
    key = fields.get(b"sec-websocket-key", b"")
    if not _is_key(key):
        text = f"Sec-WebSocket-Key must be {KEY_BYTES} bytes in base64, made anew by the client"
        raise InvalidRequest(text, param="sec-websocket-key")
    return key


def _is_key(value: bytes) -> bool:
    try:
        return len(base64.b64decode(value, validate=True)) == KEY_BYTES
    except binascii.Error:
        return False


def _carried(request: Request) -> Headers:
    kept = end_to_end(request.headers, _NOT_CARRIED)
    return [*(pair for pair in kept if not pair[0].startswith(_PREFIX)), JSON_TYPE]
