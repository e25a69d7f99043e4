"""The web page: its document at ``/`` for browsers, what it is made of under ``/ui``.

It knows nothing that the public API does not tell.
"""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Message, Receive, Scope, Send

FOLDER = Path(__file__).parent.parent / "static"
# Answers of models are shown in it: nothing of them is run, framed or fetched from elsewhere. Texts
# that a model writes may hold pictures as data, and those that a person attaches do.
POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline';"
    " object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    # Another version may run at the same address from one minute to the next.
    "cache-control": "no-cache",
}


def document() -> Response:
    """The page itself."""
    return FileResponse(FOLDER / "index.html", headers=HEADERS)


def add_to(api: FastAPI) -> None:
    """Serve what the page is made of."""
    files = StaticFiles(directory=FOLDER)
    more = [(name.encode(), value.encode()) for name, value in HEADERS.items()]

    async def parts(scope: Scope, receive: Receive, send: Send) -> None:
        async def with_more(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *more]
            await send(message)

        await files(scope, receive, with_more)

    api.mount("/ui", parts, name="ui")
