"""The contract of a registrar: it lists, writes and removes records, and decides nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from .record import Record


class RegistrarFailed(Exception):
    """The registry did not do what it was asked; the text says which one and why."""


class Refused(RegistrarFailed):
    """It answered, with a refusal. What concerns other records may still be done."""


class Registrar(Protocol):
    """One registry, for the records of one pool. Entries of others are none of its business.

    Every call ends within seconds, and raises ``RegistrarFailed`` where it could not be done.
    Entries live for ``ttl_seconds`` of the settings unless they are renewed, which happens at
    least three times as often.
    """

    async def find(self) -> Mapping[str, Record | None]:
        """What the registry lists for this pool, by id; None: an entry to be written anew."""
        ...

    async def put(self, record: Record) -> None:
        """List a record, or replace the one with its id."""
        ...

    async def keep(self, records: Sequence[Record]) -> None:
        """Renew entries that ``find`` has just listed."""
        ...

    async def remove(self, record_id: str) -> None:
        """List it no more; it may be gone already."""
        ...
