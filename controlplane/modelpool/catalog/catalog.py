"""The models and their names, in memory for everyone to read; the store first, then memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from modelpool_client.capabilities import word_of
from modelpool_client.errors import ModelExists

from .entry_schema import engine_name
from .import_report import ImportReport, conflict, exists, ids
from .index import Index
from .model import CURRENT, Model
from .parse_rules import DEFAULT_RULES, ParseRules, Problem, refuse
from .registry import file_entry, read_registry, registry_entry
from .search import Facet, Search, weight_of
from .store import Store
from .versions import Versions, declared

if TYPE_CHECKING:
    from modelpool.config_keys import PoolConfig

__all__ = ["Catalog", "ImportReport"]

Clock = Callable[[], float]
T = TypeVar("T")
Then: TypeAlias = Callable[[T], object]
list_: TypeAlias = list  # Catalog has a method of that name


class Catalog:
    """Every model by its id and aliases. Look-ups cost the same however many there are.

    Readable at any time from the event loop; changes wait for each other and for the store, and
    a change that the store refuses changes nothing. Each takes ``then``, which is called with its
    outcome before any other change begins, also where the caller has left meanwhile: whoever has to
    keep in step with the catalog does so in there.

    Attributes:
        admit: is given the ids of entries that are to be written, and raises why they may not be.
        versions: what entries said before they were changed.
        config_report: what the config file's models did to the stored ones at the start.
    """

    config_report = ImportReport()

    def __init__(
        self, store: Store, models: Iterable[Model] = (), clock: Clock = time.time
    ) -> None:
        self._store = store
        self._clock = clock
        self.admit: Callable[[Collection[str]], None] = lambda _: None
        self._changing = asyncio.Lock()
        self._tasks: set[asyncio.Future[Any]] = set()
        self._index = Index(models)
        self.versions = Versions(store)

    def __repr__(self) -> str:
        return f"<Catalog {len(self)} models, {len(self._index.ids)} names>"

    @classmethod
    async def open(
        cls, store: Store, config_models: Iterable[Model] = (), clock: Clock = time.time
    ) -> Catalog:
        """Read the store and bring the config file's models into it.

        Raises:
            Conflict: as ``adopt_config``.
        """
        catalog = await cls.stored(store, clock)
        catalog.config_report = await catalog.adopt_config(config_models)
        return catalog

    @classmethod
    async def stored(cls, store: Store, clock: Clock = time.time) -> Catalog:
        """As the last manager left it."""
        catalog = cls(store, await store.models(), clock)
        catalog._index.current = (await store.documents(CURRENT)).get(CURRENT, "")
        return catalog

    def __len__(self) -> int:
        return len(self._index.models)

    def __iter__(self) -> Iterator[Model]:
        return iter(tuple(self._index.models.values()))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.find(name) is not None

    def find(self, name: str) -> Model | None:
        """The model with that id or alias, if there is one."""
        return self._index.find(name)

    @property
    def by_id(self) -> Mapping[str, Model]:
        """All of them as they are now, without their aliases; to look at, not to change."""
        return MappingProxyType(self._index.models)

    def get(self, name: str) -> Model:
        """The model with that id or alias.

        Raises:
            ModelNotFound: with the names it may have meant in ``details["near"]``.
            InvalidRequest: no model is ``current``.
        """
        model = self.find(name)
        if model is None:
            raise self._index.missing(name)
        return model

    def list(
        self,
        *,
        engine: str | None = None,
        capability: str | None = None,
        tag: str | None = None,
        model_type: str | None = None,
        q: str | None = None,
        min_size_bytes: int | None = None,
        max_size_bytes: int | None = None,
    ) -> Sequence[Model]:
        """The models that meet every condition given, by id; see ``Search``.

        ``engine`` and ``capability`` take the other documents' words, too.
        """
        wanted = engine_name(engine) if engine is not None else None
        ability = word_of(capability) if capability is not None else None
        return self._index.search(
            Search(wanted, ability, tag, model_type, q, min_size_bytes, max_size_bytes)
        )

    @property
    def heaviest(self) -> Sequence[Model]:
        """All of them, those with the most weights first."""
        return self._index.heaviest

    def tagged(self, tags: Collection[str]) -> Sequence[Model]:
        """Those with all of the tags, in the same order."""
        return sorted(self._index.with_all(("tag", t) for t in tags), key=weight_of, reverse=True)

    def some_with(
        self, any_of: Collection[Facet], all_of: Collection[Facet], looks: int
    ) -> list_[Model]:
        """See ``Index.some_with``."""
        return self._index.some_with(any_of, all_of, looks)

    @property
    def current(self) -> Model | None:
        """The model that the alias ``current`` stands for."""
        return self._index.find(CURRENT)

    async def switch(self, name: str) -> tuple[Model | None, Model]:
        """Let the alias ``current`` stand for a model from now on; what it stood for, and that.

        Raises:
            ModelNotFound: there is none of that name.
        """

        async def change() -> tuple[Model | None, Model]:
            before, model = self.current, self.get(name)
            await self._store.write_documents(CURRENT, {CURRENT: model.model_id})
            self._index.current = model.model_id
            return before, model

        return await self._alone(change, None)

    def counts(self, name: str) -> dict[str, int]:
        """How many models have each ``engine``, ``capability``, ``tag`` or ``model_type``."""
        return self._index.counts(name)

    @property
    def edition(self) -> int:
        """Another number after every change."""
        return self._index.edition

    async def register(self, model: Model, then: Then[Model] | None = None) -> Model:
        """Add a model; what it is now is returned.

        Raises:
            ModelExists: the id is taken by a model.
            Conflict: a name is taken by another model.
        """

        async def change() -> Model:
            old = self._index.models.get(model.model_id)
            if old is not None and old.origin != "discovered":
                raise ModelExists(f"there is a model {model.model_id!r} already", param="model_id")
            return await self._put(model)

        return await self._alone(change, then)

    async def replace(
        self, model: Model, former: Model | None = None, then: Then[Model] | None = None
    ) -> Model:
        """Put another entry in the place of the one with this id, or only of ``former``.

        Raises:
            ModelNotFound: there is none, or it is ``former`` no more.
            Conflict: a name is taken by another model.
        """

        async def change() -> Model:
            old = self._index.models.get(model.model_id)
            if old is None or (former is not None and old is not former):
                raise self._index.missing(model.model_id)
            return await self._put(model)

        return await self._alone(change, then)

    async def delete(self, name: str, then: Then[Model] | None = None) -> Model:
        """Remove a model and return it. One of the config file is back at the next start.

        Raises:
            ModelNotFound: there is none.
        """

        async def change() -> Model:
            model = self.get(name)
            await self._write((), (model.model_id,))
            return model

        return await self._alone(change, then)

    async def adopt_found(
        self,
        models: Iterable[Model],
        then: Then[tuple[Model, ...]],
        before: Mapping[str, Model] | None = None,
    ) -> tuple[Model, ...]:
        """Add models that were found, or put them in the place of found ones with their ids, in one
        step. One whose name somebody else has, whose entry is nobody's to replace, or is another
        than ``before`` where that is said, is left out; those that were written are returned."""

        async def change() -> tuple[Model, ...]:
            fresh = [m for m in models if self._may_be_found(m)]
            if before is not None:
                now = self._index.models
                fresh = [m for m in fresh if now.get(m.model_id) is before.get(m.model_id)]
            clashing = {clash.model.model_id for clash in self._index.clashes(fresh)}
            put = tuple(self._stamped(m) for m in fresh if m.model_id not in clashing)
            await self._write(put, ())
            return put

        return await self._alone(change, then)

    def _may_be_found(self, model: Model) -> bool:
        old = self._index.models.get(model.model_id)
        return old is None or old.origin == "discovered"

    async def drop_found(
        self, models: Iterable[Model], then: Then[tuple[Model, ...]]
    ) -> tuple[Model, ...]:
        """Remove models that were found, in one step, but those that are others by now."""

        async def change() -> tuple[Model, ...]:
            gone = tuple(m for m in models if self._index.models.get(m.model_id) is m)
            await self._write((), ids(gone))
            return gone

        return await self._alone(change, then)

    def check_config(self, models: Iterable[Model]) -> None:
        """Raises what ``adopt_config`` at a start with these would raise; nothing is changed."""
        self._adoption(models, None)

    async def adopt_config(
        self,
        models: Iterable[Model],
        gone: Collection[str] | None = None,
        then: Then[ImportReport] | None = None,
    ) -> ImportReport:
        """Bring the config file's models in, all or none.

        Args:
            models: all that the file has; with ``gone`` those that are news.
            gone: what is removed of that which came from a config file; None: all that ``models``
                does not have.

        Raises:
            Conflict: a name of the config file belongs to a model registered at run time.
        """

        async def change() -> ImportReport:
            written, report = self._adoption(models, gone)
            await self._write(written, report.removed)
            return report

        return await self._alone(change, then)

    def _adoption(
        self, models: Iterable[Model], gone: Collection[str] | None
    ) -> tuple[tuple[Model, ...], ImportReport]:
        """What is to be written of them, and what changes by it."""
        ours = [m if m.origin == "config" else replace(m, origin="config") for m in models]
        new, changed, same = self._sorted_out(ours)
        former = {m.model_id for m in self if m.origin == "config"}
        stale = sorted(former - set(ids(ours)) if gone is None else former & set(gone))
        yielded = self._yielded((*new, *changed))
        for clash in self._index.clashes((*new, *changed, *yielded), stale):
            raise conflict(clash)
        return (*new, *changed, *yielded), ImportReport(
            ids(new), ids(changed), ids(same), tuple(stale)
        )

    async def import_registry(
        self,
        data: object,
        replace: bool = False,
        rules: ParseRules = DEFAULT_RULES,
        then: Then[ImportReport] | None = None,
    ) -> ImportReport:
        """Add the models of a registry file, all or none.

        Entries that say what is there already count as unchanged.

        Args:
            data: ``{"models": [entry, …]}``; see ``registry.read_registry`` for the entries.
            replace: whether an entry may take the place of a model with its id.

        Raises:
            InvalidRequest: with everything that is wrong in ``details["errors"]``.
        """

        async def change() -> ImportReport:
            models, problems = read_registry(data, self._index.models, rules)
            new, changed, same = self._sorted_out(map(self._of_same_origin, models))
            if not replace:
                problems += [exists(m) for m in changed]
            problems += [
                Problem("models", str(clash)) for clash in self._index.clashes((*new, *changed))
            ]
            refuse(problems)
            await self._write((*new, *changed), ())
            return ImportReport(ids(new), ids(changed), ids(same))

        return await self._alone(change, then)

    def registry_entries(self) -> Iterator[dict[str, Any]]:
        """By id; ``import_registry`` reads ``{"models": [entry, …]}``. They may be taken little by
        little while the catalog changes."""
        return map(registry_entry, self.list())

    def export_config(self, config: PoolConfig) -> dict[str, Any]:
        """A config file that makes a pool like this one, its models included, but for those that
        are found on the disk, which its ``discovery_paths`` bring."""
        made = config.providers
        own = [
            file_entry(m)
            for m in self.list()
            if m.origin != "discovered" and (m.served_by or m.model_id) not in made
        ]
        return config.as_file() | {"models": own}

    def _sorted_out(
        self, models: Iterable[Model]
    ) -> tuple[tuple[Model, ...], tuple[Model, ...], tuple[Model, ...]]:
        """New ones and changed ones, stamped, and those that are here already."""
        kinds: tuple[list_[Model], list_[Model], list_[Model]] = ([], [], [])
        for model in models:
            old = self._index.models.get(model.model_id)
            if old is not None and (old is model or old.same_content(model)):
                kinds[2].append(old)
            else:
                kinds[0 if old is None else 1].append(self._stamped(model))
        return tuple(kinds[0]), tuple(kinds[1]), tuple(kinds[2])

    def _of_same_origin(self, model: Model) -> Model:
        old = self.find(model.model_id)
        return model if old is None else model.succeeding(old)

    async def _put(self, model: Model) -> Model:
        yielded = self._yielded((model,))
        for clash in self._index.clashes((model, *yielded)):
            raise conflict(clash)
        stamped = self._stamped(model)
        await self._write((stamped, *yielded), ())
        return stamped

    def _yielded(self, put: Collection[Model]) -> tuple[Model, ...]:
        """Models that were found give up aliases that somebody declares for others."""
        named = {name for model in put for name in model.names}
        owners = {self._index.ids[n] for n in named & self._index.ids.keys()} - set(ids(put))
        found = (self._index.models[i] for i in owners)
        return tuple(
            replace(m, aliases=tuple(a for a in m.aliases if a not in named))
            for m in found
            if m.origin == "discovered" and m.model_id not in named
        )

    def _stamped(self, model: Model) -> Model:
        now = self._clock()
        old = self._index.models.get(model.model_id)
        return replace(model, created_at=old.created_at if old else now, updated_at=now)

    async def _write(self, put: Collection[Model], drop: Collection[str]) -> None:
        if put or drop:
            self.admit(ids(put))
            for old in [o for m in put if (o := self._replaced_by(m)) is not None]:
                await self.versions.keep(old, self._clock())
            await self._store.write_models(put, drop)
            self._index.drop(drop)
            self._index.put(put)

    def _replaced_by(self, model: Model) -> Model | None:
        """The entry that says other things than this one will in its place."""
        old = self._index.models.get(model.model_id)
        return old if old is not None and declared(old) != declared(model) else None

    async def _alone(self, change: Callable[[], Awaitable[T]], then: Then[T] | None) -> T:
        """Run a change with no other beside it, to its end even when the caller is cancelled:
        store and memory must not part."""

        async def run() -> T:
            async with self._changing:
                outcome = await change()
                if then is not None:
                    then(outcome)
                return outcome

        task = asyncio.ensure_future(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)
