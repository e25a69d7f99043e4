"""PURE. A stream of chat completions, told as the events of the Responses API."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from modelpool_client.errors import ModelPoolError
from modelpool_client.surfaces.responses import answers
from modelpool_client.surfaces.responses.ids import Ids
from modelpool_client.surfaces.responses.request import CUSTOM_INPUT
from modelpool_client.surfaces.text_events import TextEvents

Json = dict[str, Any]

# A comment: its events have no place for a ping.
PING = b": ping\n\n"


# Made once: json.dumps makes an encoder for every call with separators.
_ENCODER = json.JSONEncoder(separators=(",", ":"))


class Events:
    """Numbers the events of one stream from 0; those up to ``after`` are told already."""

    def __init__(self, after: int = -1) -> None:
        self._number = 0
        self._after = after
        self.more: Json = {}  # what all events hold besides
        self.is_told = True  # to somebody

    def tell(self, kind: str, **fields: Any) -> bytes:
        """One event, its type both in its line and in its data."""
        number, self._number = self._number, self._number + 1
        if number <= self._after or not self.is_told:
            return b""
        data = {"type": kind, "sequence_number": number, **fields, **self.more}
        text = _ENCODER.encode(data)
        return f"event: {kind}\ndata: {text}\n\n".encode()

    def deltas(self, kind: str, **fields: Any) -> Callable[[str], bytes]:
        """What tells events of that type, each with its ``delta`` beside the same ``fields``."""
        head = f'event: {kind}\ndata: {{"type":"{kind}","sequence_number":'
        rest = TextEvents("," + _ENCODER.encode({**fields, "delta": ""})[1:] + "\n\n")

        def tell(text: str) -> bytes:
            if self.more or self._number <= self._after or not self.is_told:
                return self.tell(kind, **fields, delta=text)
            number, self._number = self._number, self._number + 1
            return f"{head}{number}{rest.of(text)}".encode()

        return tell

    def begin(self, response: Json) -> bytes:
        """That a response is made; it has no output yet."""
        created = self.tell("response.created", response=response)
        return created + self.tell("response.in_progress", response=response)

    def end(self, response: Json) -> bytes:
        """How it has ended."""
        return self.tell(f"response.{response['status']}", response=response)


@dataclass(frozen=True)
class _Place:
    """Where an item stands among the output."""

    events: Events
    index: int
    id: str

    def added(self, item: Json) -> bytes:
        return self.events.tell("response.output_item.added", output_index=self.index, item=item)

    def done(self, item: Json) -> bytes:
        return self.events.tell("response.output_item.done", output_index=self.index, item=item)

    def tell(self, kind: str, **fields: Any) -> bytes:
        return self.events.tell(f"response.{kind}", **self._said, **fields)

    def deltas(self, kind: str, **fields: Any) -> Callable[[str], bytes]:
        return self.events.deltas(f"response.{kind}", **self._said, **fields)

    @property
    def _said(self) -> Json:
        return {"item_id": self.id, "output_index": self.index}


class _Item(Protocol):
    """One piece of the output, told from its start to its stop.

    Attributes:
        is_open: it has not stopped.
    """

    is_open: bool

    def item(self, status: str) -> Json:
        """As far as it is known."""
        ...

    def stop(self, status: str) -> bytes:
        """What is still to be told of it."""
        ...


class _Reasoning:
    def __init__(self, place: _Place) -> None:
        self._place = place
        self._texts: list[str] = []
        self._delta = place.deltas("reasoning_text.delta", content_index=0)
        self.is_open = True

    def start(self) -> bytes:
        added = self._place.added(answers.reasoning(self._place.id, "in_progress", ()))
        part = answers.reasoning_text("")
        return added + self._place.tell("content_part.added", content_index=0, part=part)

    def say(self, text: str) -> bytes:
        self._texts.append(text)
        return self._delta(text)

    def stop(self, status: str) -> bytes:
        self.is_open = False
        place, text = self._place, "".join(self._texts)
        part = answers.reasoning_text(text)
        done = place.tell("reasoning_text.done", content_index=0, text=text)
        done += place.tell("content_part.done", content_index=0, part=part)
        return done + place.done(self.item(status))

    def item(self, status: str) -> Json:
        return answers.reasoning(self._place.id, status, ["".join(self._texts)])


class _Message:
    """Its parts come one after another: what it says, or why it refuses to."""

    def __init__(self, place: _Place) -> None:
        self._place = place
        self._parts: list[Json] = []
        self._kind: str | None = None
        self._texts: list[str] = []
        self._logprobs: list[Json] = []
        self._delta: Callable[[str], bytes] = lambda _: b""  # of the open part
        self.is_open = True

    def start(self) -> bytes:
        return self._place.added(answers.message(self._place.id, "in_progress", ()))

    def say(self, kind: str, text: str, logprobs: list[Json]) -> bytes:
        """``kind`` is the type of a part."""
        start = b"" if kind == self._kind else self._start_part(kind)
        if not text:
            return start
        self._texts.append(text)
        if not logprobs:
            return start + self._delta(text)
        self._logprobs += logprobs
        return start + self._of_part("delta", delta=text, logprobs=logprobs)

    def stop(self, status: str) -> bytes:
        self.is_open = False
        return self._stop_part() + self._place.done(self.item(status))

    def item(self, status: str) -> Json:
        parts = [*self._parts, *([] if self._kind is None else [self._part()])]
        return answers.message(self._place.id, status, parts)

    def _start_part(self, kind: str) -> bytes:
        before = self._stop_part()
        self._kind, self._texts, self._logprobs = kind, [], []
        index, part = len(self._parts), self._part()
        more: Json = {"logprobs": []} if kind == "output_text" else {}
        self._delta = self._place.deltas(f"{kind}.delta", content_index=index, **more)
        return before + self._place.tell("content_part.added", content_index=index, part=part)

    def _stop_part(self) -> bytes:
        if self._kind is None:
            return b""
        part, index = self._part(), len(self._parts)
        text, name = "".join(self._texts), _TEXT_OF[self._kind]
        done = self._of_part("done", **{name: text}, logprobs=self._logprobs)
        done += self._place.tell("content_part.done", content_index=index, part=part)
        self._parts.append(part)
        self._kind = None
        return done

    def _part(self) -> Json:
        return answers.part(str(self._kind), "".join(self._texts), self._logprobs)

    def _of_part(self, what: str, *, logprobs: list[Json], **fields: str) -> bytes:
        more: Json = {"logprobs": logprobs} if self._kind == "output_text" else {}
        index = len(self._parts)
        return self._place.tell(f"{self._kind}.{what}", content_index=index, **fields, **more)


_TEXT_OF = {"output_text": "text", "refusal": "refusal"}


class _FunctionCall:
    def __init__(self, place: _Place, call_id: str, name: str) -> None:
        self._place = place
        self._call_id, self._name = call_id, name
        self._arguments: list[str] = []
        self._delta = place.deltas("function_call_arguments.delta")
        self.is_open = True

    def start(self) -> bytes:
        return self._place.added(self.item("in_progress"))

    def say(self, text: str) -> bytes:
        if not text:
            return b""
        self._arguments.append(text)
        return self._delta(text)

    def stop(self, status: str) -> bytes:
        self.is_open = False
        # Clients parse it: no arguments are an empty object.
        rest = b"" if self._text().strip() else self.say("{}")
        text = self._text()
        done = self._place.tell("function_call_arguments.done", name=self._name, arguments=text)
        return rest + done + self._place.done(self.item(status))

    def item(self, status: str) -> Json:
        place, text = self._place, self._text()
        return answers.function_call(place.id, status, self._call_id, self._name, text)

    def _text(self) -> str:
        return "".join(self._arguments)


class _CustomCall:
    """Its input stands in JSON, and so is told when that is whole."""

    def __init__(self, place: _Place, call_id: str, name: str) -> None:
        self._place = place
        self._call_id, self._name = call_id, name
        self._arguments: list[str] = []
        self.is_open = True

    def start(self) -> bytes:
        return self._place.added(self._item("in_progress", ""))

    def say(self, text: str) -> bytes:
        self._arguments.append(text)
        return b""

    def stop(self, status: str) -> bytes:
        self.is_open = False
        place, text = self._place, answers.custom_input("".join(self._arguments))
        delta = place.tell("custom_tool_call_input.delta", delta=text) if text else b""
        done = place.tell("custom_tool_call_input.done", input=text)
        return delta + done + place.done(self.item(status))

    def item(self, status: str) -> Json:
        return self._item(status, answers.custom_input("".join(self._arguments)))

    def _item(self, status: str, text: str) -> Json:
        return answers.custom_call(self._place.id, status, self._call_id, self._name, text)


class _Call:
    """What the engine has said of a call before there is an item for it."""

    def __init__(self) -> None:
        self.id = self.name = ""
        self.arguments = ""
        self.item: _FunctionCall | _CustomCall | None = None


class ResponseStream:
    """The events of one response.

    Reasoning and text are told one after the other, each stopped when something else begins; calls
    of tools, whose pieces may come mixed, stay open until the end.

    Args:
        response: as ``answers.begun`` gives it; it is the response as it ends once that is settled.
        custom: names of tools whose input is a text.
        clock: unix seconds.
        shows_timings: events hold what an engine tells of its speed, as llama.cpp has it.
    """

    def __init__(
        self,
        response: Json,
        ids: Ids,
        custom: Collection[str],
        clock: Callable[[], float],
        *,
        shows_logprobs: bool,
        shows_timings: bool = False,
    ) -> None:
        self.response = response
        self._ids = ids
        self._custom = custom
        self._clock = clock
        self._shows_logprobs = shows_logprobs
        self._shows_timings = shows_timings
        self._events = Events()
        self._has_begun = False
        self._items: list[_Item] = []
        self._open: _Reasoning | _Message | None = None
        self._calls: dict[int, _Call] = {}
        self._call_ids = set[str]()
        self._finish: str | None = None
        self._usage: Json | None = None
        self._last: bytes | None = None

    def tell_nobody(self) -> None:
        """Only the response as it ends is wanted."""
        self._events.is_told = False

    def begin(self) -> bytes:
        """The first two events."""
        self._has_begun = True
        return self._events.begin(self.response)

    def chunk(self, chunk: Json) -> bytes:
        """The events of one of the engine's chunks."""
        self._usage = chunk.get("usage") or self._usage
        self.response["model"] = self.response["model"] or chunk.get("model") or ""
        told = [self._telemetry(chunk)] if self._shows_timings else []
        for choice in (chunk.get("choices") or ())[:1]:
            told += self._delta(choice.get("delta") or {}, choice.get("logprobs"))
            self._finish = choice.get("finish_reason") or self._finish
        return b"".join(told)

    def text(self, text: str) -> bytes:
        """The events of one that says nothing but that text."""
        self._events.more = {}
        return self._say("output_text", text, []) if text else b""

    def _telemetry(self, chunk: Json) -> bytes:
        """llama.cpp's: how far a prompt was read, an event of its own; how fast it all went."""
        self._events.more = {"timings": chunk["timings"]} if chunk.get("timings") else {}
        progress = chunk.get("prompt_progress")
        if not progress:
            return b""
        return self._events.tell(
            "response.in_progress", response=self.response, prompt_progress=progress
        )

    def settle(self) -> None:
        """No more chunks come: the response is as it ends."""
        if self._last is not None:
            return
        told = [self._start_call(call) for call in self._calls.values() if call.item is None]
        if not self._items:
            told.append(self._say("output_text", "", []))
        self.response |= answers.ending(self._finish, self._clock())
        statuses = self._statuses(self.response["status"])
        for item, status in zip(self._items, statuses, strict=True):
            told.append(item.stop(status) if item.is_open else b"")
        self.response |= self._output(statuses) | {"usage": answers.usage(self._usage)}
        self._last = b"".join(told)

    def end(self) -> bytes:
        """What is still to be told, and how it ended."""
        self.settle()
        return (self._last or b"") + self._events.end(self.response)

    def failed(self, error: ModelPoolError) -> bytes:
        """An error, in both shapes that clients know: beside the type as OpenAI describes it, and
        in ``error`` as OpenAI sends it, which is what its packages raise. Then that the response
        has failed, for who knows of one."""
        ours = error.body()["error"]
        flat = {key: ours[key] for key in ("code", "message", "param")}
        told = self._events.tell("error", **flat, error=ours)
        if not self._has_begun:
            return told
        output = self._output(["incomplete"] * len(self._items))
        ended = {"status": "failed", "error": answers.failure(error)}
        return told + self._events.end(self.response | output | ended)

    def _delta(self, delta: Json, logprobs: Json | None) -> list[bytes]:
        told = [self._think(delta.get("reasoning_content") or delta.get("reasoning") or "")]
        if text := delta.get("content"):
            found = answers.logprobs(logprobs) if self._shows_logprobs else []
            told.append(self._say("output_text", text, found))
        if text := delta.get("refusal"):
            told.append(self._say("refusal", text, []))
        told += [self._piece(piece) for piece in delta.get("tool_calls") or ()]
        return told

    def _think(self, text: str) -> bytes:
        if not text:
            return b""
        if isinstance(self._open, _Reasoning):
            return self._open.say(text)
        before, item = self._close(), _Reasoning(self._place("reasoning"))
        self._open = item
        self._items.append(item)
        return before + item.start() + item.say(text)

    def _say(self, kind: str, text: str, logprobs: list[Json]) -> bytes:
        if isinstance(self._open, _Message):
            return self._open.say(kind, text, logprobs)
        before, item = self._close(), _Message(self._place("message"))
        self._open = item
        self._items.append(item)
        return before + item.start() + item.say(kind, text, logprobs)

    def _close(self) -> bytes:
        item, self._open = self._open, None
        return b"" if item is None else item.stop("completed")

    def _piece(self, piece: Json) -> bytes:
        function = piece.get("function") or {}
        call = self._calls.setdefault(self._index_of(piece), _Call())
        call.id = call.id or piece.get("id") or ""
        call.name = call.name or function.get("name") or ""
        text = function.get("arguments") or ""
        if call.item is not None:
            return call.item.say(text)
        call.arguments += text
        return self._start_call(call) if call.name else b""

    def _index_of(self, piece: Json) -> int:
        """Some engines leave it out: then a call begins where there is a name."""
        index = piece.get("index")
        if index is not None:
            return int(index)
        last = max(self._calls, default=-1)
        return last + 1 if (piece.get("function") or {}).get("name") else max(0, last)

    def _start_call(self, call: _Call) -> bytes:
        before, is_custom = self._close(), call.name in self._custom
        place = self._place("custom_tool_call" if is_custom else "function_call")
        make = _CustomCall if is_custom else _FunctionCall
        item = make(place, self._call_id(call.id), call.name)
        call.item = item
        self._items.append(item)
        return before + item.start() + item.say(call.arguments)

    def _call_id(self, said: str) -> str:
        """By which its result is told: each once, which not every engine sees to."""
        call_id = said if said and said not in self._call_ids else self._ids.new("call")
        self._call_ids.add(call_id)
        return call_id

    def _place(self, kind: str) -> _Place:
        return _Place(self._events, len(self._items), self._ids.new(kind))

    def _statuses(self, status: str) -> list[str]:
        """What was cut off is the last item."""
        return [*["completed"] * (len(self._items) - 1), status]

    def _output(self, statuses: list[str]) -> Json:
        pairs = zip(self._items, statuses, strict=True)
        return {"output": [item.item(status) for item, status in pairs]}


