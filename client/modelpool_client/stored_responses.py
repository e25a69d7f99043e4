"""The routes of OpenAI's Responses API that ask for what was kept, without any model."""

from __future__ import annotations

from urllib.parse import parse_qs

from modelpool_client.errors import InvalidRequest, MethodNotAllowed, NotFound, Source
from modelpool_client.http1.exchange import Exchange
from modelpool_client.owners import owner_of
from modelpool_client.response_store import ResponseStore
from modelpool_client.surfaces import sse
from modelpool_client.surfaces.routes import RESPONSES_PATH, SURFACES

_BEFORE = f"{RESPONSES_PATH}/"
_ITEMS, _CANCEL = "input_items", "cancel"
_METHODS = {"": ("GET", "HEAD", "DELETE"), _ITEMS: ("GET", "HEAD"), _CANCEL: ("POST",)}


class StoredResponses:
    """``GET`` and ``DELETE /v1/responses/{id}``, ``GET …/input_items``, ``POST …/cancel``."""

    def __init__(self, store: ResponseStore, source: Source) -> None:
        self._store = store
        self._source: Source = source

    @staticmethod
    def is_asked(path: str) -> bool:
        """Is it one of its routes, or looks like one?"""
        return path.startswith(_BEFORE) and path not in SURFACES

    async def answer(self, exchange: Exchange, path: str) -> None:
        """Answer a request.

        Raises:
            ModelPoolError: for its client.
        """
        response_id, _, what = path.removeprefix(_BEFORE).partition("/")
        if what not in _METHODS:
            raise NotFound(f"there is no route {path[:200]!r}", source=self._source)
        method = exchange.request.method
        if method not in _METHODS[what]:
            raise MethodNotAllowed.of(path, method, _METHODS[what])
        if method == "DELETE":
            await self._delete(exchange, response_id)
        else:
            await self._show(exchange, response_id, what)

    async def _delete(self, exchange: Exchange, response_id: str) -> None:
        from modelpool_client.surfaces import responses

        if not await self._store.drop(response_id, owner_of(exchange.request)):
            raise self._missing(response_id)
        exchange.send_json(200, responses.deleted(response_id))

    async def _show(self, exchange: Exchange, response_id: str, what: str) -> None:
        from modelpool_client.surfaces import responses

        kept = await self._store.find(response_id, owner_of(exchange.request))
        if kept is None:
            raise self._missing(response_id)
        if what == _CANCEL:
            text = f"{response_id} is no background response, and complete"
            raise InvalidRequest(text, param="response_id", source=self._source)
        query = parse_qs(exchange.request.query.decode("ascii", "replace"))
        if what == _ITEMS:
            exchange.send_json(200, responses.input_items(kept, query))
        elif query.get("stream", [""])[-1].lower() == "true":
            after = _starting_after(query.get("starting_after", [""])[-1])
            exchange.send(200, list(sse.HEADERS), responses.replayed(kept, after))
        else:
            exchange.send_json(200, kept["response"])

    def _missing(self, response_id: str) -> NotFound:
        return NotFound(
            f"response {response_id[:128]!r} is not kept here: store was false, or it was deleted,"
            " or had to make room for newer ones; or it was kept under another key",
            param="response_id",
            code="response_not_found",
            source=self._source,
        )


def _starting_after(given: str) -> int | None:
    if given and not (given.isascii() and given.isdigit() and len(given) < 10):
        raise InvalidRequest("starting_after must be a sequence number", param="starting_after")
    return int(given) if given else None
