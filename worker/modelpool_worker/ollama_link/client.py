"""Requests to servers of Ollama: one at a time answered whole, or a stream that has begun."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from modelpool_client.http1.exchange import JSON_TYPE
from modelpool_client.http1.message import Headers
from modelpool_client.http1.upstream import Upstream
from modelpool_client.http1.upstream_connection import BrokenOff, UpstreamConnection

from .addresses import Address
from .answers import error_body, parsed

# What asks about models, and has nothing computed.
LOOK_SECONDS = 5.0


class Refused(Exception):
    """It answered something else than 200; the text is its error."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class OllamaClient:
    """Connections to servers, kept; ``key`` is sent to all of them, if it is not empty."""

    def __init__(self, key: str = "") -> None:
        self._plain = Upstream()
        own: Headers = [(b"authorization", f"Bearer {key}".encode())] if key else []
        self._headers: Headers = [JSON_TYPE, *own]

    @cached_property
    def _secure(self) -> Upstream:
        return Upstream(ssl.create_default_context())

    async def ask(
        self, at: Address, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> UpstreamConnection:
        """Send a request and wait for the head of its answer.

        Raises:
            UpstreamError: there is none.
        """
        upstream = self._secure if at.is_tls else self._plain
        data = b"" if body is None else json.dumps(body, ensure_ascii=False).encode()
        target = f"{at.prefix}{path}".encode()
        return await upstream.request((at.host, at.port), method, target, self._headers, data)

    async def whole(
        self,
        at: Address,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        seconds: float | None = LOOK_SECONDS,
    ) -> dict[str, Any]:
        """An answer that is one JSON object, within that time; None: whenever it comes.

        Raises:
            UpstreamError: there is none, or it is no JSON object.
            Refused: it is an error.
        """
        try:
            async with asyncio.timeout(seconds):
                with await self.ask(at, method, path, body) as reply:
                    data = await reply.read()
        except TimeoutError:
            raise BrokenOff(f"no answer within {seconds:g} s") from None
        if reply.status != 200:
            text = json.loads(error_body(reply.status, data))["error"]["message"]
            raise Refused(reply.status, str(text).removeprefix("Ollama: "))
        said = parsed(data)
        if "error" in said:
            raise Refused(500, str(said["error"]))
        return said

    def close(self) -> None:
        """Close every idle connection."""
        self._plain.close()
        if "_secure" in self.__dict__:
            self._secure.close()
