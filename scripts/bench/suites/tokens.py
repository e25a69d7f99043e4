"""Tokens a second: through the worker's port, through the gateway, and from the bare engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial

from bench import load
from bench import names as n
from bench.bare import BareEngine
from bench.figures import BenchError, Row
from bench.messages import Ask, token_body
from bench.model import PARALLEL, BenchModel, prepare
from bench.pool import BenchPool
from bench.stage import Against, Samples, Stage

MODEL = "bench"
# Streams at a time, and the tokens of each: one or two seconds of work on two cores.
LOADS = ((1, 96), (8, 48), (PARALLEL, 32))
# A ratio near one needs more pairs than one that is far from it.
PAIRS_PER_ROUND = 2


def run(stage: Stage) -> Iterator[Row]:
    """The three in turn, in every round.

    Raises:
        BenchError: something is missing, did not start, or answered wrongly.
    """
    model = prepare(stage)
    with ExitStack() as stack:
        ports = _start(stage, stack, model)
        for streams, tokens in LOADS:
            figure = n.at_once(streams)
            systems = {name: partial(_rate, port, streams, tokens) for name, port in ports.items()}
            samples = stage.paired(figure, systems, stage.rounds * PAIRS_PER_ROUND)
            yield from _rows(samples, figure)


def _start(stage: Stage, stack: ExitStack, model: BenchModel) -> Mapping[str, int]:
    stage.say("tokens: loading the model twice, in the bare engine and in a worker")
    bare = stack.enter_context(BareEngine(stage, model))
    pool = stack.enter_context(BenchPool(stage.folder, "tokens", [model.entry(MODEL)]))
    ports = {n.BARE: bare.port, n.WORKER_PORT: pool.load(MODEL), n.GATEWAY: pool.port}
    for port in ports.values():  # fills the prompt caches of every slot
        load.run(port, Ask(token_body(MODEL, 2)), PARALLEL, 0)
    return ports


def _rate(port: int, streams: int, tokens: int) -> float:
    # One answer each, however long: llama.cpp's server closes connections that are used again.
    outcome = load.run(port, Ask(token_body(MODEL, tokens)), streams, 0)
    if outcome.tokens != outcome.answers * tokens:
        wrong = f"{outcome.tokens} tokens in {outcome.answers} streams of {tokens}"
        raise BenchError(f"the engine stopped by itself: {wrong}")
    return outcome.tokens_per_second


def _rows(samples: Samples, figure: str) -> Iterator[Row]:
    for system in samples.of:
        against: list[Against] = [] if system == n.BARE else [(n.BARE, "ratio")]
        yield samples.row((n.TOKENS, figure), system, "/s", against, ours=system != n.BARE)
