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
from modelpool.pool.decide.steps import may_start
from modelpool.pool.decide.watching import next_deadline
from modelpool.pool.messages import Message
from modelpool.pool.replica import Replica

__all__ = ["HANDLERS", "decide", "may_start", "next_deadline"]

HANDLERS: dict[type, Handler] = {
    **serving.HANDLERS,
    **starting.HANDLERS,
    **stopping.HANDLERS,
    **watching.HANDLERS,
}


def decide(replica: Replica, message: Message, context: Context) -> list[Command]:
    """Change the replica, and say what is to be done. News of a former run change nothing."""
    run = getattr(message, "run", None)
    if run is not None and run is not replica.run:
        return []
    return HANDLERS[type(message)](replica, message, context)
