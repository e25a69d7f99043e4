"""Requests in turn: some at one address, some at the next, over one kept connection each, so that
whatever the machine does meets all of them alike.

By plain sockets in the bench's own process, which costs the same for each.
"""

from __future__ import annotations

import re
import socket
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType

from bench import usage
from bench.figures import BenchError
from bench.messages import HOST, STREAM_END, Ask

# So many requests at one address before those at the next.
BLOCK = 8
_LENGTH = re.compile(rb"\r\ncontent-length: ?(\d+)", re.IGNORECASE)
_TIMEOUT_SECONDS = 60.0


class Line:
    """A kept connection over which the same is asked again and again; a context."""

    def __init__(self, port: int, ask: Ask) -> None:
        self._ask = ask
        self._request = ask.on(port)
        self._socket = socket.create_connection((HOST, port), timeout=_TIMEOUT_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Line:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._socket.close()

    def answer(self) -> bytes:
        """Ask, and wait for the whole answer: its head and its body, in chunks if it is a stream.

        Raises:
            BenchError: it is no 200, or breaks off.
        """
        self._socket.sendall(self._request)
        data, end = b"", -1
        try:
            while (end < 0 and not data.endswith(STREAM_END)) or 0 <= end > len(data):
                piece = self._socket.recv(1 << 18)
                if not piece:
                    raise BenchError(
                        f"{self._ask.path}: the connection was closed: {data[-300:]!r}"
                    )
                data += piece
                if end < 0 and (length := _LENGTH.search(data, 0, data.find(b"\r\n\r\n") + 2)):
                    end = data.index(b"\r\n\r\n") + 4 + int(length[1])
        except OSError as e:
            raise BenchError(f"{self._ask.path}: {e!r}") from e
        if not data.startswith(b"HTTP/1.1 200"):
            raise BenchError(f"{self._ask.path}: a wrong answer: {data[:500]!r}")
        return data


@dataclass
class Found:
    """Of one address: seconds of each request, and the processor time that all of them took."""

    times: list[float] = field(default_factory=list)
    spent: float = 0.0

    @property
    def median_seconds(self) -> float:
        return statistics.median(self.times)

    @property
    def spent_seconds(self) -> float:
        """Of one request."""
        return self.spent / len(self.times)


def run(
    lines: Mapping[str, tuple[int, Ask]], pids: Sequence[int], seconds: float
) -> Mapping[str, Found]:
    """Ask all of them in turn for about so many seconds, twice at least; every other turn
    goes backwards. ``pids``: whose processor time counts.

    Raises:
        BenchError: an answer was wrong or missing.
    """
    found = {name: Found() for name in lines}
    with ExitStack() as stack:
        opened = {name: stack.enter_context(Line(*line)) for name, line in lines.items()}
        for line in opened.values():
            line.answer()
        end, names, turns = time.perf_counter() + seconds, list(lines), 0
        while turns < 2 or time.perf_counter() < end:
            for name in names:
                _ask(opened[name], found[name], pids)
            names.reverse()
            turns += 1
    return found


def _ask(line: Line, found: Found, pids: Sequence[int]) -> None:
    before = sum(map(usage.processor_seconds, pids))
    for _ in range(BLOCK):
        began = time.perf_counter()
        line.answer()
        found.times.append(time.perf_counter() - began)
    found.spent += sum(map(usage.processor_seconds, pids)) - before
