"""PURE. What nearly all chunks of a stream have in common, so that they need not be parsed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# What stands before a text of each of these, in either way of writing it.
_KEYS = {key: (b'"%b":"' % key.encode(), b'"%b": "' % key.encode()) for key in ("content", "text")}
_DATA, _END = b"data: ", b"\n\n"


@dataclass(slots=True)  # as a ``Completion``
class TextFrame:
    """What stands around the text of a chunk that says nothing new but some text.

    Of the next chunk that has the same around its text the text is all that need be read, which
    takes a tenth of the time.
    """

    before: bytes
    after: bytes
    index: int

    @classmethod
    def of(cls, data: bytes, chunk: Mapping[str, Any], key: str) -> TextFrame | None:
        """None where there is more in it, or where the text stands is not clear."""
        choices = chunk.get("choices")
        if not choices or len(choices) != 1 or chunk.get("usage") or chunk.get("timings"):
            return None
        choice = choices[0]
        part = (choice.get("delta") or {}) if key == "content" else choice
        if not isinstance(part.get(key), str):
            return None
        if not (_says_only(key, choice) and _says_only(key, part)):
            return None
        close, wide = _KEYS[key]
        closely, widely = data.count(close), data.count(wide)
        if closely + widely != 1:
            return None
        start = data.index(close) + len(close) if closely else data.index(wide) + len(wide)
        end = data.find(b'"', start)
        if b"\\" in data[start:end]:
            return None
        return cls(data[:start], data[end:], choice.get("index", 0))

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

    @property
    def ends(self) -> tuple[bytes, bytes]:
        """What stands around the text of a chunk like it in a stream."""
        return _DATA + self.before, self.after + _END

    def run(self, data: bytes) -> tuple[str, bytes] | None:
        """The text of the chunks like it with which a stream goes on, ``data`` beginning an event,
        and what follows them. None if there are none, or one is not as plain."""
        first, end = self.ends
        if not data.startswith(first):
            return None
        *texts, last = data[len(first) :].split(end + first)
        last, is_whole, rest = last.partition(end)
        if is_whole:
            texts.append(last)
        else:  # the rest of it is still to come
            rest = first + last
        text = b"".join(texts)
        if b'"' in text or b"\\" in text or not texts:
            return None
        try:
            return text.decode(), rest
        except UnicodeDecodeError:
            return None


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
