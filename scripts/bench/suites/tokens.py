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
from bench.stage import Against, Samples, Stage, joined

MODEL = "bench"
# Streams at a time, and the tokens of each: one or two seconds of work on two cores.
LOADS = ((1, 96), (8, 48), (PARALLEL, 32))


def run(stage: Stage) -> Iterator[Row]:
    """The three in turn, in every round; half of the rounds with the bare engine started first,
    half with it started last.

    Whose process is started first is up to 7 % faster to its end, whichever it is (five bare
    engines beside each other, two cores): it gets the memory that lies together.

    Raises:
        BenchError: something is missing, did not start, or answered wrongly.
    """
    model = prepare(stage)
    halves: list[Mapping[str, Samples]] = []
    for is_bare_first in (True, False):
        with ExitStack() as stack:
            ports = _start(stage, stack, model, is_bare_first)
            halves.append(dict(_measured(stage, ports)))
    for figure in halves[0]:
        yield from _rows(joined([half[figure] for half in halves]), figure)


def _measured(stage: Stage, ports: Mapping[str, int]) -> Iterator[tuple[str, Samples]]:
    for streams, tokens in LOADS:
        figure = n.at_once(streams)
        systems = {name: partial(_rate, port, streams, tokens) for name, port in ports.items()}
        yield figure, stage.paired(figure, systems)


def _start(
    stage: Stage, stack: ExitStack, model: BenchModel, is_bare_first: bool
) -> Mapping[str, int]:
    order = "first in the bare engine" if is_bare_first else "first in a worker"
    stage.say(f"tokens: loading the model twice, {order}")
    # Everybody asks for the same here; each is to be computed.
    entry = {**model.entry(MODEL), "coalesce": "off"}
    ports = {n.BARE: 0, n.WORKER_PORT: 0, n.GATEWAY: 0}
    for is_bare in (is_bare_first, not is_bare_first):
        if is_bare:
            ports[n.BARE] = stack.enter_context(BareEngine(stage, model)).port
        else:
            pool = stack.enter_context(BenchPool(stage.folder, f"tokens-{is_bare_first}", [entry]))
            ports |= {n.WORKER_PORT: pool.load(MODEL), n.GATEWAY: pool.port}
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
