"""The load: a number of connections that send one request after the other.

    python -m bench.load '{"port": 8050, "path": "/…", "body": "…", "connections": 8, "seconds": 2}'

In a process of its own, without an HTTP library: it should cost less than what it measures.
After ``seconds`` no new request is sent, and the time until the last answer's end counts.
With 0 every connection sends one. The outcome is one JSON line.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import uvloop

from bench.figures import BenchError
from bench.messages import HOST, STREAM_END, Ask, unchunked
from bench.processes import module, output_of

TAIL_BYTES = 2048
_LENGTH = re.compile(rb"\r\ncontent-length: ?(\d+)", re.IGNORECASE)
_TOKENS = re.compile(rb'"(?:completion_tokens|predicted_n)": ?(\d+)')
_MARGIN_SECONDS = 60.0


@dataclass(frozen=True)
class Outcome:
    """What a load has found. ``tokens`` is what the engine itself counted."""

    answers: int
    seconds: float
    median_seconds: float
    # 99 of 100 answers took no longer.
    p99_seconds: float
    tokens: int = 0

    @property
    def per_second(self) -> float:
        """Answers in a second."""
        return self.answers / self.seconds

    @property
    def tokens_per_second(self) -> float:
        """Generated tokens in a second, over all connections."""
        return self.tokens / self.seconds


def run(port: int, ask: Ask, connections: int, seconds: float) -> Outcome:
    """Put that load on a port, from a process of its own.

    Raises:
        BenchError: an answer was wrong or missing.
    """
    what = {"port": port, "path": ask.path, "body": ask.body.decode()}
    plan = what | {"connections": connections, "seconds": seconds}
    command = module("bench.load", json.dumps(plan))
    result = json.loads(output_of(command, seconds + _MARGIN_SECONDS))
    if result.get("error"):
        raise BenchError(f"a wrong answer on port {port}: {result['error']}")
    return Outcome(**result["outcome"])


@dataclass
class Tally:
    """What all connections have counted together."""

    end: float
    times: list[float] = field(default_factory=list)
    tokens: int = 0
    last: float = 0.0
    error: str = ""


class Connection(asyncio.Protocol):
    """Sends requests until the time is over; ``done`` is set at its end."""

    _head: bytes
    _tail: bytes
    _missing: int
    _is_stream: bool

    def __init__(self, request: bytes, tally: Tally) -> None:
        self._request = request
        self._tally = tally
        self.done = asyncio.get_running_loop().create_future()
        self._begin()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not an isinstance check: uvloop's transports are no subclasses.
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self._give_up(f"the connection was lost: {exc or 'closed'}")

    def data_received(self, data: bytes) -> None:
        self._tail = (self._tail + data)[-TAIL_BYTES:]
        if self._missing < 0:
            self._missing = self._after_head(data)
        elif self._missing:
            self._missing = max(0, self._missing - len(data))
        if self._is_stream:
            if self._tail.endswith(STREAM_END):
                self._tail = unchunked(self._tail)
                self._answered(b"data: [DONE]" in self._tail)
        elif self._missing == 0:
            self._answered(True)

    def _begin(self) -> None:
        """Nothing of the next answer has come yet."""
        self._head = self._tail = b""
        self._missing, self._is_stream = -1, False
        self._sent = time.perf_counter()

    def _send(self) -> None:
        self._begin()
        self._transport.write(self._request)

    def _after_head(self, data: bytes) -> int:
        """The bytes of the answer that are still to come; -1 while its head is not complete."""
        self._head += data
        end = self._head.find(b"\r\n\r\n")
        if end < 0:
            return -1
        if not self._head.startswith(b"HTTP/1.1 200"):
            self._give_up(self._head[:300].decode(errors="replace"))
        length = _LENGTH.search(self._head, 0, end)
        self._is_stream = length is None
        return max(0, end + 4 + int(length[1]) - len(self._head)) if length else 0

    def _answered(self, is_right: bool) -> None:
        tally, now = self._tally, time.perf_counter()
        if not is_right:
            self._give_up("a stream ended without its last event")
        if self.done.done():
            return
        tally.times.append(now - self._sent)
        tally.last = now
        tally.tokens += max(map(int, _TOKENS.findall(self._tail)), default=0)
        if now < tally.end:
            self._send()
        else:
            self.done.set_result(None)
            self._transport.close()

    def _give_up(self, why: str) -> None:
        if not self.done.done():
            self._tally.error = why
            self.done.set_result(None)
            self._transport.close()


async def _measure(plan: dict[str, Any]) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    request = Ask(plan["body"].encode(), plan["path"]).on(plan["port"])
    started = time.perf_counter()
    tally = Tally(started + plan["seconds"])
    connecting = (
        loop.create_connection(lambda: Connection(request, tally), HOST, plan["port"])
        for _ in range(plan["connections"])
    )
    made = await asyncio.gather(*connecting)
    await asyncio.wait([protocol.done for _, protocol in made])
    if tally.error:
        return {"error": tally.error}
    seconds, median = tally.last - started, statistics.median(tally.times)
    outcome = Outcome(len(tally.times), seconds, median, percentile(tally.times, 99), tally.tokens)
    return {"outcome": dataclasses.asdict(outcome)}


def percentile(times: Sequence[float], percent: int) -> float:
    """PURE. The least of the times that so many percent of them do not exceed."""
    return sorted(times)[max(0, -(-len(times) * percent // 100) - 1)]


if __name__ == "__main__":
    print(json.dumps(uvloop.run(_measure(json.loads(sys.argv[1])))))
