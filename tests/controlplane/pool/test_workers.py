"""Worker processes: nothing that has ended stays on record."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modelpool.catalog.database import WorkerRow
from modelpool.catalog.errors import StoreError
from modelpool.config import PoolConfig
from modelpool.pool.context import Settings
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
