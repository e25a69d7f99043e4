"""The database's history: each function brings it one step further. Append, never change.

The names of the applied ones are in the table ``migrations``; a name that is not ours means that
a newer version wrote the database.
"""

from __future__ import annotations

import sqlite3
import time
import uuid
from collections.abc import Callable, Sequence

Migration = Callable[[sqlite3.Connection], None]


class NewerDatabase(Exception):
    """The database was written by a newer version; the text names its migrations."""


def models_and_meta(db: sqlite3.Connection) -> None:
    """The catalog, and who this pool is."""
    db.execute("CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")
    db.execute("INSERT INTO meta VALUES ('pool_id', ?)", (str(uuid.uuid4()),))
    db.execute(
        """CREATE TABLE models (
            model_id TEXT PRIMARY KEY,
            engine TEXT NOT NULL,
            model_type TEXT NOT NULL,
            origin TEXT NOT NULL,
            updated_at REAL NOT NULL,
            data TEXT NOT NULL
        ) WITHOUT ROWID"""
    )


def workers_and_epochs(db: sqlite3.Connection) -> None:
    """What a manager that comes later needs to adopt the workers of this one."""
    db.execute("CREATE TABLE epochs (model_id TEXT PRIMARY KEY, epoch INTEGER NOT NULL)")
    db.execute(
        """CREATE TABLE workers (
            worker_id TEXT PRIMARY KEY,
            pool_id TEXT NOT NULL,
            model_id TEXT NOT NULL,
            epoch INTEGER NOT NULL,
            port INTEGER NOT NULL,
            secret TEXT NOT NULL,
            boot_id TEXT NOT NULL,
            pid INTEGER,
            create_time REAL,
            runtime_dir TEXT NOT NULL,
            exit_record TEXT NOT NULL,
            log_path TEXT NOT NULL,
            started_at REAL NOT NULL,
            state TEXT NOT NULL
        ) WITHOUT ROWID"""
    )


def usage(db: sqlite3.Connection) -> None:
    """Use statistics per model; they outlive the model's entry."""
    db.execute(
        """CREATE TABLE usage (
            model_id TEXT PRIMARY KEY,
            requests INTEGER NOT NULL DEFAULT 0,
            errors INTEGER NOT NULL DEFAULT 0,
            tokens INTEGER NOT NULL DEFAULT 0,
            loads INTEGER NOT NULL DEFAULT 0,
            latency_seconds REAL NOT NULL DEFAULT 0,
            last_used_at REAL NOT NULL DEFAULT 0
        ) WITHOUT ROWID"""
    )


def event_history(db: sqlite3.Connection) -> None:
    """What happened, with reasons: per model, and for those who resume after a restart."""
    db.execute(
        """CREATE TABLE events (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            run TEXT NOT NULL,
            serial INTEGER NOT NULL,
            name TEXT NOT NULL,
            model_id TEXT NOT NULL,
            at REAL NOT NULL,
            moved INTEGER NOT NULL,
            data TEXT NOT NULL
        )"""
    )
    db.execute("CREATE INDEX events_of_model ON events (model_id, number)")
    db.execute("CREATE INDEX events_of_run ON events (run, serial)")
    db.execute("CREATE INDEX events_by_age ON events (at)")


def habits(db: sqlite3.Connection) -> None:
    """How often each model is used in each hour of the week, as JSON."""
    db.execute("CREATE TABLE habits (model_id TEXT PRIMARY KEY, usual TEXT NOT NULL) WITHOUT ROWID")


def memory_peaks(db: sqlite3.Connection) -> None:
    """The most that each model took of each device, by its file and the options of its load."""
    db.execute(
        """CREATE TABLE peaks (
            model_id TEXT NOT NULL,
            fingerprint TEXT NOT NULL,
            options TEXT NOT NULL,
            device TEXT NOT NULL,
            peak_bytes INTEGER NOT NULL,
            samples INTEGER NOT NULL,
            worked INTEGER NOT NULL,
            updated_at REAL NOT NULL,
            PRIMARY KEY (model_id, fingerprint, options, device)
        ) WITHOUT ROWID"""
    )


def documents(db: sqlite3.Connection) -> None:
    """What is kept whole and read whole, by kind and key, as JSON: jobs, findings, profiles."""
    db.execute(
        """CREATE TABLE documents (
            kind TEXT NOT NULL,
            key TEXT NOT NULL,
            updated_at REAL NOT NULL,
            data TEXT NOT NULL,
            PRIMARY KEY (kind, key)
        ) WITHOUT ROWID"""
    )


def usage_by_hour(db: sqlite3.Connection) -> None:
    """What models were used for, and what that cost: by hour and source, later by day."""
    counts = """requests INTEGER NOT NULL,
            errors INTEGER NOT NULL,
            prompt_tokens INTEGER NOT NULL,
            cached_tokens INTEGER NOT NULL,
            completion_tokens INTEGER NOT NULL,
            estimated INTEGER NOT NULL,
            seconds REAL NOT NULL,
            cost REAL NOT NULL,
            currency TEXT NOT NULL"""
    db.execute(
        f"""CREATE TABLE usage_hours (
            hour INTEGER NOT NULL,
            model_id TEXT NOT NULL,
            source TEXT NOT NULL,
            key TEXT NOT NULL,
            {counts},
            PRIMARY KEY (hour, model_id, source, key)
        ) WITHOUT ROWID"""
    )
    db.execute(
        f"""CREATE TABLE usage_days (
            day INTEGER NOT NULL,
            model_id TEXT NOT NULL,
            key TEXT NOT NULL,
            {counts},
            PRIMARY KEY (day, model_id, key, currency)
        ) WITHOUT ROWID"""
    )


MIGRATIONS: tuple[Migration, ...] = (
    models_and_meta,
    workers_and_epochs,
    usage,
    event_history,
    habits,
    memory_peaks,
    documents,
    usage_by_hour,
)


def migrate(db: sqlite3.Connection, migrations: Sequence[Migration] = MIGRATIONS) -> list[str]:
    """Bring the database up to date, all steps in one transaction; the names of those applied now.

    Raises:
        NewerDatabase: it holds migrations that this version does not know. Nothing was changed.
    """
    with db:
        db.execute("BEGIN IMMEDIATE")
        db.execute("CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY, applied_at REAL)")
        done = {name for (name,) in db.execute("SELECT name FROM migrations")}
        unknown = done - {m.__name__ for m in migrations}
        if unknown:
            raise NewerDatabase(", ".join(sorted(unknown)))
        return [_applied(db, m) for m in migrations if m.__name__ not in done]


def _applied(db: sqlite3.Connection, migration: Migration) -> str:
    migration(db)
    db.execute("INSERT INTO migrations VALUES (?, ?)", (migration.__name__, time.time()))
    return migration.__name__
