"""The catalog: names, changes that reach the store first, and registry files."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from modelpool.catalog.catalog import Catalog, ImportReport
from modelpool.catalog.index import Index
from modelpool.catalog.model import Model
from modelpool.catalog.packed import packed
from modelpool.catalog.registry import registry_entry
from modelpool.catalog.store import Store, StoreError
from modelpool.config import PoolConfig, load_config
from modelpool_client.errors import Conflict, ModelExists, ModelNotFound

REGISTRY = Path(__file__).parents[1] / "fixtures" / "model_pool_registry.json"


def model(model_id: str, *aliases: str, **values: Any) -> Model:
    return Model(model_id, "fake", "x", display_name=model_id, aliases=aliases, **values)


class FakeStore(Store):
    """A store in memory that can be told to fail."""

    def __init__(self) -> None:
        self.kept: dict[str, Model] = {}
        self.written: dict[str, dict[str, Any]] = {}
        self.fails = False
        self.writes = 0

    async def models(self) -> tuple[Model, ...]:
        return tuple(self.kept.values())

    async def documents(self, kind: str) -> dict[str, Any]:
        return dict(self.written.get(kind, {}))

    async def write_documents(self, kind: str, put: Any, drop: Any = ()) -> None:
        found = self.written.setdefault(kind, {})
        for key in drop:
            found.pop(key, None)
        found.update(put)

    async def write_models(self, put: Any, drop: Any = ()) -> None:
        await asyncio.sleep(0)
        if self.fails:
            raise StoreError("pool.db", "cannot be written: the disk is full")
        self.writes += 1
        for model_id in drop:
            del self.kept[model_id]
        self.kept |= {m.model_id: m for m in put}


def play(scene: Callable[[Catalog, FakeStore], Awaitable[None]], *config_models: Model) -> None:
    async def main() -> None:
        store, ticks = FakeStore(), count(1)
        catalog = await Catalog.open(store, config_models, clock=lambda: float(next(ticks)))
        await scene(catalog, store)
        assert {m.model_id: m for m in catalog} == store.kept

    asyncio.run(main())


def test_a_model_answers_to_its_id_and_its_aliases() -> None:
    async def scene(catalog: Catalog, _: FakeStore) -> None:
        a = await catalog.register(model("org/a:7b", "coder", "best"))
        assert catalog.get("org/a:7b") is catalog.get("coder") is catalog.find("best") is a
        assert (a.origin, a.created_at, a.updated_at) == ("api", 1.0, 1.0)
        assert "coder" in catalog
        assert (len(catalog), list(catalog)) == (1, [a])
        assert await catalog.delete("coder") is a
        assert catalog.find("best") is None
        assert "1" not in repr(catalog)

    play(scene)


def test_unknown_models_with_near_names() -> None:
    async def scene(catalog: Catalog, _: FakeStore) -> None:
        with pytest.raises(ModelNotFound, match=r"'coder9'; did you mean coder7\?") as caught:
            catalog.get("coder9")
        assert caught.value.details == {"near": ["coder7"]}
        for name in ("zzz", "x" * 10_000, "\ud800", "\0"):
            with pytest.raises(ModelNotFound) as caught:
                catalog.get(name)
            assert len(json.dumps(caught.value.body(), ensure_ascii=False).encode()) < 600

    play(scene, model("coder7"))


def test_names_are_unique() -> None:
    async def scene(catalog: Catalog, _: FakeStore) -> None:
        await catalog.register(model("a", "one"))
        await catalog.register(model("b"))
        with pytest.raises(ModelExists, match="'a'"):
            await catalog.register(model("a"))
        for newcomer, param in (
            (model("one"), "model_id"),
            (model("c", "one"), "aliases"),
            (model("c", "a"), "aliases"),
        ):
            with pytest.raises(Conflict, match="a name of 'a'") as caught:
                await catalog.register(newcomer)
            assert caught.value.param == param
        with pytest.raises(Conflict, match="'one', a name of 'a'"):
            await catalog.replace(model("b", "one"))
        await catalog.replace(model("a", "two"))
        await catalog.replace(model("b", "one"))
        assert catalog.get("one").model_id == "b"

    play(scene)


def test_replacing_keeps_the_time_of_creation() -> None:
    async def scene(catalog: Catalog, _: FakeStore) -> None:
        await catalog.register(model("a"))
        replaced = await catalog.replace(model("a", pinned=True))
        assert (replaced.created_at, replaced.updated_at, replaced.pinned) == (1.0, 2.0, True)
        with pytest.raises(ModelNotFound, match="'b'"):
            await catalog.replace(model("b"))
        with pytest.raises(ModelNotFound, match="'b'"):
            await catalog.delete("b")

    play(scene)


def test_when_the_store_fails_nothing_changes() -> None:
    async def scene(catalog: Catalog, store: FakeStore) -> None:
        a = await catalog.register(model("a", "one"))
        store.fails = True
        for change in (
            catalog.register(model("b")),
            catalog.replace(model("a", "two")),
            catalog.delete("a"),
            catalog.import_registry({"models": [registry_entry(model("c"))]}),
        ):
            with pytest.raises(StoreError, match="disk is full"):
                await change
        assert list(catalog) == [a]
        assert catalog.get("one") is a
        assert "two" not in catalog

    play(scene)


def test_changes_wait_for_each_other() -> None:
    async def scene(catalog: Catalog, _: FakeStore) -> None:
        tries = [catalog.register(model(f"m{i}", "the-one")) for i in range(10)]
        results = await asyncio.gather(*tries, return_exceptions=True)
        assert sum(isinstance(r, Model) for r in results) == 1
        assert sum(isinstance(r, Conflict) for r in results) == 9

    play(scene)


def test_a_caller_that_leaves_does_not_part_store_and_memory() -> None:
    async def scene(catalog: Catalog, store: FakeStore) -> None:
        task = asyncio.ensure_future(catalog.register(model("a")))
        for _ in range(2):  # it has begun, and waits for the store
            await asyncio.sleep(0)
        assert catalog._changing.locked()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await catalog.register(model("b"))
        assert set(store.kept) == {"a", "b"}

    play(scene)


def test_list_by_every_condition() -> None:
    async def scene(catalog: Catalog, _: FakeStore) -> None:
        def found(**conditions: str) -> list[str]:
            return [m.model_id for m in catalog.list(**conditions)]

        assert found() == ["a", "b", "c"]
        assert found(engine="gguf") == found(engine="llama.cpp") == ["c"]
        assert found(capability="vision") == ["a"]
        assert found(tag="fast") == ["a", "b"]
        assert found(model_type="code") == ["b"]
        assert found(q="SLOW") == ["b"]
        assert found(q="al") == ["a"]
        assert found(tag="fast", model_type="code") == ["b"]
        assert found(q="nothing") == []

    play(
        scene,
        model("b", tags=("fast", "slow"), model_type="code"),
        model("a", "alias", tags=("fast",), capabilities=("vision",)),
        Model("c", "llama.cpp", "/c.gguf"),
    )


def test_config_models_come_and_go_with_the_file(tmp_path: Path) -> None:
    async def start(*models: Model) -> Catalog:
        store = await Store.open(tmp_path / "pool.db")
        try:
            return await Catalog.open(store, models)
        finally:
            await store.close()

    first = asyncio.run(start(model("a"), model("b")))
    assert first.config_report == ImportReport(added=("a", "b"))
    assert {m.origin for m in first} == {"config"}
    second = asyncio.run(start(model("b"), model("c", pinned=True)))
    expected = ImportReport(added=("c",), unchanged=("b",), removed=("a",))
    assert second.config_report == expected
    assert second.get("b") == first.get("b")


FOUND_OUT: dict[str, Any] = {
    "capabilities": ("chat", "completion"),
    "context_length": 4096,
    "size_bytes": 7,
    "facts": packed({"format": "gguf"}),
    "from_file": ("context_length", "capabilities"),
    "created_at": 1.0,
    "origin": "config",
}


@pytest.mark.parametrize(
    ("entry", "stored", "is_same"),
    [
        ({}, {}, True),
        ({"tags": ("a",)}, {}, False),
        ({"options": {"ctx": 1}}, {"options": {"ctx": 1}}, True),
        ({"capabilities": ("chat",)}, {}, False),
        ({"capabilities": ("chat",)}, {"declared_capabilities": ("chat",)}, True),
        ({"context_length": 4096}, {}, False),
        ({}, {"from_file": ("capabilities",)}, False),  # 4096 was declared, and is no more
        ({"size_bytes": 7}, {"facts": {}}, True),
        ({}, {"facts": {}}, False),  # 7 was declared
        ({"templates": {"source": {"source": "${A}"}}}, {}, False),
        ({}, {"templates": {"source": {"source": "${A}"}}}, False),
        ({}, {"origin": "api"}, False),
    ],
)
def test_an_entry_that_says_what_it_said(
    entry: dict[str, Any], stored: dict[str, Any], is_same: bool
) -> None:
    old = Model("m", "fake", "/m.gguf", **FOUND_OUT | stored)
    assert old.is_said_by(Model("m", "fake", "/m.gguf", **entry)) is is_same
    assert Model.from_dict(old.stored()).is_said_by(Model("m", "fake", "/m.gguf", **entry)) is (
        is_same
    )


def test_of_a_file_that_is_read_again_only_the_news_count() -> None:
    async def scene(catalog: Catalog, _: FakeStore) -> None:
        await catalog.register(model("mine"))
        report = await catalog.adopt_config([model("b", pinned=True)], ["a", "mine", "nobody"])
        assert report == ImportReport(updated=("b",), removed=("a",))
        assert {m.model_id for m in catalog} == {"b", "c", "mine"}

    play(scene, model("a"), model("b"), model("c"))


def test_only_the_former_entry_is_replaced() -> None:
    async def scene(catalog: Catalog, _: FakeStore) -> None:
        former = catalog.get("a")
        newer = await catalog.replace(model("a", pinned=True), former)
        with pytest.raises(ModelNotFound):
            await catalog.replace(model("a"), former)
        assert catalog.get("a") is newer

    play(scene, model("a"))


def test_followers_hear_of_a_change_before_the_next_and_only_of_what_is_written() -> None:
    async def scene(catalog: Catalog, store: FakeStore) -> None:
        heard: list[tuple[str, ...]] = []

        def then(_: object) -> None:
            heard.append(tuple(m.model_id for m in catalog))

        await asyncio.gather(
            catalog.register(model("a"), then),
            catalog.register(model("b"), then),
            catalog.delete("a", then),
            catalog.import_registry({"models": [registry_entry(model("c"))]}, then=then),
        )
        assert heard == [("a",), ("a", "b"), ("b",), ("b", "c")]
        store.fails = True
        with pytest.raises(StoreError):
            await catalog.delete("b", then)
        assert len(heard) == 4

    play(scene)


def test_who_may_not_come_is_not_written() -> None:
    async def scene(catalog: Catalog, store: FakeStore) -> None:
        def admit(model_ids: Collection[str]) -> None:
            if "a" in model_ids:
                raise Conflict("a is leaving")

        catalog.admit = admit
        with pytest.raises(Conflict, match="leaving"):
            await catalog.adopt_config([model("b"), model("a")])
        assert store.kept == {}

    play(scene)


def test_config_models_take_over_ids_but_not_aliases() -> None:
    async def main() -> None:
        store = FakeStore()
        store.kept = {"a": model("a", "one")}
        catalog = await Catalog.open(store, [model("a", "two")])
        assert (catalog.get("two").origin, "one" in catalog) == ("config", False)
        store.kept = {"a": model("a", "one")}
        with pytest.raises(Conflict, match="'b' cannot be called 'one', a name of 'a'"):
            await Catalog.open(store, [model("b", "one")])

    asyncio.run(main())


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sets(st.sampled_from("abcdefg")))))
def test_an_index_never_gives_a_name_to_two(steps: list[tuple[str, set[str]]]) -> None:
    index = Index()
    for model_id, aliases in steps:
        newcomer = model(model_id, *sorted(aliases - {model_id}))
        if not list(index.clashes([newcomer])):
            index.put([newcomer])
        names = [n for m in index.models.values() for n in m.names]
        assert sorted(names) == sorted(index.ids)


def test_an_exported_config_makes_the_same_pool(tmp_path: Path) -> None:
    async def scene(catalog: Catalog, _: FakeStore) -> None:
        await catalog.register(model("b", "c"))
        file = tmp_path / "pool.json"
        config = PoolConfig(state_dir=tmp_path, port=8040)
        file.write_text(json.dumps(catalog.export_config(config)), encoding="utf-8")
        again = load_config(file, {})
        assert (again.port, again.state_dir) == (8040, tmp_path)
        assert [m.names for m in again.models] == [("a",), ("b", "c")]

    play(scene, model("a"))
