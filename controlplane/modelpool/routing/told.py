"""PURE. A decision of the router as answers, headers and events tell it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from .decision import Decision
from .features import Features


class Told(Mapping[str, Any]):
    """A decision as ``POST /route`` tells it, written when it is looked at."""

    def __init__(self, decision: Decision) -> None:
        self.decision = decision

    def __repr__(self) -> str:
        return f"<Told {self.decision.model_id}>"

    def __getitem__(self, key: str) -> Any:
        return self._written[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._written)

    def __len__(self) -> int:
        return len(self._written)

    @property
    def features(self) -> Features:
        """Of the request."""
        return self.decision.features

    @property
    def short(self) -> str:
        """In a line, for a header."""
        f, found = self.features, self.decision
        others = " ".join(s.model_id for s in found.runners_up)
        return (
            f"task={f.task.value}; complexity={f.complexity.value}; difficulty={f.difficulty:.2f};"
            f" confidence={found.confidence:.2f}; eligible={found.eligible}; runners_up={others}"
        )

    @cached_property
    def _written(self) -> dict[str, Any]:
        return self.decision.as_dict()
