"""Workers that are started before there is work for them: real processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
import pytest
from modelpool.launchers import log_heading, spares
from modelpool.launchers.local import LocalLauncher, LocalProcess, find_by_worker_id
from modelpool_client.wire import Assignment, LogLimits

SECONDS = 60.0


class Workshop:
    """A launcher that has a spare, and what it was told to start."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.launcher = LocalLauncher(has_spare=True)
        self.started: list[LocalProcess] = []

    @property
    def spares(self) -> list[psutil.Process]:
        """The fronts that wait: children of ours that were told of no model."""
        found = []
        taken = {process.pid for process in self.started}
        for process in psutil.Process().children():
            with contextlib.suppress(psutil.Error):
                if "spare" in process.cmdline() and process.pid not in taken:
                    found.append(process)
        return found

    async def start(
        self, engine: str = "fake", worker_id: str = "", model: str = "m"
    ) -> Assignment:
        assignment = Assignment(
            worker_id=worker_id or self.launcher.new_worker_id(engine),
            secret="secret",
            pool_id="pool",
            epoch=1,
            manager_url="http://127.0.0.1:1",
            model_id=model,
            engine=engine,
            source="none",
            port=0,  # any that is free
            runtime_dir=str(self.folder / uuid.uuid4().hex[:8]),
            exit_record=str(self.folder / "exits" / "x.json"),
            log_path=str(self.log(model)),
            log_limits=LogLimits(),
            orphan_seconds=600,
        )
        process = await self.launcher.start(assignment)
        assert isinstance(process, LocalProcess)
        self.started.append(process)
        return assignment

    def log(self, model: str) -> Path:
        return self.folder / f"{model}.log"

    async def until(self, is_so: Callable[[], object], what: str) -> None:
        end = time.monotonic() + SECONDS
        while not is_so():
            assert time.monotonic() < end, f"waited in vain for {what}"
            await asyncio.sleep(0.02)

    async def spare(self) -> psutil.Process:
        """The one that waits, with its engine child, once the launcher knows of it."""
        known = self.launcher._spares
        assert known is not None

        def look() -> list[psutil.Process]:
            pid = known._waiting.process.pid if known._waiting is not None else None
            return [each for each in self.spares if each.pid == pid and each.children()]

        await self.until(look, "a spare")
        return look()[0]

    async def ready(self, model: str = "m") -> None:
        await self.until(lambda: "is ready" in self.log(model).read_text(), f"{model} to be ready")

    async def end(self) -> None:
        await self.launcher.close()
        for process in self.started:
            process.kill()
            await process.wait()
        assert not self.spares


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    monkeypatch.setattr(spares, "DELAY_SECONDS", 0.0)

    def run(scene: Callable[[Workshop], Awaitable[None]]) -> None:
        async def main() -> None:
            shop = Workshop(tmp_path)
            try:
                await scene(shop)
            finally:
                await shop.end()

        asyncio.run(main())

    return run


def test_the_next_start_takes_it_and_another_takes_its_place(play: Callable[..., None]) -> None:
    async def scene(shop: Workshop) -> None:
        await shop.start()
        await shop.ready()
        waiting = await shop.spare()
        assignment = await shop.start(model="n")
        assert shop.started[-1].pid == waiting.pid
        await shop.ready("n")
        # By what it is found again should the manager die before the start is written down.
        found = find_by_worker_id(assignment.worker_id)
        assert found[0].pid == waiting.pid
        assert len(found) == 2, "front and engine child"
        lines = shop.log("n").read_text().splitlines()
        assert lines[0] == log_heading(assignment.worker_id)
        assert any("n is ready on port" in line for line in lines)
        assert waiting.name() == "n@0"
        next_one = await shop.spare()
        assert next_one.pid != waiting.pid

    play(scene)


def test_it_is_for_its_own_engine_only(play: Callable[..., None]) -> None:
    async def scene(shop: Workshop) -> None:
        await shop.start()
        waiting = await shop.spare()
        await shop.start("no-such-engine", model="n")
        assert shop.started[-1].pid != waiting.pid
        await shop.until(lambda: not waiting.is_running(), "the end of one nobody wants")
        assert (await shop.spare()).cmdline()[-1] == "no-such-engine"

    play(scene)


def test_one_that_died_is_not_missed(play: Callable[..., None]) -> None:
    async def scene(shop: Workshop) -> None:
        await shop.start()
        waiting = await shop.spare()
        worker_id = shop.launcher.new_worker_id("fake")
        waiting.kill()
        await shop.until(lambda: waiting.status() == psutil.STATUS_ZOMBIE, "its end")
        await shop.start(worker_id=worker_id, model="n")
        await shop.ready("n")
        assert not psutil.pid_exists(waiting.pid), "nobody reaped it"

    play(scene)


def test_a_start_that_never_comes_gives_it_back(
    play: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spares, "CLAIM_SECONDS", 0.1)

    async def scene(shop: Workshop) -> None:
        await shop.start()
        waiting = await shop.spare()
        first = shop.launcher.new_worker_id("fake")
        assert shop.launcher.new_worker_id("fake") != first, "two would be the same worker"
        await asyncio.sleep(0.3)
        assert shop.launcher.new_worker_id("fake") == first
        assert shop.spares == [waiting]

    play(scene)


def test_it_ends_when_its_manager_lets_go(play: Callable[..., None]) -> None:
    async def scene(shop: Workshop) -> None:
        await shop.start()
        waiting = await shop.spare()
        [child] = waiting.children()
        known = shop.launcher._spares
        assert known is not None
        assert known._waiting is not None
        stdin = known._waiting.process.stdin
        assert stdin is not None
        stdin.close()  # as the end of a process closes it
        await shop.until(lambda: not child.is_running(), "the end of its child")
        await shop.until(lambda: waiting.status() == psutil.STATUS_ZOMBIE, "its end")
        assert known._waiting.process.wait() == 0

    play(scene)


def test_nothing_is_made_after_the_end(play: Callable[..., None]) -> None:
    async def scene(shop: Workshop) -> None:
        await shop.start()
        await shop.launcher.close()
        await asyncio.sleep(0.2)
        assert not shop.spares
        assert len(json.dumps(shop.launcher.new_worker_id("fake"))) > 30

    play(scene)
