"""Which models of the catalog are wanted, and in what order. PURE; ``index`` finds them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .model import Model, did_you_mean

MB = 1_000_000

# Of a field and one of its values: ``("tag", "code")``.
Facet = tuple[str, str]


@dataclass(frozen=True)
class Search:
    """Every condition that is given must be met; None and empty are no condition.

    Attributes:
        q: a part of an id, alias, display name or tag, in any case.
        min_size_bytes, max_size_bytes: of the model's files; one of unknown size meets neither.
    """

    engine: str | None = None
    capability: str | None = None
    tag: str | None = None
    model_type: str | None = None
    q: str | None = None
    min_size_bytes: int | None = None
    max_size_bytes: int | None = None

    @property
    def facets(self) -> list[Facet]:
        """The conditions that an index answers."""
        named = {
            name: getattr(self, name) for name in ("engine", "capability", "tag", "model_type")
        }
        return [(name, value) for name, value in named.items() if value is not None]

    @property
    def asks_size(self) -> bool:
        return self.min_size_bytes is not None or self.max_size_bytes is not None

    def has_size(self, model: Model) -> bool:
        """Whether the model is as large as is wanted."""
        low, high, size = self.min_size_bytes, self.max_size_bytes, model.size_bytes
        if not self.asks_size:
            return True
        return size is not None and (low is None or size >= low) and (high is None or size <= high)


ANY = Search()


def facets_of(model: Model) -> set[Facet]:
    """Those by which it is found."""
    several = [("tag", tag) for tag in model.tags]
    several += [("capability", capability) for capability in model.capabilities]
    return {("engine", model.engine), ("model_type", model.model_type), *several}


def weight_of(model: Model) -> float:
    """Bytes of its files, or what its owner says that it takes; 0 where nobody knows."""
    return model.size_bytes or (model.memory_mb or 0) * MB


def text_of(model: Model) -> str:
    """What is searched for a part of it, one line for each name and tag, in no case."""
    return "\n".join((*model.names, model.display_name, *model.tags)).casefold()


ORDERS: Mapping[str, Callable[[Model], Any]] = {
    "model_id": lambda m: m.model_id,
    "display_name": lambda m: (m.display_name or m.model_id).casefold(),
    "engine": lambda m: m.engine,
    "model_type": lambda m: m.model_type,
    "size": lambda m: m.size_bytes,
    "context_length": lambda m: m.context_length,
    "created_at": lambda m: m.created_at,
    "updated_at": lambda m: m.updated_at,
}


def ordered(models: Iterable[Model], by: str) -> list[Model]:
    """Models, given by id, in the order of a key of ``ORDERS``; with ``-`` before it the greatest
    comes first. Those that do not say it come last; among equals the order stays.

    Raises:
        ValueError: there is no such key.
    """
    key = ORDERS.get(by.removeprefix("-"))
    if key is None:
        known = ", ".join(ORDERS)
        raise ValueError(f"is none of {known}{did_you_mean(by, ORDERS)}")
    models = list(models)
    said = [model for model in models if key(model) is not None]
    unsaid = [model for model in models if key(model) is None]
    return [*sorted(said, key=key, reverse=by.startswith("-")), *unsaid]
