"""What a pool costs while nobody asks anything of it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import psutil

from bench.bare import BareEngine
from bench.figures import Row
from bench.messages import first_event_at, token_body
from bench.model import BenchModel, prepare
from bench.pool import BenchPool
from bench.stage import Stage

SUITE = "idle"
MODEL = "bench"
CATALOG = 1000
IDLE_SECONDS = 10.0
QUICK_SECONDS = 2.0
# After a start: first facts, saved statistics, collected garbage.
SETTLE_SECONDS = 2.0


def run(stage: Stage) -> Iterator[Row]:
    """One loaded model, and a thousand that are not.

    Raises:
        BenchError: something is missing, or did not start.
    """
    model = prepare(stage)
    stage.say("idle: the bare engine, for comparison")
    bare = _bare_resident(stage, model)
    fakes = [{"model_id": f"fake-{i}", "engine": "fake", "source": "-"} for i in range(CATALOG - 1)]
    stage.say(f"idle: a pool with {CATALOG} models in its catalog, one loaded")
    with BenchPool(stage.folder, "idle", [model.entry(MODEL), *fakes]) as pool:
        pool.load(MODEL)
        first_event_at(pool.port, token_body(MODEL, 8))
        time.sleep(SETTLE_SECONDS)
        yield from _memory(pool, bare)
        yield from _processor(stage, pool)


def _bare_resident(stage: Stage, model: BenchModel) -> float:
    with BareEngine(stage, model) as engine:
        first_event_at(engine.port, token_body(MODEL, 8))
        return _resident(psutil.Process(engine.pid))


def _memory(pool: BenchPool, bare: float) -> Iterator[Row]:
    front, child = pool.worker()
    manager = psutil.Process(pool.pid)
    resident, shares = "resident memory", "memory, shared pages divided (PSS)"
    yield _row(resident, "manager", _resident(manager), "<= 120 MB")
    yield _row(resident, "worker front", _resident(front))
    yield _row(resident, "engine child", _resident(child))
    yield _row(resident, "bare engine", bare)
    overhead = _resident(front) + _resident(child) - bare
    yield _row(resident, "worker over bare engine", overhead, "<= 50 MB")
    for name, process in (("manager", manager), ("worker front", front)):
        share = _proportional(process)
        if share is not None:
            yield _row(shares, name, share)


def _processor(stage: Stage, pool: BenchPool) -> Iterator[Row]:
    seconds = QUICK_SECONDS if stage.quick else IDLE_SECONDS
    stage.say(f"idle: doing nothing for {seconds:.0f} s")
    front, child = pool.worker()
    processes = {"manager": psutil.Process(pool.pid), "worker front": front, "engine child": child}
    before = {name: _used(process) for name, process in processes.items()}
    time.sleep(seconds)
    figure = f"processor time in {seconds:.0f} idle seconds"
    for name, process in processes.items():
        used = (_used(process) - before[name]) * 1000
        yield Row(SUITE, figure, name, "ms", (used,), target="near zero")


def _row(figure: str, system: str, megabytes: float, target: str = "") -> Row:
    return Row(SUITE, figure, system, "MB", (megabytes,), target=target)


def _resident(process: psutil.Process) -> float:
    return float(process.memory_info().rss) / 1e6


def _proportional(process: psutil.Process) -> float | None:
    share = getattr(process.memory_full_info(), "pss", None)
    return None if share is None else share / 1e6


def _used(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
