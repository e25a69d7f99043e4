"""The HTTP client that registrars share; made when the first of them calls."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx

TIMEOUT_SECONDS = 3.0


class RegistryClient:
    """Holds an ``httpx.AsyncClient``: a pool without registrars does not import it, which would be
    a quarter of its start."""

    def __init__(self) -> None:
        self._client: httpx.AsyncClient | None = None

    @property
    def http(self) -> httpx.AsyncClient:
        """Follows no redirect, for a token must not travel; knows no proxy of the environment."""
        if self._client is None:
            import httpx

            self._client = httpx.AsyncClient(
                timeout=TIMEOUT_SECONDS, trust_env=False, verify=ssl.create_default_context()
            )
        return self._client

    async def close(self) -> None:
        """End its connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None
