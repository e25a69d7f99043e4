"""PURE: what is told of a worker, and what must change so that a registry lists what it should."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelpool_client import __version__

from modelpool.pool.states import State

BASE_PATH = "/v1"
LISTS = frozenset({"aliases", "capabilities"})


@dataclass(frozen=True)
class Record:
    """One HOT worker, as every registry gets it. It never holds a secret.

    Attributes:
        id: the worker's; it stays the same when another manager adopts the worker.
        base_path: below it are the routes of OpenAI's API.
        pool: id of the pool's database; a registry may serve several pools.
        node: host name of the machine.
        started_at: when the worker was started, ISO 8601 in UTC.
    """

    id: str
    model: str
    engine: str
    host: str
    port: int
    pool: str
    node: str
    started_at: str
    aliases: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    scheme: str = "http"
    base_path: str = BASE_PATH
    state: str = State.HOT.value
    version: str = __version__

    @property
    def address(self) -> str:
        """``host:port``, with brackets around an IPv6 address."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """Where the worker answers, without the base path."""
        return f"{self.scheme}://{self.address}"

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        values = dataclasses.asdict(self)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def read_record(data: object) -> Record | None:
    """The reverse of ``as_dict``; None for what we would not have written so."""
    if not isinstance(data, Mapping) or set(data) != {f.name for f in dataclasses.fields(Record)}:
        return None
    if not all(_has_its_type(key, value) for key, value in data.items()):
        return None
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
    return Record(**values)


def _has_its_type(key: str, value: object) -> bool:
    if key in LISTS:
        return isinstance(value, list) and all(isinstance(each, str) for each in value)
    return type(value) is (int if key == "port" else str)


@dataclass(frozen=True)
class Changes:
    """What makes a registry list what is wanted. ``keep`` is right already, and only renewed."""

    remove: tuple[str, ...] = ()
    put: tuple[Record, ...] = ()
    keep: tuple[Record, ...] = ()


def difference(wanted: Mapping[str, Record], found: Mapping[str, Record | None]) -> Changes:
    """``found``: what is listed for the pool, by id; None for an entry that is to be written
    anew whatever it says."""
    right = [i for i in wanted if found.get(i) == wanted[i]]
    return Changes(
        remove=tuple(i for i in found if i not in wanted),
        put=tuple(wanted[i] for i in wanted if i not in right),
        keep=tuple(wanted[i] for i in right),
    )
