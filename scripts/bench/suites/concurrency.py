"""The adaptive limit of a worker against the best fixed one, on three engines that differ.

More clients than any engine serves well ask without a pause, through gateway and worker. First
every fixed limit is tried once, while the adaptive one settles beside; then the best of the fixed
ones and the adaptive one are measured in pairs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from bench import contended
from bench import names as n
from bench.figures import BenchError, Row
from bench.messages import HOST, Ask, chat_body
from bench.pool import BenchPool
from bench.stage import Samples, Stage

CLIENTS = 48
LIMITS = (2, 4, 6, 8, 12, 16, 24, 48)
WORKLOADS = {
    n.LINEAR: {"kind": contended.LINEAR, "knee": 16},
    n.COLLAPSING: {"kind": contended.COLLAPSING, "knee": 6},
    n.FLAT: {"kind": contended.FLAT, "knee": 1, "scale": 0.25},
}
FIXED, ADAPTIVE = "fixed", "adaptive"
SETTLE_SECONDS, QUICK_SETTLE_SECONDS = 60.0, 2.0
# The first answers come from an engine that was empty.
LEAD_SECONDS = 1.0
END = b"\r\n0\r\n\r\n"


@dataclass(frozen=True)
class Figures:
    """Answers in a second, and within how many seconds 95 of 100 had their first token."""

    per_second: float
    first_token_p95: float


def run(stage: Stage) -> Iterator[Row]:
    """Every workload on a pool of its own.

    Raises:
        BenchError: something did not start, or answered wrongly.
    """
    plugin = stage.folder / "plugin-contended"
    contended.plug_in(plugin)
    for number, (name, options) in enumerate(WORKLOADS.items()):
        entry = {"engine": contended.NAME, "source": "-", "options": options}
        models = [
            {"model_id": FIXED, **entry},
            {"model_id": ADAPTIVE, "concurrency_limit": "adaptive", **entry},
        ]
        pool = BenchPool(stage.folder, f"limits{number}", models, search=[plugin])
        with pool:
            pool.load(FIXED)
            pool.load(ADAPTIVE)
            yield from _workload(stage, pool, name)


def _workload(stage: Stage, pool: BenchPool, name: str) -> Iterator[Row]:
    settle = QUICK_SETTLE_SECONDS if stage.quick else SETTLE_SECONDS
    stage.say(f"{name}: adaptive, {settle:.0f} s to settle")
    with ThreadPoolExecutor(1) as beside:  # on a worker of its own, which has an engine of its own
        settling = beside.submit(measured, pool.port, ADAPTIVE, settle)
        found = _tried(stage, pool, name)
        settling.result()
    best = max(LIMITS, key=lambda limit: found[limit].per_second)
    pool.ask("PATCH", "/config", {"concurrency_limit": best})
    p95: dict[str, list[float]] = {FIXED: [], ADAPTIVE: []}

    def rate(model: str) -> float:
        figures = measured(pool.port, model, 2 * stage.seconds)
        p95[model].append(1000 * figures.first_token_p95)
        return figures.per_second

    rates = stage.paired(name, {FIXED: lambda: rate(FIXED), ADAPTIVE: lambda: rate(ADAPTIVE)})
    settled = pool.ask("GET", f"/models/{ADAPTIVE}")["concurrency"]["limit"]
    tried = ", ".join(f"{limit}: {f.per_second:.1f}" for limit, f in found.items())
    stage.note(f"{name}: adaptive ended at {settled}; requests/s by fixed limit: {tried}")
    first_tokens = Samples({m: tuple(values) for m, values in p95.items()}, rates.conditions)
    names = {FIXED: n.BEST_FIXED, ADAPTIVE: n.ADAPTIVE}
    for figure, unit, samples in (
        (n.served(name), "/s", rates),
        (n.first_tokens(name), "ms", first_tokens),
    ):
        shown = Samples({names[m]: values for m, values in samples.of.items()}, samples.conditions)
        place = (n.CONCURRENCY, figure)
        yield shown.row(place, n.BEST_FIXED, unit, ours=False)
        yield shown.row(place, n.ADAPTIVE, unit, [(n.BEST_FIXED, "ratio")])


def _tried(stage: Stage, pool: BenchPool, name: str) -> dict[int, Figures]:
    found: dict[int, Figures] = {}
    for limit in LIMITS:
        stage.say(f"{name}: limit {limit}")
        pool.ask("PATCH", "/config", {"concurrency_limit": limit})
        found[limit] = measured(pool.port, FIXED, stage.seconds)
    return found


def measured(port: int, model: str, seconds: float) -> Figures:
    """A closed loop of clients for so long, and a little before.

    Raises:
        BenchError: an answer was wrong or missing.
    """
    request = Ask(chat_body(model, 8, stream=True)).on(port)
    return asyncio.run(_measured(port, request, seconds))


async def _measured(port: int, request: bytes, seconds: float) -> Figures:
    begin = time.perf_counter() + LEAD_SECONDS
    end = begin + seconds
    waits: list[float] = []
    work = [_client(port, request, begin, waits) for _ in range(CLIENTS)]
    clients = [asyncio.ensure_future(each) for each in work]
    done, pending = await asyncio.wait(clients, timeout=end - time.perf_counter())
    for client in pending:  # who still waits leaves
        client.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    for client in done:
        raise BenchError(f"no answer on port {port}: {client.exception()!r}")
    waits.sort()
    return Figures(len(waits) / seconds, waits[int(0.95 * len(waits))] if waits else seconds)


async def _client(port: int, request: bytes, begin: float, waits: list[float]) -> None:
    """Asks for ever, and notes how long the first token took of every answer that ends after
    ``begin``."""
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        while True:
            asked = time.perf_counter()
            writer.write(request)
            data = await reader.readuntil(b"data: ")
            first = time.perf_counter() - asked
            data += await reader.readuntil(END)
            if not data.startswith(b"HTTP/1.1 200 "):
                raise BenchError(f"a wrong answer on port {port}: {data[:200]!r}")
            if time.perf_counter() >= begin:
                waits.append(first)
    finally:
        writer.close()
