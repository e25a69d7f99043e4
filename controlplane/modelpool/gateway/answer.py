"""The answer to a client: a worker's bytes, and errors in whichever form can still be told."""

from __future__ import annotations

import json
from typing import Any

from modelpool_client.errors import ModelPoolError, from_response
from modelpool_client.surfaces.openai import STREAM_HEADERS

from modelpool.gateway.asgi import Send, error_event, send_error
from modelpool.gateway.connection import BUFFER_BYTES, Connection

HOP_HEADERS = frozenset(
    {b"connection", b"keep-alive", b"transfer-encoding", b"upgrade", b"te", b"trailer"}
    | {b"proxy-authenticate", b"proxy-authorization", b"host", b"content-length", b"expect"}
)
EVENTS = b"text/event-stream"
MODEL_HEADER = b"x-modelpool-model"


class Answer:
    """What the client has been sent so far; decides in which form an error can still be told.

    Attributes:
        headers: what a stream that begins before its worker answers says of the request.
    """

    def __init__(self, send: Send, model_id: str) -> None:
        self._send = send
        self._model = model_id.encode("ascii", "replace")
        self.status = 499  # nginx's code for a client that left before any answer
        self.headers: list[tuple[bytes, bytes]] = []
        self.has_begun = False
        self.has_content = False
        self._is_events = False

    async def comment(self, text: str) -> None:
        """A line that clients of a stream ignore."""
        if not self.has_begun:
            said = (MODEL_HEADER, self._model)
            await self._begin(200, [*STREAM_HEADERS, *self.headers, said])
        line = text.replace("\n", " ")
        await self._body(f": {line}\n\n".encode(), more=True)

    async def pass_on(self, reply: Connection) -> None:
        """The worker's answer, byte by byte as it comes."""
        if self.has_begun and reply.status != 200:
            raise await _as_error(reply)
        self.has_content = True  # it was answered: another try would compute it twice
        headers = [(k, v) for k, v in reply.headers if k not in HOP_HEADERS]
        length = dict(reply.headers).get(b"content-length")
        if length is not None:
            headers.append((b"content-length", length))
        # One that breaks off is found out while the status can still say so.
        whole = await reply.read() if length is not None and int(length) <= BUFFER_BYTES else None
        if not self.has_begun:
            headers.append((MODEL_HEADER, self._model))
            await self._begin(reply.status, headers)
        if whole is not None:
            await self._body(whole, more=False)
            return
        while piece := await reply.piece():
            await self._body(piece, more=True)
        await self._body(b"", more=False)

    async def fail(self, error: ModelPoolError) -> None:
        """Tell the client, in whichever way is still open."""
        if not self.has_begun:
            self.status = error.status
            await send_error(self._send, error, (MODEL_HEADER, self._model))
            return
        self.status = error.status
        if self._is_events:  # else the server closes the connection, for the answer has no end
            await self._body(error_event(error), more=False)

    async def _begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.has_begun = True
        self.status = status
        self._is_events = any(v.startswith(EVENTS) for k, v in headers if k == b"content-type")
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def _body(self, body: bytes, *, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": more})


async def _as_error(reply: Connection) -> ModelPoolError:
    body: Any = await reply.read()
    try:
        body = json.loads(body)
    except ValueError:
        body = body.decode(errors="replace")
    retry_after = dict(reply.headers).get(b"retry-after", b"").decode("latin-1")
    return from_response(reply.status, body, retry_after or None)
