"""A pool whose workers are simulated: scripted speed, faults and direct traffic, virtual time.

Shipped beside the tests of the pool; the manager's own code is the real one.
"""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any

from modelpool.catalog.database import WorkerRow
from modelpool.catalog.memory_estimate import Claim, Claims, MemoryEstimate
from modelpool.catalog.model import Model
from modelpool.config import PoolConfig
from modelpool.launchers import LaunchError
from modelpool.launchers.read_ahead import Files
from modelpool.pool import workers as workers_module
from modelpool.pool.clock import Clock
from modelpool.pool.context import Settings
from modelpool.pool.pool import Pool
from modelpool.pool.replica import Replica, Run
from modelpool.pool.states import State
from modelpool.pool.status import ReplicaStatus
from modelpool.pool.worker import Worker
from modelpool.pool.workers import PoolIdentity, Workers
from modelpool_client.wire import (
    Assignment,
    DrainReply,
    DrainRequest,
    Facts,
    FactsReply,
    Failure,
    Phase,
    ProbeReply,
    ProbeRequest,
    Progress,
)
from modelpool_worker.activity import Activity
from modelpool_worker.heartbeat import Contact, Verdict

from .rules import RULES, SETTLED
from .virtual_time import Standstill

MB = 1_000_000
ENGINE_PIDS = 1_000_000  # above those of the fronts
FRONT_NOTICES_SECONDS = 0.2
RETRY_SECONDS = 1.0
BEAT_MOST = 30.0
LIVELOCK = 2000  # so many events in one moment are a loop


@dataclass
class Script:
    """How the workers of a model behave."""

    load_seconds: float = 1.0
    progress_every: float = 0.5
    fail_load: str = ""
    fail_loads: list[str] = field(default_factory=list)  # one after the other, then none
    never_ready: bool = False
    ignore_term: bool = False
    deaf_to_drain: bool = False
    refuse_launch: str = ""
    strange_ports: set[int] = field(default_factory=set)
    front_hangs: bool = False
    engine_hangs: bool = False
    beat_seconds: float = 0.0  # 0: only changes are reported
    launch_seconds: float = 0.01
    slots: int | None = None  # that its engine says it has
    sleep_level: int = 0  # of its engine; 0: it cannot sleep
    sleep_seconds: float = 0.2  # to fall asleep, and to wake up
    fails_to_sleep: bool = False
    fails_to_wake: bool = False
    never_asleep: bool = False  # nor awake again: its engine does not answer
    listen_after: float = 0.0  # seconds from the start of its process; before, nobody is there

    @property
    def hangs(self) -> bool:
        return self.front_hangs or self.engine_hangs


