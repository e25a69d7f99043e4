"""The catalog is kept true to the disk by itself; what hangs is given up."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import pytest
from e2e.helpers import free_block, give_back
from modelpool.app import Running, running
from modelpool.config import PoolConfig
from modelpool.controllers import loop
from modelpool.discovery import discovery as shell
from modelpool.discovery.watching import DiscoveryController, look, run_watcher
from modelpool.pool.states import State
from support.model_tree import gguf, put

Scene = Callable[[Running], Awaitable[None]]
SOON = 60


def play(folder: Path, scene: Scene, **config: Any) -> None:
    async def main() -> None:
        values: dict[str, Any] = {"discovery_paths": [str(folder / "models")], **config}
        made = PoolConfig(state_dir=folder / "state", discovery_calm_seconds=0, **values)
        async with running(made) as pool:
            await scene(pool)

    (folder / "models").mkdir(exist_ok=True)
    asyncio.run(main())


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON):
        while not is_so():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def ids(pool: Running) -> list[str]:
    return [m.model_id for m in pool.services.catalog]


def test_a_pool_finds_what_comes_and_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "PERIOD_SECONDS", 0.1)
    put(tmp_path / "models" / "a.gguf", gguf("a"))

    async def scene(pool: Running) -> None:
        await until(lambda: ids(pool) == ["a"])
        put(tmp_path / "models" / "new" / "b.gguf", gguf("b"))
        await until(lambda: len(ids(pool)) == 2)
        shutil.rmtree(tmp_path / "models" / "new")
        await until(lambda: ids(pool) == ["a"])

    play(tmp_path, scene, discovery_interval_seconds=0)


def test_what_is_watched_is_told_and_reading_is_no_change(tmp_path: Path) -> None:
    path = put(tmp_path / "a.gguf", gguf("a"))

    async def main() -> list[Mapping[str, Any]]:
        heard: list[Mapping[str, Any]] = []
        task = asyncio.ensure_future(
            run_watcher([str(tmp_path), str(tmp_path / "none")], heard.append)
        )
        try:
            await until(lambda: len(heard) == 2)
            path.read_bytes()
            put(tmp_path / "deep" / "b.gguf", gguf("b"))
            await until(lambda: len(heard) == 3)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        return heard

    heard = asyncio.run(main())
    assert {"watched": str(tmp_path)} in heard
    assert heard[-1] == {"changed": str(tmp_path)}
    (unwatched,) = (m for m in heard if "unwatched" in m)
    assert unwatched["reason"]


def test_what_hangs_is_given_up_and_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that says nothing stands for a disk that does not answer."""
    stuck, fine = tmp_path / "stuck", tmp_path / "models"
    put(fine / "a.gguf", gguf("a"))
    run = shell.run_process

    hung: list[str] = []

    async def run_or_hang(
        module: str, request: Mapping[str, Any], on_message: Callable[..., object]
    ) -> Any:
        if request["root"] in hung:
            await asyncio.Event().wait()
        # On a busy machine a process that is well may take as long to say its first word.
        running = asyncio.ensure_future(run(module, request, on_message))
        try:
            while not running.done():
                on_message({})
                await asyncio.wait({running}, timeout=0.1)
            return running.result()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def scene(pool: Running) -> None:
        services = pool.services
        put(stuck / "b.gguf", gguf("b"))
        await look(services, None, lambda *_: None)
        assert sorted(ids(pool)) == ["a", "b"]
        hung.append(str(stuck))
        put(fine / "c.gguf", gguf("c"))
        await look(services, None, lambda *_: None)
        assert sorted(ids(pool)) == ["a", "b", "c"]
        report = services.discovery.reports[str(stuck)]
        assert (report.state, report.reason) == ("hung", "did not answer for 5 s")

    paths = [str(stuck), str(fine)]
    options = {"discovery_stall_seconds": 5, "watch_discovery_paths": False}
    monkeypatch.setattr(loop, "PERIOD_SECONDS", 3600)
    monkeypatch.setattr(shell, "run_process", run_or_hang)
    play(tmp_path, scene, discovery_paths=paths, **options)


def test_a_model_that_runs_goes_on_without_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "PERIOD_SECONDS", 3600)
    demo = Path(__file__).parents[3] / "configs" / "models" / "pool-demo.gguf"
    path = put(tmp_path / "models" / "demo.gguf", demo.read_bytes())
    watchers: list[Collection[str]] = []

    async def watch(roots: Collection[str], on_message: Callable[..., object]) -> None:
        watchers.append(roots)
        await asyncio.Event().wait()

    async def scene(pool: Running) -> None:
        services = pool.services
        await look(services, None, lambda *_: None)
        await services.pool.load("demo", "a test", 60)
        path.unlink()
        await look(services, None, lambda *_: None)
        assert services.status("demo").state is State.HOT
        said = [e for e in services.events._kept if e.name == "model-vanished"]
        assert "it goes on until it is unloaded" in said[0].data["reason"]
        await look(services, None, lambda *_: None)
        await services.pool.unload("demo", "a test")
        controller = DiscoveryController(services, lambda: 0.0, watch)
        await controller.reconcile()
        assert ids(pool) == []
        said = [e for e in services.events._kept if e.name == "model-vanished"]
        assert len(said) == 1
        await controller.close()
        await pool.stop()

    first = free_block(2)
    play(tmp_path, scene, port_range={"start": first, "end": first + 1})
    give_back(first)
    assert len(watchers) <= 1
