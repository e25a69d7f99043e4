"""The way of an answer from who gave it to the client: head filtered, bytes as they come."""

from __future__ import annotations

from .exchange import BUFFER_BYTES, Answer
from .message import HOP_HEADERS, Headers, end_to_end
from .upstream_connection import Sink, UpstreamConnection

# Which pages may read it is for who answers them to say, not for an engine or another's server.
NOT_PASSED_ON = HOP_HEADERS | {
    b"access-control-allow-credentials",
    b"access-control-allow-headers",
    b"access-control-allow-methods",
    b"access-control-allow-origin",
    b"access-control-expose-headers",
    b"access-control-max-age",
}


def passed_on(headers: Headers) -> Headers:
    """PURE. What of an answer's headers is for the client."""
    return end_to_end(headers, NOT_PASSED_ON)


async def pass_on(
    reply: UpstreamConnection, answer: Answer, more: Headers, sink: Sink | None = None
) -> None:
    """Fill ``answer`` with ``reply`` and, in its head, ``more``; its body goes by way of
    ``sink``, if that is to see it. What is short is whole or an error: one that breaks off is found
    out while the status can still say so.

    Raises:
        UpstreamError: it breaks off.
    """
    length, headers = reply.length, [*passed_on(reply.headers), *more]
    if not answer.status:
        if length is not None and length <= BUFFER_BYTES and sink is None:
            answer.send(reply.status, headers, await reply.read())
            return
        answer.begin(reply.status, headers, length)
    await reply.pipe(sink or answer)
    answer.end()
