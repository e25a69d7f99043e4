"""The virtual models in memory and store: versions, undo, circles, what the config file says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from modelpool.catalog.store import Store
from modelpool.routing.kinds.registry import kind
from modelpool.routing.virtual_models import MOST_VERSIONS, Change, VirtualModels
from modelpool_client.errors import Conflict, InvalidRequest, NotFound, VersionMismatch

MODELS = {"a", "b", "c"}


@asynccontextmanager
async def opened(folder: Path, models: set[str] | None = None) -> AsyncIterator[VirtualModels]:
    store = await Store.open(folder / "pool.db")
    try:
        found = VirtualModels(store, kind, (MODELS if models is None else models).__contains__)
        await found.open()
        yield found
    finally:
        await store.close()


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def target(models: VirtualModels, name: str) -> Any:
    found = models.find(name)
    return found.spec.data.get("target") if found is not None else None


def test_changes_are_versions_and_can_be_undone(tmp_path: Path) -> None:
    async def work() -> None:
        told: list[Change] = []
        async with opened(tmp_path) as models:
            models.tell = told.append
            assert (await models.put("v", "a", "first")).version == 1
            assert (await models.put("v", "a", "the same")).version == 1
            assert (await models.put("v", "b", "second")).version == 2
            assert (await models.rollback("v", None, "undo")).version == 3
            assert target(models, "v") == "a"
            assert (await models.rollback("v", 2, "undo")).version == 4
            assert target(models, "v") == "b"
            assert (await models.delete("v", "gone")).version == 5
            assert models.find("v") is None
            with pytest.raises(NotFound):
                models.get("v")
        async with opened(tmp_path) as models:
            assert models.find("v") is None
            assert (await models.rollback("v", None, "undo")).version == 6
            assert target(models, "v") == "b"
            current, former = models.history("v")
            assert current is not None
            assert [f.version for f in former] == [5, 4, 3, 2, 1]
            assert [f.entry is None for f in former] == [True, False, False, False, False]
            for i in range(MOST_VERSIONS + 5):
                await models.put("v", "ab"[i % 2], "again")
            assert len(models.history("v")[1]) < MOST_VERSIONS + 1
            with pytest.raises(NotFound):
                await models.rollback("v", 1, "too long ago")
        assert [c.version for c in told] == [1, 2, 3, 4, 5]

    run(work())


def test_two_who_change_the_same_are_told(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path) as models:
            await models.put("v", "a", "new", expected=0)
            with pytest.raises(VersionMismatch):
                await models.put("v", "b", "new", expected=0)
            outcomes = await asyncio.gather(
                *(models.put("v", m, "race", expected=1) for m in ("b", "c")),
                return_exceptions=True,
            )
            assert sum(isinstance(o, VersionMismatch) for o in outcomes) == 1
            with pytest.raises(VersionMismatch):
                await models.delete("v", "gone", expected=1)

    run(work())


def test_what_is_refused_changes_nothing(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path) as models:
            await models.put("x", "a", "new")
            await models.put("y", "x", "new")
            await models.put("gpt-*", "y", "new")
            edition = models.edition
            for name, entry, error in (
                ("x", "y", Conflict),
                ("x", "x", Conflict),
                ("x", "gpt-4", Conflict),
                ("x", ["a", "nobody"], InvalidRequest),
                ("a", "b", Conflict),
                (
                    "z",
                    {"kind": "alias", "target": "a", "request": {"preset": "no"}},
                    InvalidRequest,
                ),
                ("z", [{"model": "a", "request": {"preset": "no"}}], InvalidRequest),
                ("z", {"kind": "nope"}, InvalidRequest),
            ):
                with pytest.raises(error):
                    await models.put(name, entry, "wrong")
            assert models.edition == edition
            assert target(models, "gpt-9") == "y"
            assert target(models, "x:latest") == "a"
            for i, behind in enumerate(("x", *(f"row{i}" for i in range(6)))):
                await models.put(f"row{i}", behind, "deeper")
            with pytest.raises(Conflict, match="in a row"):
                await models.put("row7", "row6", "too deep")

    run(work())


def test_what_the_config_file_says_counts_when_it_says_something_new(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path) as models:
            assert await models.adopt_config({"v": "a", "w": ["later"]}, "file") == [
                "virtual model w: no model is called 'later' yet"
            ]
            await models.put("v", "b", "at run time")
        async with opened(tmp_path) as models:
            await models.adopt_config({"v": "a", "w": ["later"]}, "file")
            assert target(models, "v") == "b"
            await models.adopt_config({"v": "c"}, "file")
            assert target(models, "v") == "c"
            assert models.find("w") is None
            await models.put("v", "b", "at run time")
            await models.adopt_config({}, "file")
            assert target(models, "v") == "b"
            assert await models.adopt_config({"v": {"kind": "nope"}}, "file")
            assert target(models, "v") == "b"

    run(work())


def test_presets(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path) as models:
            assert set(models.all_presets()) == {"Conservative", "Balanced", "Creative"}
            await models.put_presets({"creative": {"temperature": 2}, "own": {"seed": 1}})
            models.configured_presets = {"Own": {"seed": 2}, "said": {"seed": 3}}
        async with opened(tmp_path) as models:
            models.configured_presets = {"Own": {"seed": 2}, "said": {"seed": 3}}
            assert models.preset("CREATIVE") == {"temperature": 2}
            assert models.preset("own") == {"seed": 1}
            assert models.preset("Said") == {"seed": 3}
            await models.drop_preset("OWN")
            assert models.preset("own") == {"seed": 2}
            for wrong in ({"": {}}, {"x": {"model": "y"}}, {"x": 5}):
                with pytest.raises(InvalidRequest):
                    await models.put_presets(wrong)
            with pytest.raises(NotFound):
                await models.drop_preset("Balanced")

    run(work())


def test_one_whose_kind_is_not_there_any_more_is_told_not_lost(tmp_path: Path) -> None:
    async def work() -> None:
        store = await Store.open(tmp_path / "pool.db")
        entry = {"kind": "strange", "target": "a"}
        document = {"version": 3, "entry": entry, "origin": "api", "updated_at": 1.0, "former": []}
        await store.write_documents("virtual model", {"s": document})
        await store.close()
        async with opened(tmp_path) as models:
            assert models.find("s") is None
            assert "strange" in models.unreadable["s"]
            await models.put("v", "a", "another")
        async with opened(tmp_path) as models:
            assert "s" in models.unreadable

    run(work())
