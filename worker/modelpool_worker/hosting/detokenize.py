"""PURE. Bytes of tokens made text, never in the middle of a character."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence

_UNKNOWN = "\ufffd"
# A character that is not whole after so many tokens will never be.
_LONGEST = 8


class Utf8:
    """Text of the bytes that tokens bring: a character comes with its last byte, and what can be
    none is told as U+FFFD."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, data: bytes) -> str:
        """The text that is whole by now."""
        return self._decoder.decode(data)

    def end(self) -> str:
        """There are no more: U+FFFD for a character that is not whole."""
        return self._decoder.decode(b"", final=True)


class Pieces:
    """The bytes that each token adds, for libraries that decode lists of ids only, whose words
    depend on their neighbours (spaces before words, characters of several tokens)."""

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._begin = self._told = 0  # ids that are context only; and those whose text was told

    def add(self, token: int) -> bytes:
        """What it adds; nothing while a character is not whole, all of it afterwards."""
        self._ids.append(token)
        before = self._decode(self._ids[self._begin : self._told])
        now = self._decode(self._ids[self._begin :])
        if now.endswith(_UNKNOWN) and len(self._ids) - self._told < _LONGEST:
            return b""
        self._begin, self._told = self._told, len(self._ids)
        if self._begin > 1024:
            del self._ids[: self._begin]
            self._begin, self._told = 0, len(self._ids)
        return now[len(before) :].encode(errors="replace")

    def end(self) -> bytes:
        """What was held back."""
        if self._told == len(self._ids):
            return b""
        before = self._decode(self._ids[self._begin : self._told])
        return self._decode(self._ids[self._begin :])[len(before) :].encode(errors="replace")
