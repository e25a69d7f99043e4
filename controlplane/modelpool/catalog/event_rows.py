"""The table of past events: what SQLite is asked about it. For ``Database``, on its thread.

``number`` grows by one with each event that is written and is never used again, so that numbers
which follow each other without a hole prove that nothing is missing between them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields

POOL = ""  # whose history the events are in that belong to no model
LAST_OF_A_RUN = "stopped"


@dataclass(frozen=True)
class EventRow:
    """One event as it is kept. ``run`` and ``serial`` are the two halves of its id.

    Attributes:
        model_id: whose history it is in, ``POOL`` for none's.
        at: seconds since 1970.
        moved: whether the model came into another state by it.
        data: all of it, as JSON.
        number: its place; 0 until it is written.
    """

    run: str
    serial: int
    name: str
    model_id: str
    at: float
    moved: bool
    data: str
    number: int = 0


@dataclass(frozen=True)
class Page:
    """Some of what was written after an event, oldest first.

    Attributes:
        first: the number that the first has when nothing is missing; None where nothing of the
            event's run is left.
        before: what comes before that number.
        ended: the runs that took their leave.
    """

    first: int | None = None
    rows: tuple[EventRow, ...] = ()
    before: EventRow | None = None
    ended: frozenset[str] = frozenset()


_NAMES = tuple(field.name for field in fields(EventRow))
_COLUMNS = ", ".join(_NAMES)
_TRIM = """DELETE FROM events WHERE model_id = ?1 AND number <=
    (SELECT number FROM events WHERE model_id = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2)"""
_EXPIRE = """DELETE FROM events WHERE number IN
    (SELECT number FROM events WHERE at < ? ORDER BY at LIMIT ?)"""
EXPIRED_PER_ROW = 2


def append(db: sqlite3.Connection, rows: Sequence[EventRow], keep: int, oldest: float) -> None:
    """Add some; of each model's the last ``keep`` stay. Those from before ``oldest`` go, two for
    each that is added."""
    db.executemany(
        "INSERT INTO events (run, serial, name, model_id, at, moved, data)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        [astuple(row)[:-1] for row in rows],
    )
    db.executemany(_TRIM, [(model_id, keep) for model_id in {row.model_id for row in rows}])
    # Never all at once: where the clock has leapt ahead everything looks old, and what is deleted
    # stays so when the clock is set right. Two for one still outpace what comes.
    db.execute(_EXPIRE, (oldest, EXPIRED_PER_ROW * len(rows)))


def of_model(
    db: sqlite3.Connection, model_id: str, limit: int, before: int | None
) -> tuple[list[EventRow], float | None]:
    """A model's events, newest first, and when it came into the state after the newest of them;
    None where that one lasts. ``before``: only those with a lower number."""
    where = "model_id = ? AND number < ?"
    below = before if before is not None else 1 << 62
    rows = _rows(db, f"{where} ORDER BY number DESC LIMIT ?", model_id, below, limit)
    after = db.execute(
        "SELECT at FROM events WHERE model_id = ? AND number >= ? AND moved ORDER BY number",
        (model_id, below),
    ).fetchone()
    return rows, after[0] if after else None


def after(db: sqlite3.Connection, run: str, serial: int, limit: int) -> Page:
    """The first ``limit`` that were written after an event."""
    (anchor,) = db.execute(
        "SELECT max(number) FROM events WHERE run = ? AND serial <= ?", (run, serial)
    ).fetchone()
    if anchor is None:  # itself never written: then the run's first is what follows
        (first,) = db.execute("SELECT min(number) FROM events WHERE run = ?", (run,)).fetchone()
        if first is None:
            return Page()
        anchor = first - 1
    rows = _rows(db, "number > ? ORDER BY number LIMIT ?", anchor, limit)
    before = _rows(db, "number <= ? ORDER BY number DESC LIMIT 1", anchor)
    ended = db.execute(
        "SELECT run FROM events WHERE model_id = ? AND name = ?", (POOL, LAST_OF_A_RUN)
    )
    return Page(
        anchor + 1, tuple(rows), next(iter(before), None), frozenset(run for (run,) in ended)
    )


def forget(db: sqlite3.Connection, model_ids: Sequence[str]) -> None:
    """Drop the history of models."""
    db.executemany("DELETE FROM events WHERE model_id = ?", [(i,) for i in model_ids])


def tidy(db: sqlite3.Connection) -> None:
    """Drop what a deleted model's worker did after the deletion, if the manager died in between."""
    db.execute(
        "DELETE FROM events WHERE model_id != ? AND model_id NOT IN (SELECT model_id FROM models)",
        (POOL,),
    )


def _rows(db: sqlite3.Connection, where: str, *values: object) -> list[EventRow]:
    found = db.execute(f"SELECT {_COLUMNS} FROM events WHERE {where}", values)
    return [EventRow(**dict(zip(_NAMES, row, strict=True))) for row in found]
