"""The pure core on random messages, without an event loop: a million steps take minutes.

Supervisors, scheduler, resources and decisions are the real ones. Time is a number, timers are a
heap, and what takes time is an entry in a list that the seed completes in any order, well or badly.
After every step the rules below are checked; each names the rule of the house that it guards.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import logging
import random
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf
from types import SimpleNamespace
from typing import Any

from modelpool.catalog.memory_estimate import Claim, Claims, MemoryEstimate
from modelpool.catalog.model import Model
from modelpool.config import PoolConfig
from modelpool.pool import messages as m
from modelpool.pool.admission import MB, Start
from modelpool.pool.context import Settings
from modelpool.pool.health import HealthReport
from modelpool.pool.replica import Replica
from modelpool.pool.replica_set import ReplicaSet
from modelpool.pool.resources import Resources
from modelpool.pool.scheduler import Scheduler
from modelpool.pool.states import State
from modelpool.pool.status import ReplicaStatus
from modelpool.pool.supervisor import Shell, Supervisor
from modelpool.pool.waiters import USED, Use, Waiter
from modelpool.pool.worker import ExitReport
from modelpool_client.errors import ModelPoolError
from modelpool_client.http1.endpoint import LocalEndpoint
from modelpool_client.wire import DrainReply, Facts, Failure, Phase, Progress

MODELS: Mapping[str, dict[str, Any]] = {
    "a": {"memory_mb": 200, "concurrency_limit": 2},
    "b": {"memory_mb": 300, "priority": "high"},
    "many": {"memory_mb": 100, "max_replicas": 2},
    "pin": {"memory_mb": 100, "pinned": True},
    "warm": {"memory_mb": 150, "warmup": True},
}
CONFIG = {
    "max_concurrent_models": 3,
    "memory_limit_mb": 1100,
    "port_range": {"start": 8051, "end": 8054},
    "min_ttl_minutes": 0,
    "default_ttl_minutes": 0.2,
    "grace_minutes": 0.2,
    "min_residency_seconds": 2,
    "max_queue_wait_seconds": 20,
    "max_waiting_requests": 20,
    "load_stall_seconds": 60,
    "sleep_minutes": 2,
    "max_sleeping_models": 2,
    "device_memory_mb": {"gpu:0": 450},
    "state_dir": "/nonexistent",
}
DEVICE_NEEDS = {"a": 200 * MB, "b": 300 * MB, "many": 150 * MB}
# How an engine of theirs sleeps, if it can; what it holds then.
SLEEP_LEVELS = {"a": (0, 1, 2), "b": (1,), "many": (0, 1), "pin": (1,), "warm": (1,)}
ASLEEP_BYTES = 60 * MB
MOST_MODELS = 4
FAULTS = ("oom", "bad_file", "timeout")
USES = (USED, Use(is_used=False), Use(first_token_seconds=0.2), Use(is_overload=True))
EXIT_CODES = (0, 0, 3, 5, 6, -9)


class Outcome:
    """Where one who asked finds the answer."""

    def __init__(self) -> None:
        self.result: Any = None
        self.error: BaseException | None = None
        self.is_done = False

    def done(self) -> bool:
        return self.is_done

    def set_result(self, result: Any, /) -> None:
        assert not self.is_done, "answered twice"
        self.result, self.is_done = result, True

    def set_exception(self, error: BaseException, /) -> None:
        assert not self.is_done, "answered twice"
        assert isinstance(error, ModelPoolError), f"refused in no words of ours: {error!r}"
        self.error, self.is_done = error, True

    def cancel(self) -> bool:
        self.is_done = True
        return True


class SimClock:
    """Time moves when it is told to."""

    def __init__(self) -> None:
        self.time = 0.0
        self._timers: list[tuple[float, int, Any]] = []
        self._numbers = itertools.count()
        self._soon: deque[Callable[[], None]] = deque()

    def now(self) -> float:
        return self.time

    def wall(self) -> float:
        return 1.8e9 + self.time

    def call_at(self, when: float, callback: Callable[[], None]) -> Any:
        handle = SimpleNamespace(callback=callback)
        handle.cancel = lambda: setattr(handle, "callback", None)
        heapq.heappush(self._timers, (when, next(self._numbers), handle))
        return handle

    def call_soon(self, callback: Callable[[], None]) -> Any:
        self._soon.append(callback)
        return None

    def settle(self) -> None:
        """Everything that is to happen in this moment."""
        for turn in itertools.count():
            assert turn < 10_000, "endless"
            if self._soon:
                self._soon.popleft()()
            elif self._timers and self._timers[0][0] <= self.time:
                handle = heapq.heappop(self._timers)[2]
                if handle.callback is not None:
                    handle.callback()
            else:
                return

    def advance(self, seconds: float) -> None:
        """To then, stopping at every timer on the way."""
        until = self.time + seconds
        while self._timers and self._timers[0][0] <= until:
            self.time = max(self.time, self._timers[0][0])
            self.settle()
        self.time = until


@dataclass(eq=False)
class Operation:
    """Something that takes time, and who hears of its end."""

    kind: str
    process: Process
    details: Any = None
    then: Callable[[Any], None] | None = None


@dataclass(eq=False)
class Process:
    """A worker, as far as the manager can tell."""

    model_id: str
    worker_id: str
    port: int
    slots: int | None = None
    sleep_level: int = 0
    exit_code: int | None = None
    phase: Phase = Phase.LOADING
    in_flight: int = 0
    requests_total: int = 0
    idle_seconds: float = 0.0
    sequence: int = 0
    is_started: bool = False
    is_terminated: bool = False
    failure: Failure | None = None
    options: None = None
    record: Any = field(default_factory=lambda: SimpleNamespace(epoch=1, started_at=0.0))

    @property
    def is_alive(self) -> bool:
        return self.is_started and self.exit_code is None

    @property
    def process(self) -> Process:
        """As a ``Worker`` has it."""
        return self

    @property
    def endpoint(self) -> LocalEndpoint:
        """As a ``Worker`` has it."""
        return LocalEndpoint("127.0.0.1", self.port, "")

    def wait(self) -> Operation:
        return Operation("exit", self)

    def facts(self) -> Facts:
        self.sequence += 1
        sleeps = self.phase is Phase.ASLEEP
        need = DEVICE_NEEDS.get(self.model_id, 0)
        is_there = need and self.phase in (Phase.READY, Phase.FALLING_ASLEEP)
        return Facts(
            self.worker_id,
            "sim",
            1,
            self.sequence,
            self.phase,
            self.port,
            7,
            in_flight=self.in_flight,
            direct=self.in_flight,
            idle_seconds=self.idle_seconds,
            slots=self.slots,
            requests_total=self.requests_total,
            progress=Progress("weights", self.sequence / 1000),
            failure=self.failure,
            sleep_level=self.sleep_level,
            memory_bytes=ASLEEP_BYTES if sleeps else None,
            memory_held_bytes=ASLEEP_BYTES if sleeps else None,
            device_memory_bytes={"gpu:0": need} if is_there else {},
        )


class SimWorkers:
    """What is asked of workers becomes an operation."""

    def __init__(self, lots: random.Random) -> None:
        self._lots = lots
        self._ids = itertools.count(1)

    def new_id(self, model: Model) -> str:
        return f"w{next(self._ids)}"

    def read_ahead(self, model: Model) -> None:
        """Nobody here has files."""

    def launch(
        self, model: Model, worker_id: str, port: int, lease_seconds: float | None
    ) -> Operation:
        slots = self._lots.choice((None, 0, 1, 2))
        level = self._lots.choice(SLEEP_LEVELS[model.model_id])
        return Operation("launch", Process(model.model_id, worker_id, port, slots, level))

    def check_health(self, worker: Any, hang_seconds: float) -> Operation:
        return Operation("check", worker)

    def drain(self, worker: Any, request: Any) -> Operation:
        return Operation("drain", worker, request)

    def put_to_sleep(self, worker: Any, request: Any) -> Operation:
        return Operation("sleep", worker, request)

    def wake(self, worker: Any) -> Operation:
        return Operation("wake", worker)

    def stop(self, worker: Any, last_facts: Any, **how: Any) -> Operation:
        worker.is_terminated = True
        return Operation("stop", worker, how)

    def cut_work(self, worker: Any, reason: str) -> Operation:
        return Operation("cut", worker)

    def reap(self, worker: Any, code: Any, last_facts: Any, *, is_killed: bool) -> Operation:
        return Operation("reap", worker, (code, is_killed))


class SimTasks:
    """Of one supervisor."""

    def __init__(self, world: CoreWorld) -> None:
        self._world = world

    def start(self, work: Operation, then: Callable[[Any], None]) -> None:
        work.then = then
        self._world.operations.append(work)

    async def close(self) -> None: ...


@dataclass(eq=False)
class Request:
    """One who asked for a model."""

    model_id: str
    waiter: Waiter
    outcome: Outcome


class CoreWorld:
    """A pool without anything that waits."""

    def __init__(self, lots: random.Random) -> None:
        self.lots = lots
        self.clock = SimClock()
        # Where all are asked for there is hardly ever room for a second copy.
        self.asked_for = lots.choice((tuple(MODELS), tuple(MODELS), ("many",), ("a", "many")))
        self.chances = lots.choice((WEIGHTS, WEIGHTS, CALM_WEIGHTS))
        policy = lots.choice(("loss", "lru"))
        self.settings = Settings(PoolConfig.model_validate(CONFIG | {"eviction_policy": policy}))
        self.operations: list[Operation] = []
        self.requests: list[Request] = []
        self.grants: list[Any] = []
        self.unloads: list[Outcome] = []
        self.bugs: list[Exception] = []
        self.counts: Counter[str] = Counter()
        self.places: dict[str, tuple[int, float]] = {}  # granted and limit before, by worker
        self.replicas: dict[str, Replica] = {}
        self.supervisors: dict[str, Supervisor] = {}
        clock: Any = self.clock
        workers: Any = SimWorkers(lots)
        self.resources = Resources(self.settings, clock, self.replicas, self, self)
        self.scheduler = Scheduler(self.settings, clock, self.resources, self.supervisors)
        make_tasks: Any = lambda: SimTasks(self)  # noqa: E731
        self.shell = Shell(
            clock, self.settings, self.resources, self.scheduler, workers, self, {}, make_tasks
        )
        self.sets = {
            name: ReplicaSet(
                Model(model_id=name, engine="sim", source="", **fields),
                self._supervise,
                clock,
                lambda: None,
            )
            for name, fields in MODELS.items()
        }

    def _supervise(self, replica: Replica, siblings: Any) -> Supervisor:
        supervisor = Supervisor(replica, siblings, self.shell)
        self.replicas[replica.key] = replica
        self.supervisors[replica.key] = supervisor
        return supervisor

    # what the core asks
    def effective(self, model: Model) -> Model:
        return model

    def host_memory(self, model: Model) -> MemoryEstimate:
        return MemoryEstimate.of(int((model.memory_mb or 100) * MB))

    def claims(self, model: Model) -> Claims:
        need = DEVICE_NEEDS.get(model.model_id, 0)
        devices = {"gpu:0": Claim.of(need)} if need else {}
        return Claims(self.host_memory(model).claim, devices)

    def weights(self, model: Model) -> int | None:
        return ASLEEP_BYTES

    def available(self) -> int:
        return 10**12

    def replica_event(self, name: str, status: ReplicaStatus, previous: State, reason: str) -> None:
        assert reason, f"{name} of {status!r} has no reason"
        self.counts[name or f"{previous}->{status.core_state}"] += 1

    def internal_error(self, error: Exception) -> None:
        self.bugs.append(error)

    # what may happen
    def step(self) -> None:
        """One thing, chosen by lot, and everything that follows at once."""
        self.lots.choices(STEPS, self.chances)[0](self)
        self.clock.settle()
        self._collect()

    def _collect(self) -> None:
        """Who was answered has what was asked for."""
        for request in [r for r in self.requests if r.outcome.done()]:
            self.requests.remove(request)
            if request.outcome.result is not None:
                self.grants.append(request.outcome.result)

    def ask(self) -> None:
        name = self.lots.choice(self.asked_for)
        for _ in range(self.lots.choice((1, 1, 1, 6))):
            self._ask(name)

    def _ask(self, name: str) -> None:
        copies, outcome = self.sets[name], Outcome()
        had_worker = self.lots.random() < 0.1
        waiter = Waiter(
            outcome, True, self.lots.randrange(3), self.clock.now(), False, "asked", had_worker
        )
        self.requests.append(Request(name, waiter, outcome))
        (copies.serving() or copies.to_wait_for()).post(m.Acquire(waiter))

    def load(self) -> None:
        name = self.lots.choice(self.asked_for)
        copies, outcome = self.sets[name], Outcome()
        is_standing = self.lots.random() < 0.5
        waiter = Waiter(outcome, False, 0, self.clock.now(), is_standing, "asked to load")
        self.requests.append(Request(name, waiter, outcome))
        chosen = copies.serving() or copies.to_wait_for()
        chosen.post(m.Load(waiter, keep_warm=copies.model.warmup))

    def leave(self) -> None:
        if not self.requests:
            return
        request = self.lots.choice(self.requests)
        kind: Any = m.Withdraw(request.waiter)
        if request.waiter.is_standing:
            kind = m.AbandonLoad(request.waiter, 1.0)
        else:
            request.outcome.cancel()
        self.sets[request.model_id].post(kind)

    def release(self) -> None:
        if self.grants:
            grant = self.grants.pop(self.lots.randrange(len(self.grants)))
            grant.release(self.lots.choice(USES))

    def unload(self) -> None:
        copies, outcome = self.lots.choice(tuple(self.sets.values())), Outcome()
        supervisor = self.lots.choice(copies.supervisors)
        force, cut = self.lots.random() < 0.5, self.lots.random() < 0.5
        self.unloads.append(outcome)
        supervisor.post(m.Unload("asked to unload", force, cut, outcome))

    def extend(self) -> None:
        supervisor, outcome = self.lots.choice(tuple(self.supervisors.values())), Outcome()
        supervisor.post(m.Extend(60.0, outcome))
        assert outcome.done(), "an extension is answered at once"

    def speculate(self) -> None:
        copies = self.sets[self.lots.choice(self.asked_for)]
        supervisor = copies.startable(copies.model.max_replicas)
        if supervisor is not None:
            supervisor.post(m.LoadSpeculatively("speculation"))

    def stop_idle(self) -> None:
        supervisor = self.lots.choice(tuple(self.supervisors.values()))
        supervisor.post(m.StopIfIdle("scaled down: by lot", self.lots.random() < 0.5))

    def reconfigure(self) -> None:
        changes = {
            "max_concurrent_models": self.lots.choice((2, 3, MOST_MODELS)),
            "grace_minutes": self.lots.choice((0, 0.5)),
            "default_ttl_minutes": self.lots.choice((0, 0.05, 0.2, 1)),
            "concurrency_limit": self.lots.choice(("adaptive", "adaptive", "unlimited", 1, 3)),
            "priority_ageing_seconds": self.lots.choice((1, 30)),
            "sleep_minutes": self.lots.choice((0, 2, 2, 60)),
            "max_sleeping_models": self.lots.choice((0, 1, 2, 2)),
        }
        self.settings.config = self.settings.config.model_copy(update=changes)
        for supervisor in tuple(self.supervisors.values()):
            supervisor.post(m.ConfigChanged())
        self.scheduler.trim_sleepers()

    def replace(self) -> None:
        """Another entry, which runs in another way or in the same."""
        copies = self.sets[self.lots.choice(self.asked_for)]
        options = {"x": self.lots.randrange(2)}
        copies.post(m.ReplaceModel(dataclasses.replace(copies.model, options=options)))

    def wait(self) -> None:
        self.clock.advance(self.lots.choice((0.01, 0.5, 3.0, 12.0, 40.0, 130.0)))

    def complete(self) -> None:
        """Some operation ends; that of a process only with it."""
        possible = [o for o in self.operations if o.kind != "exit" or not o.process.is_alive]
        if possible:
            self._end(self.lots.choice(possible))

    def _end(self, operation: Operation) -> None:
        self.operations.remove(operation)
        assert operation.then is not None
        operation.then(getattr(self, f"_{operation.kind}")(operation))

    def _launch(self, operation: Operation) -> Any:
        if self.lots.random() < 0.05:
            return OSError("no such program")
        operation.process.is_started = True
        return operation.process

    def _exit(self, operation: Operation) -> Any:
        return operation.process.exit_code

    def _check(self, operation: Operation) -> Any:
        process = operation.process
        if self.lots.random() < 0.05:
            return OSError(24, "too many open files")
        if not process.is_alive or self.lots.random() < 0.2:
            return HealthReport(None)
        return HealthReport(process.facts())

    def _drain(self, operation: Operation) -> Any:
        process, wanted = operation.process, operation.details
        if not process.is_alive or self.lots.random() < 0.1:
            return None
        if process.in_flight and wanted.if_idle_for is not None:
            return DrainReply(False, process.facts())
        process.phase = Phase.DRAINING
        reply = DrainReply(True, process.facts())
        if self.lots.random() < 0.3:  # it ends before its answer is read
            process.exit_code = 0
        return reply

    def _sleep(self, operation: Operation) -> Any:
        process, wanted = operation.process, operation.details
        assert process.sleep_level, "it cannot sleep, and was asked to"
        if not process.is_alive or self.lots.random() < 0.05:
            return None
        if process.in_flight:
            return DrainReply(False, process.facts())
        assert wanted.if_idle_for is not None, "it was not even asked whether it is idle"
        process.phase = Phase.FALLING_ASLEEP
        reply = DrainReply(True, process.facts())
        if self.lots.random() < 0.2:  # it says so before its answer is read
            process.phase = Phase.ASLEEP
            self._report(process)
        return reply

    def _wake(self, operation: Operation) -> Any:
        process = operation.process
        if not process.is_alive or self.lots.random() < 0.05:
            return None
        if process.phase is Phase.ASLEEP:
            process.phase = Phase.LOADING
        return process.facts()

    def _stop(self, operation: Operation) -> Any:
        return self._reap(operation)

    def _reap(self, operation: Operation) -> Any:
        process = operation.process
        was_alive, process.is_started = process.is_alive, True
        if process.exit_code is None:
            process.exit_code = -9 if was_alive else 0
        if self.lots.random() < 0.02:
            return RuntimeError("a bug in the reaping")
        failure = process.failure or Failure("worker_died", "no word")
        if process.exit_code == 3:
            failure = Failure(self.lots.choice(FAULTS), "scripted failure")
        return ExitReport(process.exit_code, failure, is_released=self.lots.random() > 0.02)

    def _cut(self, operation: Operation) -> Any:
        return None

    def _some_process(self) -> Process | None:
        runs = [r.run for r in self.replicas.values() if r.run is not None and r.run.worker]
        living: list[Any] = [run.worker for run in runs if run.worker.is_alive]
        return self.lots.choice(living) if living else None

    def report(self) -> None:
        """A worker says how it is, or a request comes straight to its port."""
        process = self._some_process()
        if process is None:
            return
        if process.phase is Phase.LOADING:
            chance = self.lots.random()
            if chance < 0.5:
                process.phase = Phase.READY
            elif chance < 0.55:
                process.phase = Phase.FAILED
                process.failure = Failure(self.lots.choice(FAULTS), "said so")
        elif process.phase is Phase.READY:
            process.in_flight = self.lots.choice((0, 0, 0, 1, 2))
            process.requests_total += process.in_flight
            process.idle_seconds = 0.0 if process.in_flight else self.lots.choice((0.0, 60.0))
        elif process.phase is Phase.FALLING_ASLEEP:
            chance = self.lots.random()
            if chance < 0.5:
                process.phase = Phase.ASLEEP
            elif chance < 0.55:
                process.phase = Phase.DRAINING
                process.failure = Failure("sleep_failed", "it did not fall asleep")
        self._report(process)

    def _report(self, process: Process) -> None:
        for supervisor in tuple(self.supervisors.values()):
            run = supervisor.replica.run
            if run is not None and run.worker is process:
                supervisor.post(m.Reported(run, process.facts()))

    def die(self) -> None:
        process = self._some_process()
        if process is not None:
            process.exit_code = self.lots.choice(EXIT_CODES)


STEPS: tuple[Callable[[CoreWorld], None], ...] = (
    CoreWorld.ask,
    CoreWorld.load,
    CoreWorld.leave,
    CoreWorld.release,
    CoreWorld.unload,
    CoreWorld.extend,
    CoreWorld.speculate,
    CoreWorld.stop_idle,
    CoreWorld.reconfigure,
    CoreWorld.replace,
    CoreWorld.wait,
    CoreWorld.complete,
    CoreWorld.report,
    CoreWorld.die,
)
WEIGHTS = (14, 2, 2, 14, 1, 1, 2, 2, 1, 0.3, 10, 26, 16, 1)
# Of a world in which workers live for long enough to idle out, sleep and wake up again.
CALM_WEIGHTS = (6, 1, 2, 16, 0.1, 0.2, 1, 0.2, 0.5, 0.1, 12, 30, 24, 0.05)


# -- rules ----------------------------------------------------------------------------------------


def no_decision_fails(world: CoreWorld) -> None:
    """Rule 1: every message is decided on. What we could not do ourselves is reported."""
    ours = [e for e in world.bugs if not isinstance(e, (OSError, RuntimeError))]
    assert not ours, ours
    world.bugs.clear()


def a_run_belongs_to_a_state(world: CoreWorld) -> None:
    """Rule 1: a replica has a run exactly where its state says so, and a reservation with it."""
    for key, replica in world.replicas.items():
        assert (replica.run is not None) == replica.state.has_worker, replica
        assert bool(world.resources.reserved_bytes(key)) == replica.state.has_worker, replica


def limits_are_kept(world: CoreWorld) -> None:
    """Rule 5: of the processes that there are; one that waits for room has none yet. Count is never
    above the highest limit that is ever set."""
    runs = [(k, r, r.run) for k, r in world.replicas.items() if r.run is not None]
    there = [(k, r) for k, r, run in runs if run.is_launched and not run.victims]
    size = sum(world.resources.reserved_bytes(k) for k, _ in there)
    awake = [r for _, r in there if not r.is_asleep]
    assert len(awake) <= MOST_MODELS, f"{len(awake)} models"
    config = world.settings.config
    assert size <= config.memory_limit_bytes, f"{size} bytes reserved"
    on_device = sum(world.resources.resident(r).devices.get("gpu:0", 0) for _, r in there)
    assert on_device <= config.device_budgets["gpu:0"], f"{on_device} bytes of a device"


def sleepers_hold_little(world: CoreWorld) -> None:
    """What sleeps has given back its devices, serves nobody, and there are no more than may be."""
    asleep = [r for r in world.replicas.values() if r.is_asleep]
    for replica in asleep:
        run = replica.run
        assert run is not None
        assert run.asleep_since is not None
        is_awake = run.is_waking or run.granted or run.hot_since
        assert not is_awake, f"{replica!r} is not asleep"
        assert world.resources.held(replica).bytes <= ASLEEP_BYTES, f"{replica!r} holds too much"
        on_device = world.resources.held(replica).devices.get("gpu:0")
        assert not on_device, f"{replica!r} holds {on_device} bytes of a device"
    unwanted = [r for r in asleep if not (len(r.waiters) or r.is_leaving)]
    most = world.settings.config.max_sleeping_models
    assert len(unwanted) <= most, f"{len(unwanted)} sleep"


def ports_are_kept(world: CoreWorld) -> None:
    """Section 3, ports: each is held once, and none is lost."""
    held = [r.run.port for r in world.replicas.values() if r.run and r.run.port is not None]
    assert len(held) == len(set(held)), held
    assert world.resources.ports.available == len(world.resources.ports.all) - len(held)


def grants_are_counted(world: CoreWorld) -> None:
    """Rule 1: the core knows of every grant that is out, and of no other."""
    out = Counter(g.worker_id for g in world.grants)
    for replica in world.replicas.values():
        if (run := replica.run) is not None:
            assert run.granted == out[run.worker_id], f"{replica!r}: {run.granted}"


def nobody_is_lost(world: CoreWorld) -> None:
    """Rule 3: whoever is not answered waits at one replica, and for something that will come."""
    waiting = Counter(id(w) for r in world.replicas.values() for w in r.waiters)
    asked = {id(r.waiter) for r in world.requests}
    assert waiting.keys() == asked, "lost, or answered and still waiting"
    assert all(n == 1 for n in waiting.values()), "waits twice"
    for key, replica in world.replicas.items():
        if not len(replica.waiters):
            continue
        assert not replica.has_room, f"{replica!r} has room, and somebody waits"
        works = replica.is_open and replica.run is not None and replica.run.granted > 0
        moves = replica.state in (State.WARMING, State.UNLOADING) or replica.is_leaving
        backs_off = world.clock.now() < replica.failures.retry_at
        is_due = world.supervisors[key].timer_at <= replica.failures.retry_at
        waits = replica.state is State.FAILED and backs_off and is_due
        is_queued = key in world.scheduler
        assert moves or waits or works or is_queued or replica.yields_to, (
            f"{replica!r} moves nowhere"
        )


def places_are_kept(world: CoreWorld) -> None:
    """Nobody is granted beyond the limit; what it fell below is kept, and nothing comes to it."""
    before, world.places = world.places, {}
    for replica in world.replicas.values():
        if (run := replica.run) is None:
            continue
        limit = inf if run.limit is None else run.limit
        granted, highest = before.get(run.worker_id, (0, limit))
        most = max(limit, highest, 1) + run.idle_grants
        assert run.granted <= max(granted, most), f"{replica!r}: {run.granted} of {run.limit}"
        if run.search is not None:
            bounds = run.search.bounds
            assert bounds.least <= run.search.limit == run.limit <= bounds.most, run.search
        world.places[run.worker_id] = (run.granted, limit)


def places_are_used(world: CoreWorld) -> None:
    """Nobody waits for a model of which a copy has a place."""
    for copies in world.sets.values():
        free = [r for r in copies.replicas if r.has_room]
        waiting = [r for r in copies.replicas if len(r.waiters)]
        assert not (free and waiting), f"{waiting} could be served by {free}"


def room_is_used(world: CoreWorld) -> None:
    """Rule 3: nobody waits for room that is there, unless the end of another will wake it. While
    one has waited for too long others may not take its room; which of those that serve is to yield
    to it then changes with every use, which the repair sweep sees to."""
    if world.scheduler.first_overdue() is not None:
        return
    if any(r.is_leaving or (r.run and r.run.is_reaping) for r in world.replicas.values()):
        return
    for key, replica in world.replicas.items():
        if key in world.scheduler:
            decision = world.scheduler.plan(replica)
            assert not isinstance(decision, Start), f"{replica!r} waits, but {decision}"


def what_moves_gets_somewhere(world: CoreWorld) -> None:
    """Rule 3: what is under way has an operation that will end it, a worker that may speak or die,
    or a victim whose end it waits for."""
    busy = {id(o.process) for o in world.operations}
    launching = {o.process.worker_id for o in world.operations if o.kind == "launch"}
    for replica in world.replicas.values():
        run = replica.run
        if run is None:
            continue
        if run.worker is not None:
            assert id(run.worker) in busy, f"nothing watches {replica!r}"
            kinds = {o.kind for o in world.operations if o.process is run.worker}
            if run.falls_asleep_by is not None:
                timer_at = world.supervisors[replica.key].timer_at
                assert timer_at <= run.falls_asleep_by, f"{replica!r} may fall asleep for ever"
            elif replica.state is State.UNLOADING or run.is_reaping or run.drain_reason:
                assert kinds & {"stop", "reap", "drain", "sleep"}, f"{replica!r}: {kinds}"
            for victim in run.victims if replica.state is State.WARMING else ():
                assert world.replicas[victim].is_leaving, f"{replica!r} waits for {victim}"
        elif run.is_launched:
            assert run.worker_id in launching, f"{replica!r} was never launched"
        else:
            assert run.victims, f"{replica!r} waits for nobody"
            for victim in run.victims:
                assert world.replicas[victim].is_leaving, f"{replica!r} waits for {victim}"


def unloads_are_answered(world: CoreWorld) -> None:
    """Rule 7: whoever asked for an unload is told when it is COLD, not before."""
    open_ones = [o for r in world.replicas.values() for o in r.unloads]
    world.unloads = [o for o in world.unloads if not o.done()]
    assert len(open_ones) == len(world.unloads), "an unload is forgotten"
    for replica in world.replicas.values():
        assert not replica.unloads or replica.state is State.UNLOADING, replica


RULES: tuple[Callable[[CoreWorld], None], ...] = (
    no_decision_fails,
    a_run_belongs_to_a_state,
    limits_are_kept,
    sleepers_hold_little,
    ports_are_kept,
    grants_are_counted,
    nobody_is_lost,
    places_are_kept,
    places_are_used,
    room_is_used,
    what_moves_gets_somewhere,
    unloads_are_answered,
)


class Broken(Exception):
    """A rule does not hold: which, of which seed, after how many steps."""

    def __init__(self, seed: int, step: int, rule: str, what: object) -> None:
        super().__init__(f"seed {seed}, step {step}: {rule}: {what}")
        self.rule = rule


def run(seed: int, steps: int) -> Counter[str]:
    """All steps of a seed; how often each event came.

    Raises:
        Broken: a rule does not hold.
    """
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    world = CoreWorld(random.Random(seed))
    try:
        for number in range(1, steps + 1):
            _check(seed, number, "no_step_fails", world.step)
            for rule in RULES:
                _check(seed, number, rule.__name__, lambda rule=rule: rule(world))
    finally:
        logging.disable(before)
    return world.counts


def _check(seed: int, step: int, name: str, what: Callable[[], None]) -> None:
    try:
        what()
    except AssertionError as e:
        raise Broken(seed, step, name, e) from e


__all__ = ["RULES", "Broken", "CoreWorld", "run"]
