"""Catalog entries as candidates, and the table that follows catalog, events and live load."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from modelpool.app import running
from modelpool.catalog.model import Model
from modelpool.catalog.profiles import Conditions, Level, Profile
from modelpool.config import PoolConfig
from modelpool.measure.statistics import Spread
from modelpool.pool.admission import Requirements
from modelpool.pool.capacity import Space
from modelpool.pool.states import State
from modelpool.routing.candidate import prior_quality
from modelpool.routing.decision import decide
from modelpool.routing.entries import (
    Use,
    bits_of_weights,
    candidate_of,
    capabilities_of,
    made_for,
    sizes,
)
from modelpool.routing.features import features_of
from modelpool.routing.pool_table import PoolTable, live_of, table_of_pool
from modelpool.routing.table import table_of

HELLO = features_of({"prompt": "Hello!"})


def entry(name: str, **fields: Any) -> Model:
    return Model(name, fields.pop("engine", "llama.cpp"), f"/models/{name}", **fields)


SIZES: dict[str, tuple[float | None, float | None]] = {
    "llama-3-8b": (8.0, None),
    "Qwen/Qwen2.5-0.5B-Instruct-GGUF": (0.5, None),
    "qwen2.5-coder:7b": (7.0, None),
    "mixtral-8x7b": (56.0, 56 * 0.28),
    "qwen3-30b-a3b": (30.0, 3.0),
    "smollm-135m": (0.135, None),
    "gpt-4": (None, None),
    "web-b2b": (None, None),
}


@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_told_by_names(name: str) -> None:
    assert sizes(entry(name)) == SIZES[name]


def test_what_files_say_is_before_what_names_say() -> None:
    assert sizes(entry("my-70b", facts={"parameter_count": 8_000_000_000})) == (8.0, None)


BITS = {
    "Q4_K_M": 4.5,
    "q8_0": 8.0,
    "IQ2_XS": 2.5,
    "BF16": 16.0,
    "F32": 32.0,
    "4bit": 4.5,
    "int8": 8.0,
    "mystery": None,
    None: None,
}


@pytest.mark.parametrize("word", BITS)
def test_bits_are_told_by_quantisation(word: str | None) -> None:
    assert bits_of_weights(word) == BITS[word]


def test_capabilities_are_those_that_can_be_asked_for() -> None:
    assert {"chat", "completion"} <= capabilities_of(entry("a"))
    assert "chat" in capabilities_of(entry("a", capabilities=("tools",)))
    assert capabilities_of(entry("a", capabilities=("embeddings",))) == {"embeddings"}
    assert "chat" not in capabilities_of(entry("a", denied_capabilities=("chat",)))


def test_what_a_model_is_made_for() -> None:
    assert made_for(entry("qwen2.5-coder:7b")) == {"code"}
    assert made_for(entry("x", tags=("math",))) == {"math"}
    assert made_for(entry("x", model_type="code")) == {"code"}
    assert made_for(entry("x", capabilities=("chat", "thinking"))) == {"reasoning"}
    assert made_for(entry("llama-3-8b")) == frozenset()


def spread(value: float) -> Spread:
    return Spread.of([value])


PROFILE = Profile(
    0.0,
    "chat",
    (
        Level(
            1,
            first_token_ms=spread(90),
            prompt_per_second=spread(400),
            output_per_second=spread(40),
        ),
    ),
    Conditions(),
    load_seconds=3.0,
)


def test_a_profile_gives_speeds_and_use_gives_reliability() -> None:
    found = candidate_of(entry("a-8b"), PROFILE, Use(100, 20, 9.0))
    assert (found.first_token_ms, found.prompt_per_second) == (90, 400)
    assert (found.output_per_second, found.load_seconds) == (40, 3.0)
    assert found.latency_ms is None
    assert found.reliability is not None
    assert 0.8 < found.reliability < 0.85
    without = candidate_of(entry("a-8b"), None, Use(100, 0, 9.0))
    assert without.latency_ms == 9000
    few = candidate_of(entry("a-8b"), None, Use(3, 3, 9.0))
    assert (few.latency_ms, few.reliability) == (None, None)


def test_prices_and_declared_quality_come_from_metadata() -> None:
    prices = {"input": 2.5, "output": 10.0}
    metadata = {"prices": prices, "quality": 0.9, "skills": {"math": 0.4, "reasoning": 7}}
    found = candidate_of(entry("openai:gpt-4o", served_by="openai", metadata=metadata))
    assert (found.input_price, found.output_price) == (2.5, 10.0)
    assert (found.is_remote, found.engine, found.memory_bytes) == (True, "openai", None)
    assert prior_quality(found) == 0.9
    assert found.skills == {"math": 0.4}


@dataclass
class Copy:
    state: State = State.HOT
    reason: str = ""
    in_flight: int = 0
    waiting: int = 0
    limit: int | None = 4
    load_seconds: float | None = None


def test_copies_are_told_together() -> None:
    copies: Any = [Copy(in_flight=2), Copy(State.COOLING, in_flight=1, waiting=1)]
    found = live_of(copies, False)
    assert (found.is_hot, found.in_flight, found.queued, found.places) == (True, 3, 1, 8)
    failed: Any = [Copy(State.FAILED, "it ran out of memory")]
    assert live_of(failed, True).why_unavailable == "it failed: it ran out of memory"
    both: Any = [*failed, Copy()]
    assert live_of(both, True).why_unavailable == ""
    warming: Any = [Copy(State.WARMING, limit=None)]
    assert live_of(warming, False).fits_now


def room(now: int, ever: int = 20_000_000_000) -> Any:
    """So many bytes of the host."""
    return SimpleNamespace(now=Space(9, now, now, {}), could_ever=Space(9, ever, ever, {}))


@dataclass
class World:
    """A catalog, a pool and what was measured, as far as the table asks for them."""

    models: dict[str, Model]
    edition: int = 1
    copies: dict[str, list[Copy]] = field(default_factory=dict)
    use: dict[str, tuple[int, int, float]] = field(default_factory=dict)
    profile: dict[str, Profile] = field(default_factory=dict)
    room: Any = field(default_factory=lambda: room(10_000_000_000))
    peaks: dict[str, int] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    outside: set[str] = field(default_factory=set)

    def __iter__(self) -> Any:
        return iter(self.models.values())

    @property
    def awake_models(self) -> set[str]:
        return set(self.copies)

    def has(self, name: str) -> bool:
        return name in self.models and name not in self.outside

    def requirements(self, name: str) -> Requirements:
        size = self.peaks.get(name) or self.models[name].size_bytes or 0
        return Requirements(name, size)

    def statuses(self, name: str | None = None) -> Any:
        return self.copies[name or ""]

    def profiles(self, name: str) -> Any:
        self.asked.append(name)
        return (self.profile[name],) if name in self.profile else ()

    def counts(self, name: str) -> tuple[int, int, float]:
        return self.use.get(name, (0, 0, 0.0))

    def table(self) -> PoolTable:
        return PoolTable(self, self, self, self, lambda: self.room)


def happened(name: str) -> Any:
    return SimpleNamespace(data={"model_id": name})


@pytest.fixture
def world() -> World:
    sized = {"a-8b": 5, "b-70b": 15, "c-400b": 90}
    return World({n: entry(n, size_bytes=gb * 1_000_000_000) for n, gb in sized.items()})


def test_a_model_that_never_fits_is_told_so(world: World) -> None:
    found = decide(HELLO, world.table().current())
    assert found.excluded["c-400b"] == ("it needs 90,000 MB, more than the 20,000 there are",)
    assert found.model_id == "a-8b"


def test_a_load_an_unload_and_load_are_followed(world: World) -> None:
    pool = world.table()
    assert not pool.current().hot
    world.copies["b-70b"] = [Copy()]
    table = pool.current()
    row = table.rows["b-70b"]
    assert table.hot == 1 << row
    world.copies["b-70b"][0].in_flight = 3
    assert pool.current().candidates[row].in_flight == 3
    del world.copies["b-70b"]
    assert not pool.current().hot


def test_memory_that_is_taken_or_free_is_noticed_by_events(world: World) -> None:
    pool = world.table()
    assert pool.current().candidates[0].fits_now
    world.room = room(1_000_000_000)
    pool.on_event(happened("b-70b"))
    assert not pool.current().candidates[0].fits_now
    world.room = room(10_000_000_000)
    pool.on_event(happened("b-70b"))
    assert pool.current().candidates[0].fits_now


def test_a_new_profile_counts_from_its_event_on(world: World) -> None:
    pool = world.table()
    pool.current()
    world.profile["a-8b"] = PROFILE
    assert pool.current().candidates[0].output_per_second is None
    pool.on_event(happened("a-8b"))
    assert pool.current().candidates[0].output_per_second == 40


def test_of_models_that_came_and_went_while_nobody_asked_nothing_is_kept(world: World) -> None:
    pool = world.table()
    pool.current()
    before = repr(pool)
    for n in range(100):
        name = f"guest-{n}"
        world.models[name] = entry(name)
        pool.on_event(happened(name))
        del world.models[name]
        pool.on_event(happened(name))
    assert repr(pool) == before


def test_what_a_load_takes_is_what_admission_reserves_for_it(world: World) -> None:
    world.peaks["a-8b"] = 12_000_000_000
    row = world.table().current().rows["a-8b"]
    assert world.table().current().candidates[row].memory_bytes == 12_000_000_000
    assert not world.table().current().candidates[row].fits_now


def test_a_profile_that_does_not_hold_any_more_says_nothing(world: World) -> None:
    world.profile["a-8b"] = PROFILE
    stale = PoolTable(world, world, world, world, lambda: world.room, lambda *_: False)
    assert stale.current().candidates[0].output_per_second is None
    assert world.table().current().candidates[0].output_per_second == 40


def test_a_model_that_the_pool_has_later_than_the_catalog_can_be_had_then(world: World) -> None:
    world.outside.add("a-8b")
    pool = world.table()
    assert pool.current().candidates[0].why_unavailable == "the pool does not run it"
    world.outside.clear()
    found = pool.current().candidates[0]
    assert (found.is_available, found.memory_bytes) == (True, 5_000_000_000)


def test_a_decision_looks_only_at_those_that_are_awake(world: World) -> None:
    """Of a thousand others nothing is worked out anew, whether they fit or not."""
    for i in range(1000):
        world.models[f"x{i}-9b"] = entry(f"x{i}-9b", size_bytes=10**9 * (1 + i % 40))
    world.copies["b-70b"] = [Copy()]
    pool = world.table()
    pool.current()
    looked: list[str] = []
    live_now = pool._live_now
    pool._live_now = lambda name, is_awake: looked.append(name) or live_now(name, is_awake)  # type: ignore[assignment,func-returns-value]
    pool.current()
    assert looked == ["b-70b"]
    world.copies["a-8b"] = [Copy()]
    pool.on_event(happened("a-8b"))
    pool.current()
    assert set(looked) == {"a-8b", "b-70b"}
    looked.clear()
    world.room = room(9_500_000_000)
    pool.on_event(happened("a-8b"))
    pool.current()
    assert set(looked) - {"a-8b", "b-70b"} == {f"x{i}-9b" for i in range(9, 1000, 40)}


def test_tags_lead_to_models(world: World) -> None:
    world.models["a-8b"] = entry("a-8b", tags=("code", "fast"))
    pool = world.table()
    pool.current()
    assert pool.tagged == {"code": {"a-8b"}, "fast": {"a-8b"}}


def test_an_edition_reads_only_entries_that_are_new(world: World) -> None:
    pool = world.table()
    pool.current()
    world.asked.clear()
    del world.models["b-70b"]
    world.models["d-3b"] = entry("d-3b", size_bytes=2_000_000_000)
    world.models["openai"] = entry("openai", model_type="provider")
    world.edition = 2
    assert pool.current().ids == ("a-8b", "c-400b", "d-3b")
    assert world.asked == ["d-3b"]


def test_what_was_learned_stays_through_editions(world: World) -> None:
    pool = world.table()
    pool.current()
    pool.learn({("a-8b", "math"): -0.1})
    world.edition = 2
    assert pool.current().offsets == {("a-8b", "math"): -0.1}


def test_nothing_is_asked_again_while_nothing_happens(world: World) -> None:
    pool = world.table()
    first = pool.current()
    world.asked.clear()
    assert pool.current() is first
    assert world.asked == []


def test_the_table_is_what_would_be_made_anew(world: World) -> None:
    pool = world.table()
    pool.current()
    world.copies["a-8b"] = [Copy(in_flight=1)]
    world.use["a-8b"] = (50, 5, 2.0)
    pool.on_event(happened("a-8b"))
    table = pool.current()
    anew = table_of(world.table().current().candidates)
    assert decide(HELLO, table).as_dict() == decide(HELLO, anew).as_dict()
    assert table.candidates == anew.candidates


def test_a_real_pool_has_one(tmp_path: Path) -> None:
    models = [entry("a-1b", engine="fake"), entry("b", capabilities=("embeddings",), engine="fake")]

    async def main() -> None:
        async with running(PoolConfig(state_dir=tmp_path / "state", models=models)) as pool:
            services = pool.services
            table = table_of_pool(
                services.catalog,
                services.pool,
                services.measurements,
                services.usage,
                services.estimator,
            )
            services.events.listeners.append(table.on_event)
            assert table.current().ids == ("a-1b", "b")
            assert decide(HELLO, table.current()).model_id == "a-1b"
            await services.register({"model_id": "c-7b", "engine": "fake", "source": "-"})
            assert table.current().ids == ("a-1b", "b", "c-7b")

    asyncio.run(main())
