"""The tables of usage by hour and by day: what SQLite is asked about them. For ``Database``, on its
thread.

A row of an hour belongs to who has counted it, a worker or a manager, and holds all that this one
has counted so far: to write it again changes nothing, so that whatever is told twice counts once.
Rows of hours become rows of days after ``HOURS_KEPT_DAYS``. Hours and days are numbers since 1970,
in UTC.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

from .prices import DOLLARS

HOURS_OF_A_DAY = 24
HOURS_KEPT_DAYS = 7


@dataclass(frozen=True, slots=True)
class UsageHour:
    """What a model was used for in an hour, as far as one source has counted.

    Attributes:
        source: a worker's id, or that of a manager's run for what reached no worker.
        estimated: of the requests, those whose tokens were counted by pieces and bytes.
        seconds: from begin to end, over all requests.
        cost: in ``currency``, by the prices of when it was written.
        key: whose use it was; empty as long as there are no keys.
    """

    hour: int
    model_id: str
    source: str
    requests: int = 0
    errors: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    estimated: int = 0
    seconds: float = 0.0
    cost: float = 0.0
    currency: str = DOLLARS
    key: str = ""


@dataclass(frozen=True)
class UsageTotal:
    """What was used, over all that one of its names leaves out.

    Attributes:
        model_id: None: of all models; ``day`` and ``hour`` likewise. Of what is kept by day only
            the hour is the first of the day.
    """

    model_id: str | None
    day: int | None
    hour: int | None
    requests: int
    errors: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    estimated: int
    seconds: float
    cost: float
    currency: str


_NAMES = tuple(field.name for field in fields(UsageHour))
_PUT = f"""INSERT OR REPLACE INTO usage_hours ({", ".join(_NAMES)})
    VALUES ({", ".join(f":{name}" for name in _NAMES)})"""
_COUNTS = (
    *("requests", "errors", "prompt_tokens", "cached_tokens", "completion_tokens", "estimated"),
    *("seconds", "cost"),
)
_SUMS = ", ".join(f"sum({name}) AS {name}" for name in _COUNTS)
_ROLL = f"""INSERT INTO usage_days (day, model_id, key, currency, {", ".join(_COUNTS)})
    SELECT hour / {HOURS_OF_A_DAY}, model_id, key, currency, {_SUMS} FROM usage_hours
    WHERE hour < ? GROUP BY 1, 2, 3, 4
    ON CONFLICT DO UPDATE SET {", ".join(f"{n} = {n} + excluded.{n}" for n in _COUNTS)}"""
_ALL = f"""SELECT hour, hour / {HOURS_OF_A_DAY} AS day, model_id, currency, {", ".join(_COUNTS)}
    FROM usage_hours
    UNION ALL SELECT day * {HOURS_OF_A_DAY}, day, model_id, currency, {", ".join(_COUNTS)}
    FROM usage_days"""
PARTS = ("model", "day", "hour")
_COLUMNS = {"model": "model_id", "day": "day", "hour": "hour"}


def rolled_before(hour: int) -> int:
    """PURE. The first hour that is not kept as part of a day, when it is ``hour``."""
    return (hour // HOURS_OF_A_DAY - HOURS_KEPT_DAYS) * HOURS_OF_A_DAY


def put(db: sqlite3.Connection, rows: Sequence[UsageHour], hour: int, keep_days: int) -> None:
    """Write rows down, make days of old ones, and drop what is older than ``keep_days``. ``hour``
    is the present one; what comes for hours that are parts of days by now is too late."""
    first = rolled_before(hour)
    db.executemany(_PUT, [asdict(row) for row in rows if row.hour >= first])
    db.execute(_ROLL, (first,))
    db.execute("DELETE FROM usage_hours WHERE hour < ?", (first,))
    oldest = hour // HOURS_OF_A_DAY - keep_days
    db.execute("DELETE FROM usage_days WHERE day < ?", (oldest,))
    db.execute("DELETE FROM usage_hours WHERE hour < ?", (oldest * HOURS_OF_A_DAY,))


def since(db: sqlite3.Connection, hour: int) -> list[UsageHour]:
    """The rows of hours from that one on, as they were written."""
    found = db.execute(f"SELECT {', '.join(_NAMES)} FROM usage_hours WHERE hour >= ?", (hour,))
    return [UsageHour(*row) for row in found]


def totals(
    db: sqlite3.Connection,
    by: Sequence[str],
    since: int | None,
    until: int | None,
    model_id: str | None,
) -> list[UsageTotal]:
    """What was used from the hour ``since`` on and before ``until``, by any of ``PARTS`` and by
    currency; the newest first, then by name."""
    parts = [part for part in PARTS if part in by]
    wanted = ["hour >= ?", "hour < ?"]
    values: list[object] = [since or 0, 2**62 if until is None else until]
    if model_id is not None:
        wanted.append("model_id = ?")
        values.append(model_id)
    shown = ", ".join(
        _COLUMNS[part] if part in parts else f"NULL AS {_COLUMNS[part]}" for part in PARTS
    )
    groups = ", ".join([*(_COLUMNS[part] for part in parts), "currency"])
    order = "hour DESC, day DESC, model_id, currency"
    query = f"""SELECT * FROM (SELECT {shown}, {_SUMS}, currency FROM ({_ALL})
        WHERE {" AND ".join(wanted)} GROUP BY {groups}) ORDER BY {order}"""
    return [UsageTotal(*row) for row in db.execute(query, values)]
