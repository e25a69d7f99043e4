"""Turns what happens to slots into events, each with its reason."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from modelpool_client.wire import encode

from modelpool.observe.events import Event, EventBus
from modelpool.pool.lifecycle import State
from modelpool.pool.replica import Replica

log = logging.getLogger(__name__)

ARRIVALS = {
    State.WARMING: "model-loading",
    State.HOT: "model-loaded",
    State.COOLING: "model-cooling",
    State.UNLOADING: "model-unloading",
    State.COLD: "model-unloaded",
    State.FAILED: "model-failed",
}
MOVES = {
    (State.COOLING, State.HOT): "model-hot",
    (State.COLD, State.HOT): "model-adopted",
    (State.COLD, State.UNLOADING): "model-adopted",
    (State.WARMING, State.COLD): "model-waiting",
}


class Narrator:
    """Publishes the slots' events; ``listeners`` see each before any subscriber does."""

    def __init__(self, bus: EventBus) -> None:
        self._bus = bus
        self.listeners: list[Callable[[Event], None]] = []

    def tell(self, name: str, slot: Replica, previous: State, reason: str) -> None:
        """An event of a slot; with no name given, the one that its new state has."""
        name = name or MOVES.get((previous, slot.state)) or ARRIVALS[slot.state]
        model = slot.model
        event = self._bus.publish(
            name,
            model_id=model.model_id,
            key=f"{model.engine}:{model.model_id}",
            state=slot.state,
            previous=previous,
            reason=reason,
            generation=slot.generation,
            port=slot.port,
            **({"progress": encode(slot.progress)} if name == "model-progress" else {}),
            **(_place(slot) if name == "model-waiting" else {}),
        )
        if name != "model-progress":
            log.info("%s: %s -> %s (%s)", model.model_id, previous, slot.state, reason)
        for listen in self.listeners:
            listen(event)

    def bug(self, error: Exception) -> None:
        """A failure of ours, visible to whoever watches."""
        log.error("a bug of the pool: %r", error, exc_info=error)
        self._bus.publish("internal-error", reason=repr(error))


def _place(slot: Replica) -> dict[str, Any]:
    """Where it stands among those that wait for room; the seconds are an estimate."""
    place = slot.place
    if place is None:
        return {}
    known = {"position": place.position, "length": place.length}
    return {"queue": known | {"estimated_wait_seconds": round(place.seconds, 1)}}
