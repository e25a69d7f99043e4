"""From nothing to the first token, with the file in the page cache; and back to nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

from bench import names as n
from bench import native, peers
from bench.bare import BareEngine
from bench.figures import BenchError, Row
from bench.messages import first_event_at, token_body
from bench.model import ENGINE, BenchModel, prepare
from bench.peers.contract import PAUSE_SECONDS, TOKENS, A, B, Peer
from bench.pool import BenchPool
from bench.processes import is_listening
from bench.stage import Against, Measure, Samples, Stage

PORT_SECONDS = 60.0
EXTRA_ROUNDS = 2
NATIVE_ENGINE = "llama-server"
# Whom each pool is held against: those whose engine is its own, and who users have instead.
RIVALS = {
    n.GATEWAY: (n.BARE, n.ROUTER, n.LLAMA_CPP_PYTHON),
    n.NATIVE_GATEWAY: (n.NATIVE_BARE, n.ROUTER, n.BARE),
    n.ROUTER: (n.NATIVE_BARE, n.BARE),
}


def run(stage: Stage) -> Iterator[Row]:
    """A pool, another whose engine is llama-server, and whichever peers there are, each with room
    for one of two models.

    Raises:
        BenchError: something is missing, did not start, or answered wrongly.
    """
    model = prepare(stage)
    rounds = stage.rounds + EXTRA_ROUNDS
    with ExitStack() as stack:
        pools = _pools(stage, model, stack)
        others = {
            name: stack.enter_context(start(model))
            for name, start in peers.installed(stage).items()
        }
        yield from _first_token_rows(stage, model, pools, others, rounds)
        yield from _swap_rows(stage, model, pools, others, rounds)
        yield from _unload_rows(stage, pools[n.GATEWAY], rounds)


def _pools(stage: Stage, model: BenchModel, stack: ExitStack) -> dict[str, BenchPool]:
    """Each with B loaded; a pool of its own for each engine, as a spare worker is of one."""

    def started(folder: str, engine: str, **settings: Any) -> BenchPool:
        entries = [model.entry(A, engine), model.entry(B, engine)]
        pool = BenchPool(stage.folder, folder, entries, max_concurrent_models=1, **settings)
        stack.enter_context(pool).load(B)
        return pool

    pools = {n.GATEWAY: started("cold", ENGINE)}
    if (binary := native.binary()) is not None:
        pools[n.NATIVE_GATEWAY] = started("cold-native", NATIVE_ENGINE, llama_server=str(binary))
    return pools


def _first_token_rows(
    stage: Stage,
    model: BenchModel,
    pools: dict[str, BenchPool],
    others: dict[str, Peer],
    rounds: int,
) -> Iterator[Row]:
    systems: dict[str, Measure] = {
        n.BARE: partial(_bare_start, stage, model),
        **{name: partial(_cold, pool) for name, pool in pools.items()},
        **{name: peer.first_token for name, peer in others.items()},
    }
    yield from _rows(stage.paired(n.FIRST_TOKEN, systems, rounds), n.FIRST_TOKEN)


def _swap_rows(
    stage: Stage,
    model: BenchModel,
    pools: dict[str, BenchPool],
    others: dict[str, Peer],
    rounds: int,
) -> Iterator[Row]:
    systems: dict[str, Measure] = {
        n.BARE: partial(_bare_swap, stage, model),
        **{name: partial(_swap, pool) for name, pool in pools.items()},
        **{name: peer.swap for name, peer in others.items()},
    }
    yield from _rows(stage.paired(n.SWAP, systems, rounds), n.SWAP)


def _rows(samples: Samples, figure: str) -> Iterator[Row]:
    """Each against its rivals; whoever has none of its own, against the bare engine."""
    for system in samples.of:
        rivals = RIVALS.get(system, (n.BARE,))
        against: list[Against] = [(name, "ratio") for name in rivals if name != system]
        is_ours = system in (n.GATEWAY, n.NATIVE_GATEWAY)
        yield samples.row((n.COLD, figure), system, "s", against, ours=is_ours)


def _bare_start(stage: Stage, model: BenchModel) -> float:
    """From the start of its process."""
    time.sleep(PAUSE_SECONDS)
    with BareEngine(stage, model) as engine:
        return first_event_at(engine.port, token_body(A, TOKENS)) - engine.began


def _bare_swap(stage: Stage, model: BenchModel) -> float:
    """From the signal that ends one engine; the other one is started once that is gone."""
    with BareEngine(stage, model) as leaving:
        first_event_at(leaving.port, token_body(B, TOKENS))
        time.sleep(PAUSE_SECONDS)
        began = time.perf_counter()
        leaving.end()
        with BareEngine(stage, model) as engine:
            return first_event_at(engine.port, token_body(A, TOKENS)) - began


def _cold(pool: BenchPool) -> float:
    for model_id in (A, B):
        pool.unload(model_id)
    time.sleep(PAUSE_SECONDS)
    return _first_token(pool, A)


def _swap(pool: BenchPool) -> float:
    """B is loaded in place of A, and has answered."""
    pool.load(B)
    first_event_at(pool.port, token_body(B, TOKENS))
    time.sleep(PAUSE_SECONDS)
    return _first_token(pool, A)


def _first_token(pool: BenchPool, model_id: str) -> float:
    began = time.perf_counter()
    return first_event_at(pool.port, token_body(model_id, TOKENS)) - began


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
    yield Row(n.COLD, n.UNLOAD, n.PORT_CLOSED, "s", tuple(free))
    yield Row(n.COLD, n.UNLOAD, n.ALL_GONE, "s", tuple(gone))


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
