"""What came of asking a model for a capability, and for which files, options and engine. PURE."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .memory_estimate import Key

# Under which the store keeps them: a document for each model, by its id.
DOCUMENTS = "probe"

# Works; refused: the engine or the worker says no; wrong: it answers, and not what was asked for;
# failed: it could not be found out, so that nothing follows from it.
Outcome = Literal["works", "refused", "wrong", "failed"]


@dataclass(frozen=True)
class ProbeResult:
    """One capability of a model, as a request for it went.

    Attributes:
        fingerprint, options: of ``memory_estimate.Key``: it holds for no other file, and for no
            other engine, source or options.
        engine_version: with which it was asked; empty where the engine does not say.
        reason: what the answer was.
        milliseconds: that the answer took.
        probed_at: seconds since 1970.
    """

    model_id: str
    fingerprint: str
    options: str
    engine_version: str
    capability: str
    outcome: Outcome
    reason: str
    milliseconds: float
    probed_at: float

    @property
    def key(self) -> Key:
        """What it holds for, but for the engine's version."""
        return Key(self.model_id, self.fingerprint, self.options)


def as_document(results: Iterable[ProbeResult]) -> list[dict[str, Any]]:
    """Plain JSON of a model's results."""
    return [dataclasses.asdict(result) for result in results]


def of_documents(documents: Mapping[str, Any]) -> Iterator[ProbeResult]:
    """The reverse, of all models; fields of other versions are ignored."""
    known = {f.name for f in dataclasses.fields(ProbeResult)}
    for document in documents.values():
        for result in document:
            yield ProbeResult(**{k: v for k, v in result.items() if k in known})
