"""HEAD on every route that takes GET: the same status and headers, no body."""

from __future__ import annotations

import asyncio

from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import Message, Receive, Scope, Send


class HeadRoute(APIRoute):
    """A route whose GET answers HEAD. The description of the API does not repeat it."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As for GET where HEAD is asked."""
        return super().matches(_as_get(scope))

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; to HEAD only until the body begins, which may be a stream without end."""
        if scope["method"] != "HEAD":
            await super().handle(scope, receive, send)
            return
        begun = asyncio.Event()

        async def start_only(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body", "body": b""})
                begun.set()

        answering = asyncio.ensure_future(super().handle(_as_get(scope), receive, start_only))
        waiting = asyncio.ensure_future(begun.wait())
        try:
            await asyncio.wait({answering, waiting}, return_when=asyncio.FIRST_COMPLETED)
            if not begun.is_set():
                await answering  # raises what kept it from answering
        finally:
            for task in (answering, waiting):
                task.cancel()
            await asyncio.gather(answering, waiting, return_exceptions=True)


def _as_get(scope: Scope) -> Scope:
    is_head = scope["type"] == "http" and scope["method"] == "HEAD"
    return {**scope, "method": "GET"} if is_head else scope
