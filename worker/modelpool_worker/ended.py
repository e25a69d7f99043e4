"""PURE. What a front remembers of requests that are over, until the manager has it.

Single requests are facts for people: the last ones are kept, and sent again where the manager says
that it has not got them. What they used is counted by model and hour, and told as totals: whoever
hears one twice has heard nothing new. So neither is lost or counted twice by a beat that fails.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import NamedTuple, TypeAlias

from modelpool_client.wire import CLIENT_LEFT, Ended, EndedRequest, FactsReply, UsageRow

from .calls import CallInfo
from .capture import Capture
from .tokens import Tokens

# Of single requests: so many are kept, and so many go with a beat, of which there is one a second
# at most. To take one in costs the manager some 5 µs.
KEPT = 500
# Their use is added up when so many are over, and for each report.
COUNTED_AT_ONCE = 64
SECONDS_OF_AN_HOUR = 3600
# Longer names of clients' are cut.
LONGEST = 200


class Ending(NamedTuple):
    """A request that is over, as it is known then: most are never told of one by one. Attributes as
    of an ``EndedRequest``; ``ended_at`` in seconds since 1970."""

    asked: CallInfo
    served: str
    ended_at: float
    waited_seconds: float
    first_seconds: float | None
    seconds: float
    tokens: Tokens
    status: int = 200
    code: str = ""

    @property
    def is_error(self) -> bool:
        """See ``EndedRequest``."""
        return self.status >= 400 and self.status != CLIENT_LEFT

    def told(self, number: int) -> EndedRequest:
        """As the manager is told of it."""
        asked, tokens = self.asked, self.tokens
        return EndedRequest(
            number,
            request_id=asked.request_id.decode("latin-1"),
            path=asked.path,
            model=asked.model[:LONGEST] or self.served,
            served=self.served,
            started_at=self.ended_at - self.seconds,
            waited_seconds=self.waited_seconds,
            first_seconds=self.first_seconds,
            seconds=self.seconds,
            prompt_tokens=tokens.prompt,
            cached_tokens=tokens.cached,
            completion_tokens=tokens.completion,
            is_estimated=tokens.is_estimated,
            status=self.status,
            code=self.code,
            is_stream=asked.is_stream,
            is_direct=asked.is_direct,
            via=asked.via.decode("latin-1"),
            trace="" if asked.trace is None else asked.trace.text(),
        )


# As ``Ending(…)``, which is a function in Python: each request makes one.
EndingFields: TypeAlias = (
    "tuple[CallInfo, str, float, float, float | None, float, Tokens, int, str]"
)
ending_of: Callable[[EndingFields], Ending] = partial(tuple.__new__, Ending)


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
        self._kept: deque[Ending] = deque(maxlen=KEPT)  # up to the last one
        self._after = 0
        self._keeps = True
        self._uncounted: list[Ending] = []  # up to the last one
        self._rows: dict[tuple[int, str], _Row] = {}
        self._saved = 0

    def add(self, ending: Ending) -> bool:
        """One is over. True if half of what is kept was not told yet: it should be soon."""
        self._last = last = self._last + 1
        recording = ending.asked.recording
        if recording is not None:  # which is let go of as soon as it was told, or is not wanted
            ending = ending._replace(asked=ending.asked._replace(recording=None))
        if self._keeps:
            self._kept.append(ending)
        self._uncounted.append(ending)
        if len(self._uncounted) >= COUNTED_AT_ONCE:
            self._count()
        is_much = recording is not None and self._capture.add(last, recording)
        return is_much or last - self._after >= KEPT // 2

    def _count(self) -> None:
        """Add to the rows what is not in them yet: many at once take half the time of one by
        one."""
        rows, number = self._rows, self._last - len(self._uncounted)
        for ending in self._uncounted:
            number += 1
            key = (int(ending.ended_at) // SECONDS_OF_AN_HOUR, ending.served)
            row = rows.get(key)
            if row is None:
                row = rows[key] = _Row()
            completion, prompt, cached, is_estimated = ending.tokens
            row.number = number
            row.requests += 1
            row.seconds += ending.seconds
            row.completion_tokens += completion
            row.prompt_tokens += prompt
            row.cached_tokens += cached
            if is_estimated:
                row.estimated += 1
            if ending.is_error:
                row.errors += 1
        self._uncounted.clear()

    def report(self) -> Ended:
        """What the manager has not got, as far as is known."""
        self._count()
        rows = tuple(
            UsageRow(*key, **asdict(row))
            for key, row in self._rows.items()
            if row.number > self._saved
        )
        first = self._last - len(self._kept) + 1
        kept = tuple(each.told(n) for n, each in enumerate(self._kept, first) if n > self._after)
        return Ended(self._after, self._last, kept, rows, self._capture.report())

    def heard(self, reply: FactsReply, now: float) -> bool:
        """The manager has answered; ``now`` in seconds since 1970. True if it wants what was told
        to a former one: it should have that soon."""
        if reply.request_log is not None:
            self._keeps = reply.request_log
            if not self._keeps:
                self._kept.clear()
        if reply.usage_saved is not None:
            self._count()
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