class SimProcess:
    """The process of a simulated worker."""

    def __init__(self, world: SimWorld, assignment: Assignment, pid: int) -> None:
        self.world = world
        self.assignment = assignment
        self._pid = pid
        self.script = world.scripts.setdefault(self.assignment.model_id, Script())
        self.exit: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.listens_at = self.now() + self.script.listen_after
        self.phase = Phase.LOADING
        self.in_flight = 0
        self.direct = 0
        self.requests_total = 0
        self.idle_since = self.now()
        self.activity = Activity()  # of its engine, as far as that is suspect
        self.sequence = 0
        self.cut = 0
        self.was_ready = False
        self.was_told_to_end = False  # by the test: whatever is cut then is no fault of the pool
        self._terms = 0
        self.progress: Progress | None = None
        self.failure: Failure | None = None
        self.size = 0  # bytes, once it is loaded
        self.on_devices: Mapping[str, int] = {}  # bytes, on each, once it is loaded
        # How much of its memory are pages of files; None: it says nothing of its memory.
        self.mapped_share = world.mapped_shares.get(self.assignment.model_id)
        self.has_engine = True
        self.engine_lost_at = inf
        self.is_adopted = False
        self.acknowledged: Phase | None = None
        assignment = self.assignment
        self.contact = Contact(
            assignment.pool_id,
            assignment.lease_seconds,
            assignment.orphan_seconds,
            self.now(),
            ttl_seconds=assignment.lease_seconds,
        )
        self._tasks = [world.spawn(self._live())]

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    @property
    def pid(self) -> int:
        return self._pid

    @property
    def create_time(self) -> float:
        return 1.0

    @property
    def is_alive(self) -> bool:
        return not self.exit.done()

    @property
    def engine_pid(self) -> int:
        return self.pid + ENGINE_PIDS

    @property
    def is_asleep(self) -> bool:
        return self.phase is Phase.ASLEEP

    @property
    def devices(self) -> Mapping[str, int]:
        """Bytes that it has of each; what sleeps has none."""
        return {} if self.is_asleep else self.on_devices

    def lose_engine(self) -> None:
        """The front notices in a moment and ends."""
        self.has_engine = False
        self.engine_lost_at = self.now()
        asyncio.get_running_loop().call_later(FRONT_NOTICES_SECONDS, self.die, 6)

    @property
    def resident(self) -> int:
        """Bytes that it has by now; half of them asleep, and when it begins to wake up."""
        if self.is_asleep or (self.phase is Phase.LOADING and self.was_ready):
            return self.size // 2
        if self.phase is not Phase.LOADING:
            return self.size
        return int(self.size * (self.progress.fraction or 0.0)) if self.progress else 0

    @property
    def held(self) -> int:
        """Bytes of them that come back only with its end; the host can take the others."""
        return int(self.resident * (1.0 - (self.mapped_share or 0.0)))

    async def _live(self) -> None:
        script = self.script
        if script.listen_after:
            await asyncio.sleep(script.listen_after)
        if self.assignment.port in script.strange_ports:
            return self.die(5)
        steps = max(1, round(script.load_seconds / script.progress_every))
        for step in range(steps):
            await asyncio.sleep(script.load_seconds / steps)
            self.progress = Progress("weights", (step + 1) / steps)
            self.report()
        if script.never_ready:
            return None
        if fault := script.fail_loads.pop(0) if script.fail_loads else script.fail_load:
            self.phase = Phase.FAILED
            self.failure = Failure(fault, "scripted failure", ("last line",))
            self.report()
            return self.die(3)
        self.phase = Phase.READY
        self.was_ready = True
        self.idle_since = self.now()
        self.progress = None
        self.report()
        again = RETRY_SECONDS
        while script.beat_seconds:
            is_known = self.acknowledged is self.phase
            again = RETRY_SECONDS if is_known else 2 * again
            await asyncio.sleep(script.beat_seconds if is_known else min(again, BEAT_MOST))
            self.report()
        return None

    @property
    def is_suspect(self) -> bool:
        """Its engine owes somebody an answer, or did when that client left."""
        return self.activity.owes or (self.script.engine_hangs and self.in_flight > 0)

    def ask_engine(self) -> None:
        """A sound one gives something at once, and goes on."""
        self.activity.begin(self.now())
        self.activity.asked()
        self.engine_gives()

    def engine_gives(self) -> None:
        if not self.script.engine_hangs:
            self.activity.sign_of_work(self.now())

    def facts(self) -> Facts:
        self.sequence += 1
        idle = 0.0 if self.in_flight else self.now() - self.idle_since
        return Facts(
            worker_id=self.assignment.worker_id,
            pool_id=self.assignment.pool_id,
            epoch=self.assignment.epoch,
            sequence=self.sequence,
            phase=self.phase,
            port=self.assignment.port,
            pid=self.pid,
            in_flight=self.in_flight,
            direct=self.direct,
            slots=self.script.slots,
            progress_seconds=self.activity.progress_seconds(self.now()) if self.is_suspect else 0.0,
            idle_seconds=idle,
            lease_left_seconds=self.contact.lease_left(self.now()),
            engine_pid=self.engine_pid if self.was_ready else None,
            engine_started=1.0 if self.was_ready else None,
            sleep_level=self.script.sleep_level,
            requests_total=self.requests_total,
            rss_bytes=self.resident,
            memory_bytes=self.resident if self.mapped_share is not None else None,
            memory_held_bytes=self.held if self.mapped_share is not None else None,
            device_memory_bytes=self.devices,
            progress=self.progress,
            failure=self.failure,
        )

    def report(self) -> None:
        if not self.is_alive or self.script.front_hangs:
            return
        facts = self.facts()
        if self.world.is_deaf:
            self.answered(facts, None)
        elif delay := self.world.delay():
            asyncio.get_running_loop().call_later(delay, self.world.hear, self, facts)
        else:
            self.world.hear(self, facts)

    def answered(self, facts: Facts, reply: FactsReply | None) -> None:
        """What came back on a report; None: nothing that counts as an answer."""
        if not self.is_alive:
            return
        if reply is not None and reply.known:
            self.acknowledged = facts.phase
        idle = 0.0 if self.in_flight else self.now() - self.idle_since
        verdict = self.contact.hear(self.now(), reply, idle)
        if verdict is not Verdict.STAY and self.phase is not Phase.DRAINING:
            self.was_told_to_end = self.was_told_to_end or verdict is Verdict.DISMISSED
            self._tasks.append(self.world.spawn(self._end()))

    async def serve(self, seconds: float, *, is_direct: bool = True) -> bool:
        """A request made straight to the port, or by the gateway; False if it is refused or, what
        ``cut`` counts, ended before its time."""
        if self.phase is not Phase.READY or not self.is_alive:
            return False
        self.ask_engine()
        self.in_flight += 1
        self.direct += is_direct
        self.requests_total += 1
        self.report()
        try:
            await asyncio.wait({self.exit}, timeout=seconds)
            while self.script.engine_hangs and self.is_alive:
                await asyncio.wait({self.exit}, timeout=1.0)
            self.engine_gives()
        finally:  # the client may leave
            self.activity.end(self.now())
            self.in_flight -= 1
            self.direct -= is_direct
            self.idle_since = self.now()
            self.report()
        if not self.is_alive:
            self.cut += 1
        return self.is_alive

    def drain(self, request: DrainRequest) -> DrainReply:
        idle = 0.0 if self.in_flight else self.now() - self.idle_since
        wants_idle = request.if_idle_for is not None
        if wants_idle and (self.in_flight or idle < (request.if_idle_for or 0)):
            return DrainReply(False, self.facts())
        if self.phase is not Phase.DRAINING:
            self._tasks.append(self.world.spawn(self._end()))
        self.phase = Phase.DRAINING
        return DrainReply(True, self.facts())

    def fall_asleep(self, request: DrainRequest) -> DrainReply:
        if self.phase not in (Phase.READY, Phase.FALLING_ASLEEP, Phase.ASLEEP):
            raise ConnectionRefusedError
        idle = 0.0 if self.in_flight else self.now() - self.idle_since
        if self.in_flight or idle < (request.if_idle_for or 0):
            return DrainReply(False, self.facts())
        if self.phase is Phase.READY:
            self.phase = Phase.FALLING_ASLEEP
            self._tasks.append(self.world.spawn(self._sleep()))
        return DrainReply(True, self.facts())

    async def _sleep(self) -> None:
        self.report()
        await asyncio.sleep(1e9 if self.script.never_asleep else self.script.sleep_seconds)
        if self.phase is not Phase.FALLING_ASLEEP:
            return
        if self.script.fails_to_sleep:
            self.failure = Failure("sleep_failed", "it did not fall asleep: scripted")
            await self._end()
        else:
            self.phase = Phase.ASLEEP
            self.report()

    def wake(self) -> Facts:
        if self.phase is Phase.ASLEEP:
            self.phase = Phase.LOADING
            self._tasks.append(self.world.spawn(self._wake()))
        return self.facts()

    async def _wake(self) -> None:
        self.report()
        await asyncio.sleep(1e9 if self.script.never_asleep else self.script.sleep_seconds)
        if self.phase is not Phase.LOADING:
            return None
        if self.script.fails_to_wake:
            self.phase = Phase.FAILED
            self.failure = Failure("wake_failed", "it did not wake up: scripted")
            self.report()
            return self.die(3)
        self.phase = Phase.READY
        self.idle_since = self.now()
        self.report()
        return None

    def die(self, code: int) -> None:
        if self.is_alive:
            self.exit.set_result(code)
            for task in self._tasks:
                if task is not asyncio.current_task():
                    task.cancel()

    async def wait(self) -> int | None:
        return await asyncio.shield(self.exit)

    def terminate(self) -> None:
        """TERM: the first lets current work end, the second cuts it."""
        if self.script.front_hangs:
            return
        if self.script.ignore_term or not self.is_alive:
            return
        self._terms += 1
        if self._terms > 1:
            self.die(0)
        else:
            self._tasks.append(self.world.spawn(self._end()))

    async def _end(self) -> None:
        self.phase = Phase.DRAINING
        self.report()
        deadline = self.now() + self.assignment.drain_seconds
        while self.in_flight and self.now() < deadline:  # noqa: ASYNC110 - it is the script
            await asyncio.sleep(0.1)
        self.die(0)

    def kill(self) -> None:
        self.die(-9)

    async def group_gone(self, timeout: float) -> bool:
        return not self.is_alive


