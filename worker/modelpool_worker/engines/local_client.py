"""Asks a server on this machine, from within the engine child: over one connection, which is kept.

A server that loads is asked every millisecond or two whether it is ready; a new connection each
time, and a client library, would take more of the processor than it can spare then.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TypeAlias

import httptools

# A port of loopback, or a path.
Address: TypeAlias = tuple[str, int] | str

_RECEIVE_BYTES = 1 << 16
_JSON = {"Content-Type": "application/json"}
_NO_HEADERS: Mapping[str, str] = {}


class LocalClient:
    """A context that closes its connection. For one thread at a time."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._socket: socket.socket | None = None

    def __enter__(self) -> LocalClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """It may be used again."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def ask(
        self,
        method: str,
        path: str,
        seconds: float,
        *,
        headers: Mapping[str, str] = _NO_HEADERS,
        body: bytes | None = None,
    ) -> tuple[int, bytes]:
        """Status and body of the answer, which has to be there in so many seconds. A ``body`` is
        JSON.

        A kept connection may have been closed by the server meanwhile: where nothing comes over
        it, the request is made once more.

        Raises:
            OSError: nobody listens, the answer is late, or it is none.
        """
        message = _written(method, path, headers, body)
        end = time.monotonic() + seconds
        if self._socket is not None:
            with contextlib.suppress(_ClosedError):
                return self._answer(self._socket, message, end)
        self._socket = connected(self._address, seconds)
        try:
            return self._answer(self._socket, message, end)
        except _ClosedError:
            raise OSError("the connection was closed without an answer") from None

    def _answer(self, connection: socket.socket, message: bytes, end: float) -> tuple[int, bytes]:
        answer, is_kept = _Answer(), False
        try:
            _set_deadline(connection, end)
            has_come = False
            try:
                connection.sendall(message)
                while not answer.is_whole:
                    _set_deadline(connection, end)
                    data = connection.recv(_RECEIVE_BYTES)
                    if not data:
                        break
                    has_come = True
                    answer.feed(data)
            except (BrokenPipeError, ConnectionResetError) as e:
                if not has_come:
                    raise _ClosedError from e
                raise
            if not has_come:
                raise _ClosedError
            is_kept = answer.is_whole and answer.keeps
            return answer.result()
        finally:
            if not is_kept:
                self.close()


class _ClosedError(Exception):
    """The connection was closed before anything came."""


class _Answer:
    """What the parser has found so far."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._has_head, self._has_length = False, False
        self.is_whole = self.keeps = False
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        """Take what has come."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as e:
            raise OSError(f"it does not speak HTTP: {e}") from e

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() in (b"content-length", b"transfer-encoding"):
            self._has_length = True

    def on_headers_complete(self) -> None:
        self._has_head = True

    def on_body(self, part: bytes) -> None:
        self._parts.append(part)

    def on_message_complete(self) -> None:
        self.is_whole, self.keeps = True, self._parser.should_keep_alive()

    def result(self) -> tuple[int, bytes]:
        """Once nothing more comes."""
        ends_with_connection = self._has_head and not self._has_length
        if not (self.is_whole or ends_with_connection):
            raise OSError("the answer broke off")
        return self._parser.get_status_code(), b"".join(self._parts)


def connected(address: Address, seconds: float) -> socket.socket:
    """A connection, whose calls take so many seconds at most.

    Raises:
        OSError: there is none.
    """
    is_path = isinstance(address, str)
    connection = socket.socket(socket.AF_UNIX if is_path else socket.AF_INET)
    try:
        connection.settimeout(seconds)
        connection.connect(address)
    except BaseException:
        connection.close()
        raise
    return connection


def _set_deadline(connection: socket.socket, end: float) -> None:
    """Of what is read or written next; ``end`` is by the monotonic clock."""
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError("the answer is late")
    connection.settimeout(left)


def _written(method: str, path: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
    said = {**headers, **({} if body is None else {**_JSON, "Content-Length": str(len(body))})}
    if not any(name.lower() == "host" for name in said):
        said = {"Host": "localhost", **said}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in said.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")
