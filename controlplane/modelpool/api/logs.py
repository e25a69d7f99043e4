"""The log of a worker for those who follow it. In bytes, so that they can come back to the place
where they were cut off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from modelpool.pool.exit_record import LOG_TAIL_BYTES

FOLLOW_SECONDS = 0.25


def beginning(path: Path, lines: int, offset: int | None) -> tuple[bytes, int]:
    """What a follower is sent at once, and where in the log it begins: at ``offset``, else with the
    last lines. What is written from then on comes after it."""
    try:
        with path.open("rb") as f:
            size = f.seek(0, 2)
            if offset is not None:
                return b"", offset if offset <= size else 0  # smaller: it was rotated
            start = f.seek(max(0, size - LOG_TAIL_BYTES))
            found = f.read(size - start)
    except OSError:
        return b"", 0
    last = b"".join(found.splitlines(keepends=True)[-lines:]) if lines else b""
    return last, size - len(last)


async def follow(
    path: Path, first: bytes, position: int, is_over: Callable[[], bool]
) -> AsyncIterator[bytes]:
    """What the log has from ``position`` on and what is appended to it, until it is over."""
    yield first
    while not is_over():
        chunk, position = await asyncio.to_thread(_read_from, path, position)
        if chunk:
            yield chunk
        else:
            await asyncio.sleep(FOLLOW_SECONDS)


def _read_from(path: Path, position: int) -> tuple[bytes, int]:
    try:
        with path.open("rb") as f:
            size = f.seek(0, 2)
            f.seek(position if position <= size else 0)  # smaller: it was rotated
            chunk = f.read(65_536)
            return chunk, f.tell()
    except OSError:
        return b"", 0
