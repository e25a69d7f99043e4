"""How a worker reports its facts, and how long it stays when nobody listens.

``PostPolicy`` and ``Contact`` are pure (``now`` is an argument); ``Heartbeat`` does the posting.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from modelpool_client.http1.exchange import JSON_TYPE
from modelpool_client.http1.upstream import Upstream
from modelpool_client.http1.upstream_connection import UpstreamError
from modelpool_client.wire import Assignment, Facts, FactsReply, Phase, decode, encode

if TYPE_CHECKING:
    import ssl

log = logging.getLogger(__name__)

# Whoever has started a worker knows that it loads, and the processor is for the load first.
FIRST_SECONDS = 0.05
ACTIVITY_SECONDS = 1.0
PROGRESS_SECONDS = 0.25
WANTED_SECONDS = 0.25
RETRY_SECONDS = 1.0
POST_TIMEOUT_SECONDS = 5.0
FLUSH_TIMEOUT_SECONDS = 1.0


class PostPolicy:
    """PURE. When the next facts are due."""

    def __init__(self, beat_seconds: float) -> None:
        self._beat_seconds = beat_seconds
        self._beat_due = self._wanted_due = -math.inf
        self._phase: Phase | None = None
        self._acknowledged: Phase | None = None
        self._phase_due = -math.inf
        self._activity_changed = self._progress_changed = False
        self._activity_due = self._progress_due = -math.inf

    def begins(self, now: float) -> None:
        """It loads; another phase is told at once."""
        self._phase = Phase.LOADING
        self._beat_due = self._phase_due = now + FIRST_SECONDS

    def phase_is(self, phase: Phase) -> None:
        """A change of phase goes out at once, and again until it is acknowledged."""
        if phase is not self._phase:
            self._phase, self._phase_due = phase, -math.inf

    def activity_changed(self) -> None:
        """The worker became busy or idle: at once, at most one a second."""
        self._activity_changed = True

    def progress_changed(self) -> None:
        """The load went on: at most four a second."""
        self._progress_changed = True

    def wanted(self) -> None:
        """Somebody waits for the manager's answer: at once, at most four a second: whoever asks for
        models that there are not must not keep the manager busy."""
        self._beat_due = min(self._beat_due, self._wanted_due)

    def due(self) -> float:
        """When to post next; in the past if at once."""
        times = [self._beat_due]
        if self._phase is not self._acknowledged:
            times.append(self._phase_due)
        if self._activity_changed:
            times.append(self._activity_due)
        if self._progress_changed:
            times.append(self._progress_due)
        return min(times)

    def begin(self, now: float, jitter: float) -> None:
        """A post with the newest facts begins; ``jitter`` in -1..1 shifts the next beat by 10 %."""
        self._beat_due = now + self._beat_seconds * (1 + 0.1 * jitter)
        self._phase_due = now + RETRY_SECONDS
        self._wanted_due = now + WANTED_SECONDS
        if self._activity_changed:
            self._activity_due = now + ACTIVITY_SECONDS
        if self._progress_changed:
            self._progress_due = now + PROGRESS_SECONDS
        self._activity_changed = self._progress_changed = False

    def acknowledged(self, phase: Phase) -> None:
        """The manager answered facts that said ``phase``."""
        self._acknowledged = phase

    def failed(self, now: float) -> None:
        """The post failed: with the next beat, or after a second if the phase is still unknown."""
        self._phase_due = now + RETRY_SECONDS


class Verdict(Enum):
    """What an answer, or none, means for the worker."""

    STAY = "stay"
    DISMISSED = "the manager does not know this worker"
    ORPHANED = "no manager answered until the lease was over"


@dataclass
class Contact:
    """PURE. What the worker knows of its manager. All in seconds.

    ``lease_seconds`` is what was left of the lease at the last answer, None if it never expires:
    that holds under a manager, not without one. ``ttl_seconds`` is how much a use without a
    manager adds. ``last_use`` is the end of the last request.
    """

    pool_id: str
    lease_seconds: float | None
    orphan_seconds: float
    last_answer: float
    ttl_seconds: float | None = None
    last_use: float = -math.inf

    def hear(self, now: float, reply: FactsReply | None, idle_seconds: float) -> Verdict:
        """Take in an answer; None stands for no answer or one that counts as none."""
        self.last_use = now - idle_seconds
        if reply is not None and reply.known:
            self.last_answer, self.lease_seconds = now, reply.lease_seconds
            return Verdict.STAY
        if reply is not None and reply.pool_id == self.pool_id:
            return Verdict.DISMISSED
        return Verdict.ORPHANED if now >= self.deadline else Verdict.STAY

    def lease_left(self, now: float) -> float | None:
        """Seconds, as the manager counted at its last answer; None if it never expires."""
        if self.lease_seconds is None:
            return None
        return max(0.0, self.last_answer + self.lease_seconds - now)

    @property
    def deadline(self) -> float:
        """When a worker that hears nothing leaves: after its own last lease, and some more."""
        over = self.last_answer + (self.lease_seconds or 0.0)
        if self.last_use > self.last_answer:  # a use that the manager has not heard of
            over = max(over, self.last_use + (self.ttl_seconds or 0.0))
        return over + self.orphan_seconds


class Heartbeat:
    """Posts facts by the loop that serves, one post at a time, always the newest."""

    def __init__(
        self,
        assignment: Assignment,
        facts: Callable[[], Facts],
        on_known: Callable[[FactsReply], None],
        on_leave: Callable[[str], None],
    ) -> None:
        url = urlsplit(assignment.manager_url)
        is_tls = url.scheme == "https"
        self._manager = (url.hostname or "", url.port or (443 if is_tls else 80))
        path = f"{url.path.rstrip('/')}/internal/workers/{assignment.worker_id}/facts"
        self._target = path.encode("ascii", "replace")
        self._headers = [JSON_TYPE, (b"authorization", f"Bearer {assignment.secret}".encode())]
        self._upstream = Upstream(_tls() if is_tls else None)
        self._facts = facts
        self._on_known = on_known
        self._on_leave = on_leave
        self._changed = asyncio.Event()
        self._sleeps_until = math.inf
        self._waiting: list[asyncio.Future[None]] = []
        self._now = asyncio.get_running_loop().time
        self.policy = PostPolicy(assignment.beat_seconds)
        self.contact = Contact(
            assignment.pool_id,
            assignment.lease_seconds,
            assignment.orphan_seconds,
            self._now(),
            ttl_seconds=assignment.lease_seconds,
        )

    def wake(self) -> None:
        """Something was told to the policy."""
        # With a request at a time each begin and each end is told, and a post a second is made.
        if self.policy.due() < self._sleeps_until:
            self._changed.set()

    async def run(self) -> None:
        """Post until cancelled."""
        while True:
            await self._sleep_until(self.policy.due())
            if self._now() >= self.policy.due():
                await self._beat()

    async def ask(self) -> None:
        """Wait for the manager's answer to facts that are posted from now on, soon; without one
        nothing is new. All who ask before that post begins share it."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self.policy.wanted()
        self.wake()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2 * POST_TIMEOUT_SECONDS):  # one may be under way
                await waiter

    def close(self) -> None:
        """Close the connection to the manager."""
        self._upstream.close()

    async def flush(self) -> None:
        """Post the newest facts once more, whatever the policy says; a failure is nothing."""
        await self._post(self._facts(), FLUSH_TIMEOUT_SECONDS)

    async def _sleep_until(self, due: float) -> None:
        self._changed.clear()
        self._sleeps_until = due
        delay = due - self._now()
        if delay > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._changed.wait()

    async def _beat(self) -> None:
        waiting, self._waiting = self._waiting, []
        self.policy.begin(self._now(), random.uniform(-1, 1))
        facts = self._facts()
        reply = await self._post(facts, POST_TIMEOUT_SECONDS)
        if reply is not None and reply.known:
            self.policy.acknowledged(facts.phase)
            self._on_known(reply)
        else:
            self.policy.failed(self._now())
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)
        verdict = self.contact.hear(self._now(), reply, facts.idle_seconds)
        if verdict is not Verdict.STAY:
            self._on_leave(verdict.value)

    async def _post(self, facts: Facts, timeout: float) -> FactsReply | None:
        try:
            async with asyncio.timeout(timeout):
                body = json.dumps(encode(facts)).encode()
                asked = self._upstream.request(
                    self._manager, "POST", self._target, self._headers, body
                )
                with await asked as reply:
                    text = await reply.read()
            return decode(FactsReply, json.loads(text)) if reply.status == 200 else None
        except (UpstreamError, TimeoutError, ValueError) as e:
            log.debug("facts not delivered: %r", e)
            return None


def _tls() -> ssl.SSLContext:
    import ssl  # reads the system's certificates, which most workers never need

    return ssl.create_default_context()
