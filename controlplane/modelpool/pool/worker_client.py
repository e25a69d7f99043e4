"""How the manager speaks to a worker on this machine: HTTP to its port, with its secret."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from modelpool_client.http1.exchange import JSON_TYPE
from modelpool_client.http1.message import host_header
from modelpool_client.http1.upstream import Upstream
from modelpool_client.http1.upstream_connection import BadReply
from modelpool_client.wire import (
    CaptureOrder,
    DrainReply,
    DrainRequest,
    Facts,
    ProbeReply,
    ProbeRequest,
    decode,
    encode,
)

from modelpool.pool.worker import Worker

TIMEOUT_SECONDS = 5.0


def base_url(host: str, port: int) -> str:
    """``http://host:port``, with brackets where the host is an IPv6 address."""
    return f"http://{host_header(host, port).decode()}"


class HttpWorkerClient:
    """Speaks to workers that listen on ``host``."""

    def __init__(self, upstream: Upstream, host: str) -> None:
        self._upstream = upstream
        self._host = host

    async def facts(self, worker: Worker) -> Facts:
        """Ask a worker how it is.

        Raises:
            UpstreamError, TimeoutError, ValueError: it does not answer as a worker of ours.
        """
        return decode(Facts, await self._call(worker, "GET", "facts", None))

    async def measured_facts(self, worker: Worker) -> Facts:
        """The same, once the worker has measured its memory, which takes it tens of milliseconds.

        Raises:
            UpstreamError, TimeoutError, ValueError: it does not answer as a worker of ours.
        """
        return decode(Facts, await self._call(worker, "POST", "facts", None))

    async def drain(self, worker: Worker, request: DrainRequest) -> DrainReply:
        """Ask a worker to stop taking work.

        Raises:
            UpstreamError, TimeoutError, ValueError: it does not answer as a worker of ours.
        """
        return decode(DrainReply, await self._call(worker, "POST", "drain", encode(request)))

    async def sleep(self, worker: Worker, request: DrainRequest) -> DrainReply:
        """Ask a worker to stop taking work and to let go of device memory.

        Raises:
            UpstreamError, TimeoutError, ValueError: it does not answer as a worker of ours.
        """
        return decode(DrainReply, await self._call(worker, "POST", "sleep", encode(request)))

    async def wake(self, worker: Worker) -> Facts:
        """Have one that sleeps take device memory again.

        Raises:
            UpstreamError, TimeoutError, ValueError: it does not answer as a worker of ours.
        """
        return decode(Facts, await self._call(worker, "POST", "wake", None))

    async def probe(self, worker: Worker, request: ProbeRequest) -> ProbeReply:
        """Have a worker ask its engine for one token.

        Raises:
            UpstreamError, TimeoutError, ValueError: it does not answer as a worker of ours.
        """
        limit = request.timeout_seconds + TIMEOUT_SECONDS
        body = encode(request)
        return decode(ProbeReply, await self._call(worker, "POST", "probe", body, limit))

    async def capture(self, worker: Worker, order: CaptureOrder) -> None:
        """Have a worker capture what it is asked, or not any more.

        Raises:
            UpstreamError, TimeoutError, ValueError: it does not answer as a worker of ours.
        """
        await self._call(worker, "POST", "capture", encode(order))

    async def _call(
        self,
        worker: Worker,
        method: str,
        what: str,
        body: Any,
        limit: float = TIMEOUT_SECONDS,
    ) -> Any:
        target = f"/internal/{what}".encode()
        headers = [JSON_TYPE, (b"authorization", f"Bearer {worker.record.secret}".encode())]
        data = b"" if body is None else json.dumps(body).encode()
        async with asyncio.timeout(limit):
            asked = self._upstream.request((self._host, worker.port), method, target, headers, data)
            with await asked as reply:
                text = await reply.read()
        if reply.status != 200:
            raise BadReply(f"{reply.status} {text[:200]!r}")
        return json.loads(text)
