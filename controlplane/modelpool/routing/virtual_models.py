"""The virtual models in memory, for everyone to read; the store first, then memory.

Each has a document of its own in the store, with what it said before each of its last changes, so
that a change and its history are written in one step.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from modelpool_client.errors import (
    Conflict,
    InvalidRequest,
    ModelPoolError,
    NotFound,
    VersionMismatch,
)
from modelpool_client.surfaces.names import other_spelling

from modelpool.catalog.model import did_you_mean
from modelpool.catalog.value_checks import json_object

from .graph import circle, depth, missing
from .kinds.base import Kind
from .names import best_match, is_pattern
from .plan import MOST_DEEP
from .presets import BUILT_IN, MOST_PRESETS, find_preset, read_preset, unknown_preset
from .virtual_model import Origin, VirtualModel, read_virtual_model

DOCUMENTS = "virtual model"
# By no name that something has: what is tried may name what it would replace.
TRIED = "policy:tried"
PRESETS = "preset"
MOST_VERSIONS = 20
MOST_MODELS = 10_000
# Of those that were deleted the history is kept, so that a slip of the hand can be undone.
MOST_DELETED = 200
T = TypeVar("T")


class DocumentStore(Protocol):
    """Where they outlive the manager."""

    async def documents(self, kind: str) -> dict[str, Any]: ...
    async def write_documents(
        self, kind: str, put: Mapping[str, Any], drop: Collection[str] = ()
    ) -> None: ...


@dataclass(frozen=True)
class Former:
    """What one said from one version to the next; None where it was deleted."""

    version: int
    until: float
    entry: Mapping[str, Any] | None
    reason: str = ""


@dataclass(frozen=True)
class _Document:
    """All that is stored of a name.

    Attributes:
        current: None where it is deleted.
        former: newest first.
        configured: what the config file said when it was last taken over; None: nothing.
    """

    name: str
    version: int
    current: VirtualModel | None
    former: tuple[Former, ...] = ()
    configured: Any = None
    reason: str = ""

    def as_json(self) -> dict[str, Any]:
        current = self.current
        return {
            "version": self.version,
            "entry": current.as_entry() if current else None,
            "origin": current.origin if current else "api",
            "updated_at": current.updated_at if current else 0.0,
            "former": [dataclasses.asdict(each) for each in self.former],
            "configured": self.configured,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class Change:
    """One that was made: what there is now, None where it was deleted, and what to tell of it."""

    name: str
    version: int
    model: VirtualModel | None
    reason: str
    warnings: tuple[str, ...] = ()


class VirtualModels:
    """By name, exact ones before patterns. Readable at any time from the event loop; changes wait
    for each other and for the store, and one that the store refuses changes nothing.

    ``is_model`` says whether a name is a model's, ``kind`` gives kinds by their names, ``tell`` is
    called with every change that was made.

    Attributes:
        edition: another number after every change.
        unreadable: entries of the store that say nothing any more, by name, with the reason: their
            kind is not installed.
        presets: that were made at run time.
        configured_presets: of the config file; those made at run time come before them.
        built_in: that are there without being written, until one of their names is.
    """

    def __init__(
        self,
        store: DocumentStore,
        kind: Callable[[str], Kind],
        is_model: Callable[[str], bool],
        tell: Callable[[Change], None] = lambda change: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.edition = 0
        self.unreadable: dict[str, str] = {}
        self.presets: dict[str, Mapping[str, Any]] = {}
        self.configured_presets: Mapping[str, Mapping[str, Any]] = {}
        self.built_in: Mapping[str, VirtualModel] = {}
        self.tell = tell
        self._store = store
        self._kind = kind
        self._is_model = is_model
        self._clock = clock
        self._documents: dict[str, _Document] = {}
        self._models: dict[str, VirtualModel] = {}
        self._patterns: tuple[str, ...] = ()
        self._changing = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<VirtualModels {len(self._models)}, {len(self._patterns)} of them patterns>"

    def __len__(self) -> int:
        return len(self._models)

    def __contains__(self, name: object) -> bool:
        return name in self._models

    def __iter__(self) -> Iterator[VirtualModel]:
        return iter([self._models[name] for name in sorted(self._models)])

    async def open(self) -> None:
        """Read the store."""
        for name, data in (await self._store.documents(DOCUMENTS)).items():
            self._documents[name] = self._document(name, data)
        self.presets = dict(await self._store.documents(PRESETS))
        self._look_over()

    # -- look-ups --------------------------------------------------------------------------------

    def find(self, name: str) -> VirtualModel | None:
        """The one of that name, with or without ``:latest``, else the pattern that says most of
        it."""
        found = self._models.get(name) or self._models.get(other_spelling(name) or name)
        if found is None and self._patterns:
            pattern = best_match(name, self._patterns)
            found = self._models[pattern] if pattern is not None else None
        return found

    def get(self, name: str) -> VirtualModel:
        """The one that is called so itself, patterns by their own name.

        Raises:
            NotFound: there is none.
        """
        found = self._models.get(name)
        if found is None:
            why = self.unreadable.get(name)
            hint = f": {why}" if why else did_you_mean(name, self._models)
            raise NotFound(f"there is no virtual model {name[:80]!r}{hint}", param="name")
        return found

    def listed(self) -> Iterator[VirtualModel]:
        """Those that clients can be offered: no patterns, and nothing that is a model's name."""
        return (v for v in self if not is_pattern(v.name) and not self._is_model(v.name))

    def pointing_at(self, names: Collection[str]) -> list[VirtualModel]:
        """Those that name one of these themselves."""
        return [each for each in self if not set(names).isdisjoint(each.targets)]

    def missing(self, model: VirtualModel) -> tuple[str, ...]:
        """Those of its targets that nobody is called by now."""
        return missing(model, self.find, self._is_model)

    def history(self, name: str) -> tuple[VirtualModel | None, tuple[Former, ...]]:
        """What a name stands for, and what it stood for before, newest first; deleted ones are
        remembered, too.

        Raises:
            NotFound: there never was one, or it is too long ago.
        """
        document = self._documents.get(name)
        if document is None:
            return self.get(name), ()
        return document.current, document.former

    def preset(self, name: str) -> Mapping[str, Any]:
        """The values of a preset; none where it is gone."""
        return find_preset(name, self.own_presets) or {}

    def all_presets(self) -> dict[str, Mapping[str, Any]]:
        """Ours and own ones; own ones take the place of ours."""
        own = {name.casefold() for name in self.own_presets}
        ours = {name: v for name, v in BUILT_IN.items() if name.casefold() not in own}
        return {**ours, **self.own_presets}

    @property
    def own_presets(self) -> dict[str, Mapping[str, Any]]:
        """Those that are not ours."""
        own = {name.casefold() for name in self.presets}
        said = {n: v for n, v in self.configured_presets.items() if n.casefold() not in own}
        return {**said, **self.presets}

    def tried(self, name: str, data: object) -> VirtualModel:
        """What an entry would be, should it be written; it is not. Without a kind it is a policy.

        Raises:
            InvalidRequest: the entry is wrong, or names models that there are not.
            Conflict: it would be a circle.
        """
        entry = {"kind": "policy", **data} if isinstance(data, Mapping) else data
        model = self._read(TRIED, entry)
        self._checked(model, is_lenient=False)
        return dataclasses.replace(model, name=name)

    def set_built_in(self, name: str, data: object) -> None:
        """What a name stands for where nobody says otherwise.

        Raises:
            InvalidRequest: the entry is wrong.
        """
        made = dataclasses.replace(self._read(name, data), origin="built-in")
        self.built_in = {**self.built_in, name: made}
        self._look_over()

    # -- changes ---------------------------------------------------------------------------------

    async def put(
        self, name: str, data: object, reason: str, expected: int | None = None
    ) -> Change:
        """Let a name stand for something from now on.

        Args:
            expected: the version that it must have for that; 0: there must be none. None: any.

        Raises:
            InvalidRequest: the entry is wrong, or names models that there are not.
            VersionMismatch: it is another version.
            Conflict: it is a model's name, or it would be a circle.
        """
        model = self._read(name, data)
        if self._is_model(name):
            text = f"{name!r} is a model's name, which a virtual model cannot have"
            raise Conflict(text, param="name", code="name_taken")
        return await self._alone(lambda: self._put(model, reason, expected, is_lenient=False))

    async def delete(self, name: str, reason: str, expected: int | None = None) -> Change:
        """A name stands for nothing any more; ``rollback`` brings it back.

        Raises:
            NotFound: there is none of that name.
            VersionMismatch: it is another version than ``expected``.
        """

        async def change() -> Change:
            if name not in self.unreadable:
                self.get(name)
            if self._is_built_in(name):
                text = f"{name} is built in: let it stand for something else, if need be"
                raise Conflict(text, param="name", code="built_in")
            document = self._documents[name]
            _check_version(document, expected)
            configured = document.configured
            return await self._write(document, None, reason, configured)

        return await self._alone(change)

    async def rollback(self, name: str, number: int | None, reason: str) -> Change:
        """Let a name stand for what it stood for in a former version, or before its last change.
        That is a new version. What it named then may be gone by now, of which is warned.

        Raises:
            NotFound: there is no such version, or it was too long ago.
            InvalidRequest, Conflict: it could not be written so any more.
        """

        async def change() -> Change:
            _, formers = self.history(name)
            found = next((f for f in formers if number in (None, f.version)), None)
            if found is None:
                numbers = ", ".join(str(f.version) for f in formers) or "none"
                text = f"{name} has no former version {number or ''}; there are: {numbers}"
                raise NotFound(text.replace("  ", " "), param="version")
            why = f"{reason}: as in version {found.version}"
            if found.entry is None:
                document = self._documents[name]
                return await self._write(document, None, why, document.configured)
            return await self._put(self._read(name, found.entry), why, None, is_lenient=True)

        return await self._alone(change)

    async def adopt_config(self, said: Mapping[str, Any], reason: str) -> list[str]:
        """Take over what the config file says otherwise than when it was last taken over; what was
        changed at run time stays where the file says what it said before. Returned is what could
        not be taken over, or deserves a word."""
        problems: list[str] = []
        for name, entry in said.items():
            document = self._documents.get(name)
            if document is not None and document.configured == entry:
                continue
            try:
                model = dataclasses.replace(self._read(name, entry), origin="config")
                put = partial(self._put, model, reason, None, is_lenient=True, configured=entry)
                change = await self._alone(put)
                problems += [f"virtual model {name}: {warning}" for warning in change.warnings]
            except ModelPoolError as e:
                problems.append(f"virtual model {name} stays as it was: {e.message}")
        left = [d for d in self._documents.values() if d.configured is not None]
        for document in left:
            if document.name not in said:
                await self._alone(partial(self._left, document, reason))
        return problems

    async def put_presets(
        self, presets: Mapping[str, object], *, replace: bool = False
    ) -> dict[str, Mapping[str, Any]]:
        """Add presets, or put them in the place of those with their names; with ``replace`` all
        other own ones go.

        Raises:
            InvalidRequest: one of them is wrong; nothing was changed.
        """
        try:
            read = {name: read_preset(name, values) for name, values in presets.items()}
        except ValueError as e:
            raise InvalidRequest(str(e), param="presets") from None

        async def change() -> dict[str, Mapping[str, Any]]:
            folded = {name.casefold() for name in read}
            gone = [n for n in self.presets if replace or n.casefold() in folded]
            kept = {n: v for n, v in self.presets.items() if n not in gone}
            if len(kept) + len(read) > MOST_PRESETS:
                raise InvalidRequest(f"more than {MOST_PRESETS} presets", param="presets")
            if read or gone:
                await self._store.write_documents(PRESETS, read, [n for n in gone if n not in read])
            self.presets = {**kept, **read}
            self.edition += 1
            return self.presets

        return await self._alone(change)

    async def drop_preset(self, name: str) -> None:
        """Remove one of the own presets; ours of that name, if there is one, counts again.

        Raises:
            NotFound: there is none of that name.
        """

        async def change() -> None:
            found = [n for n in self.presets if n.casefold() == name.casefold()]
            if not found:
                is_ours = find_preset(name, {}) is not None
                text = (
                    f"{name!r} is built in" if is_ours else unknown_preset(name, self.own_presets)
                )
                raise NotFound(text, param="name")
            await self._store.write_documents(PRESETS, {}, found)
            self.presets = {n: v for n, v in self.presets.items() if n not in found}
            self.edition += 1

        await self._alone(change)

    # -- within ----------------------------------------------------------------------------------

    async def _put(
        self,
        model: VirtualModel,
        reason: str,
        expected: int | None,
        *,
        is_lenient: bool,
        configured: Any = None,
    ) -> Change:
        document = self._documents.get(model.name) or _Document(model.name, 0, None)
        _check_version(document, expected)
        is_new = document.current is None
        if is_new and len(self._models) >= MOST_MODELS:
            raise Conflict(f"there are {MOST_MODELS} virtual models already")
        warnings = self._checked(model, is_lenient=is_lenient)
        configured = document.configured if configured is None else configured
        change = await self._write(document, model, reason, configured)
        return dataclasses.replace(change, warnings=warnings)

    async def _left(self, document: _Document, reason: str) -> Change:
        """The config file has it no more."""
        current = document.current
        kept = current if current is not None and current.origin != "config" else None
        return await self._write(document, kept, f"{reason}: no more in the config file", None)

    def _read(self, name: str, data: object) -> VirtualModel:
        try:
            json_object({"entry": data})
            model = read_virtual_model(name, data, self._kind)
        except ValueError as e:
            text = str(e)
            raise InvalidRequest(text, param=text.partition(" ")[0].rstrip(",")) from None
        for preset in _presets_in(model.as_entry()):
            if find_preset(preset, self.own_presets) is None:
                text = unknown_preset(preset, self.own_presets)
                raise InvalidRequest(text, param="request.preset")
        return model

    def _checked(self, model: VirtualModel, *, is_lenient: bool) -> tuple[str, ...]:
        """What is to be told of it; with ``is_lenient`` names that nobody has are told, not
        refused: they may still come."""
        with_it = {**self._models, model.name: model}

        def find(name: str) -> VirtualModel | None:
            if self._is_model(name):
                return None
            return with_it.get(name) or self._matching(name, with_it)

        way = circle(model, find)
        if way:
            text = f"{model.name} would stand for itself: {' → '.join(way)}"
            raise Conflict(text, param="targets", code="circle")
        if depth(model, find) > MOST_DEEP:
            text = f"{model.name} would stand for more than {MOST_DEEP} virtual models in a row"
            raise Conflict(text, param="targets", code="too_deep")
        unknown = missing(model, find, self._is_model)
        if unknown and not is_lenient:
            near = did_you_mean(unknown[0], self._models)
            text = f"{', '.join(map(repr, unknown))}: no model and no virtual model is called so"
            raise InvalidRequest(
                f"{text}{near}; register it first",
                param="targets",
                code="unknown_target",
                details={"unknown": list(unknown)},
            )
        return tuple(f"no model is called {name!r} yet" for name in unknown)

    def _matching(self, name: str, models: Mapping[str, VirtualModel]) -> VirtualModel | None:
        pattern = best_match(name, [n for n in models if is_pattern(n)])
        return models[pattern] if pattern is not None else None

    async def _write(
        self, document: _Document, model: VirtualModel | None, reason: str, configured: Any
    ) -> Change:
        now, current = self._clock(), document.current
        is_same = (
            model is not None
            and current is not None
            and ((model.as_entry(), model.origin) == (current.as_entry(), current.origin))
        )
        version = document.version if is_same else document.version + 1
        former = document.former
        if document.version and not is_same:
            entry = current.as_entry() if current is not None else None
            former = (Former(document.version, now, entry, document.reason), *former)
        if is_same:
            stamped = current
        elif model is not None:
            stamped = dataclasses.replace(model, version=version, updated_at=now)
        else:
            stamped = None
        new = _Document(
            document.name, version, stamped, former[: MOST_VERSIONS - 1], configured, reason
        )
        stale = self._stale(new)
        await self._store.write_documents(DOCUMENTS, {new.name: new.as_json()}, stale)
        self._documents[new.name] = new
        for name in stale:
            del self._documents[name]
        self.unreadable.pop(new.name, None)
        self._look_over()
        change = Change(new.name, version, stamped, reason)
        if not is_same:
            self.tell(change)
        return change

    def _stale(self, new: _Document) -> list[str]:
        """The first to be deleted of those that are too many."""
        others = (d for d in self._documents.values() if d.name != new.name)
        gone = (d for d in others if d.current is None and d.name not in self.unreadable)
        deleted = [d for d in gone if d.configured is None]
        return [
            d.name for d in sorted(deleted, key=lambda d: d.former[0].until if d.former else 0.0)
        ][: max(0, len(deleted) - MOST_DELETED + 1)]

    def _document(self, name: str, data: Mapping[str, Any]) -> _Document:
        current = None
        entry, origin = data["entry"], data.get("origin", "api")
        if entry is not None:
            current = self._stored(name, entry, data["version"], data["updated_at"], origin)
        former = tuple(Former(**each) for each in data["former"])
        return _Document(
            name, data["version"], current, former, data.get("configured"), data.get("reason", "")
        )

    def _stored(
        self, name: str, entry: Any, version: int, at: float, origin: Origin
    ) -> VirtualModel | None:
        try:
            model = read_virtual_model(name, entry, self._kind)
        except ValueError as e:
            self.unreadable[name] = str(e)
            return None
        return dataclasses.replace(model, version=version, updated_at=at, origin=origin)

    def _is_built_in(self, name: str) -> bool:
        document = self._documents.get(name)
        return name in self.built_in and (document is None or document.current is None)

    def _look_over(self) -> None:
        written = {n: d.current for n, d in self._documents.items() if d.current is not None}
        self._models = {**self.built_in, **written}
        self._patterns = tuple(sorted(filter(is_pattern, self._models)))
        self.edition += 1

    async def _alone(self, change: Callable[[], Awaitable[T]]) -> T:
        """Run a change with no other beside it, to its end even when the caller is cancelled:
        store and memory must not part."""

        async def run() -> T:
            async with self._changing:
                return await change()

        return await asyncio.shield(asyncio.ensure_future(run()))


def _check_version(document: _Document, expected: int | None) -> None:
    now = document.version if document.current is not None else 0
    if expected is not None and expected != now:
        is_now = f"is at version {now}" if now else "does not exist"
        raise VersionMismatch(
            f"{document.name} {is_now}, not at {expected or 'none'}: somebody was faster;"
            " look at it again",
            details={"version": now},
        )


def _presets_in(value: Any) -> Iterator[str]:
    """Every preset that an entry names, wherever in it."""
    if isinstance(value, Mapping):
        preset = value.get("preset")
        if isinstance(preset, str):
            yield preset
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _presets_in(each)
