"""The copies of one model: which takes a request, and when there are to be more or fewer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from modelpool.catalog.model import Model
from modelpool.pool.balance import Copy, choose
from modelpool.pool.lifecycle import State
from modelpool.pool.scaling import Bounds, Load, Trend, step
from modelpool.pool.slot import Slot

# For whoever asks how the model is: the best copy speaks for it.
BEST_FIRST = (
    State.HOT,
    State.COOLING,
    State.WARMING,
    State.UNLOADING,
    State.FAILED,
    State.COLD,
)


class Group:
    """The first copy is always there, further ones from when they are first wanted."""

    def __init__(self, first: Slot, make: Callable[[int], Slot]) -> None:
        self.slots = [first]
        self._make = make
        self._trend = Trend()

    def __repr__(self) -> str:
        return f"<Group {self.first.key}: {', '.join(s.state for s in self.slots)}>"

    def __iter__(self) -> Iterator[Slot]:
        return iter(self.slots)

    @property
    def first(self) -> Slot:
        return self.slots[0]

    @property
    def model(self) -> Model:
        return self.first.model

    @property
    def best(self) -> Slot:
        """The copy that speaks for the model."""
        return min(self.slots, key=lambda s: BEST_FIRST.index(s.state))

    @property
    def may_scale(self) -> bool:
        """There may be several copies, or there are, from when there might."""
        return self.model.max_replicas > 1 or len(self.slots) > 1

    def serving(self, affinity: str = "") -> Slot | None:
        """The copy that takes a request now; None where none can."""
        if len(self.slots) == 1:
            return self.first if self.first.is_open else None
        found = [s for s in self.slots if s.is_open]
        if not found:
            return None
        chosen = choose([Copy(s.key, s.in_flight) for s in found], affinity)
        return next(s for s in found if s.key == chosen.key)

    def to_wait_for(self) -> Slot:
        """The copy that a request waits for where none can take it: one that loads already."""
        loading = [s for s in self.slots if s.state is State.WARMING]
        yielding = [s for s in self.slots if s.state.is_serving and not s.is_leaving]
        return (loading or yielding or self.slots)[0]

    def spare(self, most: int) -> Slot | None:
        """A copy that could be started; None where there are enough."""
        found = next((s for s in self.slots if s.may_start), None)
        if found is None and len(self.slots) < most:
            found = self._make(len(self.slots) + 1)
            self.slots.append(found)
        return found

    def unload(self, reason: str, *, force: bool = False, cut: bool = False) -> asyncio.Future[str]:
        """End every copy; see ``Slot.unload``. Resolves when all are COLD."""
        ending = [s.unload(reason, force=force, cut=cut) for s in self.slots]
        if all(e.done() for e in ending):
            for other in ending[1:]:
                other.exception()  # refused for the same reason as the first
            return ending[0]
        return asyncio.ensure_future(_first_of_all(ending))

    def extend(self, seconds: float) -> float:
        """Add to the lease of every copy; the seconds granted to the best.

        Raises:
            Conflict: not loaded.
        """
        best = self.best
        granted = best.extend(seconds)
        for slot in self.slots:
            if slot is not best and slot.is_open:
                slot.extend(seconds)
        return granted

    def replace_model(self, model: Model) -> None:
        """Another entry for the same id; its options count from the next load on."""
        for slot in self.slots:
            slot.replace_model(model)

    def keeps(self, slot: Slot) -> bool:
        """It stays, idle as it is, for it is one of the least number while others are used."""
        up = [s for s in self.slots if s.state is State.HOT]
        others = any(s is not slot and s.is_in_use for s in up)
        return others and len(up) <= self.model.min_replicas

    def open_for(self, slot: Slot) -> None:
        """A copy takes requests: who waits for another of them need not."""
        for other in self.slots:
            if other is not slot and len(other.waiters):
                other.hand_over(slot)

    def scale(self, now: float) -> None:
        """Start a copy where there is spare room for it, or let one go that is idle."""
        model = self.model
        bounds = Bounds(model.min_replicas, model.max_replicas, model.per_replica)
        copies = [s for s in self.slots if s.state.is_serving or s.state is State.WARMING]
        load = Load(
            len(copies),
            sum(s.in_flight for s in self.slots),
            sum(len(s.waiters) for s in self.slots),
        )
        self._trend, change = step(self._trend, load, bounds, now)
        busy = f"{load.in_flight} in flight and {load.waiting} waiting on {load.copies} copies"
        if change > 0 and (spare := self.spare(bounds.most)) is not None:
            spare.start_spare(f"scaled up: {busy}")
        elif change < 0:
            # One that is to stay up would be loaded again.
            idle = [s for s in copies if s.is_open and not s.is_busy and not s.stay_up]
            if idle:
                idle[-1].let_go(f"scaled down: {busy}")


async def _first_of_all(ending: list[asyncio.Future[str]]) -> str:
    return (await asyncio.gather(*ending))[0]
