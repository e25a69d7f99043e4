"""What an entry of the catalog said before it was changed, for whoever wants that back."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from modelpool_client.errors import NotFound

from .model import Model

MOST_VERSIONS = 20


class VersionStore(Protocol):
    """Where versions outlive the manager."""

    async def documents(self, kind: str) -> dict[str, Any]: ...
    async def write_documents(
        self, kind: str, put: Mapping[str, Any], drop: Collection[str] = ()
    ) -> None: ...


@dataclass(frozen=True)
class Version:
    """A former entry, as a registration would hold it: without values from the environment.

    Attributes:
        number: the first is 1; a later change has a greater one.
        until: when it was replaced, seconds since 1970.
        is_whole: nothing in it came from the environment, so that it can be had back.
    """

    number: int
    until: float
    entry: Mapping[str, Any]
    is_whole: bool


class Versions:
    """The last ``MOST_VERSIONS`` former entries of each model."""

    def __init__(self, store: VersionStore) -> None:
        self._store = store

    async def of(self, model_id: str) -> list[Version]:
        """Newest first."""
        found = await self._store.documents(_kind(model_id))
        versions = [Version(int(key), **data) for key, data in found.items()]
        return sorted(versions, key=lambda v: -v.number)

    async def get(self, model_id: str, number: int) -> Version:
        """One of them.

        Raises:
            NotFound: there is none of that number, or it was too long ago.
        """
        versions = await self.of(model_id)
        for version in versions:
            if version.number == number:
                return version
        known = ", ".join(str(v.number) for v in versions) or "none"
        raise NotFound(f"{model_id} has no version {number}; there are: {known}", param="version")

    async def keep(self, former: Model, until: float) -> None:
        """An entry is about to be replaced; what is too much of the oldest is dropped."""
        before = await self.of(former.model_id)
        number = before[0].number + 1 if before else 1
        data = {
            "until": until,
            "entry": declared(former),
            "is_whole": former.shown_entry() == former.as_entry(),
        }
        stale = [str(v.number) for v in before[MOST_VERSIONS - 1 :]]
        await self._store.write_documents(_kind(former.model_id), {str(number): data}, stale)

    async def forget(self, model_id: str) -> None:
        """The model was deleted."""
        numbers = [str(v.number) for v in await self.of(model_id)]
        if numbers:
            await self._store.write_documents(_kind(model_id), {}, numbers)


def declared(model: Model) -> dict[str, Any]:
    """What people said of it: not what its file does."""
    said_by_file = {*model.from_file, "size_bytes"}
    return {k: v for k, v in model.shown_entry().items() if k not in said_by_file}


def _kind(model_id: str) -> str:
    return f"version of {model_id}"
