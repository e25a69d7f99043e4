"""The size of the catalog: what a look-up and a plan of admission cost among more models."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial

from bench import load, usage, wrk
from bench import names as n
from bench.figures import Row
from bench.messages import Ask, chat_body
from bench.pool import BenchPool, fake_entry
from bench.stage import Against, Measure, Stage

HOT, COLD = "model-7", "model-3"


def run(stage: Stage) -> Iterator[Row]:
    """The same pool with ten models, a hundred, a thousand; one of them is loaded.

    Raises:
        BenchError: something did not start, or answered wrongly.
    """
    with ExitStack() as stack:
        pools = {n.of_size(size): _pool(stage, stack, size) for size in n.SIZES}
        yield from _rows(stage, n.LOOK_UP, _each(stage, pools, _look_up))
        yield from _rows(stage, n.ADMISSION, _each(stage, pools, _admission))


def _pool(stage: Stage, stack: ExitStack, size: int) -> BenchPool:
    stage.say(f"starting a pool with {size:,} models")
    entries = [fake_entry(f"model-{i}") for i in range(size)]
    pool = BenchPool(stage.folder, f"catalog-{size}", entries, stand_in=True)
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


def _admission(stage: Stage, pool: BenchPool) -> float:
    """Milliseconds of the manager's own for one plan: it takes longer than that, for a process of
    the engine's is asked about the options, whatever the size of the catalog."""
    before = usage.processor_seconds(pool.pid)
    outcome = load.run(pool.port, Ask(path=f"/models/{COLD}/plan"), 1, stage.seconds)
    return (usage.processor_seconds(pool.pid) - before) * 1000 / outcome.answers


def _rows(stage: Stage, figure: str, measures: Mapping[str, Measure]) -> Iterator[Row]:
    samples, least = stage.paired(figure, measures), n.of_size(n.SIZES[0])
    for system in samples.of:
        against: list[Against] = [] if system == least else [(least, "ratio")]
        yield samples.row((n.CATALOG, figure), system, "ms", against)
