"""A request over a bare socket, to know exactly what came: nothing, a part, or all of an answer."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """``kind``: refused (no connection), reset (a new one, not one byte came), closed (the same of
    one that had been idle), whole, or cut."""

    kind: str
    status: int = 0
    body: bytes = b""

    @property
    def code(self) -> str:
        """The code of the error that it carries, if it does."""
        try:
            return str(json.loads(self.body)["error"]["code"])
        except (ValueError, KeyError, TypeError):
            return ""


@dataclass(frozen=True)
class Head:
    """The first lines of an answer."""

    status: int
    fields: dict[bytes, bytes]

    @classmethod
    def parse(cls, raw: bytes) -> Head:
        first, *lines = raw.strip().split(b"\r\n")
        pairs = (line.partition(b":") for line in lines)
        return cls(int(first.split()[1]), {k.lower(): v.strip() for k, _, v in pairs})


def message(port: int, body: Any, *, keep: bool = False) -> bytes:
    """A chat request as it goes over the wire."""
    data = json.dumps(body).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\n"
        f"Host: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(data)}\r\nConnection: {'keep-alive' if keep else 'close'}\r\n\r\n"
    )
    return head.encode() + data


class Connection:
    """One client's connection; ``ask`` opens it when it is not open."""

    def __init__(self, port: int, *, keep: bool = False) -> None:
        self.port = port
        self.keep = keep
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, body: Any) -> Outcome:
        """Send one request and read all that comes."""
        is_new = self._streams is None
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return Outcome("refused")
        reader, writer = self._streams
        try:
            writer.write(message(self.port, body, keep=self.keep))
            head = await reader.readuntil(b"\r\n\r\n")
        except (OSError, asyncio.IncompleteReadError) as e:
            self.close()
            partial = getattr(e, "partial", b"")
            return Outcome("cut" if partial else "reset" if is_new else "closed", 0, partial)
        outcome = await _rest(reader, Head.parse(head))
        if not self.keep or outcome.kind == "cut":
            self.close()
        return outcome

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def _rest(reader: asyncio.StreamReader, head: Head) -> Outcome:
    body = b""
    try:
        if b"content-length" in head.fields:
            body = await reader.readexactly(int(head.fields[b"content-length"]))
        else:
            while size := int(await reader.readuntil(b"\r\n"), 16):
                body += (await reader.readexactly(size + 2))[:-2]
            await reader.readexactly(2)
    except (OSError, asyncio.IncompleteReadError):
        return Outcome("cut", head.status, body)
    return Outcome("whole", head.status, body)
