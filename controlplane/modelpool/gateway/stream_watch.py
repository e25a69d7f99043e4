"""What a worker's stream says as it passes: comments before there is an answer, and errors.

Comments that keep a silent stream alive are no answer: they are passed on, and whoever fails after
them has not begun. A stream that tells an error in place of its first part has failed as one that
answers with a status; one that tells it later has broken off, which its breaker is to hear of.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Protocol

from modelpool_client.errors import ModelPoolError, from_response
from modelpool_client.http1.comments import is_silent_event, is_silent_line
from modelpool_client.http1.exchange import Source
from modelpool_client.http1.message import Headers

EVENTS, LINES = b"text/event-stream", b"application/x-ndjson"
# The first part of an answer is looked at as a whole, unless it is longer.
MOST_HELD_BYTES = 64 * 1024
# By its type, where an error in a stream has no status.
STATUS_OF_TYPE: Mapping[str, int] = {
    "invalid_request_error": 400,
    "exceed_context_size_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "rate_limit_error": 429,
    "unavailable_error": 503,
    "overloaded_error": 503,
    "timeout_error": 504,
    "insufficient_capacity_error": 507,
}
_ERROR = re.compile(
    rb"\n(?:event: ?(?:error|response\.failed)\b|error: ?\{"
    rb'|(?:data: ?)?\{\s*"error"\s*:\s*[{"])'
)
# One of them is in each: to look for them costs less.
_WORDS = (b"error", b"failed")
# No longer than the longest of these, so that one may be cut into two pieces.
_OVERLAP = 32
_PART_END = re.compile(rb"\r?\n\r?\n")


class Passing(Protocol):
    """Who is given a stream: the answer, see ``http1.exchange``."""

    source: Source | None

    @property
    def status(self) -> int: ...
    @property
    def is_full(self) -> bool: ...
    def begin(self, status: int, headers: Headers, length: int | None = None) -> None: ...
    def write(self, data: bytes) -> None: ...
    def pass_comments(self, headers: Headers, data: bytes) -> None:
        """Parts of a stream that are no answer yet."""


class NoAnswer(Exception):
    """A stream has told an error before anything of an answer."""

    def __init__(self, error: ModelPoolError) -> None:
        super().__init__(error.message)
        self.error = error


class Opening:
    """PURE. The begin of a stream, cut into comments and what comes after them."""

    def __init__(self, *, is_lines: bool) -> None:
        """``is_lines``: its parts are lines, not events."""
        self.rest = b""
        self._is_lines = is_lines

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """The comments that are complete now, and whether ``rest`` begins with a complete part that
        is none, or is too long to be looked at."""
        self.rest += data
        comments = b""
        while (size := self._part()) and self._is_comment(self.rest[:size]):
            comments += self.rest[:size]
            self.rest = self.rest[size:]
        return comments, bool(size) or len(self.rest) > MOST_HELD_BYTES

    def _part(self) -> int:
        if self._is_lines:
            return self.rest.find(b"\n") + 1
        found = _PART_END.search(self.rest)
        return found.end() if found is not None else 0

    def _is_comment(self, part: bytes) -> bool:
        return is_silent_line(part) if self._is_lines else is_silent_event(part)

    @property
    def first(self) -> bytes:
        """The part at the begin of ``rest``; all of that where it has no end."""
        return self.rest[: self._part() or None]


class StreamWatch:
    """Passes a stream on.

    Attributes:
        holds: nothing is passed on as an answer before its first part is there: another may be
            asked in its place. Else all is passed on as it comes.
        has_content: something that is no comment was passed on.
        error: what the stream has said went wrong; None: nothing yet.
    """

    def __init__(self, answer: Passing, headers: Headers, *, holds: bool) -> None:
        """``headers`` are for the client."""
        self.holds = holds
        self.has_content = not holds
        self.error: ModelPoolError | None = None
        if not holds and not answer.status:
            answer.begin(200, headers)
        self._answer = answer
        self._headers = headers
        self._opening = Opening(is_lines=kind_of(headers) == LINES)
        self._last = b"\n"  # only at the begin of a line is there one

    @property
    def source(self) -> Source | None:
        """See ``Sink``."""
        return self._answer.source

    @source.setter
    def source(self, source: Source | None) -> None:
        self._answer.source = source

    @property
    def is_full(self) -> bool:
        """See ``Sink``."""
        return self._answer.is_full

    def write(self, data: bytes) -> None:
        """The next pieces.

        Raises:
            NoAnswer: they are an error, and nothing was before them.
        """
        if self.has_content:
            self._look(data)
            self._answer.write(data)
            return
        comments, is_content = self._opening.feed(data)
        if comments:
            self._answer.pass_comments(self._headers, comments)
        if is_content:
            self._begin()

    def end(self) -> None:
        """That was all.

        Raises:
            NoAnswer: as ``write``.
        """
        if not self.has_content:
            self._begin()

    def _begin(self) -> None:
        said = self._opening.rest
        if is_error(said[:_OVERLAP]):
            self.error = error_in(self._opening.first)
            raise NoAnswer(self.error)
        self.has_content = True
        if not self._answer.status:
            self._answer.begin(200, self._headers)
        if said:
            self._look(said)
            self._answer.write(said)

    def _look(self, data: bytes) -> None:
        is_between = self._last.endswith(b"\n")  # lines, as a piece of a stream is nearly always
        window = data if is_between else self._last + data
        # Not by a generator, which would be made for every token.
        if self.error is None and (b"error" in window or b"failed" in window):
            window = self._last + data
            found = _ERROR.search(window)
            if found is not None:
                self.error = error_in(window[found.start() :])
        self._last = b"\n" if data.endswith(b"\n") else (self._last + data)[-_OVERLAP:]


def last_error(tail: bytes) -> ModelPoolError | None:
    """PURE. The error that a stream ends with, if it does. ``tail``: its last pieces, after a
    line's end where these are all."""
    if not any(word in tail for word in _WORDS):
        return None
    found = _ERROR.search(tail)
    return error_in(tail[found.start() :]) if found is not None else None


def kind_of(headers: Headers) -> bytes:
    """PURE. What an answer is by its headers: ``EVENTS``, ``LINES``, or nothing to be watched."""
    found = dict(headers).get(b"content-type", b"").split(b";")[0].strip()
    return found if found in (EVENTS, LINES) else b""


def is_error(parts: bytes) -> bool:
    """PURE. Whether an error is told in parts of a stream, the first from its begin on."""
    return _ERROR.search(b"\n" + parts) is not None


def error_in(part: bytes) -> ModelPoolError:
    """PURE. The error that a part of a stream tells, in whichever API."""
    for line in part.split(b"\n"):
        text = line.strip().removeprefix(b"data:").removeprefix(b"error:")
        try:
            said = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(said, Mapping):
            response = said.get("response")  # of an event that says that it has failed
            told = (response if isinstance(response, Mapping) else said).get("error", said)
            return _error(told if isinstance(told, Mapping) else {"message": str(told)})
    return _error({"message": "the answer broke off with an error"})


def _error(told: Mapping[str, Any]) -> ModelPoolError:
    code = told.get("code")
    is_number = isinstance(code, int) and not isinstance(code, bool)
    status = STATUS_OF_TYPE.get(str(told.get("type")), 502)
    if is_number and 400 <= int(code or 0) < 600:
        status = int(code or 0)
    source = told.get("source")
    known = source if source in ("pool", "worker", "engine", "upstream") else "engine"
    words = {**told, "code": None if is_number else code, "source": known}
    return from_response(status, {"error": words})
