"""Models by every name they answer to. PURE; ``catalog`` keeps it true to the store."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from modelpool_client.errors import ModelNotFound
from modelpool_client.surfaces.names import other_spelling

from .model import Model, did_you_mean, near_names, printable

SHOWN_CHARACTERS = 100


@dataclass(frozen=True)
class Clash:
    """A name that would have two owners: the newcomer's and that of the model ``owner``."""

    model: Model
    name: str
    owner: str

    def __str__(self) -> str:
        return f"{self.model.model_id!r} cannot be called {self.name!r}, a name of {self.owner!r}"


class Index:
    """Look-ups by id or alias cost the same however many models there are."""

    def __init__(self, models: Iterable[Model] = ()) -> None:
        self.models: dict[str, Model] = {}
        self.ids: dict[str, str] = {}  # every id and alias -> id
        self.put(models)

    def __repr__(self) -> str:
        return f"<Index {len(self.models)} models, {len(self.ids)} names>"

    def find(self, name: str) -> Model | None:
        """The model with that id or alias, if there is one; failing that, the one that has it with
        or without ``:latest``."""
        model_id = self.ids.get(name)
        if model_id is None:
            model_id = self.ids.get(other_spelling(name) or name)
        return None if model_id is None else self.models[model_id]

    def put(self, models: Iterable[Model]) -> None:
        """Insert or replace models whose names do not clash."""
        models = tuple(models)
        self.drop(m.model_id for m in models)
        for model in models:
            self.models[model.model_id] = model
            self.ids |= dict.fromkeys(model.names, model.model_id)

    def drop(self, model_ids: Iterable[str]) -> None:
        """Remove models; unknown ids are no matter."""
        for model_id in model_ids:
            model = self.models.pop(model_id, None)
            for name in model.names if model else ():
                del self.ids[name]

    def clashes(self, put: Iterable[Model], drop: Collection[str] = ()) -> Iterator[Clash]:
        """What would clash if some models were put and others dropped in one step."""
        put = tuple(put)
        leaving = {m.model_id for m in put} | set(drop)
        taken: dict[str, str] = {}
        for model in put:
            for name in model.names:
                owner = self.ids.get(name)
                owner = taken.get(name) if owner is None or owner in leaving else owner
                if owner is not None:
                    yield Clash(model, name, owner)
                taken.setdefault(name, model.model_id)

    def missing(self, name: str) -> ModelNotFound:
        """The error for a name that nobody has, with near ones in ``details["near"]``."""
        near = near_names(name, self.ids)
        shown = name if len(name) <= SHOWN_CHARACTERS else f"{name[:SHOWN_CHARACTERS]}…"
        text = f"there is no model {printable(shown)!r}{did_you_mean(name, near)}"
        return ModelNotFound(text, param="model", details={"near": near} if near else None)


def mentions(model: Model, part: str) -> bool:
    """Whether an id, alias, display name or tag holds the text, in any case."""
    part = part.casefold()
    return any(part in t.casefold() for t in (*model.names, model.display_name, *model.tags))
