"""PURE. What nearly all chunks of a stream have in common, so that they need not be parsed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# What stands before a text of each of these, in either way of writing it.
_PLACES = {key: re.compile(rb'"%b": ?"' % key.encode()) for key in ("content", "text")}
# Of a chat's first chunk, which says who speaks.
_WHO = ({"role": "assistant", "content": None}, {"role": "assistant", "content": ""})
_DATA, _END = b"data: ", b"\n\n"
_NO_DELTA: Mapping[str, Any] = {}


@dataclass(slots=True)  # as a ``Completion``
class TextFrame:
    """What stands around the text of a chunk that says nothing new but some text.

    Of the next chunk that has the same around its text the text is all that need be read, which
    takes a tenth of the time.
    """

    before: bytes
    after: bytes
    index: int
    # What stands around the text of a chunk like it in a stream.
    begins: bytes
    ends: bytes

    @classmethod
    def of(cls, data: bytes, chunk: Mapping[str, Any], key: str) -> TextFrame | None:
        """Of a chunk that says a text, or who speaks. None where there is more in it, or where a
        text stands or would stand is not clear."""
        choices = chunk.get("choices")
        if not choices or len(choices) != 1 or chunk.get("usage") or chunk.get("timings"):
            return None
        choice = choices[0]
        part = choice.get("delta") or _NO_DELTA if key == "content" else choice
        if part in _WHO:
            ends = _within_delta(data)
        elif isinstance(part.get(key), str) and (part is choice or _says_only(key, part)):
            ends = _around_text(data, key)
        else:
            return None
        if ends is None or not _says_only(key, choice):
            return None
        before, after = ends
        return cls(before, after, choice.get("index", 0), _DATA + before, after + _END)

    def text(self, data: bytes) -> str | None:
        """The text of a chunk like it; None if it is not, or not as plain."""
        before, after = self.before, self.after
        if not (data.startswith(before) and data.endswith(after)):
            return None
        text = data[len(before) : len(data) - len(after)]
        if b'"' in text or b"\\" in text or len(data) < len(before) + len(after):
            return None
        try:
            return text.decode()
        except UnicodeDecodeError:
            return None

    def run(self, data: bytes) -> tuple[str, bytes] | None:
        """The text of the chunks like it with which a stream goes on, ``data`` beginning an event,
        and what follows them. None if there are none, or one is not as plain."""
        begins, ends = self.begins, self.ends
        if not data.startswith(begins):
            return None
        # From quote to quote: to look for what stands between two texts, as long as it is, would
        # take longer, and the more so the longer the run is.
        between = ends + begins
        find, goes_on, step = data.find, data.startswith, len(between)
        texts, start = [], len(begins)
        end = find(b'"', start)
        while True:
            while goes_on(between, end):
                texts.append(data[start:end])
                start = end + step
                end = find(b'"', start)
            if end < 0 or data[end - 1 : end] != b"\\":
                break
            end = find(b'"', end + 1)  # behind one that is part of the text
        if goes_on(ends, end):
            texts.append(data[start:end])
            start = end + len(ends) + len(begins)
        elif not texts:
            return None
        # What follows is another chunk, or the rest of one is still to come.
        text = b"".join(texts)
        try:
            said = "".join(map(_unescaped, texts)) if b"\\" in text else text.decode()
        except ValueError:
            return None
        return said, data[start - len(begins) :]


def _unescaped(text: bytes) -> str:
    said: str = json.loads(f'"{text.decode()}"')
    return said


def _around_text(data: bytes, key: str) -> tuple[bytes, bytes] | None:
    """What stands before and after the text in a chunk."""
    find = _PLACES[key].search
    place = find(data)
    if place is None or find(data, start := place.end()) is not None:
        return None
    end = data.find(b'"', start)
    return None if b"\\" in data[start:end] else (data[:start], data[end:])


def _within_delta(data: bytes) -> tuple[bytes, bytes] | None:
    """What would stand around a text in a chunk that says who speaks, if it said that instead."""
    before, name, rest = data.partition(b'"delta"')
    said, end, after = rest.partition(b"}")
    colon = said.partition(b"{")[0]
    if not end or colon not in (b":", b": ") or name in said or name in after:
        return None
    return b'%b%b%b{"content"%b"' % (before, name, colon, colon), b'"}' + after


def _says_only(key: str, said: Mapping[str, Any]) -> bool:
    for name, value in said.items():
        if value is not None and name not in ("index", "delta", key):
            return False
    return True


class TextChunks:
    """The chunks of one stream that are like the one before but for their text, which stands under
    ``content`` in a delta, or under ``text``."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._frame: TextFrame | None = None
        # What stands around the text in a whole event.
        self._before = self._after = b""

    def read(self, data: bytes) -> str | None:
        """The text of a chunk; None where it has to be parsed."""
        return None if self._frame is None else self._frame.text(data)

    def chunk(self, text: str) -> dict[str, Any]:
        """A chunk with that text, its head left out."""
        index = 0 if self._frame is None else self._frame.index
        said = {"delta": {"content": text}} if self._key == "content" else {"text": text}
        return {"choices": [{"index": index, **said}]}

    def event(self, event: bytes) -> str | None:
        """The same of one whole event and nothing else, as most pieces of streams are; None too
        where it is not."""
        before, after = self._before, self._after
        if not (before and event.startswith(before) and event.endswith(after)):
            return None
        text = event[len(before) : -len(after)]
        if b'"' in text or b"\\" in text or len(event) < len(before) + len(after):
            return None
        try:
            return text.decode()
        except UnicodeDecodeError:
            return None

    def parsed(self, data: bytes, chunk: Mapping[str, Any]) -> None:
        """The next ones may be like this one."""
        frame = self._frame = TextFrame.of(data, chunk, self._key)
        self._before = b"" if frame is None else _DATA + frame.before
        self._after = b"" if frame is None else frame.after + _END
