"""Which start gets room next: those that wait are tried again whenever something changed, the most
urgent first, and what stands in the way of one that has waited too long is asked to yield."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from modelpool.pool.admission import Plan, Refuse, SetPlan, Start, protected, set_with_ports
from modelpool.pool.clock import Clock
from modelpool.pool.context import Settings
from modelpool.pool.messages import (
    Evict,
    Message,
    Resume,
    RetryAdmission,
    RoomDenied,
    RoomFreed,
    StopIfIdle,
    Yield,
)
from modelpool.pool.replica import Replica
from modelpool.pool.resources import Resources
from modelpool.pool.wait_queue import (
    UNKNOWN_LOAD_SECONDS,
    Position,
    Queued,
    Wish,
    in_order,
    overdue,
    positions,
)


class Inbox(Protocol):
    """Where a replica takes messages; its data are read here, never written."""

    replica: Replica

    def post(self, message: Message) -> None: ...


@dataclass
class _Entry:
    since: float
    timer: asyncio.TimerHandle | None = None

    def cancel(self) -> None:
        if self.timer is not None:
            self.timer.cancel()


class Scheduler:
    """``inboxes`` are those of the pool's replicas, by key."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        resources: Resources,
        inboxes: Mapping[str, Inbox],
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._resources = resources
        self._inboxes = inboxes
        self._entries: dict[str, _Entry] = {}
        self._granted: dict[str, Start] = {}
        self._is_replan_due = False
        self._is_replanning = False
        self._speculates_from = float("-inf")

    def __repr__(self) -> str:
        return f"<Scheduler, {len(self)} waiting: {', '.join(self._entries) or 'none'}>"

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    # -- admission --------------------------------------------------------------------------------

    def plan(self, replica: Replica) -> Plan:
        """What a start would do right now; nothing is reserved."""
        return self._resources.plan(replica, self.first_overdue())

    def admit(self, replica: Replica) -> Plan:
        """Plan, and when the plan is to start, reserve in the same step; or take what
        ``admit_set`` has reserved for it."""
        if (granted := self._granted.pop(replica.key, None)) is not None:
            return granted
        decision = self.plan(replica)
        if isinstance(decision, Start):
            self._resources.reserve(replica)
        return decision

    def plan_set(self, replicas: Sequence[Replica], kept: Collection[str]) -> SetPlan:
        """What starts of all of them would do right now, beside those in ``kept``, which are there;
        nothing is reserved."""
        found = self._resources.plan_set(replicas, kept, self.first_overdue())
        if isinstance(found, Refuse):
            return found
        resources, keys = self._resources, {replica.key for replica in replicas}
        # What sleeps keeps its own, and what ends leaves it behind.
        needing = {replica.key for replica in replicas if replica.run is None}
        others = protected(resources.residents(), {*kept, *keys})
        return set_with_ports(found, needing, others, resources.ports.available)

    @contextmanager
    def admit_set(self, replicas: Sequence[Replica], kept: Collection[str]) -> Iterator[SetPlan]:
        """Plan as ``plan_set`` does, and reserve in the same step for those that start. Whoever
        enters has them loaded at once, without an await; what they do not take up is given back."""
        found = self.plan_set(replicas, kept)
        by_key = {replica.key: replica for replica in replicas}
        for step in () if isinstance(found, Refuse) else found:
            replica = by_key[step.need.model_id]
            may_begin = replica.run is None or replica.is_asleep  # else its old worker ends yet
            if isinstance(step.plan, Start) and may_begin:
                self._resources.reserve(replica, step.need)
                self._granted[replica.key] = step.plan
        try:
            yield found
        finally:
            for key in by_key.keys() & self._granted.keys():
                del self._granted[key]
                self._resources.cancel(key)

    def admit_speculatively(self, replica: Replica) -> bool:
        """Reserve if there is room that nobody has or waits for."""
        if len(self) or not self.may_speculate or self.plan(replica) != Start():
            return False
        self._resources.reserve(replica)
        return True

    @property
    def may_speculate(self) -> bool:
        """Starts that nobody waits for are made, where there is room."""
        return self._clock.now() >= self._speculates_from

    def pause_speculation(self, seconds: float) -> None:
        """No start that nobody waits for in the next seconds; requests are not concerned."""
        self._speculates_from = self._clock.now() + seconds

    # -- the queue --------------------------------------------------------------------------------

    def join(self, key: str, until: float | None) -> bool:
        """Wait for a change, at most until ``until``. True if it did not wait before."""
        now, is_new = self._clock.now(), key not in self._entries
        entry = self._entries.setdefault(key, _Entry(now))
        entry.cancel()
        overdue_at = self._queued(key).since + self._settings.config.max_queue_wait_seconds
        times = [t for t in (until, overdue_at if overdue_at > now else None) if t is not None]
        entry.timer = self._clock.call_at(min(times), self.capacity_changed) if times else None
        if overdue_at <= now and is_new:
            # It may be first at once: then what others waited for is its to take.
            self.capacity_changed()
        elif overdue_at <= now and not self._is_replanning:
            self._make_others_yield()
        return is_new

    def leave(self, key: str) -> None:
        """It starts, or is not wanted any more; those that yielded to it serve again."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            entry.cancel()
            self.capacity_changed()  # room that was promised to it is free for others
        self._resume(key)

    def _resume(self, key: str) -> None:
        for inbox in self._running():
            if inbox.replica.yields_to == key:
                inbox.post(Resume())

    def clear(self) -> None:
        """Nobody waits any more."""
        for key in tuple(self._entries):
            self.leave(key)

    def capacity_changed(self) -> None:
        """Something was freed, or somebody has waited for too long: try again, soon."""
        if self._entries and not self._is_replan_due:
            self._is_replan_due = True
            self._clock.call_soon(self._replan)

    def first_overdue(self) -> Replica | None:
        """Who has waited too long; nobody takes the room that it waits for."""
        if not self._entries:
            return None
        waiting = [q for q in self._queue() if len(self._inboxes[q.key].replica.waiters)]
        limit = self._settings.config.max_queue_wait_seconds
        late = overdue(waiting, self._clock.now(), limit)
        return self._inboxes[late.key].replica if late is not None else None

    def position(self, key: str) -> Position | None:
        """Where a replica stands; None if it does not wait."""
        if key not in self._entries:
            return None
        limit = self._settings.config.max_queue_wait_seconds
        return positions(self._queue(), self._clock.now(), limit)[key]

    def wait_seconds(self, replica: Replica) -> float:
        """About how long who asks for it now will wait."""
        if (position := self.position(replica.key)) is not None:
            return position.seconds
        return replica.load_seconds or UNKNOWN_LOAD_SECONDS

    def _replan(self) -> None:
        """One that cannot start does not hold up those that can without its room."""
        self._is_replan_due = False
        self._is_replanning = True
        for queued in self._queue():
            if queued.key in self._entries:
                self._inboxes[queued.key].post(RetryAdmission())
        self._is_replanning = False
        self._make_others_yield()

    def _make_others_yield(self) -> None:
        """Those in the way of who has waited for too long."""
        if (first := self.first_overdue()) is None:
            return
        keys = self._resources.to_yield(first)
        for key in keys:
            self._inboxes[key].post(Yield(first.key))
        if not keys:  # those that could let it in cannot all go, so nobody serves it by waiting
            self._resume(first.key)

    def _queue(self) -> list[Queued]:
        known = [self._queued(key) for key in self._entries if key in self._inboxes]
        return in_order(known, self._settings.config.priority_ageing_seconds)

    def _queued(self, key: str) -> Queued:
        replica = self._inboxes[key].replica
        wishes = tuple(Wish(w.rank, w.since) for w in replica.waiters)
        own = Wish(replica.rank, self._entries[key].since)
        return Queued(key, wishes or (own,), replica.load_seconds)

    # -- victims ----------------------------------------------------------------------------------

    def evict(self, keys: tuple[str, ...], on_behalf_of: str, asleep: Collection[str] = ()) -> None:
        """Ask those replicas to go, or to sleep; an orphan among them was told to."""
        for key in keys:
            if key in self._inboxes:
                self._inboxes[key].post(Evict(on_behalf_of, key in asleep))

    def trim_sleepers(self) -> None:
        """Those beyond ``max_sleeping_models`` go, those first that are missed least."""
        most = self._settings.config.max_sleeping_models
        for key in self._resources.surplus_sleepers():
            reason = f"more than max_sleeping_models ({most}) would sleep"
            self._inboxes[key].post(StopIfIdle(reason))

    def room_denied(self, by: str) -> None:
        """That one was asked to go and stays."""
        for inbox in self._waiting_for(by):
            inbox.post(RoomDenied(by))

    def room_freed(self, by: str) -> None:
        """What that one held is back."""
        for inbox in self._waiting_for(by):
            inbox.post(RoomFreed(by))
        self.capacity_changed()

    def _waiting_for(self, by: str) -> list[Inbox]:
        runs = [(inbox, inbox.replica.run) for inbox in self._running()]
        return [inbox for inbox, run in runs if run is not None and by in run.victims]

    def _running(self) -> list[Inbox]:
        """Of the replicas that have a worker, or are about to: few, however large the catalog."""
        return [self._inboxes[replica.key] for replica in self._resources.holders]
