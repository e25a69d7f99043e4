"""OpenAI's Responses API in tests: requests, their answers, and the events of a stream."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, get_args

from modelpool_client._stream import EventParser
from modelpool_client.surfaces.responses import RESPONSES_PATH, Kept, ResponseTranslation, translate
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel

from support.messages import whole

WEATHER = {
    "type": "function",
    "name": "weather",
    "description": "of a place",
    "parameters": {"type": "object", "properties": {"place": {"type": "string"}}},
    "strict": True,
}
SHELL = {"type": "custom", "name": "shell", "description": "runs a command"}
NOW = 1_700_000_000.5

# The package's own type of each event.
_EVENTS: dict[str, type[BaseModel]] = {
    get_args(one.model_fields["type"].annotation)[0]: one
    for one in get_args(get_args(ResponseStreamEvent)[0])
}


def asking(given: Any = "hi", **more: Any) -> dict[str, Any]:
    """A request."""
    return {"model": "m", "input": given, **more}


def made(
    data: dict[str, Any], earlier: Kept | None = None, unique: Callable[[], str] = lambda: "u"
) -> ResponseTranslation:
    translation = translate(RESPONSES_PATH, data, earlier, lambda: NOW, unique)
    assert isinstance(translation, ResponseTranslation)
    return translation


def told(data: dict[str, Any], earlier: Kept | None = None) -> dict[str, Any]:
    return made(data, earlier).told.body


def answered(data: dict[str, Any], *chunks: dict[str, Any], **more: Any) -> Kept:
    """What is kept of the response to a request that the engine answers with these chunks."""
    translation = made(data, **more)
    translation.whole(whole(chunks))
    return translation.kept()


def stream(data: dict[str, Any], chunks: Iterable[dict[str, Any]]) -> bytes:
    translation = made({**data, "stream": True})
    return b"".join([translation.begin(), *map(translation.chunk, chunks), translation.end()])


def events(raw: bytes, first: int = 0) -> list[dict[str, Any]]:
    """The data of each event, as the package knows it: its line says the same type, and the numbers
    follow each other from ``first``."""
    found = []
    for event in EventParser().feed(raw):
        data = json.loads(event.data)
        assert event.event == data["type"]
        _EVENTS[data["type"]].model_validate(data)
        assert data["sequence_number"] == first + len(found)
        found.append(data)
    return found


def put_together(told: list[dict[str, Any]]) -> dict[str, Any]:
    """The response that a stream tells, held to what its events say before."""
    created, progress, *rest, last = told
    assert [created["type"], progress["type"]] == ["response.created", "response.in_progress"]
    response: dict[str, Any] = last["response"]
    assert last["type"] == f"response.{response['status']}"
    assert created["response"]["output"] == []
    assert created["response"]["id"] == response["id"]
    output = _Output()
    for event in rest:
        output.take(event)
    assert output.done == dict(enumerate(response["output"]))
    return response


class _Output:
    """Items by their place, made of nothing but deltas."""

    def __init__(self) -> None:
        self.items: dict[int, dict[str, Any]] = {}
        self.texts: dict[tuple[int, int], str] = {}
        self.open_parts = set[tuple[int, int]]()
        self.done: dict[int, dict[str, Any]] = {}

    def take(self, event: dict[str, Any]) -> None:
        kind, index = event["type"].removeprefix("response."), event["output_index"]
        if kind == "output_item.added":
            assert index == len(self.items), "items are told in their order"
            self.items[index] = event["item"]
            return
        item = self.items[index]
        assert index not in self.done, "nothing is told of an item that is done"
        if kind == "output_item.done":
            self._done(index, event["item"])
            return
        assert event["item_id"] == item["id"]
        place = (index, event.get("content_index", 0))
        if kind == "content_part.added":
            assert not {p for p in self.open_parts if p[0] == index}, "a part ends before the next"
            self.open_parts.add(place)
        elif kind == "content_part.done":
            self.open_parts.remove(place)
            assert (event["part"].get("text", event["part"].get("refusal"))) == self._text(place)
        elif kind.endswith(".delta"):
            assert event["delta"], "an empty delta is no event"
            self.texts[place] = self._text(place) + event["delta"]
        else:
            name = next(n for n in ("text", "refusal", "arguments", "input") if n in event)
            assert event[name] == self._text(place)

    def _done(self, index: int, item: dict[str, Any]) -> None:
        assert not {p for p in self.open_parts if p[0] == index}
        added = self.items[index]
        assert (item["id"], item["type"]) == (added["id"], added["type"])
        parts = item.get("content")
        if parts is None:
            assert item.get("arguments", item.get("input")) == self._text((index, 0))
        for at, part in enumerate(parts or ()):
            assert part.get("text", part.get("refusal")) == self._text((index, at))
        self.done[index] = item

    def _text(self, place: tuple[int, int]) -> str:
        return self.texts.get(place, "")


def both(data: dict[str, Any], chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """The response, which is the same of a whole answer as of a stream, and which a replay tells
    again."""
    response = made({**data, "stream": False}).whole(whole(chunks))
    Response.model_validate(response)
    assert put_together(events(stream(data, chunks))) == response
    return response
