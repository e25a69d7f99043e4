"""PURE. How an API tells errors, and what its streams look like while there is nothing to tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from modelpool_client.errors import ModelPoolError
from modelpool_client.surfaces import sse


class Dialect(Protocol):
    """Of one API, or of one of its requests.

    Attributes:
        stream_headers: of an answer that comes bit by bit.
        part_end: what every part of a stream ends with, so that another may stand after it.
    """

    @property
    def stream_headers(self) -> Sequence[tuple[bytes, bytes]]: ...

    @property
    def part_end(self) -> bytes: ...

    def error(self, error: ModelPoolError) -> Any:
        """The JSON body of an answer that is an error."""
        ...

    def broken(self, error: ModelPoolError) -> bytes:
        """The error as the last part of a stream that has begun."""
        ...

    def comment(self, text: str) -> bytes:
        """A part that its readers ignore, of one line; it says ``text`` where one can."""
        ...


class OpenAi:
    """Server-sent events without names; our own error body is OpenAI's with more in it."""

    stream_headers = sse.HEADERS
    part_end = b"\n\n"

    def error(self, error: ModelPoolError) -> Any:
        """See ``Dialect``."""
        return error.body()

    def broken(self, error: ModelPoolError) -> bytes:
        """See ``Dialect``."""
        return sse.event(error.body())

    def comment(self, text: str) -> bytes:
        """See ``Dialect``."""
        return f": {text}\n\n".encode()


OPENAI = OpenAi()
