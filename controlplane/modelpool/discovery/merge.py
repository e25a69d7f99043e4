"""PURE. What was found, held against the catalog: what is to be added, changed, removed, and why.

A model is the content of its files: the same content in two places is one model with two places,
and one that was moved is the same as before. What a user registered is never touched, and what a
user changed of a model that was found stays: a scan sets a model up once, later it keeps true only
where it is, what goes with it and what its files say.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from modelpool.catalog.model import FOUND_REQUEST, Model
from modelpool.discovery.companions import Belonging, Companions, by_kind
from modelpool.discovery.findings import Finding
from modelpool.discovery.names import (
    Named,
    allowed,
    first_free,
    proposals,
    short_name,
)
from modelpool.discovery.options import ATTACHED, found_options, found_request

Event = Literal["model-discovered", "model-changed", "model-vanished"]
ORIGIN = "discovered"


@dataclass(frozen=True)
class Put:
    """An entry that is to be written. ``finding`` is what it comes from; ``is_told`` where it is
    worth an event."""

    model: Model
    finding: Finding
    event: Event
    reason: str
    is_told: bool = True


@dataclass(frozen=True)
class Drop:
    """An entry that is to go: its files are not there any more, or somebody registered them."""

    model: Model
    reason: str


@dataclass(frozen=True)
class Merged:
    """What follows from what was found.

    Attributes:
        ids: by path, the id under which the catalog has it.
        duplicates: the places of each model that has several.
        hidden: paths of models that a user deleted.
    """

    put: tuple[Put, ...]
    drop: tuple[Drop, ...]
    ids: Mapping[str, str]
    duplicates: Mapping[str, tuple[str, ...]]
    hidden: tuple[str, ...]


@dataclass(frozen=True)
class Wishes:
    """What users decided.

    Attributes:
        deleted: identities and paths of models that are to stay away.
        departed: entries of models whose files went, by identity, for when they come back.
    """

    deleted: Collection[str] = ()
    departed: Mapping[str, Model] = dataclasses.field(default_factory=dict)


def merged(
    findings: Iterable[Finding],
    models: Iterable[Model],
    wishes: Wishes,
    engines: Mapping[str, str],
    attach: Collection[str] = ATTACHED,
) -> Merged:
    """What is to be done.

    Args:
        findings: all that is known to be on the disk; those of the first root come first.
        models: the whole catalog.
        engines: which engine runs a format.
        attach: kinds of companions that a new model is run with.
    """
    return _Merging(list(findings), list(models), wishes, engines, attach).outcome()


class _Merging:
    """One merge, a step at a time."""

    def __init__(
        self,
        findings: list[Finding],
        models: list[Model],
        wishes: Wishes,
        engines: Mapping[str, str],
        attach: Collection[str],
    ) -> None:
        self._attach = attach
        self._found = [f for f in findings if f.kind == "model"]
        self._others = {f.path: f for f in findings if f.kind != "model"}
        self._companions = Companions(findings)
        self._wishes = wishes
        self._engines = engines
        self._manual = {m.source: m for m in models if m.origin != ORIGIN}
        # What providers list has no files.
        found = (m for m in models if m.origin == ORIGIN and not m.served_by)
        self._discovered = {m.model_id: m for m in found}
        self._by_identity = {m.identity: m for m in self._discovered.values()}
        self._by_place = {p: m for m in self._discovered.values() for p in m.places}
        self._names = {name for m in models for name in m.names}
        self._siblings: defaultdict[str, list[Named]] = defaultdict(list)
        for finding in self._found:
            self._siblings[_sibling_key(finding)].append(_named(finding))
        self._put: list[Put] = []
        self._ids: dict[str, str] = {}
        self._drop: dict[str, Drop] = {}
        self._seen: set[str] = set()
        self._hidden: list[str] = []
        self._duplicates: dict[str, tuple[str, ...]] = {}

    def outcome(self) -> Merged:
        """All of it."""
        for places in _by_content(self._found):
            self._content(places)
        self._add_short_names()
        for model in self._discovered.values():
            if model.model_id not in self._seen:
                self._not_found(model)
        drop = tuple(self._drop.values())
        return Merged(
            tuple(self._put), drop, self._ids, self._duplicates, tuple(sorted(self._hidden))
        )

    def _content(self, places: Sequence[Finding]) -> None:
        """The same content, wherever it is."""
        paths = tuple(dict.fromkeys(f.path for f in places))
        owner = next((self._manual[p] for p in paths if p in self._manual), None)
        old = self._former(places)
        if owner is not None:
            self._owned(owner, old, paths)
        elif self._is_deleted(places):
            self._hidden += paths
        elif old is not None:
            self._known(old, places, paths)
        else:
            self._new(places, paths)

    def _former(self, places: Sequence[Finding]) -> Model | None:
        """The entry that it has: that of the same content, else that of its place."""
        by_content = self._by_identity.get(places[0].identity)
        if by_content is not None and by_content.model_id not in self._seen:
            return by_content
        at = (self._by_place.get(f.path) for f in places)
        return next((m for m in at if m is not None and m.model_id not in self._seen), None)

    def _is_deleted(self, places: Sequence[Finding]) -> bool:
        deleted = self._wishes.deleted
        return places[0].identity in deleted or any(f.path in deleted for f in places)

    def _owned(self, owner: Model, old: Model | None, paths: tuple[str, ...]) -> None:
        self._ids |= dict.fromkeys(paths, owner.model_id)
        self._note_duplicates(owner.model_id, paths)
        if old is not None:
            self._seen.add(old.model_id)
            self._drop[old.model_id] = Drop(old, f"{owner.model_id} was registered with its file")

    def _known(self, old: Model, places: Sequence[Finding], paths: tuple[str, ...]) -> None:
        self._seen.add(old.model_id)
        self._ids |= dict.fromkeys(paths, old.model_id)
        self._note_duplicates(old.model_id, paths)
        finding = next((f for f in places if f.path == old.source), places[0])
        engine = self._engine_now(old, finding)
        now = dataclasses.replace(
            old,
            engine=engine,
            source=finding.path,
            places=_first_of(finding.path, paths),
            identity=finding.identity,
            **_told(self._companions.of(places)),
            **_request_now(old, found_request(finding, engine)),
        )
        if now != old:
            reason = _difference(old, now)
            is_told = _told_by(old) != _told_by(now)
            self._put.append(Put(now, finding, "model-changed", reason, is_told))

    def _engine_now(self, old: Model, finding: Finding) -> str:
        """A user may have chosen another one for these files, not for others in their place."""
        is_same = old.identity == finding.identity
        return old.engine if is_same else self._engines.get(finding.format, old.engine)

    def _new(self, places: Sequence[Finding], paths: tuple[str, ...]) -> None:
        finding = places[0]
        before = self._wishes.departed.get(finding.identity)
        engine = self._engines.get(finding.format, finding.format)
        companions = self._companions.of(places)
        fields: dict[str, Any] = {
            "engine": engine,
            "source": finding.path,
            "places": _first_of(finding.path, paths),
            "identity": finding.identity,
            **_told(companions),
            "origin": ORIGIN,
        }
        if before is not None and not self._names & set(before.names):
            model = dataclasses.replace(before, **fields)
            reason = f"its files are back at {finding.path}"
        else:
            model_id = self._free_id(finding)
            others = [o for f in places for o in self._other_names(f)]
            aliases = (n for n in dict.fromkeys(others) if n not in self._names and n != model_id)
            request = found_request(finding, engine)
            model = Model(
                model_id,
                display_name=model_id,
                aliases=tuple(aliases),
                tags=(finding.provider,) if finding.provider else (),
                metadata={**finding.facts, FOUND_REQUEST: request} if request else finding.facts,
                options=found_options(finding, engine, companions, self._attach),
                request=request,
                **fields,
            )
            reason = f"found at {finding.path}"
        self._names |= set(model.names)
        self._ids |= dict.fromkeys(paths, model.model_id)
        self._note_duplicates(model.model_id, paths)
        self._put.append(Put(model, finding, "model-discovered", reason))

    def _free_id(self, finding: Finding) -> str:
        ids = proposals(_named(finding), self._siblings[_sibling_key(finding)])
        return first_free(ids, lambda name: name in self._names)

    def _other_names(self, finding: Finding) -> list[str]:
        """What its layout, or another one that has it too, calls it."""
        siblings = self._siblings[_sibling_key(finding)]
        return [next(proposals(_named(finding), siblings)), *map(allowed, finding.other_names)]

    def _add_short_names(self) -> None:
        """A repository's own name stands for one of its quantisations."""
        new = {p.finding.path: i for i, p in enumerate(self._put) if p.event == "model-discovered"}
        for siblings in self._siblings.values():
            found = short_name(siblings)
            if found is None or found[0] in self._names:
                continue
            at = new.get(found[1])
            if at is not None:
                put = self._put[at]
                model = dataclasses.replace(put.model, aliases=(*put.model.aliases, found[0]))
                self._put[at] = dataclasses.replace(put, model=model)
                self._names.add(found[0])

    def _not_found(self, model: Model) -> None:
        """Its files are not there, or are none that can be loaded: that is said, and the load will
        be refused, but whoever repairs them is to find all as it was."""
        left = [self._others[p] for p in model.places if p in self._others]
        if any(f.kind in ("broken", "unsettled") for f in left):
            self._ids |= {f.path: model.model_id for f in left}
            return
        where = ", ".join(model.places) or model.source
        self._drop[model.model_id] = Drop(model, f"its files are gone from {where}")

    def _note_duplicates(self, model_id: str, paths: tuple[str, ...]) -> None:
        if len(paths) > 1:
            self._duplicates[model_id] = paths


