"""Outcomes that callers report of what ``auto`` decided, and what they teach; see ``learning``.

Nothing is learned unless ``learn_from_outcomes`` says so. What was learned is kept in the store, by
model and kind of work, fades with time, and can be forgotten.
"""

from __future__ import annotations

import itertools
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from modelpool_client.errors import Conflict, NotFound

from modelpool.catalog.store import Store

from .decision import Decision
from .learning import NOTHING, Standing, faded, learned, offsets_of

DOCUMENTS = "outcomes"
# Decisions of which an outcome can still be told.
MOST_DECISIONS = 10_000
# So often what was learned is seen to have faded.
REFRESH_SECONDS = 600.0
_SEPARATOR = "\n"  # in no id

Key = tuple[str, str]


@dataclass(frozen=True)
class Rules:
    """``is_on``: outcomes count; half of what they taught is forgotten after ``half_life_seconds``,
    0: nothing is."""

    is_on: bool = False
    half_life_seconds: float = 30 * 86_400.0


class Taught(NamedTuple):
    """Of a model at a kind of work, as it counts now."""

    model_id: str
    task: str
    standing: Standing


@dataclass(slots=True)
class _Decided:
    model_id: str
    task: str
    chance: float
    is_reported: bool = False


class Outcomes:
    """``learn`` is given what counts, by model and kind of work, whenever that has changed."""

    def __init__(
        self,
        rules: Callable[[], Rules],
        learn: Callable[[Mapping[Key, float]], object],
        clock: Callable[[], float],
    ) -> None:
        """``clock``: seconds since 1970."""
        self._rules = rules
        self._learn = learn
        self._clock = clock
        self._store: Store | None = None
        self._known: dict[Key, Standing] = {}
        self._decided: OrderedDict[str, _Decided] = OrderedDict()
        self._run, self._count = uuid.uuid4().hex[:12], itertools.count(1)
        self._seen: Rules | None = None
        self._again = 0.0

    def __repr__(self) -> str:
        return f"<Outcomes of {len(self._known)}, {len(self._decided)} decisions>"

    async def open(self, store: Store) -> None:
        """Read what was learned before."""
        self._store = store
        for name, data in (await store.documents(DOCUMENTS)).items():
            model_id, _, task = name.partition(_SEPARATOR)
            self._known[model_id, task] = Standing(data["offset"], data["outcomes"], data["at"])
        self._apply()

    def keep_up(self) -> None:
        """Take in that time has passed, or that it was switched on or off; quick."""
        if self._clock() >= self._again or self._rules() != self._seen:
            self._apply()

    def _apply(self) -> None:
        now, rules = self._clock(), self._rules()
        before, self._seen, self._again = self._seen, rules, now + REFRESH_SECONDS
        if rules.is_on or (before is not None and before.is_on):
            counts = {t[:2]: t.standing for t in self} if rules.is_on else {}
            self._learn(offsets_of(counts))

    # -- decisions -------------------------------------------------------------------------------

    def new_id(self) -> str:
        """For a decision that is to be carried out."""
        return f"{self._run}-{next(self._count):x}"

    def note(self, decision_id: str, decision: Decision, model_id: str) -> None:
        """A model has answered by a decision."""
        scored = (decision.best, *decision.runners_up)
        chance = next((s.chance for s in scored if s is not None and s.model_id == model_id), None)
        if chance is None:
            return
        self._decided[decision_id] = _Decided(model_id, decision.features.task.value, chance)
        if len(self._decided) > MOST_DECISIONS:
            self._decided.popitem(last=False)

    async def report(self, decision_id: str, score: float) -> Taught:
        """How good an answer was: 0 to 1.

        Raises:
            NotFound: there is no such decision, or it is too long ago.
            Conflict: it was reported before, or outcomes do not count here.
        """
        rules = self._rules()
        if not rules.is_on:
            raise Conflict(
                "outcomes do not count here: learn_from_outcomes is off", code="learning_off"
            )
        decided = self._decided.get(decision_id)
        if decided is None:
            text = f"there is no decision {decision_id[:80]!r}, or no outcome is to be told of it"
            raise NotFound(f"{text}: of the last {MOST_DECISIONS:,} that auto made it can be")
        if decided.is_reported:
            raise Conflict(f"the outcome of {decision_id} was told before", code="already_reported")
        decided.is_reported = True
        key, now = (decided.model_id, decided.task), self._clock()
        before = faded(self._known.get(key, NOTHING), now, rules.half_life_seconds)
        after = learned(before, decided.chance, score)
        self._known[key] = Standing(after.offset, after.outcomes, now)
        self._apply()
        await self._write({key: self._known[key]})
        return Taught(*key, self._known[key])

    # -- what was learned --------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Taught]:
        now, half_life = self._clock(), self._rules().half_life_seconds
        for (model_id, task), standing in sorted(self._known.items()):
            yield Taught(model_id, task, faded(standing, now, half_life))

    async def forget(self, model_id: str | None = None) -> int:
        """Of a model, or all: how many were forgotten."""
        keys = [key for key in self._known if model_id in (None, key[0])]
        for key in keys:
            del self._known[key]
        for decision_id in [i for i, d in self._decided.items() if model_id in (None, d.model_id)]:
            del self._decided[decision_id]
        self._apply()
        await self._write({}, keys)
        return len(keys)

    async def _write(self, put: Mapping[Key, Standing], drop: list[Key] | None = None) -> None:
        if self._store is None:
            return
        told: dict[str, Any] = {
            _SEPARATOR.join(key): {"offset": s.offset, "outcomes": s.outcomes, "at": s.at}
            for key, s in put.items()
        }
        gone = [_SEPARATOR.join(key) for key in drop or ()]
        if told or gone:
            await self._store.write_documents(DOCUMENTS, told, gone)
