"""The pool: what the rest of the program may ask of the replicas. What it tells are snapshots."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace

from modelpool_client.errors import (
    CannotFit,
    Conflict,
    LoadTimeout,
    ModelNotFound,
    ModelPoolError,
    NoMemoryFree,
    NoPortFree,
    PoolBusy,
    PoolStopping,
)
from modelpool_client.wire import Facts, FactsReply, ServedModels

from modelpool.catalog.memory_estimate import MemoryEstimate
from modelpool.catalog.model import Model
from modelpool.catalog.served_by import is_provider, told_models
from modelpool.config import PoolConfig
from modelpool.pool import messages as m
from modelpool.pool.admission import Budget, Plan, Refuse, Requirements, Resident, SetPlan
from modelpool.pool.capacity import Capacity
from modelpool.pool.clock import Clock
from modelpool.pool.context import Settings
from modelpool.pool.decide.starting import HOST_RETRY_SECONDS
from modelpool.pool.orphans import Orphans
from modelpool.pool.ports import Ports
from modelpool.pool.replica import Replica
from modelpool.pool.replica_set import ReplicaSet
from modelpool.pool.replica_sets import ReplicaSets
from modelpool.pool.resources import AvailableMemory, FreeDevices, MemoryEstimates, Resources
from modelpool.pool.scaler import Scaler
from modelpool.pool.scheduler import Scheduler
from modelpool.pool.states import SHOWN, State
from modelpool.pool.status import ReplicaStatus
from modelpool.pool.supervisor import Events, Shell, Siblings, Supervisor
from modelpool.pool.tasks import Tasks
from modelpool.pool.waiters import PRIORITIES, REQUEST, UNUSED, Grant, Waiter
from modelpool.pool.worker import Worker
from modelpool.pool.workers import Workers


class Pool:
    """A replica set for each model of the catalog, over one set of resources.

    Attributes:
        supervisors: the owners of those replicas that were needed so far, by key.
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
        devices: FreeDevices | None = None,
    ) -> None:
        self.clock = clock or Clock()
        self.edition = 0
        self._settings = settings
        self._replicas: dict[str, Replica] = {}
        self.supervisors: dict[str, Supervisor] = {}
        self.sets = ReplicaSets(self._copies)
        self._served: dict[str, Model] = {}
        self._events = events
        self._awake: dict[str, Supervisor] = {}
        self.resources = Resources(settings, self.clock, self._replicas, estimates, host, devices)
        self.scheduler = Scheduler(settings, self.clock, self.resources, self.supervisors)
        self.orphans = Orphans(self.clock, self.resources, self.scheduler, events.internal_error)
        self._scaler = Scaler(self.clock, self._running)
        # The same for all: a bound method is an object, and there may be ten thousand models.
        self._make, self._on_hot = self._supervise, self._scaler.watch
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
        if model.served_by:
            self._served[model.model_id] = model
            return
        self.ports.stand_for(model.model_id, model.names)
        self.sets.add(model, self.clock.wall())

    def _copies(self, model: Model, since: float) -> ReplicaSet:
        copies = ReplicaSet(model, self._make, self.clock, self._on_hot)
        copies.first.replica.since = since
        return copies

    def _supervise(self, replica: Replica, siblings: Siblings) -> Supervisor:
        replica.since = self.clock.wall()
        supervisor = Supervisor(replica, siblings, self._shell)
        self._replicas[replica.key] = replica
        self.supervisors[replica.key] = supervisor
        return supervisor

    def has(self, model_id: str) -> bool:
        served = self._served.get(model_id)
        return (model_id if served is None else served.served_by) in self.sets

    def replica_id(self, model_id: str) -> str:
        """Of the model whose replicas serve that one: a provider's, or itself."""
        served = self._served.get(model_id)
        return model_id if served is None else served.served_by

    def replace_model(self, model: Model) -> None:
        """Another entry for the same id; its options count from the next load on.

        Raises:
            ModelNotFound: there is none, or it was deleted in this moment.
        """
        if model.model_id in self._served or model.served_by:
            self._served[model.model_id] = model
        elif not self.sets.replace_unused(model):
            self._set(model.model_id).post(m.ReplaceModel(model))
        self.edition += 1

    async def remove(self, model_id: str) -> None:
        """End the model's workers if it has any, then forget its replicas."""
        if self._served.pop(model_id, None) is not None:  # its provider may serve others
            self.edition += 1
            return
        if model_id in self.sets and self.sets.made(model_id) is None:
            self.sets.remove(model_id)
            self.edition += 1
            return
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
        if self.sets.made(model_id) is removed:
            self.sets.remove(model_id)
            self.edition += 1

    def _running(self) -> list[ReplicaSet]:
        """Those that have a worker, in the order in which they were started."""
        running = dict.fromkeys(r.model.model_id for r in self.resources.holders)
        return [self.sets[model_id] for model_id in running]

    def _set(self, model_id: str) -> ReplicaSet:
        """Of a model that a provider serves, the provider's."""
        copies = self.sets.get(self.replica_id(model_id))
        if copies is None:
            served = self._served.get(model_id)
            if served is not None:
                text = f"{model_id} is served by {served.served_by!r}, which is not in the pool"
                raise ModelNotFound(text, param="model")
            raise ModelNotFound(f"there is no model {model_id!r} in the pool", param="model")
        return copies

    def _made(self, model_id: str) -> ReplicaSet | None:
        """The same, and None where none was needed yet.

        Raises:
            ModelNotFound: as ``_set``.
        """
        made = self.sets.made(self.replica_id(model_id))
        return made if made is not None or self.has(model_id) else self._set(model_id)

    def _best(self, model_id: str) -> Replica:
        """The copy that speaks for a model, to look at: one that nobody owns where none was needed
        yet.

        Raises:
            ModelNotFound: there is none, or it was deleted in this moment.
        """
        copies = self._made(model_id)
        if copies is None:
            return Replica(self.sets.model(self.replica_id(model_id)))
        return copies.best.replica

    # -- requests ---------------------------------------------------------------------------------

    async def acquire(
        self,
        model_id: str,
        *,
        priority: str = "normal",
        affinity: str = "",
        avoid: Collection[str] = frozenset(),
        wait: float | None = None,
        had_worker: bool = False,
    ) -> Grant:
        """Permission to use a worker of the model; loads it if need be. Release it, once.

        ``avoid``: keys of copies that are asked only where no other has a place; ``had_worker``:
        there was a grant, and its worker is gone; it waits through a back-off.

        Raises:
            ModelPoolError: why there is none, at the latest after ``wait`` seconds,
                ``load_wait_seconds`` if that is None.
        """
        copies = self._set(model_id)
        supervisor = copies.serving(affinity, avoid) or copies.to_wait_for()
        outcome: asyncio.Future[Grant | None] = self.clock.future()
        rank = PRIORITIES[priority]
        waiter = Waiter(outcome, True, rank, self.clock.now(), had_worker=had_worker)
        supervisor.post(m.Acquire(waiter))
        limit = self.config.load_wait_seconds if wait is None else wait
        grant = await self._answer(copies, waiter, outcome, limit)
        assert grant is not None
        return grant

    def try_acquire(
        self, model_id: str, affinity: str = "", avoid: Collection[str] = frozenset()
    ) -> Grant | None:
        """A grant if the model is HOT or COOLING right now, else None and nothing happens.

        Requests with the same ``affinity`` go to the same copy while that is not much busier; for
        ``avoid`` see ``acquire``.
        """
        copies = self._set(model_id)
        only = copies.only
        if only is not None and (grant := only.grant_now()) is not None:
            return grant
        supervisor = copies.serving(affinity, avoid)
        if supervisor is None:
            return None
        if (grant := supervisor.grant_now()) is not None:
            return grant
        outcome: asyncio.Future[Grant | None] = self.clock.future()
        waiter = Waiter(outcome, True, since=self.clock.now())
        supervisor.post(m.Acquire(waiter))
        if outcome.done():
            return outcome.result()
        self._withdraw(copies, waiter, outcome)
        return None

    def open_copies(self, model_id: str) -> dict[str, str]:
        """The ids of the workers of those of the model's replicas that take requests, by key; none
        where there is no such model."""
        copies = self.sets.get(self.replica_id(model_id))
        if copies is None:
            return {}
        return {r.key: r.run.worker_id for r in copies.replicas if r.run is not None and r.is_open}

    def shut_out(self, model_id: str, keys: frozenset[str]) -> None:
        """These of the model's replicas get no requests while another takes some."""
        copies = self.sets.get(self.replica_id(model_id))
        if copies is not None:
            copies.shut = keys

    def restart_copy(self, key: str, reason: str) -> None:
        """End a worker that fails, when its work is done; who asks meanwhile gets the next."""
        supervisor = self.supervisors.get(key)
        if supervisor is not None:
            supervisor.post(m.Restart(reason))

    async def load(self, model_id: str, reason: str, wait: float | None) -> None:
        """Start a load; with ``wait`` return when HOT, without it at once. The load goes on
        whoever leaves.

        Raises:
            ModelPoolError: why not.
        """
        copies = self._set(model_id)
        supervisor = copies.serving() or copies.to_wait_for()
        await self._loaded(copies, self._ask(supervisor, reason, wait), wait)

    def load_set(
        self, model_ids: Sequence[str], reason: str, wait: float | None
    ) -> dict[str, Awaitable[None]]:
        """Start the loads of several models, decided and reserved as one before any begins. For
        each, in the order in which they begin, what ``load`` would do from there on.

        Raises:
            ModelPoolError: they can not be there together; nothing is begun.
        """
        if self.is_stopping:
            raise PoolStopping("the pool is shutting down")
        asked = self._asked(model_ids)
        names: dict[str, list[str]] = {}
        for model_id in dict.fromkeys(model_ids):
            names.setdefault(self.replica_id(model_id), []).append(model_id)
        missing, kept = self._missing(asked)
        with self.scheduler.admit_set(missing, kept) as found:
            if isinstance(found, Refuse):
                raise _refused_set(model_ids, found)
            steps = [step.need.model_id for step in found]
            order = [*kept, *steps]
            beside = frozenset(asked)
            waiting = {key: self._ask(asked[key][1], reason, wait, beside) for key in order}
        return {
            name: self._loaded(asked[key][0], waiter, wait)
            for key, waiter in waiting.items()
            for name in names[asked[key][0].model.model_id]
        }

    def plan_set(self, model_ids: Sequence[str]) -> SetPlan:
        """What ``load_set`` would do right now with those that are not there; nothing is
        reserved."""
        missing, kept = self._missing(self._asked(model_ids))
        return self.scheduler.plan_set(missing, kept)

    def _asked(self, model_ids: Sequence[str]) -> dict[str, tuple[ReplicaSet, Supervisor]]:
        """The copies that loads of these models are for, by key."""
        sets = [self._set(model_id) for model_id in dict.fromkeys(model_ids)]
        chosen = [(copies, copies.serving() or copies.to_wait_for()) for copies in sets]
        return {supervisor.key: (copies, supervisor) for copies, supervisor in chosen}

    def _missing(
        self, asked: Mapping[str, tuple[ReplicaSet, Supervisor]]
    ) -> tuple[list[Replica], list[str]]:
        """Those that need a start, and the keys of those that are there or being loaded."""
        replicas = [supervisor.replica for _, supervisor in asked.values()]
        missing = [r for r in replicas if r.run is None or r.is_leaving or r.is_asleep]
        return missing, [r.key for r in replicas if r not in missing]

    def _ask(
        self,
        supervisor: Supervisor,
        reason: str,
        wait: float | None,
        beside: frozenset[str] = frozenset(),
    ) -> Waiter:
        """Have it loaded, by one who waits for that."""
        outcome: asyncio.Future[None] = self.clock.future()
        rank, now = PRIORITIES["high"], self.clock.now()
        waiter = Waiter(outcome, False, rank, now, not wait, reason or REQUEST, beside=beside)
        supervisor.post(m.Load(waiter, keep_warm=supervisor.replica.model.warmup))
        return waiter

    async def _loaded(self, copies: ReplicaSet, waiter: Waiter, wait: float | None) -> None:
        outcome = waiter.outcome
        assert isinstance(outcome, asyncio.Future)
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
        text = f"waited {seconds:.0f} s for {name}, which is {replica.state.shown}: {what}"
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
        """End every copy of the model; see ``ReplicaSet.unload``. A model that a provider serves is
        unloaded with the provider, if that is idle or with ``force``.

        Raises:
            Conflict: its provider is at work.
            ModelNotFound: there is none, or it was deleted in this moment.
        """
        copies = self._set(model_id)
        busy = sum(s.replica.in_flight for s in copies) if model_id in self._served else 0
        if busy and not force:
            provider = copies.model.model_id
            text = f"{model_id} is served by {provider}, which has {busy} requests in flight"
            raise Conflict(f"{text}; unload {provider} to end them", code="provider_busy")
        return copies.unload(reason, force=force, cut=cut)

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
        """Each of its replicas that is idle, and was not used after that time of the clock; one
        that is being loaded since before then, if nobody waits for it any more."""
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
            self._told_models(supervisor.replica.model, run.model),
            tracing=self.config.worker_tracing,
        )

    def _told_models(self, model: Model, started_with: Model | None) -> ServedModels | None:
        if not is_provider(model):
            return None
        if started_with is not None:
            model = self.effective(model)
        return told_models(model, started_with, self.served_models(model.model_id))

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
        return self._named(model_id, self._set(model_id).best.status())

    def _named(self, model_id: str, status: ReplicaStatus) -> ReplicaStatus:
        """A provider's replica as that of one of its models."""
        served = self._served.get(model_id)
        return status if served is None else replace(status, model=served)

    def state(self, model_id: str) -> State:
        """Of the copy that speaks for a model; no more is made for it than that.

        Raises:
            ModelNotFound: there is none, or it was deleted in this moment.
        """
        copies = self._made(model_id)
        return State.COLD.shown if copies is None else copies.best.replica.state.shown

    def was_started(self, model_id: str) -> bool:
        """Whether the copy that speaks for a model ever had a worker.

        Raises:
            ModelNotFound: there is none, or it was deleted in this moment.
        """
        copies = self._made(model_id)
        return copies is not None and copies.best.replica.generation > 0

    def statuses(self, model_id: str | None = None) -> list[ReplicaStatus]:
        """Of all copies, of one model or of every one."""
        if model_id is None:
            return [supervisor.status() for copies in self.sets for supervisor in copies]
        return [self._named(model_id, s.status()) for s in self._set(model_id)]

    @property
    def holders(self) -> list[ReplicaStatus]:
        """Of the copies that hold memory: all that have a worker, or are about to."""
        return [self.supervisors[replica.key].status() for replica in self.resources.holders]

    @property
    def loaded_count(self) -> int:
        """How many of them ``max_concurrent_models`` counts."""
        return sum(not replica.is_asleep for replica in self.resources.holders)

    @property
    def asleep(self) -> list[ReplicaStatus]:
        """Those of them that sleep."""
        return [status for status in self.holders if status.is_asleep]

    def uses(self, model_id: str) -> int:
        """Requests that the model's workers have begun, as far as they were heard of."""
        return sum(supervisor.replica.uses for supervisor in self._made(model_id) or ())

    @property
    def models(self) -> list[Model]:
        """As the pool runs them."""
        return self.sets.models

    @property
    def awake_models(self) -> set[str]:
        """Ids of those that are loaded, loading, waited for or have failed."""
        return {s.replica.model.model_id for s in self._awake.values()}

    @property
    def serving_models(self) -> set[str]:
        """Ids of those that serve now, what providers have among them."""
        serving = {model_id for model_id in self.awake_models if self.state(model_id).is_serving}
        return serving | {m.model_id for m in self._served.values() if m.served_by in serving}

    def served_models(self, model_id: str) -> list[Model]:
        """Those that a provider's worker serves; none of any other."""
        return [m for m in self._served.values() if m.served_by == model_id]

    @property
    def model_count(self) -> int:
        """Of all models, those that providers serve among them."""
        return len(self.sets) + len(self._served)

    def state_counts(self) -> dict[State, int]:
        """How many models are in each state; of what nothing happens to, none is looked at."""
        counts = dict.fromkeys(SHOWN, 0)
        for model_id in self.awake_models:
            counts[self.state(model_id)] += 1
        counts[State.COLD] += len(self.sets) - sum(counts.values())
        return counts

    @property
    def ports(self) -> Ports:
        return self.resources.ports

    def plan(self, model_id: str) -> Plan:
        """What a load of it would do right now; nothing is reserved."""
        return self.scheduler.plan(self._best(model_id))

    def requirements(self, model_id: str) -> Requirements:
        """What a start of it would reserve."""
        return self.resources.requirements(self._best(model_id))

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
        return self.resources.by_key()

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
        return len(self.scheduler) > 0 or any(not (s.is_serving or s.is_down) for s in states)

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
        self.scheduler.trim_sleepers()

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
        # In one order, whatever order a set has.
        awake = [self.sets[model_id] for model_id in sorted(self.awake_models)]
        ending = [copies.unload("the pool is shutting down", force=True) for copies in awake]
        await asyncio.gather(*ending, return_exceptions=True)
        await self.orphans.ended()
        await self.close()

    async def close(self) -> None:
        """Stop watching; workers, if any are left, go on."""
        self._settings.is_stopping = True
        self.scheduler.clear()
        self._scaler.stop()
        closing = [s.close() for s in self.supervisors.values() if not s.is_at_rest]
        await asyncio.gather(self.orphans.close(), *closing)


def _refused_set(model_ids: Sequence[str], refusal: Refuse) -> ModelPoolError:
    names = ", ".join(model_ids)
    if refusal.is_passing:
        text = f"{names} cannot be loaded together now: {refusal.text}; nothing was begun"
        lacking = NoPortFree if refusal.lacks_ports else NoMemoryFree
        return lacking(text, retry_after=HOST_RETRY_SECONDS)
    return CannotFit(f"{names} can never be loaded together: {refusal.text}; nothing was begun")


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
