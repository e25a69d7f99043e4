"""The database: what it keeps, what breaks it, and who may have it."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from modelpool.catalog.migrations import MIGRATIONS, NewerDatabase, migrate
from modelpool.catalog.model import Model
from modelpool.catalog.store import (
    PoolAlreadyRunning,
    Store,
    StoreError,
    StoreLock,
    Usage,
    WorkerRow,
)

ROW = WorkerRow("w1", "p", "a", 1, 8051, "s3cret", started_at=5.0, log_path="/l")
HOLDER = """
import sys, time
from pathlib import Path
from modelpool.catalog.lock import StoreLock
StoreLock(Path(sys.argv[1])).acquire()
print("held", flush=True)
time.sleep(60)
"""


def model(model_id: str, **values: object) -> Model:
    return Model.from_dict({"model_id": model_id, "engine": "fake", "source": "x", **values})


def with_store(path: Path, scene: Callable[[Store], Awaitable[None]]) -> None:
    async def main() -> None:
        store = await Store.open(path)
        try:
            await scene(store)
        finally:
            await store.close()

    asyncio.run(main())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "pool.db"


def test_everything_survives_a_restart(path: Path) -> None:
    full = model("a/b:c", tags=("x",), options={"parallel": 8}, created_at=1.5, aliases=("é",))
    seen = []

    async def write(store: Store) -> None:
        seen.append(store.pool_id)
        await store.write_models([full, model("b")])
        await store.write_models([], ["b"])
        await store.intend_worker(ROW)
        await store.worker_started("w1", 42, 7.5)
        await store.add_usage([Usage("a", 2, 1, 30, 1, 0.5, 9.0), Usage("a", 1, last_used_at=3.0)])
        assert [await store.next_epoch("a") for _ in range(3)] == [1, 2, 3]

    async def read(store: Store) -> None:
        assert store.pool_id == seen[0]
        assert await store.models() == (full,)
        (row,) = await store.workers()
        assert (row.pid, row.create_time, row.state, row.secret) == (42, 7.5, "started", "s3cret")
        assert await store.usage() == {"a": Usage("a", 3, 1, 30, 1, 0.5, 9.0)}
        assert await store.next_epoch("a") == 4
        await store.forget_worker("w1")
        await store.forget_worker("w1")
        assert await store.workers() == ()

    with_store(path, write)
    with_store(path, read)


def test_files_are_the_owners_alone_and_in_wal_mode(path: Path) -> None:
    async def scene(store: Store) -> None:
        await store.intend_worker(ROW)
        side_files = sorted(p.name for p in path.parent.iterdir())
        assert side_files == ["pool.db", "pool.db-shm", "pool.db-wal", "pool.db.lock"]
        modes = {stat.S_IMODE(p.stat().st_mode) for p in path.parent.iterdir()}
        assert modes == {0o600}

    with_store(path, scene)


def test_the_secret_is_not_shown() -> None:
    assert "s3cret" not in repr(ROW)


def test_concurrent_use(path: Path) -> None:
    async def scene(store: Store) -> None:
        epochs = await asyncio.gather(*(store.next_epoch("a") for _ in range(50)))
        assert sorted(epochs) == list(range(1, 51))
        adds = (store.add_usage([Usage("a", 1)]) for _ in range(50))
        writes = (store.write_models([model(f"m{i}")]) for i in range(50))
        await asyncio.gather(*adds, *writes)
        assert (await store.usage())["a"].requests == 50
        assert len(await store.models()) == 50

    with_store(path, scene)


def test_a_caller_that_leaves_takes_nothing_back(path: Path) -> None:
    async def scene(store: Store) -> None:
        task = asyncio.ensure_future(store.write_models([model("a")]))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert [m.model_id for m in await store.models()] == ["a"]

    with_store(path, scene)


def test_close_finishes_what_was_asked_for(path: Path) -> None:
    async def scene(store: Store) -> None:
        tasks = [asyncio.ensure_future(store.add_usage([Usage("a", 1)])) for _ in range(20)]
        await asyncio.sleep(0)
        await store.close()
        await store.close()
        await asyncio.gather(*tasks)
        with pytest.raises(StoreError, match="is closed"):
            await store.usage()

    async def check(store: Store) -> None:
        assert (await store.usage())["a"].requests == 20

    with_store(path, scene)
    with_store(path, check)


def test_a_write_that_fails_leaves_nothing(path: Path) -> None:
    async def scene(store: Store) -> None:
        await store.write_models([model("a")])
        db = store._database._db

        def full() -> None:
            pages = db.execute("PRAGMA page_count").fetchone()[0]
            db.execute(f"PRAGMA max_page_count = {pages}")

        await store._run(full)
        big = [model(f"m{i}", metadata={"x": "y" * 5000}) for i in range(20)]
        with pytest.raises(StoreError, match=r"pool\.db: cannot be written: the disk is full"):
            await store.write_models(big, ["a"])
        assert [m.model_id for m in await store.models()] == ["a"]

    with_store(path, scene)


def test_a_read_only_database(path: Path) -> None:
    async def scene(store: Store) -> None:
        await store._run(store._database._db.execute, "PRAGMA query_only = 1")
        with pytest.raises(StoreError, match="read-only"):
            await store.next_epoch("a")

    with_store(path, scene)


def refused(path: Path) -> str:
    with pytest.raises(StoreError) as caught:
        asyncio.run(Store.open(path))
    StoreLock(path).acquire()  # it was let go
    return caught.value.message


def test_what_is_no_database(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"not a database, certainly, " * 100)
    assert refused(path).startswith(f"{path}: is corrupt")


def test_a_database_with_a_hole(path: Path) -> None:
    async def fill(store: Store) -> None:
        await store.write_models([model(f"m{i}", metadata={"x": "y" * 3000}) for i in range(50)])

    with_store(path, fill)
    with path.open("r+b") as file:
        file.seek(8 * 4096)
        file.write(b"\xff" * 4096 * 8)
    assert "is corrupt" in refused(path)


def test_a_model_that_cannot_be_read(path: Path) -> None:
    async def spoil(store: Store) -> None:
        await store.write_models([model("a")])
        sql = "UPDATE models SET data = '{\"model_id\": 3'"
        await store._run(store._database._db.execute, sql)
        with pytest.raises(StoreError, match="the model 'a' cannot be read"):
            await store.models()

    with_store(path, spoil)


def test_documents_as_texts(tmp_path: Path) -> None:
    async def main() -> None:
        store = await Store.open(tmp_path / "pool.db")
        await store.write_documents("kind", {"a": {"n": 1}})
        texts = await store.document_texts("kind")
        assert {key: json.loads(text) for key, text in texts.items()} == {"a": {"n": 1}}
        assert await store.document_texts("other") == {}
        await store.write_documents("odd", {"a": {"n": math.inf}})  # no JSON for SQLite
        assert json.loads((await store.document_texts("odd"))["a"]) == {"n": math.inf}
        with sqlite3.connect(store.path) as db:
            db.execute("UPDATE documents SET data = '{' WHERE key = 'a'")
        with pytest.raises(StoreError, match="the kind 'a' cannot be read"):
            await store.document_texts("kind")
        await store.close()

    asyncio.run(main())


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be opened"):
        asyncio.run(Store.open(tmp_path / "file" / "pool.db"))
    (tmp_path / "folder.db").mkdir()
    assert "cannot be opened" in refused(tmp_path / "folder.db")


def test_an_old_database_is_brought_up_to_date(path: Path) -> None:
    path.parent.mkdir()
    old = sqlite3.connect(path, isolation_level=None)
    assert migrate(old, MIGRATIONS[:1]) == ["models_and_meta"]
    (pool_id,) = old.execute("SELECT value FROM meta").fetchone()
    old.close()

    async def scene(store: Store) -> None:
        assert store.pool_id == pool_id
        assert await store.next_epoch("a") == 1
        assert await store.usage() == {}

    with_store(path, scene)


def test_migrations_are_applied_once_and_all_or_none() -> None:
    db = sqlite3.connect(":memory:", isolation_level=None)

    def breaks(db: sqlite3.Connection) -> None:
        db.execute("CREATE TABLE half (x)")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        migrate(db, (*MIGRATIONS, breaks))
    assert db.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    assert migrate(db) == [m.__name__ for m in MIGRATIONS]
    assert migrate(db) == []
    with pytest.raises(NewerDatabase, match="usage"):
        migrate(db, MIGRATIONS[:2])
    db.close()


def test_a_newer_database_is_refused(path: Path) -> None:
    path.parent.mkdir()
    newer = sqlite3.connect(path, isolation_level=None)
    migrate(newer)
    newer.execute("INSERT INTO migrations VALUES ('time_travel', 0)")
    newer.close()
    assert "was written by a newer version (it has time_travel)" in refused(path)


def test_one_manager_per_database(path: Path) -> None:
    async def scene(store: Store) -> None:
        with pytest.raises(PoolAlreadyRunning, match=f"process {os.getpid()}") as caught:
            await Store.open(path)
        assert caught.value.pid == os.getpid()
        await store.next_epoch("a")

    with_store(path, scene)
    with_store(path, Store.models)  # type: ignore[arg-type]


def test_the_lock_dies_with_its_holder(path: Path) -> None:
    path.parent.mkdir()
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(PoolAlreadyRunning) as caught:
            asyncio.run(Store.open(path))
        assert caught.value.pid == holder.pid
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with_store(path, Store.models)  # type: ignore[arg-type]


def test_repr_says_where_and_whether_open(path: Path) -> None:
    async def scene(store: Store) -> None:
        assert repr(store) == f"<Store {path} open>"
        await store.close()
        assert repr(store) == f"<Store {path} closed>"

    with_store(path, scene)
