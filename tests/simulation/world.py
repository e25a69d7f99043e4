"""A simulated machine: managers live and die on it, workers, clients and records outlive them.

Pool, supervisors, workers and recovery are the real ones. What belongs to a manager runs in a
context of its own, so that it can be stopped, or vanish in the middle of anything, as a process
can.
"""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from modelpool.catalog.database import WorkerRow
from modelpool.catalog.model import Model
from modelpool.pool.clock import Clock
from modelpool.pool.pool import Pool
from modelpool.pool.recovery import Recoverer, Recovery
from modelpool.pool.states import State
from modelpool.pool.status import ReplicaStatus
from modelpool.pool.waiters import Grant, Use
from modelpool_client.errors import ModelPoolError
from modelpool_client.wire import Facts, FactsReply
from support.sim import Script, SimProcess, SimWorld, model
from support.virtual_time import OWNER, VirtualLoop

from simulation import moments

T = TypeVar("T")

TRIES = 4
SLACK = 0.01
KEPT = 100
NAMES = ("a", "b", "c", "many", "pin", "warm", "huge")


def new_model(name: str) -> Model:
    """The same in every world."""
    special: dict[str, dict[str, Any]] = {
        "pin": {"pinned": True, "memory_mb": 100},
        "warm": {"warmup": True, "memory_mb": 150},
        "huge": {"memory_mb": 650},
        "c": {"memory_mb": 300, "priority": "high"},
        "b": {"memory_mb": 250, "auto_unload": False, "ttl_minutes": 5},
        "many": {"memory_mb": 100, "max_replicas": 3},
    }
    return model(name, **{"memory_mb": 200} | special.get(name, {}))


MEGABYTE = 1_000_000
DEVICE_NEEDS = {
    "a": {"gpu:0": 200 * MEGABYTE},
    "b": {"gpu:0": 100 * MEGABYTE, "gpu:1": 300 * MEGABYTE},
    "c": {"gpu:0": 400 * MEGABYTE},
    "many": {"gpu:1": 120 * MEGABYTE},
    "pin": {"gpu:0": 50 * MEGABYTE},
}
SLEEPERS = ("a", "b", "c", "many", "pin")
# The others say nothing of their memory.
MAPPED_SHARES = {"a": 0.6, "b": 0.0, "many": 0.3, "huge": 0.9, "pin": 1.0}


@dataclasses.dataclass(eq=False)
class Wish:
    """Something that was asked of the pool, and by when of its own time it must be answered."""

    what: str
    deadline: float
    task: asyncio.Future[Any]


class SimClock(Clock):
    """The wall's hands can be moved."""

    def __init__(self) -> None:
        self.shift = 0.0

    def wall(self) -> float:
        return 1.8e9 + self.now() + self.shift


class Manager:
    """One life of the control plane."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.context = contextvars.copy_context()
        self.context.run(OWNER.set, self)
        self.is_open = False  # takes requests
        self.is_stopped = False  # as by SIGSTOP
        self.is_gone = False
        self.began = 0.0
        self.wishes: list[Wish] = []
        self.relayed: list[asyncio.Task[Any]] = []
        self.held: Counter[str] = Counter()  # grants in clients' hands, by worker
        self.recovery: Recovery | None = None
        self.writing = asyncio.Lock()
        self.lost_seconds = 0.0  # that it was stopped for
        self.stopped_at = 0.0

    def enter(self, call: Callable[..., T], *args: Any) -> T:
        """As if the manager had called it."""
        return self.context.copy().run(call, *args)

    def post(self, call: Callable[..., Any], *args: Any) -> None:
        """Soon; if it is stopped, when it goes on."""
        loop = asyncio.get_running_loop()
        loop.call_soon(call, *args, context=self.context.copy())

    def run(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """A task of the manager's."""
        return asyncio.get_running_loop().create_task(work, context=self.context.copy())

    def own_time(self) -> float:
        """Seconds, without those that it was stopped for."""
        now = self.stopped_at if self.is_stopped else asyncio.get_running_loop().time()
        return now - self.lost_seconds

    async def start(self) -> None:
        """Adopt, then open, then warm up; in this order, as ``app.running`` does."""
        world, pool = self._world, self._world.pool
        self.began = world.now()
        leases = {p.assignment.worker_id: _lease_until(p) for p in world.alive()}
        recoverer = Recoverer(pool, world.pool_workers, world, world, world, world.is_running)
        self.recovery = await recoverer.recover()
        for process in world.alive():
            world.took_over(process, leases.get(process.assignment.worker_id))
        self.is_open = True
        for replica in world.replicas:
            if replica.model.warmup and not replica.state.has_worker:
                warming_up = pool.load(replica.model.model_id, "warm-up", None)
                self.ask(f"warm-up {replica.key}", 0.0, warming_up)

    def ask(self, what: str, limit: float, work: Awaitable[Any]) -> None:
        """Begin something that must be answered within ``limit`` seconds."""

        async def answer() -> Any:
            return await work

        wish = Wish(what, self.own_time() + limit + SLACK, self.run(answer()))
        self.wishes.append(wish)


