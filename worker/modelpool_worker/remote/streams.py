"""PURE. What stands between the bytes of a provider's answer and the front: streams that are
watched as they pass, or told in other words."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from modelpool_client.surfaces import sse

from modelpool_worker.json_lines import LONGEST_LINE_BYTES, JsonLines

from .errors import FAILURE_WORDS, Provider, stream_error

# Of one event of a stream.
_SHOWN = 100
LONGEST_USAGE_BYTES = 2000
# Of a chunk that is more than the beginning or the end.
_SAYS = re.compile(rb'"(?:content|text|reasoning|reasoning_content|arguments)": ?"[^"]')


class Decoder(Protocol):
    """Takes a provider's stream in pieces of any size, and gives what the front is told."""

    def feed(self, data: bytes) -> bytes:
        """What is to be passed on of it.

        Raises:
            ModelPoolError: it says that it failed, or makes no sense.
        """
        ...

    def end(self) -> bytes:
        """What is told after the last piece.

        Raises:
            ModelPoolError: that was not the end.
        """
        ...


class Unchanged:
    """Sounds, pictures, documents: nothing in them is looked at."""

    def feed(self, data: bytes) -> bytes:
        """See ``Decoder``."""
        return data

    def end(self) -> bytes:
        """See ``Decoder``."""
        return b""


class Lines:
    """Cuts a stream of events into their data, in memory that has a limit."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._rest = b""
        self._is_begun = False

    def feed(self, data: bytes) -> list[bytes]:
        """The data of each event that ``data`` completes.

        Raises:
            UpstreamFailed: it is no stream of events, or a line of it has no end.
        """
        if not self._is_begun and data.strip():
            self._is_begun = True
            if not sse.is_event_stream(data):
                shown = data[:_SHOWN].decode(errors="replace")
                raise self._provider.failed(f"sent no stream of events: {shown!r}")
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LONGEST_LINE_BYTES:
            limit = f"{LONGEST_LINE_BYTES >> 20} MB"
            raise self._provider.failed(f"sent a line of more than {limit} in its stream")
        return [line[5:].strip() for line in lines if line.startswith(b"data:")]

    def end(self) -> list[bytes]:
        """The data of what has come since the last line's end: the last need not have one."""
        rest, self._rest = self._rest, b""
        return [rest[5:].strip()] if rest.startswith(b"data:") else []


class Watched:
    """A stream in OpenAI's or Anthropic's words for a client who speaks them: bytes pass as they
    came. What says that it failed, makes no sense or ends early is told as what it is.

    Attributes:
        usage: what its first and its last event that tell tokens say of them; Anthropic's tell of
            the prompt in the first alone.
    """

    def __init__(
        self,
        provider: Provider,
        key: str,
        finals: Sequence[bytes] = (),
        hear: Mapping[bytes, Callable[[dict[str, Any]], None]] = {},
    ) -> None:
        """
        Args:
            finals: any of which the data of the last event holds, or is where that is ``[DONE]``;
                none: it may end anywhere.
            hear: is told of events that hold a word.
        """
        self._hear = hear
        self._provider = provider
        self._key = key.encode()
        self._finals = finals
        self._lines = Lines(provider)
        self._has_ended = not finals
        self._first_usage = b""
        self.usage = b""

    def feed(self, data: bytes) -> bytes:
        """See ``Decoder``."""
        for event in self._lines.feed(data):
            self._look(event)
        if self._key and self._key in data:
            data = self._provider.mask(data.decode("latin-1")).encode("latin-1")
        return data

    def _look(self, event: bytes) -> None:
        if any(f == event if f == sse.DONE else f in event for f in self._finals):
            self._has_ended = True
        if not event or event == sse.DONE:
            return
        if (at := event.rfind(b'"usage"')) >= 0:
            told = event[at : at + LONGEST_USAGE_BYTES]
            self._first_usage = self._first_usage or told
            self.usage = told if told is self._first_usage else self._first_usage + told
        if event[:1] != b"{" or event[-1:] != b"}":
            raise self._provider.failed(f"sent no JSON in its stream: {_shown(event)}")
        for word, hear in self._hear.items():
            if word in event and isinstance(chunk := _json(event), dict):
                hear(chunk)
        may_fail = any(word in event for word in FAILURE_WORDS)
        if may_fail and (error := stream_error(self._provider, _json(event))):
            raise error

    def end(self) -> bytes:
        """See ``Decoder``."""
        rest = self._lines.end()
        for event in rest:
            self._look(event)
        if not self._has_ended:
            raise self._provider.failed("ended its stream early")
        return b"\n\n" if rest else b""


