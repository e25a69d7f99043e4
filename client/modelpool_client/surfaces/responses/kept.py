"""PURE. What is kept of a response, and what is told of it later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, TypedDict

from modelpool_client.errors import InvalidRequest
from modelpool_client.surfaces.responses.stream import replay
from modelpool_client.surfaces.responses.tables import INCLUDES

Json = dict[str, Any]

# OpenAI's, https://platform.openai.com/docs/api-reference/responses/input-items.
MAX_LIMIT, DEFAULT_LIMIT = 100, 20
_ORDERS = ("asc", "desc")


class Kept(TypedDict):
    """A response, JSON through and through.

    Attributes:
        response: as it ended.
        input: the items of its own request, each with its id.
        context: what a response goes on from that names it: the items of earlier ones, its input
            and its output. ``instructions`` are none of them.
    """

    response: Json
    input: list[Json]
    context: list[Json]


def input_items(kept: Kept, query: Mapping[str, Sequence[str]]) -> Json:
    """The list for ``GET /v1/responses/{id}/input_items``, newest first unless ``order`` is asc;
    ``query`` as ``urllib.parse.parse_qs`` gives it. Whatever ``include`` names is shown anyway.

    Raises:
        InvalidRequest: with ``param``.
    """
    for name in (*query.get("include", ()), *query.get("include[]", ())):
        _check_enum("include", name, INCLUDES)
    order = _last(query, "order") or "desc"
    _check_enum("order", order, _ORDERS)
    items = kept["input"] if order == "asc" else kept["input"][::-1]
    items = items[_start(items, _last(query, "after")) :]
    page = items[: _limit(_last(query, "limit"))]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else "",
        "last_id": page[-1]["id"] if page else "",
        "has_more": len(page) < len(items),
    }


def deleted(response_id: str) -> Json:
    """The answer to ``DELETE /v1/responses/{id}``."""
    return {"id": response_id, "object": "response", "deleted": True}


def replayed(kept: Kept, starting_after: int | None) -> bytes:
    """The whole stream for ``GET /v1/responses/{id}`` with ``stream=true``, without the events up
    to the number ``starting_after``. Each text is one delta: the numbers are those of this stream,
    not of the one that first told the response."""
    return replay(kept["response"], -1 if starting_after is None else starting_after)


def _start(items: Sequence[Json], after: str | None) -> int:
    """An item that a request names twice is past where it stands last."""
    if after is None:
        return 0
    places = [i for i, item in enumerate(items) if item["id"] == after]
    if not places:
        _refuse("after", f"must be the id of an item of this list, not {after[:128]!r}")
    return places[-1] + 1


def _limit(given: str | None) -> int:
    if given is None:
        return DEFAULT_LIMIT
    is_number = given.isascii() and given.isdigit() and len(given) <= 9
    if not is_number or not 1 <= int(given) <= MAX_LIMIT:
        _refuse("limit", f"must be an integer between 1 and {MAX_LIMIT}")
    return int(given)


def _check_enum(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        _refuse(name, f"must be one of {', '.join(map(repr, allowed))}")


def _last(query: Mapping[str, Sequence[str]], name: str) -> str | None:
    values = query.get(name)
    return values[-1] if values else None


def _refuse(where: str, why: str) -> NoReturn:
    raise InvalidRequest(f"{where} {why}", param=where)
