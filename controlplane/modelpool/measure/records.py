"""What was measured of the models, in memory and in the store."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Protocol

from modelpool.catalog.profiles import Conditions, Profile, stale_reason, with_profile
from modelpool.catalog.tuned import Tuned, TunedOptions

PROFILES, TUNED = "profile", "tuned"


class DocumentStore(Protocol):
    """Where they outlive the manager."""

    async def documents(self, kind: str) -> dict[str, Any]: ...
    async def write_documents(
        self, kind: str, put: Mapping[str, Any], drop: Collection[str] = ()
    ) -> None: ...


class Measurements:
    """Profiles by model, and what was tuned, which ``tuned`` hands to everybody who starts one. The
    store first, then memory; what the store refuses raises StoreError."""

    def __init__(self, store: DocumentStore, tuned: TunedOptions) -> None:
        self._store = store
        self._profiles: dict[str, tuple[Profile, ...]] = {}
        self._searched: dict[tuple[str, str], Conditions] = {}
        self.tuned = tuned

    async def open(self) -> None:
        """Read what former managers measured."""
        for model_id, data in (await self._store.documents(PROFILES)).items():
            self._profiles[model_id] = tuple(map(Profile.from_dict, data["profiles"]))
        for model_id, data in (await self._store.documents(TUNED)).items():
            self.tuned.put(model_id, Tuned.from_dict(data))

    def profiles(self, model_id: str) -> tuple[Profile, ...]:
        """The newest first."""
        return self._profiles.get(model_id, ())

    async def add(self, model_id: str, profile: Profile) -> None:
        """One more profile of a model."""
        history = with_profile(self.profiles(model_id), profile)
        document = {"profiles": [p.as_dict() for p in history]}
        await self._store.write_documents(PROFILES, {model_id: document})
        self._profiles[model_id] = history

    async def keep(self, model_id: str, tuned: Tuned) -> None:
        """These options count from the next load on."""
        await self._store.write_documents(TUNED, {model_id: tuned.as_dict()})
        self.tuned.put(model_id, tuned)

    def note_search(self, model_id: str, goal: str, conditions: Conditions) -> None:
        """Options were looked for; what came of it holds under these. For as long as the manager
        runs: after that one more search does no harm."""
        self._searched[model_id, goal] = conditions

    def was_searched(self, model_id: str, goal: str, now: Conditions) -> bool:
        """Options for that goal were looked for, and it would be the same search today."""
        tuned, then = self.tuned.get(model_id), self._searched.get((model_id, goal))
        if then is not None:
            return not stale_reason(then, now)
        return tuned is not None and tuned.goal == goal and tuned.fingerprint == now.fingerprint

    async def undo(self, model_id: str) -> Tuned | None:
        """What was tuned counts no more; what it was, None where there was nothing."""
        await self._store.write_documents(TUNED, {}, (model_id,))
        return self.tuned.drop(model_id)

    async def forget(self, model_id: str) -> None:
        """The model was deleted."""
        if self.profiles(model_id):
            await self._store.write_documents(PROFILES, {}, (model_id,))
            self._profiles.pop(model_id, None)
        if self.tuned.get(model_id) is not None:
            await self.undo(model_id)
        for key in [key for key in self._searched if key[0] == model_id]:
            del self._searched[key]
