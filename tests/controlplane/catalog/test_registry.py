"""Registry files: in, out, and everything that is wrong with them at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from modelpool.catalog.catalog import Catalog
from modelpool.catalog.model import Model, id_problem
from modelpool.catalog.parse_rules import DEFAULT_RULES, ParseRules
from modelpool.catalog.registry import read_registry
from modelpool.catalog.store import Store
from modelpool.config import PoolConfig
from modelpool_client.errors import InvalidRequest

REGISTRY = Path(__file__).parents[1] / "fixtures" / "model_pool_registry.json"


def model(model_id: str, *aliases: str, **values: Any) -> Model:
    return Model(model_id, "fake", "x", display_name=model_id, aliases=aliases, **values)


class CountingStore(Store):
    """A store that keeps nothing and counts the writes."""

    def __init__(self) -> None:
        self.writes = 0

    async def documents(self, kind: str) -> dict[str, Any]:
        return {}

    async def write_documents(self, kind: str, put: Any, drop: Any = ()) -> None: ...

    async def models(self) -> tuple[Model, ...]:
        return ()

    async def write_models(self, put: Any, drop: Any = ()) -> None:
        self.writes += 1


def play(scene: Callable[[Catalog, CountingStore], Awaitable[None]], *models: Model) -> None:
    async def main() -> None:
        store = CountingStore()
        await scene(await Catalog.open(store, models), store)

    asyncio.run(main())


def test_the_first_documents_registry() -> None:
    async def scene(catalog: Catalog, _: CountingStore) -> None:
        data = json.loads(REGISTRY.read_text(encoding="utf-8"))
        report = await catalog.import_registry(data)
        assert report.added == ("qwen2.5-coder:7b", "llama3.1:8b")
        coder = catalog.get("qwen2.5-coder:7b")
        assert (coder.engine, coder.source) == ("ollama", "qwen2.5-coder:7b")
        assert (coder.warmup, coder.ttl_minutes, coder.priority) == (True, 0, "high")
        by_id = {e["model_id"]: e for e in catalog.registry_entries()}
        for entry in data["models"]:
            assert by_id[entry["model_id"]].items() >= entry.items()
        with pytest.raises(InvalidRequest, match="'ollama' is unknown here"):
            await catalog.import_registry(data, rules=ParseRules(known_engines={"fake"}))
        rules = ParseRules(known_engines={"fake", "ollama"})
        assert (await catalog.import_registry(data, rules=rules)).unchanged == report.added

    play(scene)


def test_an_entry_without_engine_changes_the_model_it_names() -> None:
    async def scene(catalog: Catalog, _: CountingStore) -> None:
        await catalog.register(model("a", "one", options={"x": 1}, memory_mb=5))
        entry = {"id": "a", "name": "New", "memory_gb": 2, "priority": "low"}
        await catalog.import_registry({"models": [entry]}, replace=True)
        a = catalog.get("one")
        assert (a.display_name, a.memory_mb, a.priority) == ("New", 2000, "low")
        assert (a.engine, a.source, a.options) == ("fake", "x", {"x": 1})

    play(scene)


def test_import_is_all_or_nothing_and_says_everything() -> None:
    async def scene(catalog: Catalog, store: CountingStore) -> None:
        data = {
            "models": [
                {"id": "new", "engine": "fake", "source": "x"},
                {"id": "a", "engine": "fake", "source": "y"},
                {"id": "b", "engine": "fake", "source": "x", "aliases": ["two"]},
                {"id": "c/load", "engine": "fake", "source": "x"},
                {"id": "new", "engine": "fake", "source": "x", "warmup": 1},
                {"id": "d", "engine": "fake", "source": "x"},
                {"id": "d", "engine": "fake", "source": "z"},
                "nonsense",
            ]
        }
        before = store.writes
        with pytest.raises(InvalidRequest) as caught:
            await catalog.import_registry(data)
        messages = [e["message"] for e in caught.value.details["errors"]]
        assert [m[:32] for m in messages[:3]] == [
            "models[3]: id must not end in 'l",
            "models[4]: warmup must be true o",
            "models[7]: a model must be an ob",
        ]
        assert any("'d' stands there 2 times" in m for m in messages)
        assert any("there is a model 'a' already" in m for m in messages)
        assert any("'b' cannot be called 'two', a name of 'z'" in m for m in messages)
        assert store.writes == before
        assert len(catalog) == 2

    play(scene, model("a", "one"), model("z", "two"))


@pytest.mark.parametrize("data", [None, [], {}, {"models": {}}, {"models": 3}, "x"])
def test_what_is_no_registry(data: object) -> None:
    models, (problem,) = read_registry(data, {}, DEFAULT_RULES)
    assert (models, problem.param) == ([], "models")


def exported_from(catalog: Catalog) -> dict[str, Any]:
    return {"models": list(catalog.registry_entries())}


def test_replace_and_unchanged() -> None:
    async def scene(catalog: Catalog, store: CountingStore) -> None:
        exported = exported_from(catalog)
        before = store.writes
        assert (await catalog.import_registry(exported)).unchanged == ("a", "b")
        assert store.writes == before
        exported["models"][0]["tags"] = ["new"]
        report = await catalog.import_registry(exported, replace=True)
        assert (report.updated, report.unchanged) == (("a",), ("b",))
        assert (catalog.get("a").tags, catalog.get("a").origin) == (("new",), "config")

    play(scene, model("a"), model("b"))


TEXTS = st.text(st.characters(exclude_categories=("C",)), min_size=1, max_size=8).map(str.strip)
NAMES = TEXTS.filter(lambda name: id_problem(name) is None)
MODELS = st.builds(
    model,
    NAMES,
    pinned=st.booleans(),
    warmup=st.booleans(),
    ttl_minutes=st.sampled_from([None, 0, 5, 12.5, 60]),
    priority=st.sampled_from(["high", "normal", "low"]),
    tags=st.lists(TEXTS.filter(bool), unique=True, max_size=3).map(tuple),
    options=st.dictionaries(
        st.text(max_size=3), st.integers(-(2**62), 2**62) | st.booleans(), max_size=3
    ),
    metadata=st.dictionaries(st.text(max_size=3), st.lists(st.text(max_size=3)), max_size=2)
    | st.fixed_dictionaries(
        {
            "cost_per_token": st.floats(0, 1),
            "performance_profile": st.dictionaries(TEXTS, st.integers(0, 10**6), max_size=2),
        }
    ),
    model_type=st.sampled_from(["general", "code", "embedding"]),
    auto_unload=st.none() | st.booleans(),
    capabilities=st.lists(
        st.sampled_from(["chat", "tools", "vision", "embeddings"]), unique=True
    ).map(lambda found: tuple(sorted(found))),
    max_replicas=st.integers(1, 4),
    target_in_flight=st.none() | st.integers(1, 9),
    concurrency_limit=st.none() | st.integers(1, 9) | st.sampled_from(["adaptive", "unlimited"]),
    coalesce=st.sampled_from(["deterministic", "identical", "off"]),
    fallbacks=st.lists(st.sampled_from(["other", "safe:7b"]), unique=True).map(tuple),
    memory_mb=st.none() | st.floats(1, 1e6),
    context_length=st.none() | st.integers(1, 10**6),
    size_bytes=st.none() | st.integers(0, 10**12),
    architecture=st.none() | st.just("llama"),
    quantization=st.none() | st.just("4bit"),
)
SCHEDULES = st.sampled_from([(), ({"cron": "0 8 * * mon-fri", "action": "load"},)])
FOUND = st.builds(
    lambda m, schedule, identity: replace(
        m,
        schedule=schedule,
        origin="discovered" if identity else "api",
        places=(m.source,) if identity else (),
        identity=identity,
    ),
    MODELS,
    SCHEDULES,
    st.sampled_from(["", "sha256:ab", "sha256:cd"]),
)


@settings(max_examples=25, deadline=None)
@given(st.lists(FOUND, max_size=4, unique_by=lambda m: m.model_id))
def test_export_and_import_give_the_same_catalog(models: list[Model]) -> None:
    async def main() -> None:
        first, second = Catalog(CountingStore()), Catalog(CountingStore())
        for m in models:
            await first.register(m)
        exported = json.loads(json.dumps(exported_from(first)))
        report = await second.import_registry(exported)
        assert len(report.added) == len(models)
        assert (await second.import_registry(exported)).unchanged == report.added
        assert all(second.get(m.model_id).same_content(m) for m in models)
        assert exported_from(second) == exported_from(first)

    asyncio.run(main())


def test_what_was_found_out_is_not_written_as_said() -> None:
    """By whom the file is read would take it for what the owner declared."""
    found = model("a", capabilities=("chat", "tools"), context_length=4096, tags=("mine",))
    found = replace(
        found,
        presumed_capabilities=("tools",),
        from_file=("context_length", "capabilities"),
        origin="config",
    )
    denied = model("b", capabilities=("chat",), declared_capabilities=("chat", "vision"))

    async def scene(catalog: Catalog, _: CountingStore) -> None:
        exported = exported_from(catalog)
        a, b = exported["models"]
        assert not {"context_length", "capabilities"} & a.keys()
        assert (a["tags"], b["capabilities"]) == (["mine"], ["chat", "vision"])
        in_file = catalog.export_config(PoolConfig())["models"]
        assert not {"context_length", "capabilities"} & in_file[0].keys()
        assert (await catalog.import_registry(exported)).unchanged == ("a", "b")
        exported["models"][0]["tags"] = ["new"]
        await catalog.import_registry(exported, replace=True)
        assert catalog.get("a").same_content(replace(found, tags=("new",)))
        assert catalog.get("a").from_file == found.from_file

    play(scene, found, denied)


def test_a_model_that_was_found_is_marked_and_keeps_to_its_files() -> None:
    async def scene(catalog: Catalog, _: CountingStore) -> None:
        found = {"id": "a", "engine": "fake", "source": "/there/a", "tags": ["mine"]}
        found |= {"origin": "discovered", "identity": "sha256:ab"}
        await catalog.import_registry({"models": [found]})
        a = catalog.get("a")
        assert (a.origin, a.identity, a.places) == ("discovered", "sha256:ab", ("/there/a",))
        (entry,) = exported_from(catalog)["models"]
        assert {k: entry[k] for k in ("origin", "identity", "source")} == {
            k: found[k] for k in ("origin", "identity", "source")
        }
        elsewhere = found | {"source": "/elsewhere/a", "tags": ["new"]}
        report = await catalog.import_registry({"models": [elsewhere]}, replace=True)
        a = catalog.get("a")
        assert (report.updated, a.source, a.tags) == (("a",), "/there/a", ("new",))
        assert (a.origin, a.places) == ("discovered", ("/there/a",))
        assert catalog.export_config(PoolConfig())["models"] == []

    play(scene)


def test_a_mark_takes_no_model_from_who_registered_it() -> None:
    async def scene(catalog: Catalog, _: CountingStore) -> None:
        entry = {"id": "a", "engine": "fake", "source": "x", "origin": "discovered"}
        await catalog.import_registry({"models": [entry]}, replace=True)
        assert catalog.get("a").origin == "config"

    play(scene, model("a"))


@pytest.mark.parametrize(
    ("marks", "param"),
    [
        ({"origin": "api"}, "models[0].origin"),
        ({"identity": "sha256:ab"}, "models[0].origin"),
        ({"origin": "discovered", "identity": 5}, "models[0].identity"),
    ],
)
def test_marks_that_are_wrong(marks: dict[str, Any], param: str) -> None:
    entry = {"id": "a", "engine": "fake", "source": "x", **marks}
    models, (problem,) = read_registry({"models": [entry]}, {}, DEFAULT_RULES)
    assert (models, problem.param) == ([], param)


def test_the_first_documents_registry_comes_back_as_it_was() -> None:
    """With all that other documents add to an entry."""
    more = {"capabilities": ["chat"], "options": {"context_length": 4096}, "cost_per_token": 0.1}
    data = json.loads(REGISTRY.read_text(encoding="utf-8"))
    data["models"] = sorted((e | more for e in data["models"]), key=lambda e: e["model_id"])

    async def scene(catalog: Catalog, _: CountingStore) -> None:
        await catalog.import_registry(data)
        written = exported_from(catalog)["models"]
        for entry, back in zip(data["models"], written, strict=True):
            price = {"metadata": {"cost_per_token": entry.pop("cost_per_token")}}
            source = {"engine": "ollama", "source": entry["model_id"]}
            assert back == entry | price | source

    play(scene)
