"""Streams that are opened and stay open, in a process of its own: ``python -m bench.hold PLAN``.

PLAN is JSON, ``{"port": 8050, "path": "/v1/…", "body": "…"}``. Every line on standard input is how
many streams more; ``ready`` is the answer once each of them has given its first event. All are
closed when standard input is.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import uvloop

from bench.figures import BenchError
from bench.messages import HOST, Ask
from bench.processes import Child, module
from bench.stage import Stage

FIRST_EVENT = b"data: "
OPEN_SECONDS = 60.0


class Holder:
    """The streams that a child process holds open on a port."""

    def __init__(self, child: Child) -> None:
        self._child = child

    def open(self, count: int) -> None:
        """Open so many more.

        Raises:
            BenchError: one was refused, or gave nothing.
        """
        self._child.tell(str(count))
        answer = self._child.line(OPEN_SECONDS)
        if answer != "ready":
            raise BenchError(f"streams that should stay open do not: {answer}")


@contextmanager
def holding(stage: Stage, port: int, ask: Ask) -> Iterator[Holder]:
    """No stream as yet; all are closed at the end."""
    plan = {"port": port, "path": ask.path, "body": ask.body.decode()}
    with Child(module("bench.hold", json.dumps(plan)), stage.log("hold"), talks=True) as child:
        yield Holder(child)


async def _open(port: int, request: bytes) -> asyncio.Task[None]:
    """Open a stream; once its first event has come, a task that reads on and keeps it open."""
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(request)
    await reader.readuntil(FIRST_EVENT)
    return asyncio.create_task(_read_on(reader, writer))


async def _read_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while not writer.is_closing() and await reader.read(65_536):
        pass


async def _serve(port: int, request: bytes) -> None:
    commands = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(commands)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    opened: list[asyncio.Task[None]] = []
    while line := await commands.readline():
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                more = (_open(port, request) for _ in range(int(line)))
                opened += await asyncio.gather(*more)
            print("ready", flush=True)
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as e:
            print(repr(e), flush=True)


if __name__ == "__main__":
    told = json.loads(sys.argv[1])
    uvloop.run(_serve(told["port"], Ask(told["body"].encode(), told["path"]).on(told["port"])))
