"""PURE: all that a decision can ask to be done. The supervisor carries it out, in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from modelpool_client.errors import ModelPoolError
from modelpool_client.wire import DrainRequest, Failure

from modelpool.pool.admission import Requirements
from modelpool.pool.replica import Run
from modelpool.pool.states import State
from modelpool.pool.status import ReplicaStatus
from modelpool.pool.waiters import Outcome, Waiter

# -- answers --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class IssueGrant:
    """Give a waiter the permission to use the worker of ``run``, as the last of ``in_flight``."""

    waiter: Waiter
    run: Run
    was_hot: bool
    in_flight: int


@dataclass(frozen=True, slots=True)
class Resolve:
    outcome: Outcome
    value: Any = None


@dataclass(frozen=True, slots=True)
class Reject:
    outcome: Outcome
    error: ModelPoolError


@dataclass(frozen=True, slots=True)
class Cancel:
    """Nobody is to wait there any more."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Shed:
    """Too many wait already: refuse one more, saying after what time to come again."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Forward:
    """Hand a waiter to another copy of the model, one that has a place or will have one first."""

    waiter: Waiter


# -- room -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Admit:
    """Plan a start and, where it may begin, reserve its room in the same step; ``Admitted`` comes
    back at once. A speculative one that may not begin hears nothing."""

    why: str
    is_speculative: bool = False


@dataclass(frozen=True, slots=True)
class CancelReservation:
    """It was not used after all: nothing is free now that was not before."""


@dataclass(frozen=True, slots=True)
class Release:
    """Give back bytes, count and port of a run; whoever waits for them is told."""

    run: Run


@dataclass(frozen=True, slots=True)
class PlanRetry:
    """After running out of memory with ``held``; ``RetryPlanned`` comes back at once."""

    run: Run
    failure: Failure
    held: Requirements


@dataclass(frozen=True, slots=True)
class PlanSleep:
    """Whether there is room for it asleep; ``SleepPlanned`` comes back at once."""

    run: Run
    idle_seconds: float


@dataclass(frozen=True, slots=True)
class SettleAsleep:
    """It sleeps: what it does not hold any more is free, and whoever waits for it is told."""

    run: Run


@dataclass(frozen=True, slots=True)
class JoinQueue:
    """Try again when something changed, or at ``until``."""

    until: float | None


@dataclass(frozen=True, slots=True)
class LeaveQueue:
    """It starts, or is not wanted any more."""


@dataclass(frozen=True, slots=True)
class EvictOthers:
    """Ask those replicas to go; of ``asleep`` it is enough that they sleep."""

    keys: tuple[str, ...]
    asleep: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReadAhead:
    """Its files are wanted as soon as there is room."""


@dataclass(frozen=True, slots=True)
class DenyRoom:
    """It was asked to go, and stays."""


@dataclass(frozen=True, slots=True)
class NotifyCapacity:
    """Somebody became idle or something was freed: queued starts are planned again, soon."""


@dataclass(frozen=True, slots=True)
class NotifyOpen:
    """It has a place for whom it has not: who waits for another copy of the model need not."""


@dataclass(frozen=True, slots=True)
class NotifyClosed:
    """It takes no requests for now: who waits there does better at a copy that does."""


@dataclass(frozen=True, slots=True)
class AssignPort:
    """``PortAssigned`` comes back at once. ``avoid`` were found taken by strangers."""

    run: Run
    avoid: frozenset[int]


@dataclass(frozen=True, slots=True)
class ClaimPort:
    """For a worker that is adopted."""

    port: int


@dataclass(frozen=True, slots=True)
class ReturnPort:
    """A stranger listens there."""

    port: int


# -- the worker process ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Launch:
    run: Run


@dataclass(frozen=True, slots=True)
class AwaitExit:
    """Say when its process has ended."""

    run: Run


@dataclass(frozen=True, slots=True)
class CheckHealth:
    run: Run


@dataclass(frozen=True, slots=True)
class Drain:
    """Ask the worker, which alone knows of requests to its port, whether it can go, or sleep."""

    run: Run
    request: DrainRequest
    to_sleep: bool = False


@dataclass(frozen=True, slots=True)
class Wake:
    """Have the worker take its devices' memory again; ``Woken`` says that it began to."""

    run: Run


@dataclass(frozen=True, slots=True)
class Terminate:
    """TERM, then KILL. ``cut``: current work ends at once, and is told the reason.
    ``is_draining``: it drains already, and might take another TERM for the second, which cuts."""

    run: Run
    reason: str
    cut: bool
    is_draining: bool


@dataclass(frozen=True, slots=True)
class CutWork:
    """Of one that is being terminated."""

    run: Run
    reason: str


@dataclass(frozen=True, slots=True)
class Reap:
    """Remove what is left of a process that has ended, or is killed now."""

    run: Run
    exit_code: int | None
    is_killed: bool


# -- the world ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Publish:
    """An event with its reason. Without a name: ``status`` is in a new state. ``previous`` is as
    the core calls it."""

    name: str
    status: ReplicaStatus
    previous: State
    reason: str


@dataclass(frozen=True, slots=True)
class ReportBug:
    """Something of ours is broken; make it visible."""

    error: Exception


Command = (
    IssueGrant
    | Resolve
    | Reject
    | Cancel
    | Shed
    | Forward
    | Admit
    | CancelReservation
    | Release
    | PlanRetry
    | PlanSleep
    | SettleAsleep
    | JoinQueue
    | LeaveQueue
    | EvictOthers
    | ReadAhead
    | DenyRoom
    | NotifyCapacity
    | NotifyOpen
    | NotifyClosed
    | AssignPort
    | ClaimPort
    | ReturnPort
    | Launch
    | AwaitExit
    | CheckHealth
    | Drain
    | Wake
    | Terminate
    | CutWork
    | Reap
    | Publish
    | ReportBug
)
