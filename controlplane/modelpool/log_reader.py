"""Reads a log as one, however many files it has been rotated into. A place in it is a number of
bytes from its first beginning, so that who was cut off can come back to it."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from modelpool_client.log_file import begins_at

TAIL_BYTES = 16_384
TAIL_LINES = 20
FOLLOW_SECONDS = 0.25
_CHUNK_BYTES = 65_536


def tail(path: Path, lines: int = TAIL_LINES) -> tuple[str, ...]:
    """The last lines of a log; nothing if there is none."""
    text = _tail(path)[0].decode(errors="replace")
    return tuple(text.splitlines()[-lines:]) if lines else ()


def beginning(path: Path, lines: int, offset: int | None) -> tuple[bytes, int]:
    """What a follower is sent at once, and where in the log it begins: at ``offset`` or the first
    byte after it that is still there, else with the last lines. What is written from then on comes
    after it."""
    if offset is not None:
        with ExitStack() as stack:
            return b"", _place(list(_parts(path, stack)), offset)
    found, end = _tail(path)
    last = b"".join(found.splitlines(keepends=True)[-lines:]) if lines else b""
    return last, end - len(last)


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


@dataclass(frozen=True)
class _Part:
    """One file as it was: where its bytes begin and end. It is open, so that it stays the same one
    if it is rotated now."""

    file: BinaryIO
    start: int
    end: int

    def read(self, start: int, size: int) -> bytes:
        self.file.seek(start - self.start)
        return self.file.read(min(size, self.end - start))


def _tail(path: Path) -> tuple[bytes, int]:
    """At most ``TAIL_BYTES``, and where they end."""
    found, end = b"", 0
    with ExitStack() as stack:
        for part in _parts(path, stack):
            end = end or part.end
            missing = TAIL_BYTES - len(found)
            found = part.read(max(part.start, part.end - missing), missing) + found
            if len(found) >= TAIL_BYTES:
                break
    return found, end


def _read_from(path: Path, position: int) -> tuple[bytes, int]:
    with ExitStack() as stack:
        parts = []
        for part in _parts(path, stack):
            parts.append(part)
            if part.start <= position:
                break
        position = _place(parts, position)
        for part in reversed(parts):
            if part.start <= position < part.end:
                chunk = part.read(position, _CHUNK_BYTES)
                return chunk, position + len(chunk)
    return b"", position


def _place(parts: list[_Part], position: int) -> int:
    """The nearest that there is; ``parts`` newest first. Who is beyond the end knows a log that was
    removed since: the one in its place is read from its start."""
    if not parts:
        return 0
    oldest = parts[-1].start
    return oldest if position > parts[0].end else max(position, oldest)


def _parts(path: Path, stack: ExitStack) -> Iterator[_Part]:
    """The newest first, as far back as they follow on each other."""
    newer = math.inf  # where the one after it begins
    for number in itertools.count():
        name = f"{path.name}.{number}" if number else path.name
        try:
            file = stack.enter_context(path.with_name(name).open("rb"))
            start = begins_at(file)
            end = start + file.seek(0, 2)
        except OSError:
            return
        if start >= newer:
            continue  # that one, which was rotated just now
        if number and end < newer:
            return
        # A process that had not noticed the rotation yet may have added some more.
        yield _Part(file, start, int(min(end, newer)))
        newer = start
