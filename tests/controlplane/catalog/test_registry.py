"""Registry files: in, out, and everything that is wrong with them at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from modelpool.catalog.catalog import Catalog
from modelpool.catalog.model import Model, id_problem
from modelpool.catalog.parse_rules import DEFAULT_RULES, LATER_ENGINES, ParseRules
from modelpool.catalog.registry import read_registry
from modelpool.catalog.store import Store
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
        by_id = {e["model_id"]: e for e in catalog.export_registry()["models"]}
        for entry in data["models"]:
            assert by_id[entry["model_id"]].items() >= entry.items()
        with pytest.raises(InvalidRequest, match="'ollama' is unknown here"):
            await catalog.import_registry(data, rules=ParseRules(known_engines={"fake"}))
        rules = ParseRules(known_engines={"fake"} | LATER_ENGINES)
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


def test_replace_and_unchanged() -> None:
    async def scene(catalog: Catalog, store: CountingStore) -> None:
        exported = catalog.export_registry()
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
    metadata=st.dictionaries(st.text(max_size=3), st.lists(st.text(max_size=3)), max_size=2),
)


@settings(max_examples=50, deadline=None)
@given(st.lists(MODELS, max_size=6, unique_by=lambda m: m.model_id))
def test_export_and_import_give_the_same_catalog(models: list[Model]) -> None:
    async def main() -> None:
        first, second = Catalog(CountingStore()), Catalog(CountingStore())
        for m in models:
            await first.register(m)
        exported = json.loads(json.dumps(first.export_registry()))
        report = await second.import_registry(exported)
        assert len(report.added) == len(models)
        assert all(second.get(m.model_id).same_content(m) for m in models)
        assert second.export_registry() == first.export_registry()

    asyncio.run(main())
