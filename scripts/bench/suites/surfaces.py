"""Surfaces: what other APIs cost over chat completions, relayed where an engine speaks them and
translated by the worker where it does not."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from bench import apis, engine, turns, usage
from bench import names as n
from bench.figures import BenchError, Kind, Row
from bench.messages import Ask, unchunked
from bench.model import prepare
from bench.pool import BenchPool, fake_entry
from bench.stage import Measure, Samples, Stage
from bench.turns import Line

# By what stands behind the worker, and what that is asked.
ENGINES: Mapping[str, tuple[str, Sequence[str]]] = {
    n.RELAYED: (engine.SPEAKS_ALL, (n.CHAT_API, *n.RELAYED_APIS)),
    n.TRANSLATED: (engine.SPEAKS_CHAT, (n.CHAT_API, *n.TRANSLATED_APIS)),
    n.TRANSLATED_TOGETHER: (engine.CHAT_TOGETHER, (n.CHAT_API, *n.TOGETHER_APIS)),
}
# An engine that computes, and the length of its streams.
REAL = "bench"
REAL_TOKENS = 32
# Streams of each API in a round, in turns; what else a machine does takes time and gives none.
TURNS, REAL_TURNS = 3, 4
_TOLD = re.compile(rb'"(?:completion_tokens|output_tokens|eval_count|predicted_n)": ?(\d+)')


@dataclass(frozen=True)
class Place:
    """Where to ask, and whose processor time it takes."""

    port: int
    pids: tuple[int, ...]


def run(stage: Stage) -> Iterator[Row]:
    """Every API in turn with chat completions, in every round, at the worker's port and through the
    gateway.

    Raises:
        BenchError: something did not start, or answered wrongly.
    """
    with ExitStack() as stack:
        pool = _start(stage, stack)
        for kind, (model, asked) in ENGINES.items():
            front = pool.front_pid(model)
            places = {
                n.WORKER_PORT: Place(pool.worker_port(model), (front,)),
                n.GATEWAY: Place(pool.port, (pool.pid, front)),
            }
            for way, place in places.items():
                yield from _requests(stage, (kind, way), place, model, asked)
                if kind == n.TRANSLATED:
                    yield from _streams(stage, way, place, model)
    yield from _real_streams(stage)


def _start(stage: Stage, stack: ExitStack) -> BenchPool:
    stage.say("starting a pool with an engine of each kind")
    plugins = stage.folder / "plugin"
    engine.plug_in(plugins)
    models = [model for model, _ in ENGINES.values()]
    entries = [fake_entry(model) | {"engine": model, "coalesce": "off"} for model in models]
    pool = stack.enter_context(BenchPool(stage.folder, n.SURFACES, entries, search=[plugins]))
    for model in models:
        pool.load(model)
    return pool


def _requests(
    stage: Stage, at: tuple[str, str], place: Place, model: str, asked: Sequence[str]
) -> Iterator[Row]:
    lines = {api: (place.port, apis.whole(api, model)) for api in asked}
    spent: dict[str, list[float]] = {api: [] for api in asked}

    def measure() -> Mapping[str, float]:
        found = turns.run(lines, place.pids, stage.seconds)
        for api, each in found.items():
            spent[api].append(each.spent_seconds * 1000)
        return {api: each.median_seconds * 1000 for api, each in found.items()}

    turns.run(lines, (), 0)
    medians = stage.together(n.of_request(*at), measure)
    costs = Samples({api: tuple(each) for api, each in spent.items()}, medians.conditions)
    yield from _rows(medians, n.of_request(*at), "ms")
    yield from _rows(costs, n.spent_on_request(*at), "ms")


def _streams(stage: Stage, way: str, place: Place, model: str) -> Iterator[Row]:
    asked = {api: apis.stream(api, model, n.CHUNKS) for api in (n.CHAT_API, *n.STREAMED_APIS)}
    figure, systems = (
        n.spent_on_token(way),
        {a: partial(_per_token, place, asked[a]) for a in asked},
    )
    samples = stage.together(figure, partial(_in_turns, systems, TURNS, min))
    yield from _rows(samples, figure, "µs")


def _per_token(place: Place, ask: Ask) -> float:
    with Line(place.port, ask) as line:
        before = sum(map(usage.processor_seconds, place.pids))
        line.answer()
        return (sum(map(usage.processor_seconds, place.pids)) - before) / n.CHUNKS * 1e6


def _in_turns(
    systems: Mapping[str, Measure], turns: int, best: Callable[[list[float]], float]
) -> Mapping[str, float]:
    """There and back, the best of each."""
    found: dict[str, list[float]] = {name: [] for name in systems}
    for turn in range(turns):
        for name in list(systems)[:: 1 if turn % 2 == 0 else -1]:
            found[name].append(systems[name]())
    return {name: best(values) for name, values in found.items()}


def _real_streams(stage: Stage) -> Iterator[Row]:
    """Of llama.cpp, one at a time, at the worker's port."""
    entry = {**prepare(stage).entry(REAL), "coalesce": "off"}
    with BenchPool(stage.folder, "real", [entry]) as pool:
        stage.say("loading the model")
        port = pool.load(REAL)
        streamed = (n.CHAT_API, *n.CHATTED_APIS)
        asked = {api: apis.stream(api, REAL, REAL_TOKENS, temperature=0) for api in streamed}
        for ask in asked.values():  # fills the prompt caches
            _rate(port, ask)
        figure, systems = n.at_once(1), {api: partial(_rate, port, asked[api]) for api in asked}
        samples = stage.together(figure, partial(_in_turns, systems, REAL_TURNS, max))
        yield from _rows(samples, figure, "/s", "ratio")


def _rate(port: int, ask: Ask) -> float:
    with Line(port, ask) as line:
        began = time.perf_counter()
        told = unchunked(line.answer()[-4096:])
        seconds = time.perf_counter() - began
    tokens = max(map(int, _TOLD.findall(told)), default=0)
    if tokens != REAL_TOKENS:
        raise BenchError(f"{ask.path}: the engine stopped by itself after {tokens} tokens")
    return REAL_TOKENS / seconds


def _rows(samples: Samples, figure: str, unit: str, kind: Kind = "added") -> Iterator[Row]:
    for api in samples.of:
        against = [] if api == n.CHAT_API else [(n.CHAT_API, kind)]
        yield samples.row((n.SURFACES, figure), api, unit, against)
