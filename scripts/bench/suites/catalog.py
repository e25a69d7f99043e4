"""The size of the catalog: what a look-up and a plan of admission cost among more models."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial

from bench import names as n
from bench import wrk
from bench.figures import Row
from bench.messages import Ask, chat_body
from bench.pool import BenchPool, fake_entry
from bench.stage import Against, Stage

HOT, COLD = "model-7", "model-3"


def run(stage: Stage) -> Iterator[Row]:
    """The same pool with ten models, a hundred, a thousand; one of them is loaded.

    Raises:
        BenchError: something did not start, or answered wrongly.
    """
    with ExitStack() as stack:
        pools = {n.of_size(size): _pool(stage, stack, size) for size in n.SIZES}
        asks = {
            n.LOOK_UP: Ask(chat_body(HOT, n.PUT_TOGETHER)),
            n.ADMISSION: Ask(path=f"/models/{COLD}/plan"),
        }
        for figure, ask in asks.items():
            yield from _rows(stage, figure, _measures(stage, pools, ask))


def _pool(stage: Stage, stack: ExitStack, size: int) -> BenchPool:
    stage.say(f"starting a pool with {size:,} models")
    entries = [fake_entry(f"model-{i}") for i in range(size)]
    pool = BenchPool(stage.folder, f"catalog-{size}", entries, stand_in=True)
    stack.enter_context(pool).load(HOT)
    return pool


def _measures(
    stage: Stage, pools: Mapping[str, BenchPool], ask: Ask
) -> dict[str, Callable[[], float]]:
    def measure(port: int) -> float:
        return wrk.requests(port, ask, 1, stage.seconds).median_seconds * 1000

    return {name: partial(measure, pool.port) for name, pool in pools.items()}


def _rows(stage: Stage, figure: str, measures: Mapping[str, Callable[[], float]]) -> Iterator[Row]:
    samples, least = stage.paired(figure, measures), n.of_size(n.SIZES[0])
    for system in samples.of:
        against: list[Against] = [] if system == least else [(least, "ratio")]
        yield samples.row((n.CATALOG, figure), system, "ms", against)