class SimWorld:
    """Launcher, client, journal, memory and events in one, for a real pool."""

    device_needs: Mapping[str, Mapping[str, int]] = {}  # bytes of each device, by model
    mapped_shares: Mapping[str, float] = {}  # by model
    known_figures: Mapping[str, MemoryEstimate] = {}  # by model; of the others, what they declare

    make_clock: type[Clock] = Clock

    def __init__(self, models: list[Model], **config: Any) -> None:
        self.clock = self.make_clock()
        self.scripts: dict[str, Script] = {}
        self.processes: list[SimProcess] = []
        self.read_ahead_files: list[tuple[str, ...]] = []
        self._living: list[SimProcess] = []
        self.events: list[tuple[float, str, str, str, str]] = []
        self.bugs: list[Exception] = []
        self.checked_events = 0
        self.ceilings: dict[str, int] = {}  # of each limit, what it was lowered under
        self.records: dict[str, WorkerRow] = {}
        self.epochs: Counter[str] = Counter()
        self.is_deaf = False
        self.delay: Callable[[], float] = lambda: 0.0  # of what is on the wire
        self.broken_journal = ""  # the name of the call that fails
        self._pids = itertools.count(1000)
        self.host_bytes = 10**12
        self.config = PoolConfig.model_validate(
            {"min_ttl_minutes": 0, "min_residency_seconds": 0, "state_dir": "/nonexistent"} | config
        )
        self.pool = self._make_pool()
        for model in models:
            self.pool.add(model)

    def _make_pool(self) -> Pool:
        settings = Settings(self.config)
        identity = PoolIdentity("sim", "http://sim")
        self.pool_workers = Workers(identity, settings, self, self, self)
        return Pool(settings, self.pool_workers, self, self, self, self.clock)

    @property
    def replicas(self) -> list[Replica]:
        """Of the pool, as they are now."""
        return [supervisor.replica for supervisor in self.pool.supervisors.values()]

    def replica(self, model_id: str) -> Replica:
        """The copy that speaks for a model, as it is now."""
        return self.pool.sets[model_id].best.replica

    def run_of(self, model_id: str) -> Run:
        """The present run of the copy that speaks for a model."""
        run = self.replica(model_id).run
        assert run is not None, f"{model_id} has no worker"
        return run

    def replica_of(self, worker_id: str) -> Replica | None:
        """The one whose present worker that is."""
        found = (r for r in self.replicas if r.run is not None and r.run.worker_id == worker_id)
        return next(found, None)

    # what is known of memory
    def host_memory(self, model: Model) -> MemoryEstimate:
        known = self.known_figures.get(model.model_id)
        return known or MemoryEstimate.of(int((model.memory_mb or 100) * MB))

    def effective(self, model: Model) -> Model:
        return model

    def claims(self, model: Model) -> Claims:
        needs = self.device_needs.get(model.model_id, {})
        devices = {device: Claim.of(size) for device, size in needs.items()}
        return Claims(self.host_memory(model).claim, devices)

    def weights(self, model: Model) -> int | None:
        return None

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A task of the world, not of the manager."""
        return asyncio.ensure_future(work)

    def hear(self, process: SimProcess, facts: Facts) -> None:
        """The manager takes what a worker reports."""
        replica = self.replica_of(process.assignment.worker_id)
        if replica is None or replica.run is None:
            return
        # A worker whose start is not written down yet is told to say it again.
        if replica.run.worker is not None or not self.delay():
            process.answered(facts, self.pool.record_facts(process.assignment.worker_id, facts))

    def available(self) -> int:
        """As it was last measured: what the dead had counts as theirs until they are reaped."""
        runs = [r.run for r in self.replicas if r.run is not None]
        workers = [self._process(run.worker) for run in runs if run.worker is not None]
        if orphans := self.pool.orphans.worker_ids:
            workers += [p for p in self.processes if p.assignment.worker_id in orphans]
        dead = [p for p in workers if not p.is_alive]
        return self.host_bytes - sum(p.held for p in [*self.alive(), *dead])

    def used_bytes(self) -> int:
        """What the living workers have by now."""
        return sum(p.resident for p in self.alive())

    def key_of(self, process: SimProcess) -> str:
        """The ledger's name of the copy that a worker is; its model's where none owns it."""
        replica = self.replica_of(process.assignment.worker_id)
        return replica.key if replica is not None else process.assignment.model_id

    def alive(self, model_id: str | None = None) -> list[SimProcess]:
        self._living = [p for p in self._living if not p.exit.done()]
        return [p for p in self._living if model_id in (None, p.assignment.model_id)]

    # events
    def internal_error(self, error: Exception) -> None:
        self.bugs.append(error)

    def replica_event(self, name: str, status: ReplicaStatus, previous: State, reason: str) -> None:
        now, state = asyncio.get_running_loop().time(), status.core_state
        move = f"{previous}->{state}" if previous is not state else ""
        self.events.append((now, status.model.model_id, name, move, reason))
        if len(self.events) > LIVELOCK and self.events[-LIVELOCK][0] == now:
            raise Standstill(f"endless: {self.events[-6:]}")

    def moves(self, model_id: str) -> list[str]:
        """The states that a model went through."""
        moves = [e[3] for e in self.events if e[1] == model_id and e[3]]
        return [moves[0].split("->")[0], *(m.split("->")[1] for m in moves)] if moves else []

    # launcher
    def new_worker_id(self, engine: str) -> str:
        return uuid.uuid4().hex

    def read_ahead(self, files: Files) -> None:
        self.read_ahead_files.append(tuple(files()))

    async def start(self, assignment: Assignment) -> SimProcess:
        script = self.scripts.setdefault(assignment.model_id, Script())
        await asyncio.sleep(script.launch_seconds)
        if script.refuse_launch:
            raise LaunchError(script.refuse_launch)
        process = SimProcess(self, assignment, next(self._pids))
        process.size = self.pool.reserved_bytes(self.key_of(process))
        process.on_devices = self.device_needs.get(assignment.model_id, {})
        self.processes.append(process)
        self._living.append(process)
        return process

    async def attach(self, record: WorkerRow) -> SimProcess | None:
        found = [p for p in self.alive() if p.assignment.worker_id == record.worker_id]
        return found[0] if found else None

    async def sweep(self, record: WorkerRow) -> None:
        """Nothing is ever left of a simulated worker."""

    async def close(self) -> None:
        """Nothing but workers is ever simulated."""

    # client
    def _process(self, worker: Worker) -> SimProcess:
        assert isinstance(worker.process, SimProcess)
        return worker.process

    async def _reach(self, worker: Worker) -> SimProcess:
        process = self._process(worker)
        await asyncio.sleep(0.001 + self.delay())
        if process.script.front_hangs:
            await asyncio.sleep(3600)
        if not process.is_alive or process.now() < process.listens_at:
            raise ConnectionRefusedError
        return process

    async def facts(self, worker: Worker) -> Facts:
        return (await self._reach(worker)).facts()

    async def probe(self, worker: Worker, request: ProbeRequest) -> ProbeReply:
        process = await self._reach(worker)
        if process.script.engine_hangs:
            await asyncio.sleep(request.timeout_seconds)
            text = "no token in time"
            return ProbeReply(False, request.timeout_seconds, process.facts(), 0.0, text)
        process.engine_gives()
        return ProbeReply(True, 0.01, process.facts(), 0.01)

    async def drain(self, worker: Worker, request: DrainRequest) -> DrainReply:
        process = await self._reach(worker)
        if process.script.deaf_to_drain:
            await asyncio.sleep(3600)
        reply = process.drain(request)
        await asyncio.sleep(0.001 + self.delay())
        return reply

    async def sleep(self, worker: Worker, request: DrainRequest) -> DrainReply:
        process = await self._reach(worker)
        if process.script.deaf_to_drain:
            await asyncio.sleep(3600)
        reply = process.fall_asleep(request)
        await asyncio.sleep(0.001 + self.delay())
        return reply

    async def wake(self, worker: Worker) -> Facts:
        process = await self._reach(worker)
        if process.script.deaf_to_drain:
            await asyncio.sleep(3600)
        facts = process.wake()
        await asyncio.sleep(0.001 + self.delay())
        return facts

    # journal
    async def next_epoch(self, model_id: str) -> int:
        self.epochs[model_id] += 1
        return self.epochs[model_id]

    async def _write(self, what: str) -> None:
        await asyncio.sleep(0.001)
        if what == self.broken_journal:
            raise OSError(f"disk full: {what}")

    async def intend_worker(self, record: WorkerRow) -> None:
        await self._write("intend_worker")
        self.records[record.worker_id] = record

    async def worker_started(self, worker_id: str, pid: int, create_time: float) -> None:
        await self._write("worker_started")
        found = self.records[worker_id]
        self.records[worker_id] = replace(found, pid=pid, create_time=create_time)

    async def forget_worker(self, worker_id: str) -> None:
        self.records.pop(worker_id, None)

    async def workers(self) -> list[WorkerRow]:
        return list(self.records.values())

    def is_waking(self, process: SimProcess) -> bool:
        """It sleeps, or is about to take what it had."""
        replica = self.replica_of(process.assignment.worker_id)
        is_to = replica is not None and replica.run is not None and replica.run.is_waking
        return is_to and process.is_asleep

    # checks
    def check(self) -> None:
        """The rules that must hold after every step."""
        for rule in RULES:
            rule(self)

    def check_settled(self) -> None:
        """Those that hold when the loop has nothing to do right now."""
        for rule in SETTLED:
            rule(self)


def model(model_id: str, **fields: Any) -> Model:
    """A catalog entry with a simulated engine."""
    return Model(model_id=model_id, engine="sim", source="", **fields)


# The pool reads logs and tidies directories in threads, which virtual time knows nothing of.
async def _inline(function: Any, *args: Any) -> Any:
    return function(*args)


def without_threads(monkeypatch: Any) -> None:
    """Let it read and tidy in place."""
    monkeypatch.setattr(workers_module.asyncio, "to_thread", _inline)