def _request_now(old: Model, found: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of an entry whose layout says that of requests: it is followed as long as nobody says
    otherwise. Entries that were written before it was taken over have none of it."""
    before = old.metadata.get(FOUND_REQUEST, {})
    if found == before:
        return {}
    now: dict[str, Any] = {"metadata": {**old.metadata, FOUND_REQUEST: dict(found)}}
    return {**now, "request": dict(found)} if old.request == before else now


def _told_by(model: Model) -> tuple[Any, ...]:
    """What is worth an event when it changes."""
    return model.identity, model.source, model.request


def _told(companions: Sequence[Belonging]) -> dict[str, Any]:
    reasons = {each.path: each.reason for each in companions}
    return {"companions": by_kind(companions), "companion_reasons": reasons}


def _by_content(findings: Iterable[Finding]) -> list[list[Finding]]:
    """Those with the same content together; what stores call by different digests is not that."""
    groups: dict[str, list[list[Finding]]] = {}
    for finding in findings:
        same = groups.setdefault(finding.identity or finding.path, [])
        group = next((g for g in same if _may_be_same(g, finding)), None)
        if group is None:
            same.append([finding])
        else:
            group.append(finding)
    return [group for same in groups.values() for group in same]


def _may_be_same(group: Iterable[Finding], finding: Finding) -> bool:
    digests = {f.digest for f in (*group, finding) if f.digest}
    return len(digests) <= 1


def _named(finding: Finding) -> Named:
    return Named(
        finding.path, finding.name, finding.tag, finding.quantization, finding.is_repository
    )


def _sibling_key(finding: Finding) -> str:
    return finding.name or finding.path


def _first_of(first: str, paths: Sequence[str]) -> tuple[str, ...]:
    return (first, *(p for p in paths if p != first))


def _difference(old: Model, now: Model) -> str:
    if old.identity != now.identity:
        return f"another model is at {now.source}"
    if old.source != now.source:
        return f"it was moved from {old.source} to {now.source}"
    if set(old.places) != set(now.places):
        return f"it is at {', '.join(now.places)}"
    if old.request != now.request:
        return "what its store says of requests has changed"
    return "what goes with it has changed"
