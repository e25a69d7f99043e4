"""The SQLite file itself: synchronous, bound to the thread that opened it. See ``store``.

Every change is one transaction: it is there as a whole or not at all.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import event_rows, usage_rows
from .event_rows import EventRow, Page
from .lock import StoreLock
from .memory_estimate import Peak
from .migrations import migrate
from .model import Model
from .usage_rows import UsageHour, UsageTotal

BUSY_TIMEOUT_SECONDS = 5.0
CACHE_KIB = 256


@dataclass(frozen=True)
class WorkerRow:
    """One worker as a later manager finds it. Times are seconds since 1970, ``create_time`` as the
    launcher counts it.

    ``pid`` and ``create_time`` are None between the intent and the start; ``boot_id`` tells
    whether they can still mean anything.
    """

    worker_id: str
    pool_id: str
    model_id: str
    epoch: int
    port: int
    secret: str = dataclasses.field(repr=False)
    boot_id: str = ""
    pid: int | None = None
    create_time: float | None = None
    runtime_dir: str = ""
    exit_record: str = ""
    log_path: str = ""
    started_at: float = 0.0
    state: str = "intended"


@dataclass(frozen=True)
class Usage:
    """What a model was used for: a total, or what to add to one."""

    model_id: str
    requests: int = 0
    errors: int = 0
    tokens: int = 0
    loads: int = 0
    latency_seconds: float = 0.0
    last_used_at: float = 0.0


class CorruptDatabase(Exception):
    """The file is a database, but what it holds cannot be right."""


def _columns(cls: type[Any]) -> tuple[str, ...]:
    return tuple(f.name for f in dataclasses.fields(cls))


def _insert(cls: type[Any], table: str) -> str:
    names = _columns(cls)
    holes = ", ".join(f":{n}" for n in names)
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES ({holes})"


PUT_MODEL = """INSERT OR REPLACE INTO models
    (model_id, engine, model_type, origin, updated_at, data) VALUES (?, ?, ?, ?, ?, ?)"""
PUT_WORKER = _insert(WorkerRow, "workers").replace("INSERT", "INSERT OR REPLACE", 1)
ADD_USAGE = f"""{_insert(Usage, "usage")} ON CONFLICT (model_id) DO UPDATE SET
    requests = requests + excluded.requests,
    errors = errors + excluded.errors,
    tokens = tokens + excluded.tokens,
    loads = loads + excluded.loads,
    latency_seconds = latency_seconds + excluded.latency_seconds,
    last_used_at = max(last_used_at, excluded.last_used_at)"""
# As ``Peak.__or__`` has it.
ADD_PEAK = f"""{_insert(Peak, "peaks")} ON CONFLICT DO UPDATE SET
    peak_bytes = max(peak_bytes, excluded.peak_bytes),
    samples = samples + excluded.samples,
    worked = max(worked, excluded.worked),
    updated_at = max(updated_at, excluded.updated_at)"""
READ_DOCUMENTS = "SELECT key, data FROM documents WHERE kind = ? ORDER BY updated_at, key"
# Such as infinite numbers, which a stranger's file may hold: Python writes and reads them.
FIND_ODD = "SELECT key, data FROM documents WHERE kind = ? AND NOT json_valid(data)"
DROP_DOCUMENT = "DELETE FROM documents WHERE kind = ? AND key = ?"
NEXT_EPOCH = """INSERT INTO epochs VALUES (?, 1)
    ON CONFLICT (model_id) DO UPDATE SET epoch = epoch + 1"""


class Database:
    """One open connection and the lock that makes it the only manager's."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pool_id = ""
        self._lock = StoreLock(path)
        self._connection: sqlite3.Connection | None = None

    def open(self) -> None:
        """Make folder and file where they are missing, lock, check and migrate."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock.acquire()
        # The workers' secrets are in it; SQLite gives its side files the same mode.
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        db = sqlite3.connect(self.path, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None)
        self._connection = db
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        # Its default would grow for an hour, and the kernel has the file in memory anyway.
        db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        _check(db)
        migrate(db)
        (self.pool_id,) = self._one("SELECT value FROM meta WHERE key = 'pool_id'")

    def close(self) -> None:
        """Close the file, then let go of the lock."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._lock.release()

    @property
    def _db(self) -> sqlite3.Connection:
        assert self._connection is not None
        return self._connection

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._db as db:
            db.execute("BEGIN IMMEDIATE")
            yield db

    def _one(self, query: str, *values: object) -> tuple[Any, ...]:
        row = self._db.execute(query, values).fetchone()
        if row is None:
            raise CorruptDatabase(f"nothing found by {query!r}")
        return tuple(row)

    def _rows(self, cls: type[Any], table: str, order: str) -> list[dict[str, Any]]:
        names = _columns(cls)
        query = f"SELECT {', '.join(names)} FROM {table} ORDER BY {order}"
        return [dict(zip(names, row, strict=True)) for row in self._db.execute(query)]

    def models(self) -> tuple[Model, ...]:
        """Every model, by id."""
        # A row at a time: all their texts at once would stay in the process's memory for good.
        rows = self._db.execute("SELECT model_id, data FROM models ORDER BY model_id")
        return tuple(_model(model_id, data) for model_id, data in rows)

    def write_models(self, put: Sequence[Model], drop: Sequence[str]) -> None:
        """Delete some, insert or replace others."""
        with self._transaction() as db:
            db.executemany("DELETE FROM models WHERE model_id = ?", [(i,) for i in drop])
            db.executemany("DELETE FROM peaks WHERE model_id = ?", [(i,) for i in drop])
            event_rows.forget(db, drop)
            db.executemany(PUT_MODEL, [_model_row(m) for m in put])

    def next_epoch(self, model_id: str) -> int:
        """Count up and return the new number."""
        with self._transaction() as db:
            db.execute(NEXT_EPOCH, (model_id,))
            (epoch,) = self._one("SELECT epoch FROM epochs WHERE model_id = ?", model_id)
        return int(epoch)

    def put_worker(self, row: WorkerRow) -> None:
        """Insert or replace a worker."""
        with self._transaction() as db:
            db.execute(PUT_WORKER, dataclasses.asdict(row))

    def worker_started(self, worker_id: str, pid: int, create_time: float) -> None:
        """Add the process to a worker's row."""
        with self._transaction() as db:
            db.execute(
                "UPDATE workers SET pid = ?, create_time = ?, state = 'started'"
                " WHERE worker_id = ?",
                (pid, create_time, worker_id),
            )

    def forget_worker(self, worker_id: str) -> None:
        """Delete a worker."""
        with self._transaction() as db:
            db.execute("DELETE FROM workers WHERE worker_id = ?", (worker_id,))

    def workers(self) -> tuple[WorkerRow, ...]:
        """Every worker, oldest first."""
        rows = self._rows(WorkerRow, "workers", "started_at, worker_id")
        return tuple(WorkerRow(**row) for row in rows)

    def add_usage(self, deltas: Iterable[Usage]) -> None:
        """Add each to its model's totals."""
        with self._transaction() as db:
            db.executemany(ADD_USAGE, [dataclasses.asdict(d) for d in deltas])

    def usage(self) -> dict[str, Usage]:
        """Totals by model id."""
        return {r["model_id"]: Usage(**r) for r in self._rows(Usage, "usage", "model_id")}

    def put_usage_hours(self, rows: Sequence[UsageHour], hour: int, keep_days: int) -> None:
        """See ``usage_rows.put``."""
        with self._transaction() as db:
            usage_rows.put(db, rows, hour, keep_days)

    def usage_hours_since(self, hour: int) -> list[UsageHour]:
        """See ``usage_rows.since``."""
        return usage_rows.since(self._db, hour)

    def usage_totals(
        self, by: Sequence[str], since: int | None, until: int | None, model_id: str | None
    ) -> list[UsageTotal]:
        """See ``usage_rows.totals``."""
        return usage_rows.totals(self._db, by, since, until, model_id)

    def usage_patterns(self) -> dict[str, str]:
        """What was learned of when each model is used; of those that are no more it is dropped."""
        with self._transaction() as db:
            db.execute("DELETE FROM habits WHERE model_id NOT IN (SELECT model_id FROM models)")
            return dict(db.execute("SELECT model_id, usual FROM habits").fetchall())

    def save_usage_patterns(self, patterns: Mapping[str, str]) -> None:
        """Replace what was learned of some models."""
        with self._transaction() as db:
            db.executemany("INSERT OR REPLACE INTO habits VALUES (?, ?)", list(patterns.items()))

    def add_peaks(self, peaks: Iterable[Peak]) -> None:
        """Take each together with what is known of the same."""
        with self._transaction() as db:
            db.executemany(ADD_PEAK, [dataclasses.asdict(p) for p in peaks])

    def peaks(self) -> list[Peak]:
        """All that was ever measured."""
        rows = self._rows(Peak, "peaks", "model_id, fingerprint, options, device")
        return [Peak(**(row | {"worked": bool(row["worked"])})) for row in rows]

    def documents(self, kind: str) -> dict[str, Any]:
        """All of a kind by key, as they were last put."""
        rows = self._db.execute(READ_DOCUMENTS, (kind,))
        return {key: _document(kind, key, data) for key, data in rows}

    def document_texts(self, kind: str) -> dict[str, str]:
        """The same, not read yet."""
        for key, data in self._db.execute(FIND_ODD, (kind,)):
            _document(kind, key, data)
        return dict(self._db.execute(READ_DOCUMENTS, (kind,)).fetchall())

    def write_documents(
        self, kind: str, put: Mapping[str, Any], drop: Sequence[str], at: float
    ) -> None:
        """Delete some, insert or replace others."""
        with self._transaction() as db:
            db.executemany(DROP_DOCUMENT, [(kind, key) for key in drop])
            rows = ((kind, key, at, json.dumps(data)) for key, data in put.items())
            db.executemany("INSERT OR REPLACE INTO documents VALUES (?, ?, ?, ?)", rows)

    def checkpoint(self) -> None:
        """Empty the write-ahead log into the file."""
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def append_events(self, rows: Sequence[EventRow], keep: int, oldest: float) -> None:
        """Add to the history within its bounds; see ``event_rows.append``."""
        with self._transaction() as db:
            event_rows.append(db, rows, keep, oldest)

    def forget_events(self, model_ids: Sequence[str]) -> None:
        """Drop the history of models, and of those that are no more."""
        with self._transaction() as db:
            event_rows.forget(db, model_ids)
            event_rows.tidy(db)

    def events_of(
        self, model_id: str, limit: int, before: int | None
    ) -> tuple[list[EventRow], float | None]:
        """See ``event_rows.of_model``."""
        return event_rows.of_model(self._db, model_id, limit, before)

    def events_after(self, run: str, serial: int, limit: int) -> Page:
        """See ``event_rows.after``."""
        return event_rows.after(self._db, run, serial, limit)


def _check(db: sqlite3.Connection) -> None:
    (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise CorruptDatabase(str(verdict))


def _model_row(model: Model) -> tuple[object, ...]:
    data = json.dumps(model.stored())
    key = (model.model_id, model.engine, model.model_type, model.origin)
    return (*key, model.updated_at, data)


def _model(model_id: str, data: str) -> Model:
    try:
        return Model.from_dict(json.loads(data))
    except (ValueError, TypeError, AttributeError) as e:
        raise CorruptDatabase(f"the model {model_id!r} cannot be read: {e}") from None


def _document(kind: str, key: str, data: str) -> Any:
    try:
        return json.loads(data)
    except ValueError as e:
        raise CorruptDatabase(f"the {kind} {key!r} cannot be read: {e}") from None
