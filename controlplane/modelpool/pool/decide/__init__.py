"""PURE: what follows from a message to a replica.

``decide`` is the only place that changes a replica. It has no clock, no await, no I/O and no log:
time and settings come in as the context, and what is to be done goes out as commands, which the
supervisor carries out in order. A concern has a module of its own, with a table of the messages
that it answers; ``steps`` has what several of them do.
"""

from __future__ import annotations

from modelpool.pool.commands import Command
from modelpool.pool.context import Context
from modelpool.pool.decide import serving, starting, stopping, watching
from modelpool.pool.decide.handlers import Handler
from modelpool.pool.decide.serving import end_at_once, grant_at_once
from modelpool.pool.decide.steps import may_start
from modelpool.pool.decide.watching import may_hasten, next_deadline
from modelpool.pool.messages import (
    Admitted,
    Adopt,
    Drained,
    Launched,
    Message,
    PortAssigned,
    RetryPlanned,
    RoomDenied,
    RoomFreed,
    SleepPlanned,
    Terminated,
    Woken,
)
from modelpool.pool.replica import Replica
from modelpool.pool.states import State

__all__ = [
    "HANDLERS",
    "decide",
    "end_at_once",
    "grant_at_once",
    "may_hasten",
    "may_start",
    "next_deadline",
]

ALL = frozenset(State)

HANDLERS: dict[type, Handler] = {
    **serving.HANDLERS,
    **starting.HANDLERS,
    **stopping.HANDLERS,
    **watching.HANDLERS,
}

# An answer means something only in the states in which it was asked for.
ANSWERED_IN: dict[type, frozenset[State]] = {
    Admitted: frozenset({State.COLD, State.FAILED, State.ASLEEP}),
    PortAssigned: frozenset({State.WARMING}),
    RetryPlanned: frozenset({State.WARMING}),
    RoomFreed: frozenset({State.WARMING}),
    RoomDenied: frozenset({State.WARMING}),
    Launched: frozenset({State.WARMING, State.UNLOADING}),
    Adopt: frozenset({State.COLD}),
    Drained: frozenset({State.HOT, State.COOLING}),
    SleepPlanned: frozenset({State.HOT, State.COOLING}),
    Woken: frozenset({State.WARMING}),
    Terminated: frozenset({State.UNLOADING}),
}


def decide(replica: Replica, message: Message, context: Context) -> list[Command]:
    """Change the replica, and say what is to be done. News of a former run change nothing, nor do
    answers that nobody has asked for."""
    run = getattr(message, "run", None)
    if run is not None and run is not replica.run:
        return []
    kind = type(message)
    if replica.state not in ANSWERED_IN.get(kind, ALL):
        return []
    return HANDLERS[kind](replica, message, context)
