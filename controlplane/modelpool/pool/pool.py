"""The pool: what the rest of the program may ask of the replicas. What it tells are snapshots."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from modelpool_client.errors import LoadTimeout, ModelNotFound, ModelPoolError, PoolBusy
from modelpool_client.wire import Facts, FactsReply

from modelpool.catalog.memory_estimate import MemoryEstimate
from modelpool.catalog.model import Model
from modelpool.config import PoolConfig
from modelpool.pool import messages as m
from modelpool.pool.admission import Budget, Plan, Requirements, Resident
from modelpool.pool.capacity import Capacity
from modelpool.pool.clock import Clock
from modelpool.pool.context import Settings
from modelpool.pool.orphans import Orphans
from modelpool.pool.ports import Ports
from modelpool.pool.replica import Replica
from modelpool.pool.replica_set import ReplicaSet
from modelpool.pool.resources import AvailableMemory, MemoryEstimates, Resources
from modelpool.pool.scaler import Scaler
from modelpool.pool.scheduler import Scheduler
from modelpool.pool.states import State
from modelpool.pool.status import ReplicaStatus
from modelpool.pool.supervisor import Events, Shell, Siblings, Supervisor
from modelpool.pool.tasks import Tasks
from modelpool.pool.waiters import PRIORITIES, REQUEST, UNUSED, Grant, Waiter
from modelpool.pool.worker import Worker
from modelpool.pool.workers import Workers


class Pool:
    """A replica set for each model of the catalog, over one set of resources.

    Attributes:
        supervisors: the owners of the replicas, by key.
        sets: the replica sets, by model id.
        orphans: workers of a former manager that end beside the pool.
        edition: another number whenever a model came, went or was replaced.
    """

    def __init__(
        self,
        settings: Settings,
        workers: Workers,
        estimates: MemoryEstimates,
        host: AvailableMemory,
        events: Events,
        clock: Clock | None = None,
        make_tasks: Callable[[], Tasks] = Tasks,
    ) -> None:
        self.clock = clock or Clock()
        self.edition = 0
        self._settings = settings
        self._replicas: dict[str, Replica] = {}
        self.supervisors: dict[str, Supervisor] = {}
        self.sets: dict[str, ReplicaSet] = {}
        self._events = events
        self._awake: dict[str, Supervisor] = {}
        self.resources = Resources(settings, self.clock, self._replicas, estimates, host)
        self.scheduler = Scheduler(settings, self.clock, self.resources, self.supervisors)
        self.orphans = Orphans(self.clock, self.resources, self.scheduler, events.internal_error)
        self._scaler = Scaler(self.clock, self._running)
        self._shell = Shell(
            self.clock,
            settings,
            self.resources,
            self.scheduler,
            workers,
            events,
            self._awake,
            make_tasks,
        )

    def __repr__(self) -> str:
        up = sum(r.state.is_serving for r in self._replicas.values())
        queued = len(self.scheduler)
        return f"<Pool {up} of {len(self._replicas)} serving, {queued} queued, {self.ports}>"

    # -- models -----------------------------------------------------------------------------------

    def add(self, model: Model) -> None:
        """A model that is new in the catalog."""
        self.edition += 1
        self.ports.stand_for(model.model_id, model.names)
        self.sets[model.model_id] = ReplicaSet(
            model, self._supervise, self.clock, self._scaler.watch
        )

    def _supervise(self, replica: Replica, siblings: Siblings) -> Supervisor:
        replica.since = self.clock.wall()
        supervisor = Supervisor(replica, siblings, self._shell)
        self._replicas[replica.key] = replica
        self.supervisors[replica.key] = supervisor
        return supervisor

    def has(self, model_id: str) -> bool:
        return model_id in self.sets

    def replace_model(self, model: Model) -> None:
        """Another entry for the same id; its options count from the next load on.

        Raises:
            ModelNotFound: there is none, or it was deleted in this moment.
        """
        self._set(model.model_id).post(m.ReplaceModel(model))
        self.edition += 1

    async def remove(self, model_id: str) -> None:
        """End the model's workers if it has any, then forget its replicas."""
        removed = self._set(model_id)
        removed.post(m.Delete())
        await removed.unload("the model was deleted", force=True)
        for supervisor in removed:
            await supervisor.close()
            self.scheduler.leave(supervisor.key)
            if self.supervisors.get(supervisor.key) is supervisor:
                del self.supervisors[supervisor.key]
                self._awake.pop(supervisor.key, None)
                del self._replicas[supervisor.key]
        if self.sets.get(model_id) is removed:
            del self.sets[model_id]
            self.edition += 1

    def _running(self) -> list[ReplicaSet]:
        """Those that have a worker, in the order in which they were started."""
        running = dict.fromkeys(r.model.model_id for r in self.resources.holders)
        return [self.sets[model_id] for model_id in running]

    def _set(self, model_id: str) -> ReplicaSet:
        try:
            return self.sets[model_id]
        except KeyError:
            text = f"there is no model {model_id!r} in the pool"
            raise ModelNotFound(text, param="model") from None

    # -- requests ---------------------------------------------------------------------------------

    async def acquire(
        self,
        model_id: str,
        *,
        priority: str = "normal",
        affinity: str = "",
        wait: float | None = None,
        had_worker: bool = False,
    ) -> Grant:
        """Permission to use a worker of the model; loads it if need be. Release it, once.

        ``had_worker``: there was a grant, and its worker is gone; it waits through a back-off.

        Raises:
            ModelPoolError: why there is none, at the latest after ``wait`` seconds,
                ``load_wait_seconds`` if that is None.
        """
        copies = self._set(model_id)
        supervisor = copies.serving(affinity) or copies.to_wait_for()
        outcome: asyncio.Future[Grant | None] = self.clock.future()
        rank = PRIORITIES[priority]
        waiter = Waiter(outcome, True, rank, self.clock.now(), had_worker=had_worker)
        supervisor.post(m.Acquire(waiter))
        limit = self.config.load_wait_seconds if wait is None else wait
        grant = await self._answer(copies, waiter, outcome, limit)
        assert grant is not None
        return grant

    def try_acquire(self, model_id: str, affinity: str = "") -> Grant | None:
        """A grant if the model is HOT or COOLING right now, else None and nothing happens.

        Requests with the same ``affinity`` go to the same copy while that is not much busier.
        """
        copies = self._set(model_id)
        supervisor = copies.serving(affinity)
        if supervisor is None:
            return None
        outcome: asyncio.Future[Grant | None] = self.clock.future()
        waiter = Waiter(outcome, True, since=self.clock.now())
        supervisor.post(m.Acquire(waiter))
        if outcome.done():
            return outcome.result()
        self._withdraw(copies, waiter, outcome)
        return None

    async def load(self, model_id: str, reason: str, wait: float | None) -> None:
        """Start a load; with ``wait`` return when HOT, without it at once. The load goes on
        whoever leaves.

        Raises:
            ModelPoolError: why not.
        """
        copies = self._set(model_id)
        supervisor = copies.serving() or copies.to_wait_for()
        outcome, rank, now = self.clock.future(), PRIORITIES["high"], self.clock.now()
        waiter = Waiter(outcome, False, rank, now, not wait, reason or REQUEST)
        supervisor.post(m.Load(waiter, keep_warm=copies.model.warmup))
        if wait:
            await self._answer(copies, waiter, outcome, wait)
        elif outcome.done():
            if not outcome.cancelled():
                outcome.result()
        else:
            self._abandon_in_time(copies, waiter, outcome)

    def _abandon_in_time(
        self, copies: ReplicaSet, waiter: Waiter, outcome: asyncio.Future[Grant | None]
    ) -> None:
        limit = self.config.load_wait_seconds
        abandon = m.AbandonLoad(waiter, limit)
        timer = self.clock.call_at(self.clock.now() + limit, lambda: copies.post(abandon))
        outcome.add_done_callback(_seen)
        outcome.add_done_callback(lambda _: timer.cancel())

    async def _answer(
        self,
        copies: ReplicaSet,
        waiter: Waiter,
        outcome: asyncio.Future[Grant | None],
        seconds: float,
    ) -> Grant | None:
        if outcome.done():  # HOT: no timer, no switch of tasks
            return outcome.result()
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.shield(outcome)
        except TimeoutError:
            waited_for = next(
                (r for r in copies.replicas if waiter in r.waiters), copies.best.replica
            )
            error = self._timeout(waited_for, seconds)
            self._withdraw(copies, waiter, outcome)
            raise error from None
        except asyncio.CancelledError:
            self._withdraw(copies, waiter, outcome)
            raise

    def _timeout(self, replica: Replica, seconds: float) -> ModelPoolError:
        what = replica.waiting_for or replica.reason
        name = replica.model.model_id
        if replica.is_open:
            return PoolBusy(_no_place(replica, seconds), retry_after=seconds)
        text = f"waited {seconds:.0f} s for {name}, which is {replica.state}: {what}"
        position = self.scheduler.position(replica.key)
        if position is None:
            return LoadTimeout(text, retry_after=10)
        where = f"it is number {position.position} of {position.length} that wait for room"
        return PoolBusy(f"{text}; {where}", retry_after=min(position.seconds, seconds))

    def _withdraw(
        self, copies: ReplicaSet, waiter: Waiter, outcome: asyncio.Future[Grant | None]
    ) -> None:
        """Who leaves gives back what was granted in the same moment."""
        if not outcome.done():
            outcome.cancel()
            copies.post(m.Withdraw(waiter))
            return
        is_answered = not outcome.cancelled() and outcome.exception() is None
        if is_answered and (grant := outcome.result()) is not None:
            grant.release(UNUSED)

    # -- what may be done to a model --------------------------------------------------------------

    def unload(
        self, model_id: str, reason: str, *, force: bool = False, cut: bool = False
    ) -> asyncio.Future[str]:
        """End every copy of the model; see ``ReplicaSet.unload``.

        Raises:
            ModelNotFound: there is none, or it was deleted in this moment.
        """
        return self._set(model_id).unload(reason, force=force, cut=cut)

    def extend(self, model_id: str, seconds: float) -> float:
        """Add to the lease; the seconds granted.

        Raises:
            Conflict: not loaded.
            ModelNotFound: there is none, or it was deleted in this moment.
        """
        return self._set(model_id).extend(seconds)

    def preload(self, model_id: str, reason: str) -> None:
        """Load it into room that nobody has or waits for; else nothing happens."""
        self._set(model_id).first.post(m.LoadSpeculatively(reason))

    def refuse(self, model_id: str, reason: str) -> None:
        """A load of it could only fail; that is an event, and the reason of its state."""
        self._set(model_id).best.post(m.RefuseLoad(reason))

    def evict_if_idle(self, key: str, reason: str) -> None:
        """For no other replica's sake."""
        if (supervisor := self.supervisors.get(key)) is not None:
            supervisor.post(m.StopIfIdle(reason, is_eviction=True))

    def unload_if_unused(self, model_id: str, since: float, reason: str) -> None:
        """Each of its replicas that is idle, and was not used after that time of the clock."""
        for supervisor in self._set(model_id).supervisors:
            supervisor.post(m.StopIfIdle(reason, unused_since=since))

    @property
    def may_preload(self) -> bool:
        """Starts that nobody waits for are made, where there is room."""
        return self.scheduler.may_speculate

    def pause_preloads(self, seconds: float) -> None:
        """No start that nobody waits for in the next seconds; requests are not concerned."""
        self.scheduler.pause_speculation(seconds)

    # -- workers ----------------------------------------------------------------------------------

    def record_facts(self, worker_id: str, facts: Facts) -> FactsReply:
        """Facts from a worker of the pool, which knew its secret; what it is told."""
        supervisor = self._of_worker(worker_id)
        if supervisor is None or (run := supervisor.replica.run) is None:
            return FactsReply(False, facts.pool_id)
        supervisor.post(m.Reported(run, facts))
        return FactsReply(
            True,
            facts.pool_id,
            run.lease.remaining(self.clock.now()),
            supervisor.replica.model.aliases,
            self.config.graceful_shutdown_seconds,
            self.config.prompt_cache_limits,
            self.config.allowlist,
        )

    def status_of_worker(self, worker_id: str) -> ReplicaStatus | None:
        """Of the replica whose present worker that is."""
        supervisor = self._of_worker(worker_id)
        return supervisor.status() if supervisor is not None else None

    def diagnosis(self, grant: Grant) -> str:
        """Why the worker of a grant is being replaced; empty if it is not, as far as is known."""
        status = self.status_of_worker(grant.worker_id)
        return status.diagnosis if status is not None else ""

    def _of_worker(self, worker_id: str) -> Supervisor | None:
        for replica in self.resources.holders:
            if replica.run is not None and replica.run.worker_id == worker_id:
                return self.supervisors[replica.key]
        return None

    @property
    def worker_ids(self) -> frozenset[str]:
        """Of all workers that run, or are being started."""
        runs = (replica.run for replica in self.resources.holders)
        return frozenset(run.worker_id for run in runs if run is not None)

    def adopt(self, worker: Worker, facts: Facts) -> bool:
        """Give a replica the worker that a former manager started for it; False if it has no
        use for it."""
        copies = self.sets.get(worker.record.model_id)
        supervisor = copies.startable(copies.model.max_replicas) if copies is not None else None
        if supervisor is None or supervisor.replica.state is not State.COLD:
            return False
        self.resources.reserve(supervisor.replica)
        supervisor.post(m.Adopt(worker, facts))
        return True

    # -- what is seen -----------------------------------------------------------------------------

    def status(self, model_id: str) -> ReplicaStatus:
        """Of the copy that speaks for a model.

        Raises:
            ModelNotFound: there is none, or it was deleted in this moment.
        """
        return self._set(model_id).best.status()

    def state(self, model_id: str) -> State:
        """Of the copy that speaks for a model; no more is made for it than that.

        Raises:
            ModelNotFound: there is none, or it was deleted in this moment.
        """
        return self._set(model_id).best.replica.state

    def statuses(self, model_id: str | None = None) -> list[ReplicaStatus]:
        """Of all copies, of one model or of every one."""
        copies = self.supervisors.values() if model_id is None else self._set(model_id)
        return [supervisor.status() for supervisor in copies]

    @property
    def holders(self) -> list[ReplicaStatus]:
        """Of the copies that hold memory: all that have a worker, or are about to."""
        return [self.supervisors[replica.key].status() for replica in self.resources.holders]

    def uses(self, model_id: str) -> int:
        """Requests that the model's workers have begun, as far as they were heard of."""
        return sum(supervisor.replica.uses for supervisor in self._set(model_id))

    @property
    def models(self) -> list[Model]:
        """As the pool runs them."""
        return [copies.model for copies in self.sets.values()]

    @property
    def awake_models(self) -> set[str]:
        """Ids of those that are loaded, loading, waited for or have failed."""
        return {s.replica.model.model_id for s in self._awake.values()}

    @property
    def ports(self) -> Ports:
        return self.resources.ports

    def plan(self, model_id: str) -> Plan:
        """What a load of it would do right now; nothing is reserved."""
        return self.scheduler.plan(self._set(model_id).best.replica)

    def requirements(self, model_id: str) -> Requirements:
        """What a start of it would reserve."""
        return self.resources.requirements(self._set(model_id).best.replica)

    def effective(self, model: Model) -> Model:
        """The model with the options that a worker of it is started with."""
        return self.resources.effective(model)

    def memory_estimate(self, model: Model) -> MemoryEstimate:
        """What is known of the model's memory, and what of it a start reserves."""
        return self.resources.memory_estimate(model)

    def reserved_bytes(self, key: str) -> int:
        """Of the host, for a replica; 0 where it has no reservation."""
        return self.resources.reserved_bytes(key)

    def residents(self) -> Mapping[str, Resident]:
        """All that hold reservations, or are about to end without one, by their names."""
        return {r.model_id: r for r in self.resources.residents()}

    def budget(self) -> Budget:
        """What all starts together may use."""
        return self.resources.budget()

    def capacity(self, without: str = "") -> Capacity:
        """Which models would fit; ``without`` a model's own copies."""
        own = {status.key for status in self.statuses(without)} if without else set()
        residents = [r for r in self.resources.residents() if r.model_id not in own]
        return Capacity.of(residents, self.budget())

    @property
    def queue_length(self) -> int:
        """Starts that wait for room."""
        return len(self.scheduler)

    @property
    def is_moving(self) -> bool:
        """Somebody waits for room, or is being loaded or unloaded."""
        states = (replica.state for replica in self.resources.holders)
        return len(self.scheduler) > 0 or any(s.has_worker and not s.is_serving for s in states)

    # -- the pool itself --------------------------------------------------------------------------

    @property
    def config(self) -> PoolConfig:
        return self._settings.config

    @property
    def is_stopping(self) -> bool:
        return self._settings.is_stopping

    def reconfigure(self, config: PoolConfig) -> None:
        """Live keys changed: leases and plans follow, what runs is not touched."""
        self._settings.config = config
        self.ports.rest = config.port_rest_seconds
        for supervisor in tuple(self.supervisors.values()):
            supervisor.post(m.ConfigChanged())

    def repair(self) -> None:
        """Whatever is due is done, even if a timer was lost."""
        self._scaler.watch()
        for supervisor in tuple(self._awake.values()):
            supervisor.post(m.Tick())
        self.capacity_changed()

    def capacity_changed(self) -> None:
        """There may be more room: queued starts are planned again, soon."""
        self.scheduler.capacity_changed()

    def report_bug(self, error: Exception) -> None:
        """Something of ours is broken; make it visible."""
        self._events.internal_error(error)

    async def stop(self) -> None:
        """Refuse new work, let current work end, end every worker."""
        self._settings.is_stopping = True
        self._scaler.stop()
        ending = [s.unload("the pool is shutting down", force=True) for s in self.sets.values()]
        await asyncio.gather(*ending, return_exceptions=True)
        await self.orphans.ended()
        await self.close()

    async def close(self) -> None:
        """Stop watching; workers, if any are left, go on."""
        self._settings.is_stopping = True
        self.scheduler.clear()
        self._scaler.stop()
        supervisors = tuple(self.supervisors.values())
        await asyncio.gather(self.orphans.close(), *(s.close() for s in supervisors))


def _no_place(replica: Replica, seconds: float) -> str:
    run = replica.run
    limit = f", its limit is {run.limit}" if run is not None and run.limit is not None else ""
    return (
        f"waited {seconds:.0f} s for a place on {replica.model.model_id}, which has"
        f" {replica.in_flight} requests in flight{limit}; {len(replica.waiters)} wait:"
        " try again later, with a higher priority, or raise concurrency_limit or max_replicas"
    )


def _seen(outcome: asyncio.Future[Grant | None]) -> None:
    """Nobody waits for this load; its failure is in the events and the status."""
    if not outcome.cancelled():
        error = outcome.exception()
        assert error is None or isinstance(error, ModelPoolError)
