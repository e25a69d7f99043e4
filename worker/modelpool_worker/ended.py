"""PURE. What a front remembers of requests that are over, until the manager has it.

Single requests are facts for people: the last ones are kept, and sent again where the manager says
that it has not got them. What they used is counted by model and hour, and told as totals: whoever
hears one twice has heard nothing new. So neither is lost or counted twice by a beat that fails.
"""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass

from modelpool_client.wire import Ended, EndedRequest, FactsReply, UsageRow

from .capture import Capture, Recording

# Of single requests: so many are kept, and so many go with a beat, of which there is one a second
# at most. To take one in costs the manager some 5 µs.
KEPT = 500
SECONDS_OF_AN_HOUR = 3600
# Longer texts of clients' are cut: ids, names, codes.
LONGEST = 200


@dataclass(slots=True)
class _Row:
    """What goes into a row of usage."""

    number: int = 0
    requests: int = 0
    errors: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    estimated: int = 0
    seconds: float = 0.0


class EndedRequests:
    """The requests of one worker that are over. Numbers of requests begin with 1. ``capture`` holds
    what was said in them."""

    def __init__(self, capture: Capture) -> None:
        self._capture = capture
        self._last = 0
        self._kept: deque[tuple[int, EndedRequest]] = deque(maxlen=KEPT)
        self._after = 0
        self._keeps = True
        self._rows: dict[tuple[int, str], _Row] = {}
        self._change = self._saved = 0

    def add(self, request: EndedRequest, recording: Recording | None = None) -> bool:
        """One is over. True if half of what is kept was not told yet: it should be soon."""
        self._last += 1
        if self._keeps:
            self._kept.append((self._last, request))
        self._count(request)
        is_much = recording is not None and self._capture.add(self._last, recording)
        return is_much or self._last - self._after >= KEPT // 2

    def _count(self, request: EndedRequest) -> None:
        self._change += 1
        key = (int(request.started_at + request.seconds) // SECONDS_OF_AN_HOUR, request.served)
        row = self._rows.get(key)
        if row is None:
            row = self._rows[key] = _Row()
        row.number = self._change
        row.requests += 1
        row.prompt_tokens += request.prompt_tokens
        row.completion_tokens += request.completion_tokens
        row.seconds += request.seconds
        if request.cached_tokens:
            row.cached_tokens += request.cached_tokens
        if request.is_estimated:
            row.estimated += 1
        if request.is_error:
            row.errors += 1

    def report(self) -> Ended:
        """What the manager has not got, as far as is known."""
        rows = tuple(
            UsageRow(*key, **asdict(row))
            for key, row in self._rows.items()
            if row.number > self._saved
        )
        kept = tuple(each._replace(number=n) for n, each in self._kept if n > self._after)
        return Ended(self._after, self._last, kept, rows, self._capture.report())

    def heard(self, reply: FactsReply, now: float) -> bool:
        """The manager has answered; ``now`` in seconds since 1970. True if it wants what was told
        to a former one: it should have that soon."""
        if reply.request_log is not None:
            self._keeps = reply.request_log
            if not self._keeps:
                self._kept.clear()
        if reply.usage_saved is not None:
            self._saved = reply.usage_saved
            hour = int(now) // SECONDS_OF_AN_HOUR
            self._rows = {
                key: row
                for key, row in self._rows.items()
                if row.number > self._saved or key[0] >= hour
            }
        if reply.ended_after is None:
            return False
        is_behind = reply.ended_after < self._after
        self._after = reply.ended_after
        self._capture.told(self._after)
        return is_behind


def cut(request: EndedRequest) -> EndedRequest:
    """Without texts of any length."""
    texts = {name: text[:LONGEST] for name, text in request._asdict().items() if _is_long(text)}
    return request._replace(**texts) if texts else request


def _is_long(value: object) -> bool:
    return isinstance(value, str) and len(value) > LONGEST
