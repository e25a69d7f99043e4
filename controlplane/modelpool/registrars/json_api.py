"""JSON over HTTP to a registry, with errors that say which registry and why."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

import aiohttp

from .base import Refused, RegistrarFailed

TIMEOUT = aiohttp.ClientTimeout(total=3)
SHOWN_CHARACTERS = 200


class JsonApi:
    """One base address. Redirects are not followed: a token must not travel."""

    def __init__(
        self, session: aiohttp.ClientSession, base: str, headers: Mapping[str, str] | None = None
    ) -> None:
        self._session = session
        self._base = base
        # The manager's session leaves bodies compressed, as the gateway wants them.
        self.headers = {"accept-encoding": "identity", **(headers or {})}

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
            async with self._session.request(
                method,
                url,
                json=body,
                params=params,
                headers=self.headers,
                timeout=TIMEOUT,
                allow_redirects=False,
            ) as answer:
                text = (await answer.read()).decode(errors="replace").strip()
        except (aiohttp.ClientError, TimeoutError, OSError) as e:
            why = str(e) or type(e).__name__
            raise RegistrarFailed(f"{method} {url}: no answer: {why}") from e
        if answer.status not in also and not 200 <= answer.status < 300:
            shown = text[:SHOWN_CHARACTERS]
            raise Refused(f"{method} {url}: {answer.status} {shown}")
        return answer.status, self._parsed(f"{method} {url}", answer.status, text)

    @staticmethod
    def _parsed(what: str, status: int, text: str) -> Any:
        if not text or status >= 300:
            return None
        try:
            return json.loads(text)
        except ValueError:
            shown = text[:SHOWN_CHARACTERS]
            raise RegistrarFailed(f"{what}: the answer is no JSON: {shown}") from None
