"""How servers misbehave. Each is for one request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .server import Answer, Exchange, Fault


def answering(status: int, body: Any, **headers: str) -> Fault:
    """With a whole answer of its own; ``_`` in names of headers stands for ``-``."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}

    async def fault(exchange: Exchange) -> None:
        await exchange.send(Answer(status, body, fields))

    return fault


def adding(headers: Mapping[str, str]) -> Fault:
    """Headers to the answer that it would give."""

    async def fault(exchange: Exchange) -> None:
        exchange.answer.headers |= headers
        await exchange.send(exchange.answer)

    return fault


async def hang_before_head(exchange: Exchange) -> None:
    await exchange.until_gone()


async def hang_in_stream(exchange: Exchange) -> None:
    assert exchange.answer.pieces is not None
    await exchange.head(exchange.answer)
    for piece in exchange.answer.pieces[:2]:
        await exchange.chunk(piece)
    await exchange.until_gone()


async def end_stream_early(exchange: Exchange) -> None:
    assert exchange.answer.pieces is not None
    await exchange.send(Answer(pieces=exchange.answer.pieces[:2]))


async def break_stream_off(exchange: Exchange) -> None:
    assert exchange.answer.pieces is not None
    await exchange.head(exchange.answer)
    for piece in exchange.answer.pieces[:2]:
        await exchange.chunk(piece)
    exchange.writer.transport.abort()


async def reset(exchange: Exchange) -> None:
    """It has read the request, and may have billed it."""
    exchange.writer.transport.abort()


async def garbage(exchange: Exchange) -> None:
    exchange.writer.write(b"\x00\x01\x02 what is this\r\n\r\n" * 10)
    await exchange.writer.drain()


async def cut_body(exchange: Exchange) -> None:
    await exchange.head(exchange.answer)
    exchange.writer.write(exchange.answer.data[:10])
    await exchange.writer.drain()


def streaming(*pieces: bytes) -> Fault:
    """After two pieces as they should be, these."""

    async def fault(exchange: Exchange) -> None:
        assert exchange.answer.pieces is not None
        await exchange.send(Answer(pieces=[*exchange.answer.pieces[:2], *pieces]))

    return fault


def endless_line(size: int) -> Fault:
    """A line of so many bytes, and no end of it."""

    async def fault(exchange: Exchange) -> None:
        await exchange.head(Answer(pieces=[]))
        await exchange.chunk(b'data: {"a": "')
        piece = b"x" * (1 << 16)
        for _ in range(size // len(piece)):
            await exchange.chunk(piece)
        await exchange.until_gone()

    return fault
