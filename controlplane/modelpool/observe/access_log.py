"""The access log: a line for each request, once its worker has told of its tokens.

What is known at the end of an answer waits in memory for what the worker tells with its next facts;
lines are written beside the loop, all that have come in the meantime at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from modelpool_client.http1.exchange import Exchange
from modelpool_client.http1.request_ids import id_of
from modelpool_client.log_file import rotate
from modelpool_client.wire import CLIENT_LEFT, MODEL_HEADER, EndedRequest, LogLimits

from modelpool.observe.access_line import Access, combined_line, direct, json_line

log = logging.getLogger(__name__)

WRITE_SECONDS = 0.2
# Of requests that wait for their workers' word, and of words that came before the end of theirs.
MOST_OPEN = 10_000
# How long such a word is kept for the end of its request.
EARLY_SECONDS = 600.0
# Of lines that the disk does not take.
MOST_LINES = 100_000
MODEL = MODEL_HEADER.encode()
STANDARD_OUTPUT = 1


@dataclass(slots=True)
class _Open:
    """A request of which not all is known. ``access`` None: it is not over yet."""

    access: Access | None = None
    due: int = 0
    until: float = 0.0
    rows: list[EndedRequest] = field(default_factory=list)


class AccessLog:
    """``how`` is ``json`` or ``combined``, ``path`` None for standard output, ``patience`` how many
    seconds a line waits for a worker's word."""

    def __init__(
        self,
        how: str,
        path: Path | None,
        limits: LogLimits,
        patience: float,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._is_json = how == "json"
        self._output = _Output(path, limits)
        self._patience = patience
        self._clock = clock
        self._wall = wall
        self._open: OrderedDict[str, _Open] = OrderedDict()
        self._lines: list[str] = []
        self._dropped = 0
        self._is_failing = False

    def __repr__(self) -> str:
        return f"<AccessLog {self._output}, {len(self._open)} open>"

    def ended(self, exchange: Exchange) -> None:
        """A request to the manager's port is over; what workers tell it by themselves is none."""
        if exchange.request.path.startswith("/internal/"):
            return
        self.noted(access_of(exchange, self._wall()), exchange.rows_due)

    def noted(self, access: Access, due: int) -> None:
        """A request is over, of which so many workers tell, or have told."""
        before = self._open.get(access.request_id)
        if before is not None and before.access is not None:  # a client's id, used again
            self._close(access.request_id, before)
            before = None
        if not self._is_json or (due <= 0 and before is None):
            self._add(access, [])
            return
        found = self._of(access.request_id)
        found.access, found.due = access, due
        found.until = self._clock() + self._patience
        self._settle(access.request_id, found)

    def told(self, worker_id: str, model_id: str, request: EndedRequest) -> None:
        """A worker tells of a request that is over."""
        if request.is_direct:
            self._add(direct(request, model_id), [request])
        elif self._is_json:
            found = self._of(request.request_id)
            found.rows.append(request)
            found.until = found.until or self._clock() + EARLY_SECONDS
            self._settle(request.request_id, found)

    async def write_on(self) -> None:
        """Write what there is, until cancelled."""
        while True:
            await asyncio.sleep(WRITE_SECONDS)
            self.give_up(self._clock())
            if self._lines:
                await self.flush()

    def give_up(self, now: float) -> None:
        """Lines that have waited long enough are as complete as they will ever be."""
        for request_id, found in tuple(self._open.items()):
            if found.until and found.until <= now:
                self._close(request_id, found)

    async def flush(self) -> None:
        """Write the lines that are complete; they are kept, within bounds, where that fails."""
        lines, self._lines = self._lines, []
        try:
            await asyncio.to_thread(self._output.write, "".join(lines))
        except OSError as e:
            if not self._is_failing:
                log.warning("the access log cannot be written to %s: %s", self._output, e)
            self._is_failing = True
            self._lines = lines + self._lines
            self._keep_bounds()
        else:
            if self._is_failing:
                log.info("the access log is written again; %d lines are missing", self._dropped)
            self._is_failing, self._dropped = False, 0

    async def close(self) -> None:
        """Write all that there is, complete or not."""
        for request_id, found in tuple(self._open.items()):
            self._close(request_id, found)
        if self._lines:
            await self.flush()

    def _of(self, request_id: str) -> _Open:
        found = self._open.get(request_id)
        if found is None:
            found = self._open[request_id] = _Open()
            if len(self._open) > MOST_OPEN:
                self._close(*next(iter(self._open.items())))
        return found

    def _settle(self, request_id: str, found: _Open) -> None:
        if found.access is not None and len(found.rows) >= found.due:
            self._close(request_id, found)

    def _close(self, request_id: str, found: _Open) -> None:
        self._open.pop(request_id, None)
        if found.access is not None:
            self._add(found.access, found.rows)

    def _add(self, access: Access, rows: list[EndedRequest]) -> None:
        self._lines.append(json_line(access, rows) if self._is_json else combined_line(access))
        if len(self._lines) > MOST_LINES:
            self._keep_bounds()

    def _keep_bounds(self) -> None:
        surplus = len(self._lines) - MOST_LINES
        if surplus > 0:
            del self._lines[:surplus]
            self._dropped += surplus


class _Output:
    """A file that rotates, ours or another's doing, or standard output."""

    def __init__(self, path: Path | None, limits: LogLimits) -> None:
        self._path = path
        self._limits = limits

    def __repr__(self) -> str:
        return "standard output" if self._path is None else str(self._path)

    def write(self, text: str) -> None:
        """Append lines.

        Raises:
            OSError: some were not.
        """
        data = memoryview(text.encode("utf-8", "backslashreplace"))
        if self._path is None:
            _write(STANDARD_OUTPUT, data)
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # Opened anew each time: it may have been put aside since, by whoever likes.
        fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            _write(fd, data)
            is_full = os.fstat(fd).st_size >= self._limits.max_bytes
        finally:
            os.close(fd)
        if is_full:
            rotate(str(self._path), self._limits, is_marked=False)


def _write(fd: int, data: memoryview) -> None:
    while data:
        data = data[os.write(fd, data) :]


def access_of(exchange: Exchange, now: float) -> Access:
    """What its client's side has seen of a request that is over at ``now``, seconds since 1970."""
    request, fields = exchange.request, exchange.request.fields
    seconds = max(0.0, exchange.channel.now() - exchange.began_at)
    first_at = exchange.first_at if exchange.is_stream else None
    status, code = exchange.status or CLIENT_LEFT, exchange.code
    if exchange.has_left:
        status, code = CLIENT_LEFT, "client_left"
    answered_by = dict(exchange.headers).get(MODEL, b"").decode("latin-1")
    return Access(
        now - seconds,
        id_of(request).decode("latin-1"),
        exchange.peer,
        request.method,
        request.raw_path.decode("latin-1"),
        "HTTP/1.0" if request.is_1_0 else "HTTP/1.1",
        answered_by or exchange.model,
        status,
        code,
        exchange.sent_bytes,
        seconds,
        None if first_at is None else first_at - exchange.began_at,
        fields.get(b"referer", b"").decode("latin-1"),
        fields.get(b"user-agent", b"").decode("latin-1"),
    )
