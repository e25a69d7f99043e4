"""A pool whose workers are simulated: scripted speed, faults and direct traffic, virtual time.

Shipped beside the tests of the pool; the manager's own code is the real one, from slot to crew.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from modelpool.catalog.database import WorkerRow
from modelpool.catalog.model import Model
from modelpool.config import PoolConfig
from modelpool.launchers import LaunchError, LaunchSpec
from modelpool.pool import crew as crew_module
from modelpool.pool.admission import Start
from modelpool.pool.clock import Clock
from modelpool.pool.crew import Crew, Worker
from modelpool.pool.lifecycle import State
from modelpool.pool.pool import Pool, Surroundings
from modelpool.pool.replica import Replica
from modelpool.pool.slot import Slot
from modelpool_client.wire import (
    Assignment,
    DrainReply,
    DrainRequest,
    Facts,
    Failure,
    Phase,
    ProbeReply,
    ProbeRequest,
    Progress,
)

MB = 1_000_000
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

    @property
    def hangs(self) -> bool:
        return self.front_hangs or self.engine_hangs


class SimProcess:
    """The process of a simulated worker."""

    def __init__(self, world: SimWorld, spec: LaunchSpec, pid: int) -> None:
        self.world = world
        self.assignment: Assignment = spec.assignment
        self._pid = pid
        self.script = world.scripts.setdefault(self.assignment.model_id, Script())
        self.exit: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.phase = Phase.LOADING
        self.in_flight = 0
        self.requests_total = 0
        self.idle_since = self.worked_at = self.now()
        self.sequence = 0
        self.cut = 0
        self.was_told_to_end = False  # by the test: whatever is cut then is no fault of the pool
        self._terms = 0
        self.progress: Progress | None = None
        self.failure: Failure | None = None
        self._tasks = [asyncio.ensure_future(self._live())]

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

    async def _live(self) -> None:
        script = self.script
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
        self.idle_since = self.now()
        self.progress = None
        self.report()
        while script.beat_seconds:
            await asyncio.sleep(script.beat_seconds)
            self.report()
        return None

    @property
    def _is_stuck(self) -> bool:
        return self.script.engine_hangs and self.in_flight > 0

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
            progress_seconds=self.now() - self.worked_at if self._is_stuck else 0.0,
            idle_seconds=idle,
            requests_total=self.requests_total,
            progress=self.progress,
            failure=self.failure,
        )

    def report(self) -> None:
        if self.is_alive and not self.world.is_deaf and not self.script.front_hangs:
            facts = self.facts()
            if delay := self.world.delay():
                asyncio.get_running_loop().call_later(delay, self._deliver, facts)
            else:
                self._deliver(facts)

    def _deliver(self, facts: Facts) -> None:
        slot = self.world.pool.slot_of(self.assignment.worker_id)
        # A worker whose start is not written down yet is told to say it again.
        if slot is not None and (slot.worker is not None or not self.world.delay()):
            self.world.pool.heard(slot, facts)

    async def serve(self, seconds: float) -> bool:
        """A request made straight to the port; False if it is refused or, what ``cut`` counts,
        ended before its time."""
        if self.phase is not Phase.READY or not self.is_alive:
            return False
        self.worked_at = self.worked_at if self._is_stuck else self.now()
        self.in_flight += 1
        self.requests_total += 1
        self.report()
        try:
            await asyncio.wait({self.exit}, timeout=seconds)
            while self.script.engine_hangs and self.is_alive:
                await asyncio.wait({self.exit}, timeout=1.0)
        finally:  # the client may leave
            self.in_flight -= 1
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
            self._tasks.append(asyncio.ensure_future(self._end()))
        self.phase = Phase.DRAINING
        return DrainReply(True, self.facts())

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
            self._tasks.append(asyncio.ensure_future(self._end()))

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
    """Launcher, link, journal and surroundings in one, for a real pool."""

    def __init__(self, models: list[Model], **config: Any) -> None:
        self.scripts: dict[str, Script] = {}
        self.processes: list[SimProcess] = []
        self.events: list[tuple[float, str, str, str, str]] = []
        self.bugs: list[Exception] = []
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
        crew = Crew(self, self, self, Path("/nonexistent"))
        surroundings = Surroundings(
            pool_id="sim",
            manager_url="http://sim",
            estimate=lambda m: int((m.memory_mb or 100) * MB),
            host_available=lambda: self.host_bytes - self.used_bytes(),
            emit=self._on_event,
            bug=self.bugs.append,
        )
        return Pool(self.config, crew, surroundings, Clock())

    def used_bytes(self) -> int:
        """What the living workers take: each what was reserved for it, for it was estimated so."""
        return sum(self.pool.reserved_bytes(self.key_of(p)) for p in self.alive())

    def key_of(self, process: SimProcess) -> str:
        """The ledger's name of the copy that a worker is; its model's where none owns it."""
        slot = self.pool.slot_of(process.assignment.worker_id)
        return slot.key if slot is not None else process.assignment.model_id

    def alive(self, model_id: str | None = None) -> list[SimProcess]:
        return [
            p for p in self.processes if p.is_alive and model_id in (None, p.assignment.model_id)
        ]

    def _on_event(self, event: str, slot: Replica, previous: State, reason: str) -> None:
        now = asyncio.get_running_loop().time()
        move = f"{previous}->{slot.state}" if previous is not slot.state else ""
        self.events.append((now, slot.model.model_id, event, move, reason))
        if len(self.events) > LIVELOCK and self.events[-LIVELOCK][0] == now:
            raise RuntimeError(f"endless: {self.events[-6:]}")

    def moves(self, model_id: str) -> list[str]:
        """The states that a model went through."""
        moves = [e[3] for e in self.events if e[1] == model_id and e[3]]
        return [moves[0].split("->")[0], *(m.split("->")[1] for m in moves)] if moves else []

    # launcher
    async def start(self, spec: LaunchSpec) -> SimProcess:
        script = self.scripts.setdefault(spec.assignment.model_id, Script())
        await asyncio.sleep(script.launch_seconds)
        if script.refuse_launch:
            raise LaunchError(script.refuse_launch)
        process = SimProcess(self, spec, next(self._pids))
        self.processes.append(process)
        return process

    async def attach(self, record: WorkerRow) -> SimProcess | None:
        found = [p for p in self.alive() if p.assignment.worker_id == record.worker_id]
        return found[0] if found else None

    async def sweep(self, record: WorkerRow) -> None:
        """Nothing is ever left of a simulated worker."""

    # link
    def _process(self, worker: Worker) -> SimProcess:
        assert isinstance(worker.process, SimProcess)
        return worker.process

    async def _reach(self, worker: Worker) -> SimProcess:
        process = self._process(worker)
        await asyncio.sleep(0.001 + self.delay())
        if process.script.front_hangs:
            await asyncio.sleep(3600)
        if not process.is_alive:
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
        process.worked_at = process.now()
        return ProbeReply(True, 0.01, process.facts(), 0.01)

    async def drain(self, worker: Worker, request: DrainRequest) -> DrainReply:
        process = await self._reach(worker)
        if process.script.deaf_to_drain:
            await asyncio.sleep(3600)
        reply = process.drain(request)
        await asyncio.sleep(0.001 + self.delay())
        return reply

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

    # checks
    def check(self) -> None:
        """The rules that must hold after every step."""
        assert not self.bugs, self.bugs
        assert all(reason for *_, reason in self.events), "an event without a reason"
        self._check_limits()
        self._check_ports()
        self._check_cuts()
        for slot in self.pool.slots:
            self._check_slot(slot)

    def _check_limits(self) -> None:
        alive = Counter(self.key_of(p) for p in self.alive())
        assert all(n == 1 for n in alive.values()), f"two workers of one copy: {alive}"
        assert len(alive) <= self.pool.config.max_concurrent_models, alive
        used = self.used_bytes()
        assert used <= self.pool.config.memory_limit_bytes, "over the memory limit"
        assert used <= self.host_bytes, "over what the host has"

    def _check_ports(self) -> None:
        ports = [p.assignment.port for p in self.alive()]
        assert len(ports) == len(set(ports)), "two workers on one port"
        assert all(p in self.pool.config.port_range for p in ports), "a port out of the range"
        held = [slot.port for slot in self.pool.slots if slot.port is not None]
        assert len(held) == len(set(held)), "two slots on one port"
        free = len(self.pool.config.port_range) - len(held)
        assert self.pool.ports.available == free, f"ports lost: {self.pool.ports}, {held}"

    def _check_cuts(self) -> None:
        cut = [p for p in self.processes if p.cut and not (p.was_told_to_end or p.script.hangs)]
        assert not cut, f"work was cut: {[p.assignment.model_id for p in cut]}"

    def _check_slot(self, slot: Slot) -> None:
        model_id = slot.model.model_id
        reserved = self.pool.reserved_bytes(slot.key)
        assert bool(reserved) == slot.state.has_worker, f"a reservation too many or lost: {slot!r}"
        known = [r.worker_id for r in self.records.values() if r.model_id == model_id]
        if not slot.state.has_worker:
            own = [s.worker_id for s in self.pool.group(model_id)]
            stray = [p for p in self.alive(model_id) if p.assignment.worker_id not in own]
            assert not stray, f"a process without an owner: {slot!r}"
            assert not set(known) - set(own), f"a record of what is gone: {slot!r}"
        if slot.state.is_serving:
            assert slot.worker_id in known, f"not written down: {slot!r}"
        self._check_waiters(slot)
        self._check_idleness(slot)

    def _check_waiters(self, slot: Slot) -> None:
        """Whoever waits waits for something that will come."""
        if not len(slot.waiters):
            return
        now = asyncio.get_running_loop().time()
        is_queued = slot.key in self.pool.line
        cools_off = slot.state is State.FAILED and now < slot.trouble.retry_at
        is_due = slot._alarm is not None and slot._alarm.when() <= slot.trouble.retry_at
        moves = slot.state in (State.WARMING, State.UNLOADING) or slot.is_leaving
        assert moves or is_queued or (cools_off and is_due), f"waits for nothing: {slot!r}"

    def _check_idleness(self, slot: Slot) -> None:
        now = asyncio.get_running_loop().time()
        if slot.is_busy or slot.is_leaving or not slot._may_idle_out():
            return
        if slot.state is State.HOT and slot.lease.until is not None:
            assert now <= slot.lease.until + 1, f"its lease is over: {slot!r}"
        if slot.state is State.COOLING:
            grace = self.pool.config.grace_minutes * 60
            assert now <= slot._cooling_since + grace + 1, f"its grace is over: {slot!r}"

    def check_settled(self) -> None:
        """Nobody waits for room that is there, unless the end of another will wake him anyway.

        Only when the loop has nothing to do right now.
        """
        if any(slot.is_leaving or slot._is_burying for slot in self.pool.slots):
            return
        for slot in self.pool.slots:
            if slot.key in self.pool.line:
                decision = self.pool.plan_for(slot)
                assert not isinstance(decision, Start), f"{slot.key} waits, but {decision}"


def model(model_id: str, **fields: Any) -> Model:
    """A catalog entry with a simulated engine."""
    return Model(model_id=model_id, engine="sim", source="", **fields)


# The crew reads logs and tidies directories in threads, which virtual time knows nothing of.
async def _inline(function: Any, *args: Any) -> Any:
    return function(*args)


def without_threads(monkeypatch: Any) -> None:
    """Let the crew read and tidy in place."""
    monkeypatch.setattr(crew_module.asyncio, "to_thread", _inline)
