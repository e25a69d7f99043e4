"""The shell of a replica: one inbox, one timer, and the commands of ``decide`` carried out.

The inbox runs in place: a message that finds it empty is handled at once, so that a request for a
HOT model costs no switch of tasks; one that comes while another is handled waits for its turn. What
takes time runs beside it, and its result comes back as a message. Nothing here decides anything.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from modelpool_client.errors import QueueFull

from modelpool.pool import commands as c
from modelpool.pool import messages as m
from modelpool.pool.admission import Plan, Start
from modelpool.pool.clock import Clock
from modelpool.pool.context import Context, Settings
from modelpool.pool.decide import (
    decide,
    end_at_once,
    grant_at_once,
    may_hasten,
    may_start,
    next_deadline,
)
from modelpool.pool.replica import Replica, Run
from modelpool.pool.resources import Resources
from modelpool.pool.scheduler import Scheduler
from modelpool.pool.states import State
from modelpool.pool.status import ReplicaStatus, status_of
from modelpool.pool.tasks import Tasks
from modelpool.pool.waiters import Grant, Outcome, Use, Waiter
from modelpool.pool.worker import Worker
from modelpool.pool.workers import Workers

log = logging.getLogger(__name__)

NEVER = float("inf")


class Events(Protocol):
    """Who tells the world."""

    def replica_event(self, name: str, status: ReplicaStatus, previous: State, reason: str) -> None:
        """Something happened to a replica; without a name, it is in a new state."""
        ...

    def internal_error(self, error: Exception) -> None:
        """Something of ours is broken; make it visible."""
        ...


class Siblings(Protocol):
    """The copies of one model, as one of them sees them."""

    def keeps(self, key: str) -> bool:
        """It is not to idle out, for its model wants that many copies while one is used."""
        ...

    def moved(self, key: str, state: State) -> None:
        """That copy is in a new state."""
        ...

    def opened(self, key: str) -> None:
        """That copy takes requests; who waits for another need not."""
        ...

    def closed(self, key: str) -> None:
        """That copy takes no requests for now; who waits for it may do better elsewhere."""
        ...

    def forward(self, waiter: Waiter, key: str) -> None:
        """Hand one who waited for that copy to one that serves, or back to it."""
        ...


@dataclass(frozen=True)
class Shell:
    """What supervisors act through, the same for all of a pool.

    ``awake`` are the replicas that something may be due for, by key; of a large catalog most are
    dormant, and nobody looks at them.
    """

    clock: Clock
    settings: Settings
    resources: Resources
    scheduler: Scheduler
    workers: Workers
    events: Events
    awake: dict[str, Supervisor]
    make_tasks: Callable[[], Tasks] = Tasks


class Supervisor:
    """Owns a replica: only messages posted here change it."""

    __slots__ = (
        *("replica", "_siblings", "_shell", "_tasks", "_inbox", "_is_handling"),
        *("_timer", "_timer_at"),
    )

    def __init__(self, replica: Replica, siblings: Siblings, shell: Shell) -> None:
        self.replica = replica
        self._siblings = siblings
        self._shell = shell
        self._tasks = shell.make_tasks()
        # Hardly ever more than one: a deque would take ten times the memory of a list.
        self._inbox: list[m.Message] = []
        self._is_handling = False
        self._timer: asyncio.Handle | None = None
        self._timer_at = NEVER  # uvloop's handles for what is due at once do not know it

    def __repr__(self) -> str:
        return f"<Supervisor of {self.replica!r}>"

    @property
    def key(self) -> str:
        return self.replica.key

    @property
    def timer_at(self) -> float:
        """When it looks by itself whether something is due, on the pool's clock."""
        return self._timer_at

    @property
    def is_at_rest(self) -> bool:
        """Nothing runs for it here, and it waits for no time."""
        return self._timer is None and not self._tasks.count

    @property
    def may_start(self) -> bool:
        """It is down, and nothing forbids to start it."""
        return may_start(self.replica, self._context())

    def status(self) -> ReplicaStatus:
        """A snapshot."""
        return status_of(self.replica, self._shell.scheduler.position(self.key))

    def post(self, message: m.Message) -> None:
        """Handle it now, or after those that came before."""
        self._inbox.append(message)
        if self._is_handling:
            return
        self._is_handling = True
        try:
            while self._inbox:
                self._handle(self._inbox.pop(0))
        finally:
            self._is_handling = False
        if may_hasten(self.replica, message):
            self._set_timer()
            self._note_awake()

    def grant_now(self) -> Grant | None:
        """A grant, if nothing else follows from that; None: nothing has happened."""
        shell = self._shell
        if self._is_handling or shell.settings.is_stopping:
            return None
        run = grant_at_once(self.replica, shell.clock.now())
        if run is None:
            return None
        return self._grant(run, run.occupied, was_hot=run.hot_since is not None)

    async def close(self) -> None:
        """Stop what runs for it here, leaving its worker alone."""
        if self._timer is not None:
            self._timer.cancel()
        await self._tasks.close()

    def _context(self) -> Context:
        clock, settings = self._shell.clock, self._shell.settings
        is_kept = self._siblings.keeps(self.key)
        return Context(clock.now(), clock.wall(), settings.config, settings.is_stopping, is_kept)

    def _handle(self, message: m.Message) -> None:
        try:
            commands = decide(self.replica, message, self._context())
        except Exception as e:
            log.exception("%r: %s failed", self, type(message).__name__)
            self._shell.events.internal_error(e)
            return
        for command in commands:
            try:
                self._carry_out(command)
            except Exception as e:
                log.exception("%r: %s failed", self, type(command).__name__)
                self._shell.events.internal_error(e)

    def _set_timer(self) -> None:
        """It may ring early, never late."""
        when = next_deadline(self.replica, self._context())
        if when is None or self._timer_at <= when:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = when
        self._timer = self._shell.clock.call_at(when, self._ring)

    def _note_awake(self) -> None:
        if self.replica.is_dormant:
            self._shell.awake.pop(self.key, None)
        else:
            self._shell.awake[self.key] = self

    def _ring(self) -> None:
        self._timer, self._timer_at = None, NEVER
        self.post(m.Tick())

    def _carry_out(self, command: c.Command) -> None:
        resources, scheduler = self._shell.resources, self._shell.scheduler
        replica, key = self.replica, self.replica.key
        match command:
            case c.IssueGrant():
                self._issue(command)
            case c.NotifyCapacity():
                scheduler.capacity_changed()
            case c.Publish():
                self._publish(command)
            case c.Resolve(outcome, value):
                if not outcome.done():
                    outcome.set_result(value)
            case c.Reject(outcome, error):
                if not outcome.done():
                    outcome.set_exception(error)
            case c.Cancel(outcome):
                outcome.cancel()
            case c.Shed(outcome):
                self._shed(outcome)
            case c.Forward(waiter):
                self._siblings.forward(waiter, key)
            case c.NotifyOpen():
                self._siblings.opened(key)
            case c.NotifyClosed():
                self._siblings.closed(key)
            case c.Admit():
                self._admit(command)
            case c.CancelReservation():
                resources.cancel(key)
            case c.Release(run):
                resources.release(key, run.port)
                scheduler.room_freed(key)
            case c.PlanRetry(run, failure, held):
                plan, more = scheduler.plan(replica), resources.requirements(replica)
                self._handle(m.RetryPlanned(run, plan, more, failure, held))
            case c.PlanSleep(run, idle_seconds):
                self._handle(m.SleepPlanned(run, idle_seconds, resources.sleep_refusal(replica)))
            case c.SettleAsleep():
                resources.settle_asleep(replica)
                scheduler.room_freed(key)
                scheduler.trim_sleepers()
            case c.JoinQueue(until):
                if scheduler.join(key, until):
                    status = self.status()
                    self._publish(
                        c.Publish("model-waiting", status, status.core_state, status.waiting_for)
                    )
            case c.LeaveQueue():
                scheduler.leave(key)
            case c.EvictOthers(keys, asleep):
                scheduler.evict(keys, key, asleep)
            case c.ReadAhead():
                self._shell.workers.read_ahead(replica.model)
            case c.DenyRoom():
                scheduler.room_denied(key)
            case c.AssignPort(run, avoid):
                port = resources.take_port(key, avoid)
                self._handle(m.PortAssigned(run, port, self._new_id()))
            case c.ClaimPort(port):
                resources.ports.claim(port, key)
            case c.ReturnPort(port):
                resources.ports.free(port, self._shell.clock.now())
            case c.Launch(run):
                self._launch(run)
            case c.AwaitExit(run):
                self._start(_worker(run).process.wait(), partial(m.Exited, run))
            case c.CheckHealth(run):
                hang_seconds = self._shell.settings.config.hang_seconds
                checking = self._shell.workers.check_health(_worker(run), hang_seconds)
                self._start(checking, partial(m.HealthChecked, run))
            case c.Drain(run, request, to_sleep):
                workers = self._shell.workers
                ask = workers.put_to_sleep if to_sleep else workers.drain
                self._start(ask(_worker(run), request), partial(m.Drained, run))
            case c.Wake(run):
                self._start(self._shell.workers.wake(_worker(run)), partial(m.Woken, run))
            case c.Terminate():
                self._terminate(command)
            case c.CutWork(run, reason):
                cutting = self._shell.workers.cut_work(_worker(run), reason)
                self._start(cutting, partial(m.WorkCut, run))
            case c.Reap():
                self._reap(command)
            case c.ReportBug(error):
                self._shell.events.internal_error(error)

    def _start(self, work: Awaitable[Any], message: Callable[[Any], m.Message]) -> None:
        self._tasks.start(work, lambda result: self.post(message(result)))

    def _issue(self, command: c.IssueGrant) -> None:
        grant = self._grant(command.run, command.in_flight, was_hot=command.was_hot)
        command.waiter.outcome.set_result(grant)

    def _grant(self, run: Run, in_flight: int, *, was_hot: bool) -> Grant:
        replica, worker = self.replica, run.worker
        assert worker is not None
        return Grant(
            replica.model.model_id,
            run.worker_id,
            worker.endpoint,
            replica.generation,
            was_hot,
            partial(self._ended, run, run.yielding.in_vain, in_flight),
            replica.key,
        )

    def _ended(self, run: Run, given_after: int, in_flight: int, use: Use) -> None:
        is_idle = None
        if not self._is_handling:
            is_idle = end_at_once(self.replica, run, in_flight, use, self._shell.clock.now())
        if is_idle is None:
            self.post(m.RequestEnded(run, given_after, in_flight, use))
        elif is_idle:
            self._shell.scheduler.capacity_changed()
            self._set_timer()

    def _publish(self, command: c.Publish) -> None:
        status = command.status
        self._shell.events.replica_event(command.name, status, command.previous, command.reason)
        if not command.name:
            self._siblings.moved(status.key, status.state)

    def _shed(self, outcome: Outcome) -> None:
        replica = self.replica
        text = (
            f"{len(replica.waiters)} requests wait for {replica.model.model_id} already, which is"
            f" {replica.state}; try again later or raise max_waiting_requests"
        )
        seconds = self._wait_seconds()
        outcome.set_exception(QueueFull(text, retry_after=seconds))

    def _wait_seconds(self) -> float:
        """About how long who asks now will wait: for a place as long as the first one has."""
        oldest = self.replica.waiters.oldest
        if self.replica.is_open and oldest is not None:
            return self._shell.clock.now() - oldest.since
        return self._shell.scheduler.wait_seconds(self.replica)

    def _admit(self, command: c.Admit) -> None:
        replica, scheduler = self.replica, self._shell.scheduler
        if self._is_outdated():
            self._handle(m.Admitted(Start(), command.why, is_outdated=True))
            return
        plan: Plan
        if not command.is_speculative:
            plan = scheduler.admit(replica)
        elif scheduler.admit_speculatively(replica):
            plan = Start()
        else:
            return
        port, worker_id = None, ""
        if isinstance(plan, Start) and replica.run is None:
            # An id may be that of a process that waits: who has to wait himself takes none.
            worker_id = self._new_id()
            port = self._shell.resources.take_port(replica.key, frozenset())
        self._handle(m.Admitted(plan, command.why, worker_id, port, command.is_speculative))

    def _is_outdated(self) -> bool:
        """It sleeps with other options than a load of it would have now."""
        replica = self.replica
        worker = replica.run.worker if replica.run is not None else None
        if not replica.is_asleep or worker is None or worker.options is None:
            return False
        return worker.options != self._shell.resources.effective(replica.model).options

    def _new_id(self) -> str:
        return self._shell.workers.new_id(self.replica.model)

    def _launch(self, run: Run) -> None:
        assert run.port is not None
        model = run.model or self.replica.model
        launching = self._shell.workers.launch(model, run.worker_id, run.port, run.lease.ttl)
        self._start(launching, partial(m.Launched, run))

    def _terminate(self, command: c.Terminate) -> None:
        run = command.run
        stopping = self._shell.workers.stop(
            _worker(run),
            lambda: run.facts,
            reason=command.reason,
            cut=command.cut,
            grace=self._shell.settings.config.graceful_shutdown_seconds,
            is_draining=command.is_draining,
        )
        self._start(stopping, partial(m.Terminated, run))

    def _reap(self, command: c.Reap) -> None:
        run = command.run
        reaping = self._shell.workers.reap(
            _worker(run), command.exit_code, lambda: run.facts, is_killed=command.is_killed
        )

        def reaped(result: Any) -> m.Message:
            return m.Reaped(run, result, self._shell.resources.held(self.replica))

        self._start(reaping, reaped)


def _worker(run: Run) -> Worker:
    assert run.worker is not None
    return run.worker
