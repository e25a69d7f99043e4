"""Catalog, pool and config file stay in step, whatever comes between."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import modelpool.reload
import pytest
from modelpool.app import running
from modelpool.catalog.errors import StoreError
from modelpool.config import load_config
from modelpool.reload import reload_config
from modelpool.services import Services
from modelpool_client.errors import Conflict, InvalidRequest

Models = list[dict[str, Any]]


def fake(model_id: str, **values: Any) -> dict[str, Any]:
    return {"model_id": model_id, "engine": "fake", "source": "x", **values}


class File:
    """The config file of a pool."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "pool.json"
        self.folder = folder

    def write(self, *models: dict[str, Any], **keys: Any) -> None:
        said = {"state_dir": str(self.folder / "state"), "models": models, **keys}
        said["option_file_paths"] = [str(self.folder)]
        self.path.write_text(json.dumps(said), encoding="utf-8")


def play(file: File, scene: Callable[[Services], Awaitable[None]]) -> None:
    async def main() -> None:
        async with running(load_config(file.path)) as pool:
            await scene(pool.services)
            ids = {m.model_id for m in pool.services.catalog}
            assert ids == {m.model_id for m in pool.services.pool.models}

    asyncio.run(main())


@pytest.fixture
def file(tmp_path: Path) -> File:
    made = File(tmp_path)
    made.write(fake("a"), fake("b"))
    return made


def big(folder: Path, model_id: str) -> dict[str, Any]:
    """A model whose description is news, for its file has a size."""
    path = folder / f"{model_id}.bin"
    path.write_bytes(b"12345")
    return fake(model_id, source=str(path))


def test_an_import_is_whole_although_the_disk_fills_up_after_it(file: File) -> None:
    async def scene(services: Services) -> None:
        async def refused(*_: object) -> None:
            raise StoreError("pool.db", "cannot be written: the disk is full")

        services.catalog.replace = refused  # type: ignore[assignment, method-assign]
        entries = [big(file.folder, name) for name in ("x1", "x2")]
        report = await services.import_registry({"models": entries}, replace=False)
        assert report.added == ("x1", "x2")
        assert services.status("x2").model.size_bytes is None

    play(file, scene)


def test_an_import_reads_the_files_and_a_delete_in_between_harms_nobody(file: File) -> None:
    async def scene(services: Services) -> None:
        real = services.estimator.describe

        async def slow(model: Any) -> Any:
            if model.model_id == "x1":
                await services.delete("x1")
            return await real(model)

        services.estimator.describe = slow  # type: ignore[method-assign]
        entries = [big(file.folder, name) for name in ("x1", "x2")]
        await services.import_registry({"models": entries}, replace=False)
        assert services.catalog.find("x1") is None
        assert services.status("x2").model.size_bytes == services.catalog.get("x2").size_bytes == 5

    play(file, scene)


@pytest.mark.parametrize("kind", ["register", "import", "delete"])
def test_who_leaves_in_the_middle_leaves_no_entry_without_a_replica(file: File, kind: str) -> None:
    async def scene(services: Services) -> None:
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "register": lambda: services.register(fake("new")),
            "import": lambda: services.import_registry({"models": [fake("new")]}, replace=False),
            "delete": lambda: services.delete("a"),
        }
        write = services.catalog._store.write_models

        async def slow(*args: Any) -> None:
            asking.cancel()
            await write(*args)

        services.catalog._store.write_models = slow  # type: ignore[method-assign]
        asking = asyncio.ensure_future(calls[kind]())
        await asyncio.gather(asking, return_exceptions=True)
        assert asking.cancelled()
        await asyncio.gather(*services.catalog._tasks)
        await services.are_gone(["a"])
        found = {m.model_id for m in services.catalog}
        assert found == ({"b"} if kind == "delete" else {"a", "b", "new"})

    play(file, scene)


def test_who_comes_while_a_delete_is_written_is_refused(file: File) -> None:
    async def scene(services: Services) -> None:
        deleting = asyncio.ensure_future(services.delete("a"))
        entries: dict[str, Any] = {"models": [fake("a", ttl_minutes=9)]}
        importing = asyncio.ensure_future(services.import_registry(entries, replace=True))
        done = await asyncio.gather(deleting, importing, return_exceptions=True)
        assert not isinstance(done[0], BaseException)
        # Either it came first and was deleted, or it came second and was told to wait.
        assert not isinstance(done[1], BaseException) or isinstance(done[1], Conflict)

    play(file, scene)


