"""What was said, for whoever looks for a fault: only while that is asked for, without what is
secret, and never more than a limit of each body. It ends by itself.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from modelpool_client.http1.message import Headers, Request
from modelpool_client.wire import Captured, CaptureOrder, Message

from .redact import redacted, redacted_headers, redacted_stream

# Of all that waits to be told, in the report of a beat.
WAITING_BYTES = 512 * 1024
# So much more than is shown is looked at, or a key that is cut is none any more.
MARGIN_BYTES = 4096
# As much longer may what is shown be than what came: bytes that are no text, keys taken out.
GROWTH = 3
# Of a request beside its bodies.
ROW_BYTES = 1024
# Of the way between gateway and worker, or of one connection; no matter of the client's.
_OWN_HEADERS = re.compile(
    rb"x-modelpool-(?:resolved|virtual-model|owner)|host|connection|content-length|transfer-encoding"
)
_TEXTS = re.compile(r"json|text/|xml|x-www-form-urlencoded|event-stream")
_STREAMS = ("event-stream", "ndjson")
# A picture or a sound within a text.
_LONG_DATA = re.compile(r"[A-Za-z0-9+/]{400,}={0,2}")


@dataclass
class Recording:
    """A request and its answer as they come; the tap of an exchange."""

    request: Request
    max_bytes: int
    said: bytes = b""
    said_size: int = 0
    status: int = 0
    headers: Headers | None = None
    size: int = 0

    def __post_init__(self) -> None:
        self._pieces: list[bytes] = []
        self._room = self.max_bytes + MARGIN_BYTES

    def asked(self, body: bytes) -> None:
        """The whole body of the request."""
        self.said, self.said_size = body[: self.max_bytes + MARGIN_BYTES], len(body)

    def begun(self, status: int, headers: Headers) -> None:
        """The head of the answer."""
        self.status, self.headers = status, headers

    def answered(self, data: bytes) -> None:
        """A piece of the answer."""
        self.size += len(data)
        if self._room > 0:
            self._pieces.append(data[: self._room])
            self._room -= len(data)

    @property
    def bytes_held(self) -> int:
        """At most, once it is shown, as far as it has come."""
        sizes = (self.said_size, self.size)
        return sum(min(self.max_bytes, GROWTH * size) for size in sizes) + ROW_BYTES

    def shown(self, number: int) -> Captured:
        """What may be told of it."""
        request, asked = self.request, self.request.headers
        target = request.raw_path + (b"?" + request.query if request.query else b"")
        own = [pair for pair in asked if not _OWN_HEADERS.fullmatch(pair[0])]
        answer = b"".join(self._pieces)
        return Captured(
            number,
            request.method,
            redacted(target.decode("latin-1")),
            _message(own, self.said, self.said_size, self.max_bytes),
            _message(self.headers or [], answer, self.size, self.max_bytes),
        )


class Capture:
    """Whether it is on, and what was captured and not told yet. ``now`` is monotonic."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._until = 0.0
        self._max_bytes = 0
        self._waiting: deque[tuple[int, Recording, int]] = deque()
        self._bytes = 0

    @property
    def is_on(self) -> bool:
        """Whether requests that begin now are captured."""
        return self._until > 0.0 and self._now() < self._until

    def obey(self, order: CaptureOrder) -> None:
        """On, for so long, or off, which forgets what was not told yet."""
        self._until = self._now() + order.seconds if order.seconds > 0 else 0.0
        self._max_bytes = order.max_bytes
        if not self._until:
            self._waiting.clear()
            self._bytes = 0

    def begin(self, request: Request) -> Recording | None:
        """For a request that has come; None while it is off."""
        return Recording(request, self._max_bytes) if self.is_on else None

    def add(self, number: int, recording: Recording) -> bool:
        """The request of that number is over. True if it should be told soon. Nothing is kept once
        nothing is wanted any more."""
        if not self._until:
            return False
        held = recording.bytes_held  # an error may still be told in its answer
        self._waiting.append((number, recording, held))
        self._bytes += held
        while self._bytes > WAITING_BYTES and len(self._waiting) > 1:
            self._bytes -= self._waiting.popleft()[2]
        return self._bytes > WAITING_BYTES // 2

    def report(self) -> tuple[Captured, ...]:
        """All that was not told."""
        return tuple(recording.shown(number) for number, recording, _ in self._waiting)

    def told(self, number: int) -> None:
        """The manager has those up to that number."""
        while self._waiting and self._waiting[0][0] <= number:
            self._bytes -= self._waiting.popleft()[2]


def _message(
    headers: Iterable[tuple[bytes, bytes]], body: bytes, size: int, max_bytes: int
) -> Message:
    """PURE. As it is shown; ``body`` is the begin of ``size`` bytes."""
    shown = redacted_headers(headers)
    kind = next((value.lower() for name, value in shown if name == "content-type"), "")
    if not body:
        return Message(shown, "", size, size == 0)
    # Some clients name no type, and send JSON as a form.
    if kind and not _TEXTS.search(kind):
        return Message(shown, f"[{size:,} bytes of {kind}]", size, is_whole=False)
    text = body.decode("utf-8", "replace")
    is_stream = any(name in kind for name in _STREAMS)
    plain = redacted_stream(text) if is_stream else redacted(text)
    short = _LONG_DATA.sub(lambda found: f"[{len(found[0]):,} characters of data]", plain)
    cut = short.encode()[:max_bytes].decode("utf-8", "ignore")
    return Message(shown, cut, size, len(body) == size and cut == text)