# What a response that has ended said of itself before.
_BEFORE: Json = {
    "status": "in_progress",
    "completed_at": None,
    "incomplete_details": None,
    "output": [],
    "usage": None,
}


def replay(response: Json, after: int) -> bytes:
    """The events of a response that has ended, each item in one piece, without the first
    ``after + 1``."""
    events = Events(after)
    told = [events.begin(response | _BEFORE)]
    for index, item in enumerate(response["output"]):
        told.append(_REPLAYS[item["type"]](_Place(events, index, item["id"]), item))
    return b"".join([*told, events.end(response)])


def _replay_reasoning(place: _Place, item: Json) -> bytes:
    told = _Reasoning(place)
    text = "".join(part["text"] for part in item["content"])
    return told.start() + told.say(text) + told.stop(item["status"])


def _replay_message(place: _Place, item: Json) -> bytes:
    told = _Message(place)
    said = [told.start()]
    for part in item["content"]:
        kind = part["type"]
        said.append(told.say(kind, part[_TEXT_OF[kind]], part.get("logprobs") or []))
    return b"".join([*said, told.stop(item["status"])])


def _replay_function(place: _Place, item: Json) -> bytes:
    told = _FunctionCall(place, item["call_id"], item["name"])
    return told.start() + told.say(item["arguments"]) + told.stop(item["status"])


def _replay_custom(place: _Place, item: Json) -> bytes:
    told = _CustomCall(place, item["call_id"], item["name"])
    arguments = json.dumps({CUSTOM_INPUT: item["input"]})
    return told.start() + told.say(arguments) + told.stop(item["status"])


_REPLAYS: Mapping[str, Callable[[_Place, Json], bytes]] = {
    "reasoning": _replay_reasoning,
    "message": _replay_message,
    "function_call": _replay_function,
    "custom_tool_call": _replay_custom,
}
