"""Calls under way, by what their clients know them by.

Clients of revisions before 2026-07-28 take a call back by a message of its own; later ones just
leave. Such a client knows its session by an id, which is all that a session is here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anyio
from mcp.server.context import ServerRequestContext
from mcp_types import RequestId

from modelpool.mcp_server.sessions import SESSION_HEADER

Context = ServerRequestContext[Any, Any]


class RunningCalls:
    """What runs, by whom and under which id it was asked for, so that it can be taken back."""

    def __init__(self) -> None:
        self._scopes: dict[tuple[str, str], anyio.CancelScope] = {}

    @contextmanager
    def call(self, context: Context) -> Iterator[None]:
        """What is within ends early, without an exception, if the call is taken back."""
        key = _key(context, context.request_id)
        with anyio.CancelScope() as scope:
            if key is not None:
                self._scopes[key] = scope
            try:
                yield
            finally:
                if key is not None and self._scopes.get(key) is scope:
                    del self._scopes[key]

    def cancel(self, context: Context, request_id: RequestId | None) -> None:
        """Whoever asks may take back what has its own session's id only."""
        key = _key(context, request_id)
        scope = self._scopes.get(key) if key is not None else None
        if scope is not None:
            scope.cancel()


def _key(context: Context, request_id: RequestId | None) -> tuple[str, str] | None:
    session = context.request.headers.get(SESSION_HEADER) if context.request is not None else None
    return (session, str(request_id)) if session and request_id is not None else None
