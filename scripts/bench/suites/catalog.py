"""The size of the catalog: what start, look-ups, plans, lists and memory cost with more models."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from itertools import count

from bench import load, usage, wrk
from bench import names as n
from bench.figures import Row
from bench.messages import Ask, chat_body
from bench.pool import BenchPool, Entry, fake_entry
from bench.stage import Against, Measure, Stage

HOT, COLD = "model-7", "model-3"
ASKED = {
    n.ADMISSION: f"/models/{COLD}/plan",
    n.PAGE: "/models?limit=10",
    n.SEARCH: "/models?limit=10&state=awake&q=odel-7&provider=fake",
    n.SCRAPE: "/metrics",
}


def run(stage: Stage) -> Iterator[Row]:
    """The same pool with ten models, a thousand, ten thousand; one of them is loaded.

    Raises:
        BenchError: something did not start, or answered wrongly.
    """
    with ExitStack() as stack:
        pools = {n.of_size(size): _pool(stage, stack, size) for size in n.SIZES}
        yield from _rows(stage, n.LOOK_UP, _each(stage, pools, _look_up))
        for figure, path in ASKED.items():
            yield from _rows(stage, figure, _each(stage, pools, partial(_asked, path)))
        yield from _rows(stage, n.HELD, _each(stage, pools, _held), "MB")
    yield from _rows(stage, n.START, _starts(stage))


def _pool(stage: Stage, stack: ExitStack, size: int) -> BenchPool:
    stage.say(f"starting a pool with {size:,} models")
    pool = BenchPool(stage.folder, f"catalog-{size}", _entries(size), stand_in=True)
    stack.enter_context(pool).load(HOT)
    return pool


def _each(
    stage: Stage, pools: Mapping[str, BenchPool], measure: Callable[[Stage, BenchPool], float]
) -> dict[str, Measure]:
    return {name: partial(measure, stage, pool) for name, pool in pools.items()}


def _look_up(stage: Stage, pool: BenchPool) -> float:
    """Milliseconds of a request to the gateway, which finds the model by its name."""
    ask = Ask(chat_body(HOT, n.PUT_TOGETHER))
    return wrk.requests(pool.port, ask, 1, stage.seconds).median_seconds * 1000


def _asked(path: str, stage: Stage, pool: BenchPool) -> float:
    """Milliseconds of the manager's own for one answer. A plan takes longer than that, for a
    process of the engine's is asked about the options, whatever the size of the catalog."""
    before = usage.processor_seconds(pool.pid)
    outcome = load.run(pool.port, Ask(path=path), 1, stage.seconds)
    return (usage.processor_seconds(pool.pid) - before) * 1000 / outcome.answers


def _held(stage: Stage, pool: BenchPool) -> float:
    """Megabytes, after all that was asked before."""
    return usage.resident(pool.pid) / 1e6


def _starts(stage: Stage) -> dict[str, Measure]:
    """Milliseconds of a first start, with those models in the config file."""
    return {n.of_size(size): partial(_start, stage, size, count()) for size in n.SIZES}


def _start(stage: Stage, size: int, turns: Iterator[int]) -> float:
    pool = BenchPool(stage.folder, f"start-{size}-{next(turns)}", _entries(size), stand_in=True)
    with pool:
        return usage.processor_seconds(pool.pid) * 1000


def _entries(size: int) -> list[Entry]:
    return [fake_entry(f"model-{i}") for i in range(size)]


def _rows(
    stage: Stage, figure: str, measures: Mapping[str, Measure], unit: str = "ms"
) -> Iterator[Row]:
    samples, least = stage.paired(figure, measures), n.of_size(n.SIZES[0])
    for system in samples.of:
        against: list[Against] = [] if system == least else [(least, "ratio")]
        yield samples.row((n.CATALOG, figure), system, unit, against)
