"""The table of candidates of a pool, kept up with catalog, use and live load.

What lasts is worked out when an entry changes, what is live when something happened; a decision in
between costs only a look at the few models that are awake.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from modelpool_client import __version__

from modelpool.catalog.catalog import Catalog
from modelpool.catalog.estimator import Estimator
from modelpool.catalog.model import Model
from modelpool.catalog.profiles import Profile, stale_reason
from modelpool.measure.conditions import cores
from modelpool.measure.records import Measurements
from modelpool.observe.usage import UsageMeter
from modelpool.pool.admission import Requirements
from modelpool.pool.capacity import Capacity, Space
from modelpool.pool.pool import Pool
from modelpool.pool.states import State
from modelpool.pool.status import ReplicaStatus

from .candidate import Candidate
from .entries import MB, Live, Use, answers, candidate_of, with_live
from .table import Offsets, Table, table_of

# After so many decisions the use of those that are awake is looked at anew: that is no event.
_OF_USE_EVERY = 64


class Entries(Protocol):
    """The catalog, as far as it is needed here."""

    @property
    def edition(self) -> int: ...
    def __iter__(self) -> Iterator[Model]: ...


class Running(Protocol):
    """The pool, as far as it is needed here."""

    @property
    def awake_models(self) -> set[str]: ...
    def has(self, model_id: str) -> bool: ...
    def requirements(self, model_id: str) -> Requirements: ...
    def statuses(self, model_id: str | None = None) -> Sequence[ReplicaStatus]: ...


class Measured(Protocol):
    """Profiles of models."""

    def profiles(self, model_id: str) -> Sequence[Profile]: ...


class Used(Protocol):
    """How models were used."""

    def counts(self, model_id: str) -> tuple[int, int, float]: ...


class Room(Protocol):
    """What a load may take: without unloading anything, and at the very most, see
    ``pool.capacity``."""

    @property
    def now(self) -> Space: ...
    @property
    def could_ever(self) -> Space: ...


_NO_ROOM = Capacity(*(Space(0, 0, 0, {}),) * 4)


class PoolTable:
    """Give it ``on_event`` as a listener; ask ``current`` for each decision.

    Args:
        room: asked again after each event, not for each decision.
        holds: whether a profile still says how fast a model is.

    Attributes:
        tagged: ids by tag, of all that requests can be for.
    """

    def __init__(
        self,
        catalog: Entries,
        pool: Running,
        measured: Measured,
        used: Used,
        room: Callable[[], Room],
        holds: Callable[[Model, Profile], bool] = lambda model, profile: True,
    ) -> None:
        self.tagged: Mapping[str, frozenset[str]] = {}
        self._catalog = catalog
        self._pool = pool
        self._measured = measured
        self._used = used
        self._room = room
        self._holds = holds
        self._needs: dict[str, Requirements] = {}
        self._edition = -1
        self._models: dict[str, Model] = {}
        self._lasting: dict[str, Candidate] = {}
        self._live: dict[str, Live] = {}
        self._awake: set[str] = set()
        self._outside: set[str] = set()
        self._stale: set[str] = set()
        self._has_happened = True
        self._space: Room = _NO_ROOM
        self._table = table_of(())
        self._decisions = 0

    def __repr__(self) -> str:
        of = f"{len(self._lasting)} models, {len(self._stale)} of them stale"
        return f"<PoolTable of {of}, edition {self._edition}>"

    def on_event(self, event: Any) -> None:
        """Something happened to a model: what is known of it, and of free memory, is old."""
        model_id = event.data.get("model_id")
        if not isinstance(model_id, str):
            return
        self._has_happened = True
        if self._pool.has(model_id):
            self._stale.add(model_id)
        else:  # or ids of models that are gone would gather where nobody asks for a decision
            self._stale.discard(model_id)

    def learn(self, offsets: Offsets) -> None:
        """What outcomes taught, see ``learning``."""
        self._table = self._table.changed((), offsets)

    def current(self) -> Table:
        """All models that requests can be for, as they are now."""
        if self._catalog.edition != self._edition:
            self._read_catalog()
        self._decisions += 1
        awake = {name for name in self._pool.awake_models if name in self._lasting}
        if self._decisions % _OF_USE_EVERY == 0:
            self._stale |= awake
        if self._outside:  # the catalog had them before the pool
            arrived = {name for name in self._outside if self._pool.has(name)}
            self._outside -= arrived
            self._stale |= arrived
        changed = self._refresh_lasting(awake)
        changed |= self._refresh_live(awake)
        if changed:
            news = [with_live(self._lasting[name], self._live[name]) for name in changed]
            self._table = self._table.changed(news)
        return self._table

    def _read_catalog(self) -> None:
        """Only entries that are not those of before are looked at."""
        self._edition = self._catalog.edition
        models = {m.model_id: m for m in self._catalog if answers(m)}
        for name, model in models.items():
            if self._models.get(name) is not model:
                self._lasting[name] = self._candidate(model)
        for name in self._lasting.keys() - models.keys():
            del self._lasting[name]
            self._needs.pop(name, None)
        self._models = models
        self.tagged = _by_tag(models.values())
        self._stale &= models.keys()
        self._space = self._room()
        awake = self._awake = {name for name in self._pool.awake_models if name in models}
        self._live = {name: self._live_now(name, name in awake) for name in self._lasting}
        rows = (with_live(c, self._live[name]) for name, c in self._lasting.items())
        self._table = table_of(rows, self._table.offsets)
        self._outside = {name for name in models if not self._pool.has(name)}
        self._has_happened = False

    def _candidate(self, model: Model) -> Candidate:
        name = model.model_id
        newest = next(iter(self._measured.profiles(name)), None)
        profile = newest if newest is not None and self._holds(model, newest) else None
        candidate = candidate_of(model, profile, Use(*self._used.counts(name)))
        if model.served_by or not self._pool.has(name):
            self._needs.pop(name, None)
            return candidate
        # What admission would reserve: by measured peaks, where there are any.
        need = self._needs[name] = self._pool.requirements(name)
        return replace(candidate, memory_bytes=need.bytes)

    def _refresh_lasting(self, awake: set[str]) -> set[str]:
        changed: set[str] = set()
        self._stale &= self._models.keys()
        for name in self._stale:
            candidate = self._candidate(self._models[name])
            live = self._live_now(name, name in awake)
            if candidate != self._lasting[name] or live != self._live[name]:
                self._lasting[name], self._live[name] = candidate, live
                changed.add(name)
        self._stale.clear()
        return changed

    def _refresh_live(self, awake: set[str]) -> set[str]:
        """Of those that are awake or were so when they were last looked at; of all, when memory has
        become free or was taken."""
        looked_at = awake | self._awake
        self._awake = awake
        if self._has_happened:
            self._has_happened = False
            before, self._space = self._space, self._room()
            looked_at = looked_at | self._moved(before)
        changed = set()
        for name in looked_at & self._live.keys():
            live = self._live_now(name, name in awake)
            if live != self._live[name]:
                self._live[name] = live
                changed.add(name)
        return changed

    def _moved(self, before: Room) -> set[str]:
        """Those that would fit now and did not, or the other way round. One look at each: there
        may be thousands, and something happens all the time."""
        space, needs = self._space, self._needs
        found: set[str] = set()
        if space.now != before.now:
            holds = space.now.holds
            found |= {n for n, need in needs.items() if holds(need) is not self._live[n].fits_now}
        if space.could_ever != before.could_ever:
            was, holds = before.could_ever.holds, space.could_ever.holds
            found |= {n for n, need in needs.items() if holds(need) is not was(need)}
        return found

    def _live_now(self, name: str, is_awake: bool) -> Live:
        need = self._needs.get(name)
        fits = need is None or self._space.now.holds(need)
        if is_awake:
            return live_of(self._pool.statuses(name), fits)
        why = ""
        if not self._pool.has(name):
            why = "the pool does not run it"
        elif need is not None and not self._space.could_ever.holds(need):
            most = self._space.could_ever.host
            text = f"it needs {need.bytes / MB:,.0f} MB"
            why = (
                f"{text}, more than the {most / MB:,.0f} there are"
                if need.bytes > most
                else (f"{text}, with more than there is on a device")
            )
        return Live(fits_now=fits, why_unavailable=why)


def table_of_pool(
    catalog: Catalog,
    pool: Pool,
    measurements: Measurements,
    usage: UsageMeter,
    estimator: Estimator,
) -> PoolTable:
    """Of a real one; the caller makes ``on_event`` a listener of its events."""

    def holds(model: Model, profile: Profile) -> bool:
        """As far as it can be told without asking the engine for its version."""
        then, reading = profile.conditions, estimator.reading(model)
        now = replace(
            then,
            options=model.shown_options(estimator.effective(model).options),
            fingerprint=reading.files.digest if reading is not None else "",
            engine=model.engine,
            modelpool=__version__,
            cores=cores(),
        )
        return not stale_reason(then, now)

    return PoolTable(catalog, pool, measurements, usage, pool.capacity, holds)


def _by_tag(models: Iterable[Model]) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for model in models:
        for tag in model.tags:
            found.setdefault(tag, set()).add(model.model_id)
    return {tag: frozenset(ids) for tag, ids in found.items()}


def live_of(copies: Sequence[ReplicaStatus], fits_now: bool) -> Live:
    """Of a model's copies together. One that failed cannot be had until somebody loads it, unless
    another copy serves."""
    serving = [s for s in copies if s.state.is_serving]
    failed = [s for s in copies if s.state is State.FAILED]
    loads: Mapping[float, None] = dict.fromkeys(
        s.load_seconds for s in copies if s.load_seconds is not None
    )
    why = f"it failed: {failed[0].reason}" if failed and len(failed) == len(copies) else ""
    places = [s.limit for s in serving if s.limit is not None]
    return Live(
        is_hot=bool(serving),
        fits_now=fits_now or any(s.state is State.WARMING for s in copies),
        in_flight=sum(s.in_flight for s in copies),
        queued=sum(s.waiting for s in copies),
        places=sum(places) if places and len(places) == len(serving) else None,
        why_unavailable=why,
        load_seconds=max(loads, default=None),
    )
