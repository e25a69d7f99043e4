"""From nothing to the first token, with the file in the page cache; and back to nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from functools import partial

from bench.bare import BareEngine
from bench.figures import BenchError, Row
from bench.messages import first_event_at, token_body
from bench.model import BenchModel, prepare
from bench.pool import BenchPool
from bench.processes import is_listening
from bench.stage import Samples, Stage

SUITE = "cold"
A, B = "bench-a", "bench-b"
TOKENS = 4
FIRST_TOKEN = "first token"
BARE = "bare engine, from its start"
COLD = "gateway, from COLD"
SWAP = "gateway, another model leaves first"
FREE = "port closed"
GONE = "COLD, all processes gone"
PORT_SECONDS = 60.0
EXTRA_ROUNDS = 2


def run(stage: Stage) -> Iterator[Row]:
    """A pool with room for one of two models.

    Raises:
        BenchError: something is missing, did not start, or answered wrongly.
    """
    model = prepare(stage)
    rounds = stage.rounds + EXTRA_ROUNDS
    entries = [model.entry(A), model.entry(B)]
    with BenchPool(stage.folder, "cold", entries, max_concurrent_models=1) as pool:
        pool.load(B)
        systems = {
            BARE: partial(_bare, stage, model),
            SWAP: partial(_swap, pool),
            COLD: partial(_cold, pool),
        }
        yield from _first_token_rows(stage.paired(FIRST_TOKEN, systems, rounds))
        yield from _unload_rows(stage, pool, rounds)


def _bare(stage: Stage, model: BenchModel) -> float:
    with BareEngine(stage, model) as engine:
        return first_event_at(engine.port, token_body(A, TOKENS)) - engine.began


def _cold(pool: BenchPool) -> float:
    for model_id in (A, B):
        pool.unload(model_id)
    return _first_token(pool, A)


def _swap(pool: BenchPool) -> float:
    pool.load(B)
    return _first_token(pool, A)


def _first_token(pool: BenchPool, model_id: str) -> float:
    began = time.perf_counter()
    return first_event_at(pool.port, token_body(model_id, TOKENS)) - began


def _first_token_rows(samples: Samples) -> Iterator[Row]:
    place = (SUITE, FIRST_TOKEN)
    yield samples.row(place, BARE, "s")
    target = "<= 1.0x llama-server's router mode"
    yield samples.row(place, COLD, "s", BARE, target=target)
    yield samples.row(place, SWAP, "s", BARE, target=target)


def _unload_rows(stage: Stage, pool: BenchPool, rounds: int) -> Iterator[Row]:
    free, gone = [], []
    for turn in range(rounds):
        stage.say(f"unload: round {turn + 1} of {rounds}")
        port = pool.load(A)
        closed, cold = _unload(pool, port)
        free.append(closed)
        gone.append(cold)
        if time.monotonic() > stage.deadline:
            break
    yield Row(SUITE, "unload", FREE, "s", tuple(free))
    yield Row(SUITE, "unload", GONE, "s", tuple(gone))


def _unload(pool: BenchPool, port: int) -> tuple[float, float]:
    """Seconds until nobody listens on the port, and until the manager says COLD."""
    cold: list[float] = []
    asking = threading.Thread(target=lambda: cold.append(pool.unload(A)))
    began = time.perf_counter()
    asking.start()
    while is_listening(port):
        if time.perf_counter() - began > PORT_SECONDS:
            raise BenchError("the worker's port stays open after the unload")
        time.sleep(0.002)
    closed = time.perf_counter() - began
    asking.join()
    if not cold:
        raise BenchError("the unload failed")
    return closed, cold[0]
