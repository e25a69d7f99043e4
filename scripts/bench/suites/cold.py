"""From nothing to the first token, with the file in the page cache; and back to nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

from bench import names as n
from bench import peers
from bench.bare import BareEngine
from bench.figures import BenchError, Row
from bench.messages import first_event_at, token_body
from bench.model import BenchModel, prepare
from bench.peers.contract import TOKENS, A, B, Peer
from bench.pool import BenchPool
from bench.processes import is_listening
from bench.stage import Against, Measure, Samples, Stage

PORT_SECONDS = 60.0
EXTRA_ROUNDS = 2
# As in use, a model was there for some time before another is wanted: what has just been loaded is
# no victim for as long as its load took, and a spare worker is made a second after a start.
PAUSE_SECONDS = 2.0


def run(stage: Stage) -> Iterator[Row]:
    """A pool, and whichever peers there are, each with room for one of two models.

    Raises:
        BenchError: something is missing, did not start, or answered wrongly.
    """
    model = prepare(stage)
    rounds = stage.rounds + EXTRA_ROUNDS
    entries = [model.entry(A), model.entry(B)]
    with ExitStack() as stack:
        pool = BenchPool(stage.folder, "cold", entries, max_concurrent_models=1)
        stack.enter_context(pool).load(B)
        others = {
            name: stack.enter_context(start(model))
            for name, start in peers.installed(stage).items()
        }
        yield from _first_token_rows(stage, model, pool, others, rounds)
        yield from _swap_rows(stage, model, pool, others, rounds)
        yield from _unload_rows(stage, pool, rounds)


def _first_token_rows(
    stage: Stage, model: BenchModel, pool: BenchPool, others: dict[str, Peer], rounds: int
) -> Iterator[Row]:
    systems: dict[str, Measure] = {
        n.BARE: partial(_bare_start, stage, model),
        n.GATEWAY: partial(_cold, pool),
        **{name: peer.first_token for name, peer in others.items()},
    }
    yield from _rows(stage.paired(n.FIRST_TOKEN, systems, rounds), n.FIRST_TOKEN)


def _swap_rows(
    stage: Stage, model: BenchModel, pool: BenchPool, others: dict[str, Peer], rounds: int
) -> Iterator[Row]:
    systems: dict[str, Measure] = {
        n.BARE: partial(_bare_swap, stage, model),
        n.GATEWAY: partial(_swap, pool),
        **{name: peer.swap for name, peer in others.items()},
    }
    yield from _rows(stage.paired(n.SWAP, systems, rounds), n.SWAP)


def _rows(samples: Samples, figure: str) -> Iterator[Row]:
    """The pool against everybody else, everybody else against the bare engine."""
    place, rivals = (n.COLD, figure), [name for name in samples.of if name != n.GATEWAY]
    for system in samples.of:
        others = rivals if system == n.GATEWAY else [n.BARE]
        against: list[Against] = [(name, "ratio") for name in others if name != system]
        yield samples.row(place, system, "s", against, ours=system == n.GATEWAY)


def _bare_start(stage: Stage, model: BenchModel) -> float:
    """From the start of its process."""
    with BareEngine(stage, model) as engine:
        return first_event_at(engine.port, token_body(A, TOKENS)) - engine.began


def _bare_swap(stage: Stage, model: BenchModel) -> float:
    """From the signal that ends one engine; the other one is started once that is gone."""
    with BareEngine(stage, model) as leaving:
        first_event_at(leaving.port, token_body(B, TOKENS))
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
