"""PURE: the states of a replica, what moves it between them, leases and back-off.

No clock, no I/O, no logging: times come in as arguments, in seconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum


class State(StrEnum):
    """Where a replica is in its life."""

    COLD = "COLD"
    WARMING = "WARMING"
    HOT = "HOT"
    COOLING = "COOLING"
    UNLOADING = "UNLOADING"
    FAILED = "FAILED"
    ASLEEP = "ASLEEP"  # of the core alone: to clients it is COLD, and sleeps

    @property
    def shown(self) -> State:
        """As it is called outside the core."""
        return State.COLD if self is State.ASLEEP else self

    @property
    def is_serving(self) -> bool:
        """A request can be answered now."""
        return self is _HOT or self is _COOLING

    @property
    def has_worker(self) -> bool:
        """A process, or the start of one, belongs to it."""
        return self not in (State.COLD, State.FAILED)

    @property
    def is_down(self) -> bool:
        """Nothing serves, loads or ends: a start is what it needs."""
        return self in (State.COLD, State.FAILED, State.ASLEEP)


# Those that anybody outside the core ever hears of.
SHOWN = tuple(state for state in State if state.shown is state)


# A member of an enumeration is looked up slowly, and every request asks.
_HOT, _COOLING = State.HOT, State.COOLING


class Trigger(StrEnum):
    """What happens to a replica."""

    START = "start"  # load, first request, warm-up: room is reserved
    ROOM_LOST = "room lost"  # a victim turned out to be busy: back into the queue
    SLEEPS_ON = "sleeps on"  # the same, of one that was to wake up
    READY = "ready"
    LEASE_OVER = "lease over"
    USED = "used"
    STOP = "stop"  # grace over, eviction, unload, cancelled load
    STOPPED = "stopped"  # process group gone, memory back
    FELL_ASLEEP = "fell asleep"  # device memory back, the process stays
    LOAD_FAILED = "load failed"
    DIED = "died"
    CLEAR = "clear"  # unload of a failed one
    ADOPT_LOADING = "adopted while loading"
    ADOPT_READY = "adopted"
    ADOPT_DRAINING = "adopted while draining"
    ADOPT_ASLEEP = "adopted asleep"


TRANSITIONS: dict[tuple[State, Trigger], State] = {
    (State.COLD, Trigger.START): State.WARMING,
    (State.COLD, Trigger.ADOPT_LOADING): State.WARMING,
    (State.COLD, Trigger.ADOPT_READY): State.HOT,
    (State.COLD, Trigger.ADOPT_DRAINING): State.UNLOADING,
    (State.COLD, Trigger.ADOPT_ASLEEP): State.ASLEEP,
    (State.WARMING, Trigger.ROOM_LOST): State.COLD,
    (State.WARMING, Trigger.SLEEPS_ON): State.ASLEEP,
    (State.WARMING, Trigger.READY): State.HOT,
    (State.WARMING, Trigger.LOAD_FAILED): State.FAILED,
    (State.WARMING, Trigger.STOP): State.UNLOADING,
    (State.HOT, Trigger.LEASE_OVER): State.COOLING,
    (State.HOT, Trigger.STOP): State.UNLOADING,
    (State.HOT, Trigger.DIED): State.FAILED,
    (State.COOLING, Trigger.USED): State.HOT,
    (State.COOLING, Trigger.STOP): State.UNLOADING,
    (State.COOLING, Trigger.DIED): State.FAILED,
    (State.UNLOADING, Trigger.STOPPED): State.COLD,
    (State.UNLOADING, Trigger.FELL_ASLEEP): State.ASLEEP,
    (State.ASLEEP, Trigger.START): State.WARMING,
    (State.ASLEEP, Trigger.STOP): State.UNLOADING,
    (State.ASLEEP, Trigger.DIED): State.COLD,
    (State.FAILED, Trigger.START): State.WARMING,
    (State.FAILED, Trigger.CLEAR): State.COLD,
}


# What each trigger stands for, for the documents.
MEANING: dict[Trigger, str] = {
    Trigger.START: "a load, the first request or a warm-up; bytes, count and port are reserved in"
    " one step (where all ports are held it gets that of a victim, once it has left). From FAILED"
    " only when the back-off is over, or by an explicit load",
    Trigger.ROOM_LOST: "a model that was to make room turned out to be in use, or it ran out of"
    " memory and is tried once more, or would not wake up; the start is planned again",
    Trigger.SLEEPS_ON: "a model that was to make room for it to wake up turned out to be in use",
    Trigger.READY: "the worker said so",
    Trigger.LEASE_OVER: "idle for the TTL, counted from the end of the last request, wherever it"
    " came from",
    Trigger.USED: "a request that its engine was given, a load or `extend-ttl`",
    Trigger.STOP: "grace over or eviction, and the worker agreed that it is idle; or an unload,"
    " which cancels a load; of one asleep, that its time is over or its room is wanted",
    Trigger.STOPPED: "the process group is gone, and the memory of its devices is back",
    Trigger.FELL_ASLEEP: "the memory of its devices is back, and its process waits",
    Trigger.LOAD_FAILED: "the engine's code and last lines are in `failure`",
    Trigger.DIED: "the worker's process ended by itself; it backs off, then the next request starts"
    " it again. Warm-up models start again by themselves. One asleep is just cold",
    Trigger.CLEAR: "an unload",
    Trigger.ADOPT_LOADING: "a worker of a former manager, found at the start",
    Trigger.ADOPT_READY: "a worker of a former manager, found at the start",
    Trigger.ADOPT_DRAINING: "a worker of a former manager, found at the start",
    Trigger.ADOPT_ASLEEP: "a worker of a former manager, found at the start",
}


class IllegalTransition(Exception):
    """A bug of ours: the table has no such move."""


def transition(state: State, trigger: Trigger) -> State:
    """The state after ``trigger``.

    Raises:
        IllegalTransition: the table has no such move.
    """
    try:
        return TRANSITIONS[state, trigger]
    except KeyError:
        raise IllegalTransition(f"{trigger.value!r} means nothing to a {state} replica") from None


# A worker counts what is left of its lease from the manager's last answer on.
COUNTED_SECONDS = 1.0


@dataclass(frozen=True)
class Lease:
    """Until when a replica may stay idle. ``ttl`` None: for ever; ``until`` None: not running.

    ``promised`` is until when it was extended, whatever the TTL may become.
    """

    ttl: float | None
    until: float | None = None
    promised: float | None = None

    def used(self, at: float) -> Lease:
        """The last request ended (or the replica became ready) at ``at``; never shortens."""
        if self.ttl is None:
            return self
        return Lease(self.ttl, max(self.until or 0.0, at + self.ttl), self.promised)

    def at_least(self, seconds: float | None, now: float) -> Lease:
        """What a former manager granted holds: ``seconds`` from now; None: as it is."""
        if self.ttl is None or seconds is None:
            return self
        until, own = now + seconds, self.until or 0.0
        is_extended = until > own + COUNTED_SECONDS
        return replace(
            self, until=max(own, until), promised=until if is_extended else self.promised
        )

    def with_ttl(self, ttl: float | None, last_used: float) -> Lease:
        """Another TTL, counted from the last use on; what was granted beyond it holds."""
        until = None if ttl is None else max(last_used + ttl, self.promised or 0.0)
        return Lease(ttl, until, self.promised)

    def extended(self, seconds: float, now: float, longest: float) -> tuple[Lease, float]:
        """Add ``seconds`` to what is left, at most ``longest`` from now. Also says what was added.

        A lease that never ends is granted nothing: it has it already.
        """
        if self.ttl is None:
            return self, 0.0
        left = max((self.until or now) - now, 0.0)
        wanted = max(min(left + seconds, longest), left)
        return replace(self, until=now + wanted, promised=now + wanted), wanted - left

    def remaining(self, now: float) -> float | None:
        """Seconds left, never negative; None if it never ends."""
        if self.ttl is None:
            return None
        return max((self.until or now) - now, 0.0)


def backoff(failures: int, first: float, longest: float) -> float:
    """Seconds to wait after the n-th failure in a row: it doubles, up to ``longest``."""
    if failures <= 0:
        return 0.0
    return min(first * 2.0 ** min(failures - 1, 30), longest)


def recent(times: Iterable[float], now: float, window: float) -> tuple[float, ...]:
    """Those of ``times`` that lie within the last ``window`` seconds."""
    return tuple(t for t in times if now - t < window)
