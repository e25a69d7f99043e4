"""The copies of all models."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from modelpool.catalog.model import Model
from modelpool.pool.replica_set import ReplicaSet


class ReplicaSets:
    """By model id. Each is made when it is first asked for: of ten thousand models few are ever
    loaded, and to look through the others must not make anything for them."""

    def __init__(self, make: Callable[[Model, float], ReplicaSet]) -> None:
        """``make`` gets a model and since when it is there, in seconds since 1970."""
        self._make = make
        self._made: dict[str, ReplicaSet] = {}
        # Of the others: the model, and since when it is there.
        self._unused: dict[str, tuple[Model, float]] = {}

    def __repr__(self) -> str:
        return f"<ReplicaSets of {len(self)} models, {len(self._made)} made>"

    def __getitem__(self, model_id: str) -> ReplicaSet:
        copies = self._made.get(model_id)
        if copies is None:
            copies = self._made[model_id] = self._make(*self._unused[model_id])
            del self._unused[model_id]
        return copies

    def __contains__(self, model_id: object) -> bool:
        return model_id in self._made or model_id in self._unused

    def __iter__(self) -> Iterator[ReplicaSet]:
        """All of them, which makes all."""
        return map(self.__getitem__, (*self._made, *self._unused))

    def __len__(self) -> int:
        return len(self._made) + len(self._unused)

    def get(self, model_id: str) -> ReplicaSet | None:
        """None where there is no such model."""
        copies = self._made.get(model_id)
        return self[model_id] if copies is None and model_id in self._unused else copies

    def add(self, model: Model, now: float) -> None:
        """One that is new."""
        self._unused[model.model_id] = (model, now)

    def made(self, model_id: str) -> ReplicaSet | None:
        """None where none was needed yet: all its copies would be COLD, and never were anything
        else."""
        return self._made.get(model_id)

    def replace_unused(self, model: Model) -> bool:
        """Put another entry in the place of one for which nothing was made; whether it is one."""
        known = self._unused.get(model.model_id)
        if known is not None:
            self._unused[model.model_id] = (model, known[1])
        return known is not None

    def remove(self, model_id: str) -> None:
        """The model is gone."""
        self._made.pop(model_id, None)
        self._unused.pop(model_id, None)

    @property
    def models(self) -> list[Model]:
        """As the pool runs them."""
        unused = (model for model, _ in self._unused.values())
        return [*(copies.model for copies in self._made.values()), *unused]

    def model(self, model_id: str) -> Model:
        """As the pool runs it; KeyError where there is none."""
        copies = self._made.get(model_id)
        return copies.model if copies is not None else self._unused[model_id][0]