class World(SimWorld):
    """See the module. ``lots`` decides every delay."""

    device_needs = DEVICE_NEEDS
    mapped_shares = MAPPED_SHARES
    make_clock = SimClock

    def __init__(self, lots: random.Random, trace: Callable[[str], None], **config: Any) -> None:
        self.lots = lots
        self.trace = trace
        self.models = {name: new_model(name) for name in NAMES}
        self.jobs: list[asyncio.Future[Any]] = []
        self.relaying: dict[asyncio.Future[Any], None] = {}  # jobs that end with the manager
        self.broken: list[str] = []  # by events, found in the middle of things
        self.counts: Counter[str] = Counter()
        self.slow_journal = 0.001
        self.epochs_seen: dict[str, int] = {}
        self.memory = moments.Memory()
        self.manager = Manager(self)
        super().__init__([], **config)
        for name in NAMES:
            self.scripts[name] = Script(beat_seconds=30.0, sleep_level=int(name in SLEEPERS))
        self.open_pool()

    @property
    def loop(self) -> VirtualLoop:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        return loop

    def now(self) -> float:
        return self.loop.time()

    # -- the manager's life ----------------------------------------------------------------------

    def _make_pool(self) -> Pool:
        return self.manager.enter(super()._make_pool)

    def open_pool(self) -> None:
        """A fresh pool over the catalog, which then looks for workers."""
        self.memory.new_manager()
        self.memory.configs.append((self.loop.time(), self.pool.config))
        for entry in self.models.values():
            self.manager.enter(self.pool.add, entry)
        self.manager.run(self.manager.start())

    @property
    def is_managed(self) -> bool:
        """A manager is there and takes requests."""
        return self.manager.is_open

    @property
    def is_awake(self) -> bool:
        return self.manager.is_open and not self.manager.is_stopped

    def stop_manager(self) -> None:
        """As SIGSTOP does."""
        self.manager.stopped_at = self.now()
        self.manager.is_stopped = True
        self.loop.stop_owner(self.manager)

    def resume_manager(self) -> None:
        manager = self.manager
        manager.lost_seconds += self.now() - manager.stopped_at
        manager.is_stopped = False
        self.loop.resume_owner(manager)

    def kill_manager(self) -> None:
        """As KILL does: no cleanup of any kind; connections to clients and workers break."""
        manager = self.manager
        self.loop.remove_owner(manager)
        manager.is_open = manager.is_stopped = False
        manager.is_gone = True
        for work in manager.relayed:
            work.cancel()
        self.jobs = [j for j in self.jobs if j not in self.relaying]
        self.relaying.clear()

    def new_manager(self) -> None:
        """The one before is gone."""
        self.config = self.pool.config
        self.manager = Manager(self)
        self.pool = self._make_pool()
        self.open_pool()

    # -- what surrounds a manager ----------------------------------------------------------------

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        return self.loop.create_task(work, context=WORLD.copy())

    def hear(self, process: SimProcess, facts: Facts) -> None:
        self.manager.post(self._heard, process, facts)
        if not self.is_awake:
            process.answered(facts, None)

    def _heard(self, process: SimProcess, facts: Facts) -> None:
        """The route for facts, in the manager."""
        status = self.pool.status_of_worker(facts.worker_id)
        reply: FactsReply | None = None
        if not self.manager.is_open:  # nobody listens yet
            return
        if status is None:
            reply = FactsReply(False, "sim")
        elif status.worker is not None:
            reply = self.pool.record_facts(facts.worker_id, facts)
        WORLD.copy().run(process.answered, facts, reply)

    def is_running(self, pid: int, started: float | None) -> bool:
        """Is there an engine of that pid?"""
        return any(p.engine_pid == pid and p.has_engine for p in self.alive())

    def took_over(self, process: SimProcess, lease_until: float | None) -> None:
        """The new manager has looked at a worker that was there before it."""
        status = self.pool.status_of_worker(process.assignment.worker_id)
        if status is None:
            return
        process.is_adopted = True
        # The entry may be another by now; what is reserved is the new one's need.
        process.size = min(process.size, self.pool.reserved_bytes(status.key))
        self.counts["adopted"] += 1
        self.trace(f"adopted {status.key} as {status.state}")
        try:
            moments.adoption_is_sound(self, status, process, lease_until)
        except AssertionError as e:
            self.broken.append(f"adoption_is_sound: {e}")

    async def _in_turn(self, what: str, change: Callable[[], T]) -> T:
        """The manager's writer makes one change after the other. Who does not wait for it any more
        has not undone it; who dies in the middle of it does not know whether it was made."""

        async def make() -> T:
            async with self.manager.writing:
                await asyncio.sleep(self.lots.uniform(0.0, self.slow_journal))
                if what == self.broken_journal:
                    raise OSError(f"disk full: {what}")
                result = change()
                await asyncio.sleep(self.lots.uniform(0.0, self.slow_journal))
                return result

        made = self.manager.run(make())
        made.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(made)

    async def next_epoch(self, model_id: str) -> int:
        def change() -> int:
            self.epochs[model_id] += 1
            return self.epochs[model_id]

        return await self._in_turn("next_epoch", change)

    async def intend_worker(self, record: WorkerRow) -> None:
        def change() -> None:
            self.records[record.worker_id] = record

        await self._in_turn("intend_worker", change)

    async def worker_started(self, worker_id: str, pid: int, create_time: float) -> None:
        def change() -> None:
            found = self.records[worker_id]
            self.records[worker_id] = dataclasses.replace(found, pid=pid, create_time=create_time)

        await self._in_turn("worker_started", change)

    async def forget_worker(self, worker_id: str) -> None:
        await self._in_turn("forget_worker", lambda: self.records.pop(worker_id, None))

    async def start(self, assignment: Any) -> SimProcess:
        """The fork is in the middle of the call."""
        epoch, model_id = assignment.epoch, assignment.model_id
        if epoch <= self.epochs_seen.get(model_id, 0):
            self.broken.append(f"generations_grow: {model_id} starts with {epoch} again")
        self.epochs_seen[model_id] = epoch
        process = await super().start(assignment)
        process.script = dataclasses.replace(process.script)  # what befalls it befalls no other
        process.was_told_to_end = process.script.deaf_to_drain  # it is ended for not answering
        self.counts["started"] += 1
        await asyncio.sleep(self.lots.uniform(0.0, 0.002))
        return process

    # -- what is seen ----------------------------------------------------------------------------

    def replica_event(self, name: str, status: ReplicaStatus, previous: State, reason: str) -> None:
        super().replica_event(name, status, previous, reason)
        _, _, _, move, _ = self.events[-1]
        self.counts[name or move] += 1
        if name != "model-progress":
            self.trace(f"{status.key} {name} {move} {reason}")
        for rule in moments.MOMENTS:
            try:
                rule(self, name, status, previous, reason)
            except AssertionError as e:
                self.broken.append(f"{rule.__name__}: {e}")

    # -- clients ---------------------------------------------------------------------------------

    def request(self, name: str, length: float, priority: str, affinity: str = "") -> None:
        """A client asks the gateway."""
        work = self._through_gateway(name, length, priority, affinity)
        job = self.manager.run(work)
        self.jobs.append(job)
        self.relaying[job] = None

    async def _through_gateway(
        self, name: str, length: float, priority: str, affinity: str
    ) -> None:
        """As the gateway does it: again only if refused before the first byte."""
        manager, pool = self.manager, self.pool
        for tried in range(TRIES):
            if not pool.has(name):
                return
            grant = pool.try_acquire(name, affinity)
            if grant is not None:
                self._look_at_places(grant)
            else:
                grant = await self._acquired(name, priority, affinity, had_worker=tried > 0)
            manager.held[grant.worker_id] += 1
            try:
                if await self._relayed(name, grant, length):
                    return
            finally:
                manager.held[grant.worker_id] -= 1
                grant.release(Use(True, self.lots.uniform(0.01, 2.0), self.lots.random() < 0.02))
            await asyncio.sleep(0.05)

    def _look_at_places(self, grant: Grant) -> None:
        """A worker is given no more than its limit, but always one."""
        replica = self.replica_of(grant.worker_id)
        run = replica.run if replica is not None else None
        assert run is not None
        is_first = run.granted - run.idle_grants == 1
        if not (run.limit is None or run.occupied <= run.limit or is_first):
            self.broken.append(f"places_are_kept: {replica!r}: {run.occupied} of {run.limit}")

    async def _acquired(self, name: str, priority: str, affinity: str, had_worker: bool) -> Grant:
        work = asyncio.ensure_future(
            self.pool.acquire(name, priority=priority, affinity=affinity, had_worker=had_worker)
        )
        limit = self.pool.config.load_wait_seconds
        wish = Wish(f"acquire {name}", self.manager.own_time() + limit + SLACK, work)
        self.manager.wishes.append(wish)
        try:
            return await work
        except asyncio.CancelledError:
            if not work.cancel() and work.exception() is None:
                work.result().release()
            raise

    async def _relayed(self, name: str, grant: Grant, length: float) -> bool:
        worker = self.by_id(grant.worker_id)
        assert worker.assignment.model_id == name
        assert worker.assignment.port == grant.port
        await asyncio.sleep(self.lots.uniform(0.0, 0.002))
        work = self.spawn(worker.serve(length, is_direct=False))
        self.manager.relayed.append(work)
        try:
            return await work or bool(worker.cut)
        finally:
            self.manager.relayed.remove(work)

    def by_id(self, worker_id: str) -> SimProcess:
        return next(p for p in reversed(self.processes) if p.assignment.worker_id == worker_id)

    def direct(self, worker: SimProcess, length: float) -> None:
        """A client that knows the port."""
        status = self.pool.status_of_worker(worker.assignment.worker_id)
        if status is None or status.state is State.WARMING:
            # Its word that it is ready may never come; the load is given up then.
            worker.was_told_to_end = True
        self.jobs.append(self.spawn(worker.serve(length)))

    def excuse(self, name: str) -> None:
        """Its workers are told to end: what is cut then is no fault of the pool."""
        for process in self.alive(name):
            process.was_told_to_end = True

    def tidy(self) -> None:
        """Forget those that are long dead."""
        if len(self.processes) > KEPT:
            old = self.processes[: -KEPT // 2]
            self.processes = [p for p in old if p.is_alive] + self.processes[-KEPT // 2 :]

    # -- what must hold --------------------------------------------------------------------------

    def look_at_answers(self) -> None:
        """Whoever asked was served, or refused in words of ours, or has left."""
        manager = self.manager
        for wish in [w for w in manager.wishes if w.task.done()]:
            manager.wishes.remove(wish)
            _answered(wish.what, wish.task)
        for job in [j for j in self.jobs if j.done()]:
            self.jobs.remove(job)
            self.relaying.pop(job, None)
            _answered("request", job)


def _lease_until(process: SimProcess) -> float | None:
    left = process.contact.lease_left(process.now())
    return None if left is None else process.now() + left


def _answered(what: str, task: asyncio.Future[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        assert isinstance(error, ModelPoolError), f"{what}: {error!r}"


WORLD = contextvars.copy_context()  # of whoever is no manager

__all__ = ["NAMES", "Manager", "World", "new_model"]
