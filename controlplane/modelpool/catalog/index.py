"""Models by every name they answer to. PURE; ``catalog`` keeps it true to the store."""

from __future__ import annotations

import itertools
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from modelpool_client.errors import InvalidRequest, ModelNotFound, ModelPoolError
from modelpool_client.surfaces.names import other_spelling

from .entry_schema import engine_name
from .model import CURRENT, Model, did_you_mean, near_names, printable
from .search import ANY, Facet, Search, facets_of, text_of, weight_of

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
    """Look-ups by id or alias cost the same however many models there are, and so does a page of
    all of them; a search looks only at those that have the rarest of what is asked for.

    Attributes:
        models: by id.
        ids: every id and alias -> id.
        edition: another number after every change.
        current: the id of the model that ``CURRENT`` stands for; empty where it stands for none.
    """

    def __init__(self, models: Iterable[Model] = ()) -> None:
        self.models: dict[str, Model] = {}
        self.ids: dict[str, str] = {}
        self.edition = 0
        self._order: list[str] = []
        self._facets: defaultdict[Facet, dict[str, None]] = defaultdict(dict)
        self._texts: dict[str, str] = {}
        self._listed: tuple[int, Sequence[Model]] = (-1, ())
        self._heaviest: tuple[int, Sequence[Model]] = (-1, ())
        self.current = ""
        self.put(models)

    def __repr__(self) -> str:
        return f"<Index {len(self.models)} models, {len(self.ids)} names>"

    def find(self, name: str) -> Model | None:
        """The model with that id or alias, if there is one; failing that, the one that has it with
        or without ``:latest``, or behind the name of its engine: ``llama.cpp:m``."""
        model_id = self.ids.get(name)
        if model_id is None:
            model_id = self.ids.get(other_spelling(name) or name)
        if model_id is None:
            return self.models.get(self.current) if name == CURRENT else self._of_engine(name)
        return self.models[model_id]

    def _of_engine(self, name: str) -> Model | None:
        engine, mark, rest = name.partition(":")
        model_id = self.ids.get(rest) if mark else None
        if model_id is None or self.models[model_id].engine != engine_name(engine):
            return None
        return self.models[model_id]

    def put(self, models: Iterable[Model]) -> None:
        """Insert or replace models whose names do not clash."""
        put = {m.model_id: m for m in models}
        new = [model_id for model_id in put if model_id not in self.models]
        self._unname(put)
        for model in put.values():
            self._name(model)
        if len(new) < len(self._order):
            for model_id in new:
                insort(self._order, model_id)
        else:
            self._order = sorted((*self._order, *new))

    def drop(self, model_ids: Iterable[str]) -> None:
        """Remove models; unknown ids are no matter."""
        gone = [i for i in dict.fromkeys(model_ids) if i in self.models]
        self._unname(gone)
        for model_id in gone:
            del self._order[bisect_left(self._order, model_id)]

    def _name(self, model: Model) -> None:
        self.edition += 1
        self.models[model.model_id] = model
        self.ids |= dict.fromkeys(model.names, model.model_id)
        self._texts[model.model_id] = text_of(model)
        for facet in facets_of(model):
            self._facets[facet][model.model_id] = None

    def _unname(self, model_ids: Iterable[str]) -> None:
        for model_id in model_ids:
            model = self.models.pop(model_id, None)
            if model is None:
                continue
            self.edition += 1
            for name in model.names:
                del self.ids[name]
            del self._texts[model_id]
            for facet in facets_of(model):
                self._facets[facet].pop(model_id, None)
                if not self._facets[facet]:
                    del self._facets[facet]

    @property
    def listed(self) -> Sequence[Model]:
        """All of them, by id; made once for each edition."""
        if self._listed[0] != self.edition:
            self._listed = (self.edition, [self.models[i] for i in self._order])
        return self._listed[1]

    @property
    def heaviest(self) -> Sequence[Model]:
        """All of them, those of the greatest weight first; sorted once for each edition."""
        if self._heaviest[0] != self.edition:
            found = sorted(self.listed, key=weight_of, reverse=True)
            self._heaviest = (self.edition, found)
        return self._heaviest[1]

    def search(self, search: Search) -> Sequence[Model]:
        """The models that meet it, by id."""
        if search == ANY:
            return self.listed
        found = self._with(search.facets)
        if search.q:
            part = search.q.casefold()
            found = [model_id for model_id in found if part in self._texts[model_id]]
        models = map(self.models.__getitem__, found)
        return [m for m in models if search.has_size(m)] if search.asks_size else [*models]

    def _with(self, facets: Collection[Facet]) -> list[str]:
        if not facets:
            return self._order
        least, *others = sorted((self._facets.get(f, {}) for f in facets), key=len)
        return sorted(set(least).intersection(*others))

    def with_all(self, facets: Iterable[Facet]) -> list[Model]:
        """The models that have all of at least one, by id."""
        return [self.models[i] for i in self._with(tuple(facets))]

    def some_with(
        self, any_of: Collection[Facet], all_of: Collection[Facet], looks: int
    ) -> list[Model]:
        """Models that have any of the one and all of the other, of the first ``looks`` that have
        the rarest of what all must have; in the order in which they came."""
        must = sorted((self._facets.get(f, {}) for f in all_of), key=len)
        may = [self._facets.get(f, {}) for f in any_of]
        looked_at = dict.fromkeys(
            itertools.islice(must[0] if must else itertools.chain(*may), looks)
        )
        return [
            self.models[i]
            for i in looked_at
            if any(i in each for each in may) and all(i in each for each in must)
        ]

    def counts(self, name: str) -> dict[str, int]:
        """How many models have each value of a field of ``search.facets_of``."""
        found = ((value, len(ids)) for (field, value), ids in self._facets.items() if field == name)
        return dict(sorted(found))

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

    def missing(self, name: str) -> ModelPoolError:
        """The error for a name that nobody has, with near ones in ``details["near"]``."""
        if name == CURRENT:
            text = f"no model is {CURRENT!r}: name one, or switch to one with POST"
            return InvalidRequest(
                f"{text} /api/v1/models/switch", param="model", code="no_current_model"
            )
        near = near_names(name, self.ids)
        shown = name if len(name) <= SHOWN_CHARACTERS else f"{name[:SHOWN_CHARACTERS]}…"
        text = f"there is no model {printable(shown)!r}{did_you_mean(name, near)}"
        return ModelNotFound(text, param="model", details={"near": near} if near else None)
