"""Worker processes: nothing that has ended stays on record."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from modelpool.catalog.database import WorkerRow
from modelpool.catalog.errors import StoreError
from modelpool.config import PoolConfig
from modelpool.launchers import log_heading
from modelpool.log_reader import TAIL_LINES
from modelpool.pool.context import Settings
from modelpool.pool.exit_record import read_exit_record
from modelpool.pool.worker import Worker
from modelpool.pool.workers import PoolIdentity, Workers


class FullDisk:
    """A journal that cannot be written for a while."""

    def __init__(self, rows: Sequence[str]) -> None:
        self.rows = set(rows)
        self.is_full = True

    async def forget_worker(self, worker_id: str) -> None:
        if self.is_full:
            raise StoreError(Path("pool.db"), "cannot be written: the disk is full")
        self.rows.discard(worker_id)


def row(worker_id: str, folder: Path) -> WorkerRow:
    paths = {name: str(folder / name) for name in ("runtime_dir", "exit_record", "log_path")}
    return WorkerRow(worker_id, "pool", "m", 1, 8051, "secret", "boot", started_at=0.0, **paths)


def test_what_a_full_disk_kept_on_record_is_forgotten_at_the_next_end(tmp_path: Path) -> None:
    journal: Any = FullDisk(["a", "b"])
    nothing: Any = None
    settings = Settings(PoolConfig(state_dir=tmp_path))
    workers = Workers(PoolIdentity("pool"), settings, nothing, nothing, journal)

    async def scene() -> None:
        await workers.forget(row("a", tmp_path))
        assert journal.rows == {"a", "b"}
        journal.is_full = False
        await workers.forget(row("b", tmp_path))
        assert journal.rows == set()

    asyncio.run(scene())


def test_the_last_words_of_a_worker_are_not_those_of_the_one_before_it(tmp_path: Path) -> None:
    record = row("b", tmp_path)
    log = Path(record.log_path)
    log.write_text(f"{log_heading('a')}\nan old word\n{log_heading('b')}\n")
    assert read_exit_record(record).lines == ()
    with log.open("a") as f:
        f.write("its own word\n")
    assert read_exit_record(record).lines == ("its own word",)
    many = [f"line {n}" for n in range(TAIL_LINES)]
    with log.open("a") as f:
        f.write("\n".join(many))
    assert read_exit_record(record).lines == tuple(many)


class Gone:
    """A process that has ended."""

    def kill(self) -> None:
        pass

    async def group_gone(self, timeout: float) -> bool:
        return True


def test_a_disk_that_hangs_does_not_hold_up_the_end_of_a_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mended = threading.Event()
    nothing: Any = None
    gone: Any = Gone()
    journal: Any = FullDisk(["a"])
    journal.is_full = False

    def hang(record: WorkerRow) -> Any:
        mended.wait(30)

    for name in ("read_exit_record", "remove_files"):
        monkeypatch.setattr(f"modelpool.pool.workers.{name}", hang)
    for name in ("EXIT_RECORD_SECONDS", "FORGET_SECONDS"):
        monkeypatch.setattr(f"modelpool.pool.workers.{name}", 0.05)

    async def scene() -> None:
        settings = Settings(PoolConfig(state_dir=tmp_path))
        workers = Workers(PoolIdentity("pool"), settings, nothing, nothing, journal)
        try:
            report = await workers.reap(Worker(row("a", tmp_path), gone), 0)
        finally:
            mended.set()
        assert report.failure is not None
        assert "could not be read" in report.failure.message
        assert (report.is_released, journal.rows) == (True, set())

    asyncio.run(scene())
