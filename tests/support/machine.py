"""A state machine that does to a simulated pool whatever may happen to one, in any order.

The pool, its slots and its crew are the real ones; after every step all rules are checked.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from modelpool.catalog.model import Model
from modelpool.config import patched
from modelpool.pool.lifecycle import State
from modelpool_client.errors import CannotFit, ModelPoolError

from .sim import Script, SimWorld, model, without_threads
from .virtual_time import VirtualLoop

NAMES = ("a", "b", "c", "pin", "warm", "huge")
TRIES = 4
SLACK = 0.01
# TERM with its grace, the margin, KILL, the rest of the group; then again for a start under way.
UNLOAD_SECONDS = 100.0

names = st.sampled_from(NAMES)
seconds = st.sampled_from([0.0, 0.001, 0.02, 0.7, 5.0, 40.0, 400.0])
steps = st.sampled_from(
    [0.0, 0.0005, 0.001, 0.011, 0.5, 1.0, 4.0, 12.0, 61.0, 130.0, 300.0, 900.0, 3600.0, 20_000.0]
)
scripts = st.builds(
    Script,
    load_seconds=st.sampled_from([0.05, 1.0, 30.0, 200.0]),
    progress_every=st.sampled_from([0.5, 10.0]),
    fail_load=st.sampled_from(["", "", "", "oom"]),
    never_ready=st.sampled_from([False, False, False, True]),
    ignore_term=st.sampled_from([False, False, True]),
    deaf_to_drain=st.sampled_from([False, False, True]),
    refuse_launch=st.sampled_from(["", "", "", "no such program"]),
    strange_ports=st.sets(st.integers(8051, 8057), max_size=7),
    launch_seconds=st.sampled_from([0.0, 0.01, 2.0]),
    front_hangs=st.sampled_from([False, False, False, True]),
    engine_hangs=st.sampled_from([False, False, False, True]),
    beat_seconds=st.just(30.0),
)
patches = st.fixed_dictionaries(
    {},
    optional={
        "max_concurrent_models": st.integers(3, 5),
        "memory_limit_mb": st.integers(700, 1200),
        "default_ttl_minutes": st.sampled_from([0, 1, 15]),
        "grace_minutes": st.sampled_from([0, 0.5, 2]),
        "auto_unload": st.booleans(),
        "min_residency_seconds": st.sampled_from([0, 10]),
        "port_rest_seconds": st.sampled_from([0, 60]),
    },
)


def new_model(name: str) -> Model:
    """The same for every world."""
    special: dict[str, dict[str, Any]] = {
        "pin": {"pinned": True, "memory_mb": 100},
        "warm": {"warmup": True, "memory_mb": 150},
        "huge": {"memory_mb": 650},
        "c": {"memory_mb": 300, "priority": "high"},
        "b": {"memory_mb": 250, "auto_unload": False, "ttl_minutes": 5},
    }
    return model(name, **{"memory_mb": 200} | special.get(name, {}))


@dataclasses.dataclass(eq=False)
class Wish:
    """Something that was asked of the pool, and by when it must be answered."""

    what: str
    deadline: float
    task: asyncio.Future[Any]


class PoolMachine(RuleBasedStateMachine):
    """Any order of requests, unloads, faults, settings and time."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        without_threads(self.patch)
        self.loop = VirtualLoop()
        self.loop.set_exception_handler(self._on_loop_error)
        self.wishes: list[Wish] = []
        self.jobs: list[asyncio.Future[Any]] = []
        self.do(self._start())

    async def _start(self) -> None:
        self.world = SimWorld(
            [],
            max_concurrent_models=3,
            memory_limit_mb=700,
            port_range={"start": 8051, "end": 8057},
            warmup_models=["warm"],
            load_wait_seconds=300,
        )
        self.world.host_bytes = 1_500_000_000
        for name in NAMES:
            self._add(name)

    def _add(self, name: str) -> None:
        self.world.scripts[name] = Script(beat_seconds=30.0)
        self.world.pool.add(new_model(name))

    def _on_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        text = f"{context['message']}: {error!r}"
        self.world.bugs.append(RuntimeError(text))

    def do(self, work: Coroutine[Any, Any, None]) -> None:
        """Run it, and whatever is due in the same moment."""
        self.loop.run_until_complete(work)
        self.loop.run_until_complete(self._settle())

    async def _settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    async def _ask(self, what: str, limit: float, work: Awaitable[Any]) -> None:
        now = self.loop.time()
        self.wishes.append(Wish(what, now + limit + SLACK, asyncio.ensure_future(work)))

    def known(self, name: str) -> bool:
        return self.world.pool.has(name)

    # -- use -------------------------------------------------------------------------------------

    async def _request(self, name: str, length: float, priority: str) -> None:
        """As the gateway does it: again only if refused before the first byte."""
        pool = self.world.pool
        for _ in range(TRIES):
            if not pool.has(name):
                return
            grant = pool.try_acquire(name) or await self._acquired(name, priority)
            try:
                worker = next(
                    p for p in self.world.processes if p.assignment.worker_id == grant.worker_id
                )
                assert worker.assignment.model_id == name
                assert worker.assignment.port == grant.port
                await asyncio.sleep(0.001)
                if await worker.serve(length) or worker.cut:
                    return
            finally:
                grant.release()
            await asyncio.sleep(0.05)

    async def _acquired(self, name: str, priority: str) -> Any:
        work = asyncio.ensure_future(self.world.pool.acquire(name, priority=priority))
        wish = Wish(f"acquire {name}", self.loop.time() + 300 + SLACK, work)
        self.wishes.append(wish)
        try:
            return await work
        except asyncio.CancelledError:
            if not work.cancel() and work.exception() is None:
                work.result().release()
            raise

    @rule(name=names, length=seconds, priority=st.sampled_from(["high", "normal", "low"]))
    def request(self, name: str, length: float, priority: str) -> None:
        async def begin() -> None:
            self.jobs.append(asyncio.ensure_future(self._request(name, length, priority)))

        if self.known(name):
            self.do(begin())

    @rule(name=names, count=st.integers(2, 5))
    def burst(self, name: str, count: int) -> None:
        for _ in range(count):
            self.request(name, 0.7, "normal")

    @precondition(lambda self: any(not j.done() for j in self.jobs))
    @rule(data=st.data())
    def client_leaves(self, data: st.DataObject) -> None:
        async def leave() -> None:
            data.draw(st.sampled_from([j for j in self.jobs if not j.done()])).cancel()

        self.do(leave())

    @precondition(lambda self: self.world.alive())
    @rule(data=st.data(), length=seconds)
    def direct_request(self, data: st.DataObject, length: float) -> None:
        async def begin() -> None:
            worker = data.draw(st.sampled_from(self.world.alive()))
            if self.world.pool.slot(worker.assignment.model_id).state is State.WARMING:
                # Its word that it is ready may never come; the load is given up then.
                worker.was_told_to_end = True
            self.jobs.append(asyncio.ensure_future(worker.serve(length)))

        self.do(begin())

    @rule(name=names, wait=st.sampled_from([None, 5.0, 500.0]))
    def load(self, name: str, wait: float | None) -> None:
        if self.known(name):
            work = self.world.pool.load(name, "asked for by the test", wait)
            self.do(self._ask(f"load {name}", wait or 0.0, work))

    @rule(name=names, force=st.booleans(), cut=st.booleans())
    def unload(self, name: str, force: bool, cut: bool) -> None:
        async def begin() -> None:
            kept = new_model(name).pinned or new_model(name).warmup
            if force or not kept:
                self._excuse(name)
            ended = self.world.pool.slot(name).unload("asked by the test", force=force, cut=cut)
            await self._ask(f"unload {name}", UNLOAD_SECONDS, ended)

        if self.known(name):
            self.do(begin())

    def _excuse(self, name: str) -> None:
        for process in self.world.alive(name):
            process.was_told_to_end = True

    @rule(name=names, length=st.sampled_from([1.0, 600.0, 10_000.0]))
    def extend(self, name: str, length: float) -> None:
        async def ask() -> None:
            slot = self.world.pool.slot(name)
            if slot.state.is_serving:
                before = slot.lease.remaining(self.loop.time())
                granted = slot.extend(length)
                after = slot.lease.remaining(self.loop.time())
                assert granted == pytest.approx((after or 0) - (before or 0))

        if self.known(name):
            self.do(ask())

    # -- faults ----------------------------------------------------------------------------------

    @precondition(lambda self: self.world.alive())
    @rule(data=st.data(), code=st.sampled_from([-9, -11, 0, 1, 3, 5, 6]))
    def worker_dies(self, data: st.DataObject, code: int) -> None:
        async def die() -> None:
            worker = data.draw(st.sampled_from(self.world.alive()))
            worker.was_told_to_end = True
            worker.die(code)

        self.do(die())

    @precondition(lambda self: self.world.alive())
    @rule(data=st.data())
    def operator_sends_term(self, data: st.DataObject) -> None:
        """Work that ends within the drain time must not notice."""

        async def term() -> None:
            worker = data.draw(st.sampled_from(self.world.alive()))
            worker.was_told_to_end = worker.in_flight > 0
            worker.terminate()

        self.do(term())

    @rule(name=names, script=scripts)
    def workers_change(self, name: str, script: Script) -> None:
        """Those to come and, as far as it can still matter to it, the present one."""

        async def change() -> None:
            self.world.scripts[name] = script
            for worker in self.world.alive(name):
                worker.script.deaf_to_drain = script.deaf_to_drain
                worker.script.ignore_term = script.ignore_term
                if script.deaf_to_drain or worker.script.hangs:
                    worker.was_told_to_end = True  # it is ended for not answering
                worker.script.front_hangs = script.front_hangs
                worker.script.engine_hangs = script.engine_hangs

        self.do(change())

    @rule(name=names)
    def workers_heal(self, name: str) -> None:
        self.workers_change(name, Script(beat_seconds=30.0))

    @rule(deaf=st.booleans(), late=st.sampled_from([0.0, 0.02, 0.5]))
    def network_changes(self, deaf: bool, late: float) -> None:
        async def change() -> None:
            lots = random.Random(7)
            self.world.is_deaf = deaf
            self.world.delay = (lambda: lots.uniform(0.0001, late)) if late else (lambda: 0.0)

        self.do(change())

    @rule(what=st.sampled_from(["", "", "intend_worker", "worker_started"]))
    def disk_changes(self, what: str) -> None:
        async def change() -> None:
            self.world.broken_journal = what

        self.do(change())

    # -- settings --------------------------------------------------------------------------------

    @rule(changes=patches)
    def reconfigure(self, changes: dict[str, Any]) -> None:
        async def patch() -> None:
            pool = self.world.pool
            limits = ("max_concurrent_models", "memory_limit_mb")
            upwards = {k: max(changes[k], getattr(pool.config, k)) for k in limits if k in changes}
            pool.reconfigure(patched(pool.config, changes | upwards))

        self.do(patch())

    @rule(name=names)
    def delete(self, name: str) -> None:
        async def begin() -> None:
            self._excuse(name)
            await self._ask(f"delete {name}", UNLOAD_SECONDS, self.world.pool.remove(name))

        if self.known(name):
            self.do(begin())

    @rule(name=names)
    def add(self, name: str) -> None:
        async def begin() -> None:
            self._add(name)

        if not self.known(name):
            self.do(begin())

    @rule(name=names, ttl=st.sampled_from([None, 0, 1.5]), size=st.sampled_from([50, 200, 400]))
    def replace(self, name: str, ttl: float | None, size: int) -> None:
        async def begin() -> None:
            slot = self.world.pool.slot(name)
            entry = dataclasses.replace(new_model(name), ttl_minutes=ttl, memory_mb=size)
            slot.replace_model(entry)

        if self.known(name):
            self.do(begin())

    # -- time ------------------------------------------------------------------------------------

    @rule(length=steps)
    def time_passes(self, length: float) -> None:
        self.do(self._sleep(length))

    async def _sleep(self, length: float) -> None:
        await asyncio.sleep(length)

    @rule()
    def sweep(self) -> None:
        async def look() -> None:
            self.world.pool.look()

        self.do(look())

    # -- what must hold --------------------------------------------------------------------------

    @invariant()
    def rules_hold(self) -> None:
        self.do(self._check())

    async def _check(self) -> None:
        self.world.check()
        self.world.check_settled()
        late = [w.what for w in self.wishes if not w.task.done() and self.loop.time() > w.deadline]
        assert not late, f"not answered in time: {late}"
        for wish in [w for w in self.wishes if w.task.done()]:
            self.wishes.remove(wish)
            _answered(wish.task)
        for job in [j for j in self.jobs if j.done()]:
            self.jobs.remove(job)
            _answered(job)

    def teardown(self) -> None:
        try:
            self._end()
        finally:
            self.patch.undo()
            self.loop.run_until_complete(self._abandon())
            self.loop.close()

    def _end(self) -> None:
        self.rules_hold()
        self.do(self._recover())
        self.rules_hold()
        self.do(self._stop())

    async def _recover(self) -> None:
        """With healthy workers and nobody else asking, every model can be had again."""
        self.world.is_deaf, self.world.broken_journal = False, ""
        self.world.delay = lambda: 0.0
        for name in NAMES:
            self.world.scripts[name] = Script(beat_seconds=30.0)
            for worker in self.world.alive(name):
                worker.script.deaf_to_drain = worker.script.ignore_term = False
                worker.was_told_to_end = worker.was_told_to_end or worker.script.hangs
                worker.script.front_hangs = worker.script.engine_hangs = False
        await asyncio.sleep(2000)  # requests end, waits end, cooling-off and crash windows too
        await self._check()
        assert not self.jobs, "requests that never end"
        assert not self.wishes, "wishes that never end"
        for slot in self.world.pool.slots:
            assert not len(slot.waiters), slot
            try:
                grant = await self.world.pool.acquire(slot.model.model_id)
                grant.release()
            except CannotFit:
                assert any(s.model.pinned and s.state is State.HOT for s in self.world.pool.slots)
            await asyncio.sleep(11)  # minimum residency

    async def _stop(self) -> None:
        world, pool = self.world, self.world.pool
        for slot in pool.slots:  # some wait in the moment of the end
            self._excuse(slot.model.model_id)
            self.jobs.append(asyncio.ensure_future(self._request(slot.model.model_id, 0.5, "low")))
        await asyncio.sleep(0.3)
        await pool.stop()
        await asyncio.sleep(0)
        world.check()
        assert not world.alive(), "a process is left"
        assert not world.records, "a record is left"
        assert not any(pool.reserved_bytes(n) for n in NAMES), "a reservation is left"
        assert not any(slot._jobs for slot in pool.slots), "a job is left"
        assert pool.ports.available == len(pool.config.port_range)
        await asyncio.sleep(1)
        assert all(j.done() for j in self.jobs), "a waiter was left hanging"
        await self._check()

    async def _abandon(self) -> None:
        tasks = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _answered(task: asyncio.Future[Any]) -> None:
    """Served, refused in our words, or the client has left."""
    if not task.cancelled() and (error := task.exception()) is not None:
        assert isinstance(error, ModelPoolError), repr(error)


def play(*moves: Callable[[PoolMachine], None]) -> None:
    """A fixed order of steps, checked like a random one."""
    machine = PoolMachine()
    try:
        for move in moves:
            move(machine)
            machine.rules_hold()
    finally:
        machine.teardown()
    gc.collect()


__all__ = ["PoolMachine", "play"]
