"""PURE. What happened in the last minutes, by model, in spans of time: bounded memory, and sums
over any window."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from modelpool_client.wire import CLIENT_LEFT, EndedRequest

from modelpool.observe.histogram import Histogram

SPAN_SECONDS = 15
SERVER_ERRORS = 500
# Of so many requests in a span the times are taken: more make no quantile better, and to count a
# time is most of what a request costs here.
MOST_TIMES = 200
# Whose answers are text, which an answer without a token is not.
TEXT_SURFACES = frozenset(
    {
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/responses",
        "/v1/messages",
        "/api/chat",
        "/api/generate",
    }
)


@dataclass
class Totals:
    """Of a model, in a time.

    Attributes:
        requests: that are over; those whose clients left too.
        failed: of them, by our fault or their server's (5xx).
        left: of them, whose clients left.
        streams: that began to answer; ``broken`` of them failed later.
        answers: in text; ``empty`` of them without a token.
        seconds, first_seconds: of the first ``MOST_TIMES`` that were answered, or began to be.
    """

    requests: int = 0
    failed: int = 0
    left: int = 0
    streams: int = 0
    broken: int = 0
    answers: int = 0
    empty: int = 0
    seconds: Histogram = field(default_factory=Histogram)
    first_seconds: Histogram = field(default_factory=Histogram)

    def count(self, request: EndedRequest) -> None:
        """One more is over."""
        failed, left = request.status >= SERVER_ERRORS, request.status == CLIENT_LEFT
        self.requests += 1
        self.failed += failed
        self.left += left
        if request.status < 400:
            if self.seconds.count < MOST_TIMES:
                self.seconds.add(request.seconds)
            if request.path in TEXT_SURFACES:
                self.answers += 1
                self.empty += request.completion_tokens == 0
        if request.first_seconds is not None:
            self.streams += 1
            self.broken += failed
            if self.first_seconds.count < MOST_TIMES:
                self.first_seconds.add(request.first_seconds)

    def take(self, other: Totals) -> None:
        """Count all of another's, too; but for the times."""
        self.requests += other.requests
        self.failed += other.failed
        self.left += other.left
        self.streams += other.streams
        self.broken += other.broken
        self.answers += other.answers
        self.empty += other.empty


class RequestWindows:
    """Requests that are over, by model and by when they ended. ``keep_seconds`` is how long they
    are remembered; times are seconds since 1970."""

    def __init__(self, keep_seconds: float = 0.0) -> None:
        self.keep_seconds = keep_seconds
        self._spans: defaultdict[str, dict[int, Totals]] = defaultdict(dict)

    def __repr__(self) -> str:
        return f"<RequestWindows of {len(self._spans)} models>"

    def count(self, model_id: str, request: EndedRequest) -> None:
        """One more is over."""
        spans = self._spans[model_id]
        span = int((request.started_at + request.seconds) // SPAN_SECONDS)
        if (totals := spans.get(span)) is None:
            totals = spans[span] = Totals()
        totals.count(request)

    def forget_old(self, now: float, is_known: Callable[[str], bool]) -> None:
        """What is too old, what says that it ends in the future, and models that are gone."""
        first, last = _spans_of(now, self.keep_seconds)
        for model_id in list(self._spans):
            spans = self._spans[model_id] if is_known(model_id) else {}
            for span in [each for each in spans if not first <= each <= last]:
                del spans[span]
            if not spans:
                del self._spans[model_id]

    def models(self) -> list[str]:
        """Of which anything is remembered."""
        return sorted(self._spans)

    def totals(self, model_id: str, now: float, seconds: float) -> Totals:
        """The counts of the last so many seconds, without times."""
        total = Totals()
        for each in self._of(model_id, now, seconds):
            total.take(each)
        return total

    def times(self, model_id: str, now: float, seconds: float) -> Histogram:
        """Of answered requests, from begin to end."""
        return _together(each.seconds for each in self._of(model_id, now, seconds))

    def first_times(self, model_id: str, now: float, seconds: float) -> Histogram:
        """Of streams, until their first piece."""
        return _together(each.first_seconds for each in self._of(model_id, now, seconds))

    def _of(self, model_id: str, now: float, seconds: float) -> Iterator[Totals]:
        first, last = _spans_of(now, seconds)
        spans = self._spans.get(model_id, {})
        return (totals for span, totals in spans.items() if first <= span <= last)


class EventWindows:
    """When something happened, by whom it happened to."""

    def __init__(self, keep_seconds: float = 0.0) -> None:
        self.keep_seconds = keep_seconds
        self._spans: defaultdict[str, dict[int, int]] = defaultdict(dict)

    def count(self, name: str, now: float) -> None:
        """Once more."""
        spans, span = self._spans[name], int(now // SPAN_SECONDS)
        spans[span] = spans.get(span, 0) + 1

    def forget_old(self, now: float, is_known: Callable[[str], bool]) -> None:
        """What is too old, and who is gone."""
        first, last = _spans_of(now, self.keep_seconds)
        for name in list(self._spans):
            spans = self._spans[name] if is_known(name) else {}
            for span in [each for each in spans if not first <= each <= last]:
                del spans[span]
            if not spans:
                del self._spans[name]

    def names(self) -> list[str]:
        """To whom anything happened."""
        return sorted(self._spans)

    def total(self, name: str, now: float, seconds: float) -> int:
        """How often, in the last so many seconds."""
        first, last = _spans_of(now, seconds)
        return sum(n for span, n in self._spans.get(name, {}).items() if first <= span <= last)


def _spans_of(now: float, seconds: float) -> tuple[int, int]:
    """The first and the last of a window that ends now: at least so long, for workers tell with
    their beats, and by less than a span longer."""
    last = int(now // SPAN_SECONDS)
    return int((now - seconds) // SPAN_SECONDS), last


def _together(several: Iterator[Histogram]) -> Histogram:
    total = Histogram()
    for each in several:
        total.take(each)
    return total
