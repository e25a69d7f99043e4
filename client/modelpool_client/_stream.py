"""What comes in pieces: lines, server-sent events and the two kinds of them that the pool sends,
logs. No I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelpool_client import errors
from modelpool_client.types import Event, first_choice, text_of, unreadable, view
from modelpool_client.wire import LOG_OFFSET_HEADER


@dataclass(frozen=True)
class ServerSentEvent:
    """One event of a ``text/event-stream``; ``id`` is the last one seen on the stream."""

    event: str
    data: str
    id: str


_LINE_END = re.compile(rb"\r\n|\r|\n")


class LineSplitter:
    """Bytes in, whole lines out; the bytes may be cut anywhere. ``rest`` is the line begun."""

    def __init__(self) -> None:
        self.rest = b""
        self._after_cr = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that these bytes complete."""
        if self._after_cr and chunk.startswith(b"\n"):
            chunk, self._after_cr = chunk[1:], False
        if not chunk:
            return []
        self._after_cr = chunk.endswith(b"\r")
        *lines, self.rest = _LINE_END.split(self.rest + chunk)
        return lines


class EventParser:
    """Bytes of a ``text/event-stream`` in, events out; the bytes may be cut anywhere.

    Follows the WHATWG standard; comments (pings) give no event. ``last_id`` resumes the stream.
    """

    def __init__(self, last_id: str = "") -> None:
        self._lines = LineSplitter()
        self._at_start = True
        self._event = ""
        self._data: list[str] = []
        self._id = last_id
        self.last_id = last_id

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """The events that these bytes complete."""
        return [event for line in self._lines.feed(chunk) if (event := self._line(line))]

    def _line(self, line: bytes) -> ServerSentEvent | None:
        if self._at_start:
            line, self._at_start = line.removeprefix(b"\xef\xbb\xbf"), False
        if not line:
            return self._dispatch()
        name, _, value = _text(line).partition(":")
        self._field(name, value.removeprefix(" "))
        return None

    def _field(self, name: str, value: str) -> None:
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value

    def _dispatch(self) -> ServerSentEvent | None:
        event, data = self._event, self._data
        # Not before: who resumes after an event that was cut off in the middle has not had it.
        self.last_id = self._id
        self._event, self._data = "", []
        if not data:
            return None
        return ServerSentEvent(event or "message", "\n".join(data), self.last_id)


def event_of(sse: ServerSentEvent) -> Event:
    """The pool's event that a server-sent event carries."""
    try:
        data = json.loads(sse.data)
    except ValueError:
        data = None
    data = data if isinstance(data, dict) else {"text": sse.data}
    name = data.get("event", "message") if sse.event == "message" else sse.event
    # The id of the stream is what resumes it, whatever type the one in the data has.
    return view(Event, {**data, "id": sse.id, "event": name, "data": data})


class LogReader:
    """Bytes of a log in, whole lines out, over as many connections as it takes.

    Attributes:
        offset: where in the log the next connection goes on; None where that is not known.
    """

    def __init__(self, follow: bool) -> None:
        self._follow = follow
        self._lines = LineSplitter()
        self._has_begun = False
        self.offset: int | None = None

    def begin(self, headers: Mapping[str, str]) -> None:
        """An answer begins."""
        told = headers.get(LOG_OFFSET_HEADER, "")
        self._has_begun = True
        self.offset = int(told) if told.isdecimal() else None

    @property
    def can_resume(self) -> bool:
        """Whether another connection would repeat nothing and leave nothing out."""
        return not self._has_begun or (self._follow and self.offset is not None)

    def feed(self, chunk: bytes) -> list[str]:
        """The lines that these bytes complete."""
        if self.offset is not None:
            self.offset += len(chunk)
        return [_text(line) for line in self._lines.feed(chunk)]

    def rest(self) -> list[str]:
        """The last line, if it has no end."""
        return [_text(self._lines.rest)] if self._lines.rest else []


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace")


class ChunkReader:
    """Reads the ``data:`` of a streamed answer, one after the other, into text.

    Attributes:
        figures: ``usage`` and ``timings``, where the stream has told them.
    """

    def __init__(self) -> None:
        self.is_done = False
        self.figures: dict[str, Any] = {}

    def text(self, data: str) -> str:
        """The text that this chunk adds.

        Raises:
            ModelPoolError: the chunk says that the answer failed.
        """
        if data.strip() == "[DONE]":
            self.is_done = True
            return ""
        try:
            chunk = json.loads(data)
        except ValueError:
            raise unreadable(f"a chunk of the answer is not JSON: {data[:80]!r}") from None
        if isinstance(chunk, Mapping) and "error" in chunk:
            raise _failure_in(chunk)
        if isinstance(chunk, Mapping):
            told = {name: chunk.get(name) for name in ("usage", "timings")}
            self.figures |= {name: value for name, value in told.items() if value}
        choice = first_choice(chunk)
        self.is_done = self.is_done or choice.get("finish_reason") is not None
        return text_of(choice, "delta")

    def finish(self) -> None:
        """To be called when the stream is over.

        Raises:
            WorkerFailed: it was over before the answer was.
        """
        if not self.is_done:
            raise errors.WorkerFailed("the answer was cut off before its end")


def _failure_in(chunk: Mapping[str, Any]) -> errors.ModelPoolError:
    """The error of a stream, which has no status of its own any more: its type stands for it."""
    error = chunk["error"]
    kind = error.get("type") if isinstance(error, Mapping) else None
    status = 503 if kind == errors.Unavailable.type else 502
    return errors.from_response(status, chunk)
