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
from bench.figures import BenchError, Row
from bench.messages import HOST, chat_body, post_bytes
from bench.pool import BenchPool
from bench.stage import Samples, Stage

SUITE = "concurrency"
CLIENTS = 48
LIMITS = (2, 4, 6, 8, 12, 16, 24, 48)
WORKLOADS = {
    "linear up to 16 slots": {"kind": contended.LINEAR, "knee": 16},
    "collapses beyond 6": {"kind": contended.COLLAPSING, "knee": 6},
    "flat": {"kind": contended.FLAT, "knee": 1, "scale": 0.25},
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
    names = {FIXED: f"limit {best}, the best", ADAPTIVE: "adaptive"}
    for figure, unit, samples, target in (
        (f"requests/s, {name}", "", rates, ">= 0.95x"),
        (f"first token p95, {name}", "ms", _in_order(p95), "<= 1.15x"),
    ):
        shown = Samples({names[model]: values for model, values in samples.of.items()})
        yield shown.row((SUITE, figure), names[FIXED], unit)
        yield shown.row((SUITE, figure), names[ADAPTIVE], unit, names[FIXED], target=target)


def _tried(stage: Stage, pool: BenchPool, name: str) -> dict[int, Figures]:
    found: dict[int, Figures] = {}
    for limit in LIMITS:
        stage.say(f"{name}: limit {limit}")
        pool.ask("PATCH", "/config", {"concurrency_limit": limit})
        found[limit] = measured(pool.port, FIXED, stage.seconds)
    return found


def _in_order(p95: dict[str, list[float]]) -> Samples:
    return Samples({model: tuple(values) for model, values in p95.items()})


def measured(port: int, model: str, seconds: float) -> Figures:
    """A closed loop of clients for so long, and a little before.

    Raises:
        BenchError: an answer was wrong or missing.
    """
    return asyncio.run(_measured(port, post_bytes(port, chat_body(model, 8, stream=True)), seconds))


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
