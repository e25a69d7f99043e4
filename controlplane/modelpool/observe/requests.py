"""The request log: facts of the last requests that are over, of all workers, and of those that
reached none. In memory, and bounded; workers hold theirs, so that a manager that comes after
another is told of them again.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from modelpool_client.wire import Captured, Ended, EndedRequest

# What was said in all requests together, in characters; the oldest goes first.
CONTENT_CHARACTERS = 16_000_000


Listener: TypeAlias = Callable[[str, Sequence[tuple[str, EndedRequest]]], None]


def each(listen: Callable[[str, str, EndedRequest], None]) -> Listener:
    """A listener that hears of one request after the other: the worker's id, the model's, and
    that."""

    def listen_to_all(worker_id: str, told: Sequence[tuple[str, EndedRequest]]) -> None:
        for model_id, request in told:
            listen(worker_id, model_id, request)

    return listen_to_all


class Logged(NamedTuple):
    """A request in the log.

    Attributes:
        number: its place; later ones have a higher one.
        model_id: empty where it named a model that there is not.
        worker_id: empty where it reached no worker.
    """

    number: int
    model_id: str
    worker_id: str
    request: EndedRequest

    @property
    def ended_at(self) -> float:
        """Seconds since 1970."""
        return self.request.started_at + self.request.seconds


@dataclass(frozen=True)
class Wanted:
    """Which requests are asked for; None, empty and False: any.

    Attributes:
        model: an id, or the name that it was asked by.
        status: as ``404``, or of a kind as ``4xx``.
        surface: its path.
        since: that ended then or later, seconds since 1970.
    """

    model: str | None = None
    status: str = ""
    surface: str = ""
    since: float | None = None
    errors: bool = False

    def fits(self, logged: Logged) -> bool:
        """PURE. Is it one of them?"""
        request = logged.request
        names = (logged.model_id, request.model, request.via.partition("@")[0])
        return (
            (self.model is None or self.model in names)
            and (not self.status or _is_of_status(request.status, self.status))
            and (not self.surface or request.path == self.surface)
            and (self.since is None or logged.ended_at >= self.since)
            and (not self.errors or request.is_error)
        )


class RequestLog:
    """``size`` is how many are kept at most, ``is_kept`` whether any are; ``running`` are the
    workers that may tell more.

    Attributes:
        listeners: called with the worker's id, empty where none was reached, and what that or the
            gateway tells at a time, if it is wanted, kept or not: requests by their models' ids,
            which are empty where there is no such model; must be quick.
        is_needed: workers are to tell of single requests though none are kept.
        missing: those that workers have dropped before they could tell them.
    """

    def __init__(
        self,
        size: Callable[[], int],
        is_kept: Callable[[], bool],
        running: Callable[[], Collection[str]],
    ) -> None:
        self._size = size
        self._is_kept = is_kept
        self._running = running
        self._logged: deque[Logged] = deque()
        self._number = 0
        self._told: dict[str, int] = {}
        self.listeners: list[Listener] = []
        self._asked_again: set[str] = set()
        self.is_needed = False
        self._contents: OrderedDict[int, Captured] = OrderedDict()
        self._characters = 0
        self.missing = 0

    def __repr__(self) -> str:
        return f"<RequestLog {len(self._logged)} requests, {len(self._told)} workers>"

    @property
    def is_kept(self) -> bool:
        """Whether requests are logged."""
        return self._is_kept()

    @property
    def is_wanted(self) -> bool:
        """Whether workers are to tell of single requests."""
        return self.is_kept or self.is_needed

    def take(
        self,
        worker_id: str,
        ended: Ended,
        model_id: Callable[[str], str],
        is_captured: Callable[[str], bool] = lambda model_id: False,
    ) -> int:
        """A worker tells of requests, by its names of models. The number of the last one that is
        known here; where that is lower than it believes, it tells all that it has again.
        ``is_captured``: whether what was said to that model is kept."""
        told = self._told.get(worker_id, 0)
        if not self.is_kept:
            self._logged.clear()
            self.forget_contents()
        if not self.is_wanted:
            return self._heard(worker_id, ended.last)
        if ended.after > told:
            self._asked_again.add(worker_id)
            return told
        new = [r for r in map(_request, ended.requests) if r.number > told]
        if worker_id not in self._asked_again:
            self.missing += max(0, ended.last - told - len(new))
        self._asked_again.discard(worker_id)
        is_kept = self.is_kept
        said = {each.number: each for each in ended.captured}
        named = [(model_id(request.served), request) for request in new]
        for served, request in named if is_kept else ():
            content = said.get(request.number)
            self._add(served, worker_id, request, content if is_captured(served) else None)
        for listen in self.listeners if named else ():
            listen(worker_id, named)
        return self._heard(worker_id, max(told, ended.last))

    def refused(self, model_id: str, request: EndedRequest) -> None:
        """A request has reached no worker; ``model_id`` is empty where there is no such model."""
        if self.is_kept:
            self._add(model_id, "", request)
        # Who heard of refusals only would take all requests for such.
        for listen in self.listeners if self.is_wanted else ():
            listen("", [(model_id, request)])

    def find(
        self, wanted: Wanted, limit: int, before: int | None = None
    ) -> tuple[list[Logged], int | None]:
        """The newest by their end, after the one of the number ``before``; and which number the
        next page comes before, None where there is none."""
        order = sorted(self._logged, key=lambda each: (each.ended_at, each.number), reverse=True)
        if before is not None:
            numbers = [each.number for each in order]
            order = order[numbers.index(before) + 1 :] if before in numbers else []
        found = [each for each in order if wanted.fits(each)]
        page = found[:limit]
        return page, page[-1].number if page and len(found) > limit else None

    def get(self, number: int) -> Logged | None:
        """The one of that number."""
        return next((each for each in self._logged if each.number == number), None)

    def content(self, number: int) -> Captured | None:
        """What was said in it; None where that was not captured, or is kept no more."""
        return self._contents.get(number)

    @property
    def contents(self) -> int:
        """Of how many requests it is known what was said."""
        return len(self._contents)

    def forget_contents(self) -> None:
        """Whatever was said."""
        self._contents.clear()
        self._characters = 0

    def _heard(self, worker_id: str, number: int) -> int:
        if worker_id not in self._told:
            self._forget_workers()
        self._told[worker_id] = number
        return number

    def _forget_workers(self) -> None:
        running = self._running()
        for worker_id in self._told.keys() - running:
            del self._told[worker_id]
        self._asked_again.intersection_update(running)

    def _add(
        self,
        model_id: str,
        worker_id: str,
        request: EndedRequest,
        content: Captured | None = None,
    ) -> None:
        self._number += 1
        self._logged.append(Logged(self._number, model_id, worker_id, request))
        if content is not None:
            self._contents[self._number] = content
            self._characters += _characters(content)
        while len(self._logged) > self._size():
            self._forget(self._logged.popleft().number)
        while self._characters > CONTENT_CHARACTERS:
            self._forget(next(iter(self._contents)))

    def _forget(self, number: int) -> None:
        if (content := self._contents.pop(number, None)) is not None:
            self._characters -= _characters(content)


def _characters(content: Captured) -> int:
    return sum(
        len(message.text) + sum(len(name) + len(value) for name, value in message.headers)
        for message in (content.request, content.answer)
    )


def _request(row: list[object]) -> EndedRequest:
    """Of a worker of another version there may be more or less of it."""
    known: list[object] = row[: len(EndedRequest._fields)]
    return EndedRequest(*known)  # type: ignore[arg-type]


def _is_of_status(status: int, wanted: str) -> bool:
    return str(status) == wanted or wanted.lower() == f"{status // 100}xx"
