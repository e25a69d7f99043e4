"""PURE: all that can happen to a replica. News of a worker process carry the run they are about."""

from __future__ import annotations

from dataclasses import dataclass

from modelpool_client.wire import DrainReply, Facts, Failure

from modelpool.catalog.model import Model
from modelpool.pool.admission import Plan, Requirements
from modelpool.pool.health import HealthReport
from modelpool.pool.replica import Run
from modelpool.pool.waiters import Outcome, Use, Waiter
from modelpool.pool.worker import ExitReport, Worker

# -- somebody wants something ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Acquire:
    """A request, or with ``wants_grant`` off the wish to have it HOT. ``is_forwarded``: it has
    waited for another copy until now, and is not turned away."""

    waiter: Waiter
    is_forwarded: bool = False


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Who waited has left."""

    waiter: Waiter


@dataclass(frozen=True, slots=True)
class Load:
    """An explicit load: from FAILED it does not wait for the back-off to be over."""

    waiter: Waiter
    keep_warm: bool = False


@dataclass(frozen=True, slots=True)
class AbandonLoad:
    """A load that nobody waits on could not begin within ``seconds``."""

    waiter: Waiter
    seconds: float


@dataclass(frozen=True, slots=True)
class LoadSpeculatively:
    """Start into room that nobody has or waits for; else nothing happens."""

    reason: str


@dataclass(frozen=True, slots=True)
class RefuseLoad:
    """A start could only fail, for what is known without one; nothing is begun."""

    reason: str


@dataclass(frozen=True, slots=True)
class Extend:
    """Add to the lease; ``outcome`` gets the seconds that were granted."""

    seconds: float
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Unload:
    """``force`` overrules warm-up and pins, ``cut`` ends current work; ``outcome`` when COLD."""

    reason: str
    force: bool
    cut: bool
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Restart:
    """Its worker answers, but fails: end it when its work is done; who asks gets the next."""

    reason: str


@dataclass(frozen=True, slots=True)
class Delete:
    """The model was deleted: whoever waits is told so."""


@dataclass(frozen=True, slots=True)
class Evict:
    """Make room for another if idle; that it sleeps is enough where it ``may_sleep``."""

    on_behalf_of: str
    may_sleep: bool = False


@dataclass(frozen=True, slots=True)
class StopIfIdle:
    """Nobody waits for its room, but it had better go, unless used after ``unused_since``; a load
    that began before then and that nobody waits for any more goes, too."""

    reason: str
    is_eviction: bool = False
    unused_since: float | None = None


@dataclass(frozen=True, slots=True)
class Yield:
    """Let new requests wait: one has waited for its room for too long."""

    on_behalf_of: str


@dataclass(frozen=True, slots=True)
class Resume:
    """It need not yield any more."""


@dataclass(frozen=True, slots=True)
class HandOver:
    """Other copies serve already: so many of those that wait for this one need not."""

    most: int


# -- something has changed ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ReplaceModel:
    """Another entry for the same id; its options count from the next load on."""

    model: Model


@dataclass(frozen=True, slots=True)
class ConfigChanged:
    """The context has another configuration."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed; whatever is due is to be done."""


@dataclass(frozen=True, slots=True)
class RetryAdmission:
    """Something changed in the pool; a queued start may be possible now."""


@dataclass(frozen=True, slots=True)
class RoomFreed:
    """What ``by`` held is back."""

    by: str


@dataclass(frozen=True, slots=True)
class RoomDenied:
    """``by`` was asked to go and stays."""

    by: str


# -- answers to commands --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Admitted:
    """What admission says to a start. Where it may begin, its bytes are reserved, and it has a
    worker id and, if one is free, a port. ``is_outdated``: it sleeps, with other options than it
    would be loaded with now."""

    plan: Plan
    why: str
    worker_id: str = ""
    port: int | None = None
    is_speculative: bool = False
    is_outdated: bool = False


@dataclass(frozen=True, slots=True)
class PortAssigned:
    """None where all are taken. The worker id is a new one: what still happens to the process that
    had the one before is told apart from this one's."""

    run: Run
    port: int | None
    worker_id: str


@dataclass(frozen=True, slots=True)
class RetryPlanned:
    """What admission says to another try after running out of memory with ``held``."""

    run: Run
    plan: Plan
    requirements: Requirements
    failure: Failure
    held: Requirements


@dataclass(frozen=True, slots=True)
class SleepPlanned:
    """Whether there is room for it asleep; ``refusal`` says why not, or is empty."""

    run: Run
    idle_seconds: float
    refusal: str = ""


# -- news of a worker process ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Adopt:
    """A worker that a former manager started."""

    worker: Worker
    facts: Facts


@dataclass(frozen=True, slots=True)
class Launched:
    run: Run
    result: Worker | Exception


@dataclass(frozen=True, slots=True)
class Reported:
    """Facts from the worker."""

    run: Run
    facts: Facts


@dataclass(frozen=True, slots=True)
class RequestEnded:
    """One that was granted after so many holds in vain, as the last of ``in_flight``."""

    run: Run
    given_after: int
    in_flight: int
    use: Use


@dataclass(frozen=True, slots=True)
class Drained:
    """The answer to the question whether it could go, or sleep; None where there was none."""

    run: Run
    result: DrainReply | Exception | None


@dataclass(frozen=True, slots=True)
class Woken:
    """What it said when it was told to wake up; None where it said nothing."""

    run: Run
    result: Facts | Exception | None


@dataclass(frozen=True, slots=True)
class HealthChecked:
    run: Run
    result: HealthReport | Exception


@dataclass(frozen=True, slots=True)
class Exited:
    """The process ended by itself, as far as is known."""

    run: Run
    result: int | Exception | None


@dataclass(frozen=True, slots=True)
class Reaped:
    """Nothing is left of a process that had ended, or was killed. ``held`` is what it had."""

    run: Run
    result: ExitReport | Exception
    held: Requirements


@dataclass(frozen=True, slots=True)
class Terminated:
    """The end that was ordered is complete."""

    run: Run
    result: ExitReport | Exception


@dataclass(frozen=True, slots=True)
class WorkCut:
    """Current work was told to end at once; what follows comes from its end."""

    run: Run
    result: Exception | None


Message = (
    Acquire
    | Withdraw
    | Load
    | AbandonLoad
    | LoadSpeculatively
    | RefuseLoad
    | Extend
    | Unload
    | Restart
    | Delete
    | Evict
    | StopIfIdle
    | Yield
    | Resume
    | HandOver
    | ReplaceModel
    | ConfigChanged
    | Tick
    | RetryAdmission
    | RoomFreed
    | RoomDenied
    | Admitted
    | PortAssigned
    | RetryPlanned
    | SleepPlanned
    | Adopt
    | Launched
    | Reported
    | RequestEnded
    | Drained
    | Woken
    | HealthChecked
    | Exited
    | Reaped
    | Terminated
    | WorkCut
)
