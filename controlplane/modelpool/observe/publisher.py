"""Turns what happens to replicas into events, each with its reason."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from modelpool_client.wire import encode

from modelpool.observe.events import Event, EventBus
from modelpool.pool.states import State
from modelpool.pool.status import ReplicaStatus

log = logging.getLogger(__name__)

ARRIVALS = {
    State.WARMING: "model-loading",
    State.HOT: "model-loaded",
    State.COOLING: "model-cooling",
    State.UNLOADING: "model-unloading",
    State.COLD: "model-unloaded",
    State.ASLEEP: "model-asleep",
    State.FAILED: "model-failed",
}
MOVES = {
    (State.COOLING, State.HOT): "model-hot",
    (State.COLD, State.HOT): "model-adopted",
    (State.COLD, State.UNLOADING): "model-adopted",
    (State.COLD, State.ASLEEP): "model-adopted",
    (State.WARMING, State.COLD): "model-waiting",
    (State.WARMING, State.ASLEEP): "model-waiting",
}


class EventPublisher:
    """Publishes the replicas' events; ``listeners`` see each before any subscriber does."""

    def __init__(self, bus: EventBus) -> None:
        self._bus = bus
        self.listeners: list[Callable[[Event], None]] = []

    def replica_event(self, name: str, status: ReplicaStatus, previous: State, reason: str) -> None:
        """An event of a replica; with no name given, the one that its new state has."""
        state = status.core_state
        name = name or MOVES.get((previous, state)) or ARRIVALS[state]
        model = status.model
        event = self._bus.publish(
            name,
            model_id=model.model_id,
            key=f"{model.engine}:{model.model_id}",
            state=status.state,
            previous=previous.shown,
            asleep=status.is_asleep,
            reason=reason,
            generation=status.generation,
            port=status.port,
            **({"progress": encode(status.progress)} if name == "model-progress" else {}),
            **(_position(status) if name == "model-waiting" else {}),
        )
        if name != "model-progress":
            log.info("%s: %s -> %s (%s)", model.model_id, previous, state, reason)
        for listen in self.listeners:
            listen(event)

    def pool_event(self, name: str, reason: str) -> None:
        """An event of the pool as a whole."""
        self._bus.publish(name, reason=reason)

    def internal_error(self, error: Exception) -> None:
        """A failure of ours, visible to whoever watches."""
        log.error("a bug of the pool: %r", error, exc_info=error)
        self._bus.publish("internal-error", reason=repr(error))


def _position(status: ReplicaStatus) -> dict[str, Any]:
    """Where it stands among those that wait for room; the seconds are an estimate."""
    at = status.position
    if at is None:
        return {}
    known = {"position": at.position, "length": at.length}
    return {"queue": known | {"estimated_wait_seconds": round(at.seconds, 1)}}