class Counted:
    """A stream of OpenAI's chunks, of which the tokens are counted as they pass.

    Attributes:
        tokens: generated, at the end; as the stream tells, else each piece of it is taken for one.
        usage: the line that told them, for all else that it says; empty where none did.
    """

    def __init__(
        self,
        stream: Decoder,
        *,
        hides_usage: bool,
        estimated: Callable[[int], None] = lambda tokens: None,
    ) -> None:
        """
        Args:
            hides_usage: the client has not asked for the chunk that tells them.
            estimated: hears of tokens that no chunk told.
        """
        self.tokens = 0
        self.usage = b""
        self._stream = stream
        self._hides_usage = hides_usage
        self._estimated = estimated
        self._rest = b""
        self._pieces = 0
        self._is_told = False
        self._skips_blank = False

    def feed(self, data: bytes) -> bytes:
        """See ``Decoder``."""
        return self._passed(self._stream.feed(data))

    def end(self) -> bytes:
        """See ``Decoder``."""
        passed = self._passed(self._stream.end())
        rest, self._rest = self._rest, b""
        is_hidden = self._look(rest) or (self._skips_blank and not rest.strip())
        if not self._is_told:
            self.tokens = self._pieces
            self._estimated(self.tokens)
        return passed if is_hidden or not self._hides_usage else passed + rest

    def _passed(self, data: bytes) -> bytes:
        *lines, self._rest = (self._rest + data).split(b"\n")
        kept = []
        for line in lines:
            if self._look(line):
                self._skips_blank = True
            elif not (self._skips_blank and not line.strip()):
                self._skips_blank = False
                kept.append(line + b"\n")
            else:
                self._skips_blank = False
        return b"".join(kept) if self._hides_usage else data

    def _look(self, line: bytes) -> bool:
        """Count; whether the line is one that tells of tokens and of nothing else."""
        if not line.startswith(b"data:"):
            return False
        self._pieces += _SAYS.search(line) is not None
        if b'"usage"' not in line or not isinstance(chunk := _json(line[5:]), dict):
            return False
        usage = chunk.get("usage")
        tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
        if not isinstance(tokens, int):
            return False
        self.tokens, self.usage, self._is_told = tokens, line, True
        return not chunk.get("choices")


class Translator(Protocol):
    """Tells the events of another API as chunks of chat completions."""

    @property
    def is_complete(self) -> bool:
        """The last event has come."""
        ...

    def chunks(self, event: dict[str, Any]) -> Iterable[dict[str, Any]]:
        """What one event is there."""
        ...

    def last(self) -> Iterable[dict[str, Any]]:
        """What is told when the stream has ended."""
        ...


class Translated:
    """A stream in other words, as OpenAI's."""

    def __init__(
        self, provider: Provider, translator: Translator, *, is_ndjson: bool = False
    ) -> None:
        self._provider = provider
        self._translator = translator
        self._lines = JsonLines(provider.failed) if is_ndjson else Lines(provider)

    def feed(self, data: bytes) -> bytes:
        """See ``Decoder``."""
        return self._told(self._lines.feed(data))

    def _told(self, lines: Sequence[bytes]) -> bytes:
        told = []
        for line in lines:
            if not line or line == sse.DONE:
                continue
            event = _json(line)
            if not isinstance(event, dict):
                raise self._provider.failed(f"sent no JSON in its stream: {_shown(line)}")
            if (error := stream_error(self._provider, event)) is not None:
                raise error
            try:
                told += [sse.event(chunk) for chunk in self._translator.chunks(event)]
            except (KeyError, TypeError, ValueError, AttributeError, IndexError):
                text = f"sent an event that makes no sense: {_shown(line)}"
                raise self._provider.failed(text) from None
        return b"".join(told)

    def end(self) -> bytes:
        """See ``Decoder``."""
        rest = self._told(self._lines.end())
        if not self._translator.is_complete:
            raise self._provider.failed("ended its stream early")
        last = b"".join(map(sse.event, self._translator.last()))
        return rest + last + b"data: " + sse.DONE + b"\n\n"


def whole(provider: Provider, body: bytes) -> dict[str, Any]:
    """An answer in one piece.

    Raises:
        ModelPoolError: it says that it failed, or is no JSON object.
    """
    value = _json(body)
    if not isinstance(value, dict):
        raise provider.failed(f"sent no JSON object: {_shown(body)}")
    if (error := stream_error(provider, value)) is not None:
        raise error
    return value


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _shown(data: bytes) -> str:
    return repr(data[:_SHOWN].decode(errors="replace"))
