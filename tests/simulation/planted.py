"""Faults of the core, planted on purpose: what is to find them must find these."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any
from unittest import mock

from modelpool.pool import admission, ledger, line
from modelpool.pool.crew import Crew
from modelpool.pool.lifecycle import Lease
from modelpool.pool.ports import Ports
from modelpool.pool.recovery import Recoverer
from modelpool.pool.slot import Slot
from modelpool.pool.waiters import Waiters
from modelpool_client.wire import DrainReply

Plant = Callable[[], Any]


def decides_on_a_state_read_from_outside() -> Any:
    """The worker's word that it is busy is ignored: what the manager last read is enough."""
    sound = Crew.drain

    async def drain(self: Crew, worker: Any, request: Any) -> DrainReply | None:
        reply = await sound(self, worker, request)
        return dataclasses.replace(reply, drained=True) if reply is not None else None

    return mock.patch.object(Crew, "drain", drain)


def evicts_anybody() -> Any:
    """Protection is forgotten."""
    sound = ledger.plan

    def plan(need: Any, residents: Any, budget: Any) -> Any:
        return sound(need, [dataclasses.replace(r, protected="") for r in residents], budget)

    stack = contextlib.ExitStack()
    stack.enter_context(mock.patch.object(ledger, "plan", plan))
    stack.enter_context(mock.patch.object(Slot, "is_busy", False))
    return stack


def forgets_the_devices() -> Any:
    """However full a device is, there is room on it."""
    return mock.patch.object(admission, "_device_room", return_value=10**12)


def loses_a_waiter() -> Any:
    """Of several that wait, the last one is not told that it failed."""
    sound = Waiters.fail_all

    def fail_all(self: Waiters, error: Any) -> None:
        if len(self) > 1:
            self._waiting.pop()
        sound(self, error)

    return mock.patch.object(Waiters, "fail_all", fail_all)


def forgets_the_queue() -> Any:
    """Nobody is told that something was freed."""
    return mock.patch.object(ledger.Ledger, "changed", return_value=None)


def leaks_ports() -> Any:
    """A port that was given back stays held."""
    return mock.patch.object(Ports, "free", return_value=None)


def forgets_a_timer() -> Any:
    """The end of a lease sets no alarm."""

    def next_deadline(self: Slot) -> float | None:
        times = [t for t in (self._retry_due(), self._look_due()) if t is not None]
        return min(times, default=None)

    return mock.patch.object(Slot, "_next_deadline", next_deadline)


def adopts_without_looking() -> Any:
    """Whoever answers is taken for sound."""
    return mock.patch.object(Recoverer, "_is_sound", return_value=True)


def shortens_adopted_leases() -> Any:
    """What a former manager granted is forgotten."""
    return mock.patch.object(Lease, "at_least", lambda self, seconds, now: self)


def starves() -> Any:
    """Nobody has ever waited for too long."""
    return mock.patch.object(line, "overdue", return_value=None)


def holds_for_ever() -> Any:
    """Who yields does so for as long as he is waited for."""
    return mock.patch.object(Slot, "_hold_due", return_value=None)


def loses_a_release() -> Any:
    """Of two requests in flight the first that ends is not counted."""
    sound = Slot._on_release

    def on_release(self: Slot, worker_id: str, given_after: int) -> None:
        if self.granted != 2:
            sound(self, worker_id, given_after)

    return mock.patch.object(Slot, "_on_release", on_release)


PLANTED: tuple[Plant, ...] = (
    decides_on_a_state_read_from_outside,
    evicts_anybody,
    forgets_the_devices,
    loses_a_waiter,
    forgets_the_queue,
    leaks_ports,
    forgets_a_timer,
    adopts_without_looking,
    shortens_adopted_leases,
    starves,
    holds_for_ever,
    loses_a_release,
)
