"""What a pool costs while nobody asks anything of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from bench import names as n
from bench import usage
from bench.bare import BareEngine
from bench.figures import Row
from bench.messages import first_event_at, token_body
from bench.model import BenchModel, prepare
from bench.pool import BenchPool, fake_entry
from bench.stage import Stage

MODEL = "bench"
CATALOG = n.IDLE_MODELS
IDLE_SECONDS = 10.0
QUICK_SECONDS = 2.0
# After a start: first facts, saved statistics, collected garbage.
SETTLE_SECONDS = 4.0
READINGS = 5
READING_SECONDS = 0.2


def run(stage: Stage) -> Iterator[Row]:
    """A thousand models: one of them loaded, then as many as there are ports.

    Raises:
        BenchError: something is missing, or did not start.
    """
    yield from _many_workers(stage)
    yield from _one_worker(stage)


def _one_worker(stage: Stage) -> Iterator[Row]:
    model = prepare(stage)
    stage.say("idle: the bare engine, for comparison")
    bare = _bare_resident(stage, model)
    fakes = [fake_entry(f"fake-{i}") for i in range(CATALOG - 1)]
    stage.say(f"idle: a pool with {CATALOG:,} models in its catalog, one loaded")
    with BenchPool(stage.folder, "idle", [model.entry(MODEL), *fakes]) as pool:
        pool.load(MODEL)
        first_event_at(pool.port, token_body(MODEL, 8))
        time.sleep(SETTLE_SECONDS)
        front, child = (process.pid for process in pool.worker(MODEL))
        pids = {n.MANAGER: pool.pid, n.FRONT: front, n.ENGINE_CHILD: child}
        yield from _memory(pids, bare)
        yield from _processor(stage, n.PROCESSOR, pids)


def _many_workers(stage: Stage) -> Iterator[Row]:
    stage.say(f"idle: a pool with {CATALOG:,} models, {n.WORKERS} of them with a worker that beats")
    models = [f"fake-{i}" for i in range(CATALOG)]
    entries = [fake_entry(model) for model in models]
    with BenchPool(
        stage.folder,
        "beats",
        entries,
        stand_in=True,
        workers=n.WORKERS,
        max_concurrent_models=n.WORKERS,
    ) as pool:
        pool.load_all(models[: n.WORKERS])
        time.sleep(SETTLE_SECONDS)
        samples = _readings(usage.resident, pool.pid)
        yield Row(n.IDLE, n.RESIDENT_BEATS, n.MANAGER, "MB", samples)
        yield from _processor(stage, n.PROCESSOR_BEATS, {n.MANAGER: pool.pid})


def _bare_resident(stage: Stage, model: BenchModel) -> Sequence[float]:
    with BareEngine(stage, model) as engine:
        first_event_at(engine.port, token_body(MODEL, 8))
        return _readings(usage.resident, engine.pid)


def _memory(pids: Mapping[str, int], bare: Sequence[float]) -> Iterator[Row]:
    resident = {name: _readings(usage.resident, pid) for name, pid in pids.items()}
    for name, samples in resident.items():
        yield Row(n.IDLE, n.RESIDENT, name, "MB", samples)
    yield Row(n.IDLE, n.RESIDENT, n.BARE, "MB", tuple(bare), ours=False)
    parts = zip(resident[n.FRONT], resident[n.ENGINE_CHILD], bare, strict=True)
    yield Row(n.IDLE, n.RESIDENT, n.OVERHEAD, "MB", tuple(f + c - b for f, c, b in parts))
    for name in (n.MANAGER, n.FRONT):
        if usage.proportional(pids[name]) is not None:
            yield Row(n.IDLE, n.SHARED, name, "MB", _readings(usage.own, pids[name]))


def _readings(read: Callable[[int], int], pid: int) -> tuple[float, ...]:
    """Some readings in MB, one soon after the other."""
    samples = []
    for _ in range(READINGS):
        samples.append(read(pid) / 1e6)
        time.sleep(READING_SECONDS)
    return tuple(samples)


def _processor(stage: Stage, figure: str, pids: Mapping[str, int]) -> Iterator[Row]:
    """Rounds of doing nothing; what was spent is told for ten seconds however long they are."""
    seconds = QUICK_SECONDS if stage.quick else IDLE_SECONDS
    used: dict[str, list[float]] = {name: [] for name in pids}
    for turn in range(stage.rounds):
        if turn and time.monotonic() + seconds > stage.deadline:
            stage.note(f"{figure}: cut short after {turn} of {stage.rounds} rounds, time is over")
            break
        stage.say(f"{figure}: round {turn + 1} of {stage.rounds}")
        before = {name: usage.processor_seconds(pid) for name, pid in pids.items()}
        time.sleep(seconds)
        for name, pid in pids.items():
            spent = usage.processor_seconds(pid) - before[name]
            used[name].append(spent * 1000 * IDLE_SECONDS / seconds)
    for name, samples in used.items():
        yield Row(n.IDLE, figure, name, "ms", tuple(samples))
