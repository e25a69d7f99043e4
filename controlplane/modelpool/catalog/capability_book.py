"""Remembers what engines said and probes found, so that any model can be judged by all of it."""

from __future__ import annotations

import dataclasses
import os
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from .capabilities import Detected, Evidence, outcome
from .memory_estimate import key_of
from .model import Model
from .model_info import ModelInfo
from .probe_results import DOCUMENTS, ProbeResult, as_document, of_documents

CAPABILITIES_FIELD = "capabilities"


@dataclass(frozen=True)
class EngineFacts:
    """What an engine says of itself: what its models can do at most, and its version."""

    capabilities: frozenset[str] = frozenset()
    version: str = ""


AskEngine = Callable[[str], Awaitable[EngineFacts | None]]


async def nothing_known(name: str) -> None:
    """Of any engine."""


class DocumentStore(Protocol):
    """Where results outlive the manager."""

    async def documents(self, kind: str) -> dict[str, Any]: ...
    async def write_documents(
        self, kind: str, put: Mapping[str, Any], drop: Collection[str] = ()
    ) -> None: ...


class CapabilityBook:
    """``ask_engine`` tells of an engine by its name, None where nobody knows; without a ``store``
    what probes found is forgotten with the book."""

    def __init__(
        self, ask_engine: AskEngine = nothing_known, store: DocumentStore | None = None
    ) -> None:
        self._ask_engine = ask_engine
        self._store = store
        # The latest of each model and capability.
        self._results: defaultdict[str, dict[str, ProbeResult]] = defaultdict(dict)

    async def open(self) -> None:
        """Read what former managers have found."""
        if self._store is not None:
            self.learn(of_documents(await self._store.documents(DOCUMENTS)))

    def learn(self, results: Iterable[ProbeResult]) -> None:
        """Take in what probes found; of two of the same the later counts."""
        for result in results:
            self._results[result.model_id][result.capability] = result

    async def record(self, model_id: str, results: Iterable[ProbeResult]) -> None:
        """Learn what was found of a model, and write it down.

        Raises:
            StoreError: it is not written down; it counts until the manager ends.
        """
        self.learn(results)
        if self._store is not None:
            document = as_document(self._results[model_id].values())
            await self._store.write_documents(DOCUMENTS, {model_id: document})

    def reason(self, model_id: str, capability: str) -> str:
        """What came of asking the model for it; empty where nobody has."""
        found = self._results.get(model_id, {}).get(capability)
        return found.reason if found is not None else ""

    async def forget(self, model_id: str) -> None:
        """The model is gone.

        Raises:
            StoreError: for the next manager it is not.
        """
        if self._results.pop(model_id, None) and self._store is not None:
            await self._store.write_documents(DOCUMENTS, {}, (model_id,))

    async def engine(self, name: str) -> EngineFacts:
        """What is known of it."""
        return await self._ask_engine(name) or EngineFacts()

    async def evidence(self, model: Model, info: ModelInfo | None, digest: str) -> Evidence:
        """All that is known of the model; ``digest`` is of its present files."""
        engine = await self.engine(model.engine)
        return Evidence(
            declared=model.owner_capabilities,
            info=info,
            options=model.options,
            names=names_of(model, info),
            engine=model.engine,
            engine_can=engine.capabilities or None,
            probes=self.current(model, digest, engine.version),
        )

    def current(self, model: Model, digest: str, version: str) -> tuple[ProbeResult, ...]:
        """The results that hold for the model as it is now."""
        key = key_of(model, digest)
        return tuple(r for r in self._of(model) if r.key == key and r.engine_version == version)

    def stale(self, model: Model, digest: str, version: str) -> tuple[ProbeResult, ...]:
        """Those that held for other files, options or another version of the engine."""
        now = self.current(model, digest, version)
        return tuple(r for r in self._of(model) if r not in now)

    def _of(self, model: Model) -> Collection[ProbeResult]:
        return self._results[model.model_id].values() if model.model_id in self._results else ()

    async def judged(self, model: Model, info: ModelInfo | None, digest: str) -> Model:
        """The model with what it can do, by all that is known of it."""
        return judged(model, outcome(await self.evidence(model, info, digest)))


def judged(model: Model, detected: Detected) -> Model:
    """The model with what was found of it in the place of what it was said to do. PURE."""
    declared = model.owner_capabilities
    found, presumed = detected.capabilities, detected.presumed
    others = tuple(f for f in model.from_file if f != CAPABILITIES_FIELD)
    if set(found) == set(declared):  # in the order of its owner
        found = declared
    values: dict[str, Any] = {
        "capabilities": found,
        "declared_capabilities": declared if found != declared else (),
        "presumed_capabilities": presumed,
        "denied_capabilities": detected.denied,
        "from_file": others if declared or not found else (*others, CAPABILITIES_FIELD),
    }
    is_known = all(getattr(model, name) == value for name, value in values.items())
    return model if is_known else dataclasses.replace(model, **values)


def names_of(model: Model, info: ModelInfo | None) -> tuple[str, ...]:
    """What the model is called by those who made it, then by whoever registered it. PURE."""
    stem = os.path.basename(model.source) if os.path.isabs(model.source) else model.source
    named = (stem, info.name if info is not None else None, model.model_id)
    return tuple(dict.fromkeys(name for name in named if name))