# -- what was done at run time outlasts a file that says nothing new --------------------------


def ids(services: Services) -> set[str]:
    return {m.model_id for m in services.catalog}


def test_an_untouched_file_undoes_nothing(file: File) -> None:
    async def scene(services: Services) -> None:
        await services.delete("b")
        changed: dict[str, Any] = {"models": [fake("a", ttl_minutes=7)]}
        await services.import_registry(changed, replace=True)
        done = await reload_config(services, "test")
        assert done["models"] == {"added": [], "updated": [], "removed": []}
        assert (ids(services), services.catalog.get("a").ttl_minutes) == ({"a"}, 7)
        file.write(fake("a"), fake("b"), fake("c"))
        assert (await reload_config(services, "test"))["models"]["added"] == ["c"]
        assert (ids(services), services.catalog.get("a").ttl_minutes) == ({"a", "c"}, 7)

    play(file, scene)


def test_what_the_file_says_anew_counts(file: File) -> None:
    async def scene(services: Services) -> None:
        await services.delete("b")
        await services.import_registry({"models": [fake("a", ttl_minutes=7)]}, replace=True)
        file.write(fake("a", ttl_minutes=8), fake("b", ttl_minutes=8))
        done = await reload_config(services, "test")
        assert done["models"] == {"added": ["b"], "updated": ["a"], "removed": []}
        assert {m.ttl_minutes for m in services.catalog} == {8}

    play(file, scene)


def test_only_what_the_file_has_dropped_goes(file: File) -> None:
    async def scene(services: Services) -> None:
        await services.delete("a")
        await services.register(fake("a"))
        file.write()
        assert (await reload_config(services, "test"))["models"]["removed"] == ["b"]
        assert ids(services) == {"a"}, "it is one of run time by now"

    play(file, scene)


def test_a_file_that_was_missing_is_read_by_the_next_reload(file: File) -> None:
    entry = fake("m", source=str(file.folder / "m.bin"))
    file.write(entry)

    async def scene(services: Services) -> None:
        assert services.status("m").model.size_bytes is None
        big(file.folder, "m")
        done = await reload_config(services, "test")
        assert done["models"]["updated"] == []
        assert services.status("m").model.size_bytes == 5

    play(file, scene)


def test_a_patch_during_a_reload_is_not_lost(file: File, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(services: Services) -> None:
        real, reading, read = modelpool.reload.described_all, asyncio.Event(), asyncio.Event()

        async def slow(*args: Any) -> Any:
            reading.set()
            await read.wait()
            return await real(*args)

        monkeypatch.setattr(modelpool.reload, "described_all", slow)
        file.write(fake("a"), fake("b"), default_ttl_minutes=20)
        reloading = asyncio.ensure_future(reload_config(services, "test"))
        await reading.wait()
        patching = asyncio.ensure_future(services.reconfigure({"max_queue_wait_seconds": 77}))
        await asyncio.sleep(0)
        read.set()
        assert (await reloading)["changed"] == {"default_ttl_minutes": 20}
        assert await patching == {"max_queue_wait_seconds": 77}
        config = services.pool.config
        assert (config.default_ttl_minutes, config.max_queue_wait_seconds) == (20, 77)

    play(file, scene)


# -- registrars -------------------------------------------------------------------------------


def test_registrars_that_cannot_be_made_change_nothing(file: File) -> None:
    """Neither key nor model: the token file is read before anything else is done."""
    missing = {"kind": "http", "url": "http://127.0.0.1:1", "token_file": str(file.folder / "none")}

    async def scene(services: Services) -> None:
        file.write(fake("a"), grace_minutes=1, registrars=[missing])
        with pytest.raises(InvalidRequest, match="cannot be read") as caught:
            await reload_config(services, "test")
        assert caught.value.param == "registrars"
        with pytest.raises(InvalidRequest, match="only be set in the config file"):
            await services.reconfigure({"grace_minutes": 1, "registrars": [missing]})
        assert services.pool.config.grace_minutes == 2
        assert ids(services) == {"a", "b"}
        assert services.registrars.view() == []
        (file.folder / "none").write_text("secret")
        assert set((await reload_config(services, "test"))["changed"]) == {
            "grace_minutes",
            "registrars",
        }
        del missing["url"]  # another address for the same secret
        with pytest.raises(InvalidRequest, match="only be set in the config file"):
            await services.reconfigure({"registrars": [missing]})

    play(file, scene)
