"""Faults of the core, planted on purpose: what is to find them must find these."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from math import inf
from typing import Any
from unittest import mock

from modelpool.pool import admission, decide, resources, scheduler, supervisor
from modelpool.pool.decide import starting, steps, stopping, watching
from modelpool.pool.messages import RequestEnded
from modelpool.pool.ports import Ports
from modelpool.pool.recovery import Recoverer
from modelpool.pool.replica import Replica, Run
from modelpool.pool.replica_set import ReplicaSet
from modelpool.pool.scheduler import Scheduler
from modelpool.pool.states import Lease
from modelpool.pool.workers import Workers
from modelpool_client.wire import DrainReply

Plant = Callable[[], Any]


def decides_on_a_state_read_from_outside() -> Any:
    """The worker's word that it is busy is ignored: what the manager last read is enough."""
    sound = Workers.drain

    async def drain(self: Workers, worker: Any, request: Any) -> DrainReply | None:
        reply = await sound(self, worker, request)
        return dataclasses.replace(reply, drained=True) if reply is not None else None

    return mock.patch.object(Workers, "drain", drain)


def evicts_anybody() -> Any:
    """Protection is forgotten."""
    sound = resources.plan

    def plan(need: Any, residents: Any, budget: Any) -> Any:
        return sound(need, [dataclasses.replace(r, protected="") for r in residents], budget)

    stack = contextlib.ExitStack()
    stack.enter_context(mock.patch.object(resources, "plan", plan))
    stack.enter_context(mock.patch.object(Replica, "is_busy", False))
    stack.enter_context(mock.patch.object(Run, "is_busy", False))
    return stack


def forgets_the_devices() -> Any:
    """However full a device is, there is room on it."""
    return mock.patch.object(admission, "_device_room", return_value=10**12)


def loses_a_waiter() -> Any:
    """Of several that wait, the last one is not told that it failed."""
    sound = steps.fail_waiters

    def fail_waiters(replica: Replica, error: Any) -> Any:
        rejected = sound(replica, error)
        return rejected[:-1] if len(rejected) > 1 else rejected

    stack = contextlib.ExitStack()
    for module in (steps, starting, stopping):
        stack.enter_context(mock.patch.object(module, "fail_waiters", fail_waiters))
    return stack


def forgets_the_queue() -> Any:
    """Nobody is told that something was freed."""
    return mock.patch.object(Scheduler, "capacity_changed", return_value=None)


def leaks_ports() -> Any:
    """A port that was given back stays held."""
    return mock.patch.object(Ports, "free", return_value=None)


def forgets_a_timer() -> Any:
    """The end of a lease sets no alarm."""

    def next_deadline(replica: Replica, context: Any) -> float | None:
        due = (watching._retry_due(replica, context), watching._check_due(replica, context))
        return min((t for t in due if t is not None), default=None)

    return mock.patch.object(supervisor, "next_deadline", next_deadline)


def adopts_without_looking() -> Any:
    """Whoever answers is taken for sound."""
    return mock.patch.object(Recoverer, "_is_sound", return_value=True)


def shortens_adopted_leases() -> Any:
    """What a former manager granted is forgotten."""
    return mock.patch.object(Lease, "at_least", lambda self, seconds, now: self)


def starves() -> Any:
    """Nobody has ever waited for too long."""
    return mock.patch.object(scheduler, "overdue", return_value=None)


def holds_for_ever() -> Any:
    """Who yields does so for as long as he is waited for."""
    return mock.patch.object(watching, "_resume_due", return_value=None)


def loses_a_release() -> Any:
    """Of two requests in flight the first that ends is not counted."""
    sound = decide.HANDLERS[RequestEnded]

    def request_ended(replica: Replica, message: RequestEnded, context: Any) -> Any:
        return [] if replica.run.granted == 2 else sound(replica, message, context)

    stack = contextlib.ExitStack()
    stack.enter_context(mock.patch.object(supervisor, "end_at_once", return_value=None))
    stack.enter_context(mock.patch.dict(decide.HANDLERS, {RequestEnded: request_ended}))
    return stack


def knows_no_limit() -> Any:
    """A worker is given whatever comes."""
    return mock.patch.object(Run, "room", inf)


def tells_no_other_copy() -> Any:
    """Who waits for a place on one copy does not hear of one that is free on another."""
    return mock.patch.object(ReplicaSet, "opened", return_value=None)


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
    knows_no_limit,
)
