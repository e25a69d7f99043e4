"""How the manager speaks to a worker on this machine: HTTP to its port, with its secret."""

from __future__ import annotations

from typing import Any

import aiohttp
from modelpool_client.wire import (
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
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class HttpWorkerClient:
    """Speaks to workers that listen on ``host``."""

    def __init__(self, session: aiohttp.ClientSession, host: str) -> None:
        self._session = session
        self._host = host

    async def facts(self, worker: Worker) -> Facts:
        """Ask a worker how it is.

        Raises:
            aiohttp.ClientError, TimeoutError, DecodeError: it does not answer as a worker of ours.
        """
        return decode(Facts, await self._call(worker, "GET", "facts", None))

    async def drain(self, worker: Worker, request: DrainRequest) -> DrainReply:
        """Ask a worker to stop taking work.

        Raises:
            aiohttp.ClientError, TimeoutError, DecodeError: it does not answer as a worker of ours.
        """
        return decode(DrainReply, await self._call(worker, "POST", "drain", encode(request)))

    async def probe(self, worker: Worker, request: ProbeRequest) -> ProbeReply:
        """Have a worker ask its engine for one token.

        Raises:
            aiohttp.ClientError, TimeoutError, DecodeError: it does not answer as a worker of ours.
        """
        limit = request.timeout_seconds + TIMEOUT_SECONDS
        body = encode(request)
        return decode(ProbeReply, await self._call(worker, "POST", "probe", body, limit))

    async def _call(
        self,
        worker: Worker,
        method: str,
        what: str,
        body: Any,
        limit: float = TIMEOUT_SECONDS,
    ) -> Any:
        url = f"{base_url(self._host, worker.port)}/internal/{what}"
        headers = {"authorization": f"Bearer {worker.record.secret}"}
        async with self._session.request(
            method,
            url,
            json=body,
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=limit),
            raise_for_status=True,
        ) as response:
            return await response.json()
