"""JSON over HTTP to a registry, with errors that say which registry and why."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Mapping
from typing import Any

import httpx

from .base import Refused, RegistrarFailed
from .client import TIMEOUT_SECONDS, RegistryClient

SHOWN_CHARACTERS = 200


class JsonApi:
    """One base address."""

    def __init__(
        self, client: RegistryClient, base: str, headers: Mapping[str, str] | None = None
    ) -> None:
        self._client = client
        self._base = base
        self.headers = dict(headers or {})

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        params: Mapping[str, str] | None = None,
        also: Collection[int] = (),
    ) -> tuple[int, Any]:
        """The status and what the body says, None for an empty one.

        Raises:
            Refused: a status that is neither 2xx nor one of ``also``.
            RegistrarFailed: no answer, or one that is no JSON.
        """
        url = f"{self._base}{path}"
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                answer = await self._client.http.request(
                    method, url, json=body, params=params, headers=self.headers
                )
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError) as e:
            why = str(e) or type(e).__name__
            raise RegistrarFailed(f"{method} {url}: no answer: {why}") from e
        text = answer.content.decode(errors="replace").strip()
        if answer.status_code not in also and not answer.is_success:
            shown = text[:SHOWN_CHARACTERS]
            raise Refused(f"{method} {url}: {answer.status_code} {shown}")
        return answer.status_code, self._parsed(f"{method} {url}", answer.status_code, text)

    @staticmethod
    def _parsed(what: str, status: int, text: str) -> Any:
        if not text or status >= 300:
            return None
        try:
            return json.loads(text)
        except ValueError:
            shown = text[:SHOWN_CHARACTERS]
            raise RegistrarFailed(f"{what}: the answer is no JSON: {shown}") from None
