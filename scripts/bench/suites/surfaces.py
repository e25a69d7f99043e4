"""Surfaces: what other APIs cost over chat completions, relayed where an engine speaks them and
translated by the worker where it does not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from bench import apis, engine, turns, usage
from bench import names as n
from bench.figures import Row
from bench.messages import Ask
from bench.pool import BenchPool, fake_entry
from bench.stage import Samples, Stage
from bench.turns import Line

# What each engine is asked; an API that it does not speak is translated.
RELAYED = (
    *(n.CHAT_API, n.TEXT_API, n.MESSAGES_API, n.EMBEDDINGS_API, n.RERANK_API),
    *(n.NATIVE_API, n.INFILL_API, n.TOKENIZE_API),
)
TOGETHER = (
    *(n.CHAT_API, n.MESSAGES_API, n.RESPONSES_API, n.KEPT_API),
    *(n.OLLAMA_CHAT_API, n.OLLAMA_GENERATE_API, n.FIM_API, n.OIP_API),
)
TRANSLATED = (*TOGETHER, n.COUNT_API, n.OLLAMA_EMBED_API, n.TEI_API, n.COHERE_API, n.SCORE_API)
STREAMED = (
    *(n.CHAT_API, n.MESSAGES_API, n.RESPONSES_API, n.OLLAMA_CHAT_API, n.OLLAMA_GENERATE_API),
    *(n.FIM_API, n.OIP_API),
)
KINDS: Mapping[str, tuple[str, Sequence[str]]] = {
    n.RELAYED: (engine.SPEAKS_ALL, RELAYED),
    n.TRANSLATED: (engine.SPEAKS_CHAT, TRANSLATED),
    n.TRANSLATED_TOGETHER: (engine.CHAT_TOGETHER, TOGETHER),
}


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
        for kind, (model, asked) in KINDS.items():
            front = pool.front_pid(model)
            places = {
                n.WORKER_PORT: Place(pool.worker_port(model), (front,)),
                n.GATEWAY: Place(pool.port, (pool.pid, front)),
            }
            for way, place in places.items():
                yield from _requests(stage, (kind, way), place, model, asked)
        yield from _streams(stage, pool)


def _start(stage: Stage, stack: ExitStack) -> BenchPool:
    stage.say("starting a pool with an engine of each kind")
    plugins = stage.folder / "plugin"
    engine.plug_in(plugins)
    models = [model for model, _ in KINDS.values()]
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


def _streams(stage: Stage, pool: BenchPool) -> Iterator[Row]:
    model = engine.SPEAKS_CHAT
    port, front = pool.worker_port(model), pool.front_pid(model)
    asked = {api: apis.stream(api, model, n.CHUNKS) for api in STREAMED}
    systems = {api: lambda ask=ask: _per_token(port, ask, front) for api, ask in asked.items()}
    yield from _rows(stage.paired(n.PER_TOKEN, systems), n.PER_TOKEN, "µs")


def _per_token(port: int, ask: Ask, pid: int) -> float:
    with Line(port, ask) as line:
        before = usage.processor_seconds(pid)
        line.answer()
        return (usage.processor_seconds(pid) - before) / n.CHUNKS * 1e6


def _rows(samples: Samples, figure: str, unit: str) -> Iterator[Row]:
    for api in samples.of:
        own = api != n.CHAT_API
        yield samples.row((n.SURFACES, figure), api, unit, [(n.CHAT_API, "added")] if own else [])
