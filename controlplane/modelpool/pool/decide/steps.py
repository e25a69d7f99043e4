"""PURE: the steps that decisions are made of: each changes a replica and returns commands."""

from __future__ import annotations

from modelpool_client.errors import (
    LoadCancelled,
    ModelNotFound,
    ModelPoolError,
    NoPortFree,
    PoolStopping,
)
from modelpool_client.wire import DrainRequest, Failure, Phase, Progress

from modelpool.catalog.memory_estimate import runs_alike
from modelpool.pool.admission import Requirements
from modelpool.pool.commands import (
    Admit,
    AssignPort,
    Command,
    Drain,
    IssueGrant,
    Launch,
    LeaveQueue,
    PlanRetry,
    Publish,
    Reap,
    Reject,
    Release,
    ReportBug,
    Resolve,
    Terminate,
    Wake,
)
from modelpool.pool.context import Context
from modelpool.pool.failures import load_error
from modelpool.pool.replica import Replica, Run
from modelpool.pool.requirements import short_of
from modelpool.pool.states import State, Trigger, transition
from modelpool.pool.status import status_of
from modelpool.pool.waiters import Waiter
from modelpool.pool.worker import ExitReport

OOM = "oom"


def run_of(replica: Replica) -> Run:
    """The present run, in states that have one."""
    assert replica.run is not None, f"{replica!r} has no worker"
    return replica.run


def become(replica: Replica, trigger: Trigger, reason: str, context: Context) -> Publish:
    """Move to the state that the table names."""
    previous = replica.state
    replica.state = transition(previous, trigger)
    replica.reason = reason
    replica.since = context.wall
    return Publish("", status_of(replica), previous, reason)


def announce(replica: Replica, name: str, reason: str = "") -> Publish:
    """An event that is no change of state; without a reason of its own, the state's."""
    return Publish(name, status_of(replica), replica.state, reason or replica.reason)


# -- the way up -----------------------------------------------------------------------------------


def start_if_wanted(replica: Replica, context: Context) -> list[Command]:
    """Level, not edge: whatever state it is in, start if someone waits and it may."""
    if not (replica.keep_warm or len(replica.waiters)):
        return leave_queue(replica)
    return [admit(replica)] if may_start(replica, context) else []


def may_start(replica: Replica, context: Context) -> bool:
    """It is down, and nothing forbids to start it."""
    backs_off = replica.state is State.FAILED and context.now < replica.failures.retry_at
    is_down = replica.state.is_down and not (backs_off or replica.is_leaving)
    return is_down and not (context.is_stopping or replica.is_deleted)


def admit(replica: Replica) -> Admit:
    """What a start is for: the one who has waited longest says it."""
    oldest = replica.waiters.oldest
    return Admit("it is to be kept warm" if oldest is None else oldest.why)


def leave_queue(replica: Replica) -> list[Command]:
    """It is not wanted any more."""
    if replica.state.is_down:
        replica.waiting_for = ""
    return [LeaveQueue()]


def launch(replica: Replica, run: Run, context: Context) -> list[Command]:
    """Its room is there: start the process, or wake it up."""
    replica.waiting_for = "the load"
    if run.is_waking:
        run.progress_at = context.now
        run.progress = Progress("waking", estimated=False)
        return [Wake(run)]
    if run.port is None:  # it was to come from a victim, or a stranger had the last one
        return [AssignPort(run, run.ports_tried)]
    run.progress_at = context.now
    run.progress = Progress("starting the worker", estimated=False)
    run.is_launched = True
    return [Launch(run)]


def ttl_seconds(replica: Replica, context: Context) -> float | None:
    """Of its leases; None: for ever."""
    minutes = replica.model.lease_minutes(context.config.default_ttl_minutes)
    return None if minutes is None else minutes * 60


# -- use ------------------------------------------------------------------------------------------


def grant(replica: Replica, waiter: Waiter, context: Context) -> list[Command]:
    """Let one who waits use the worker."""
    run = run_of(replica)
    if waiter.wants_grant:
        count_grant(run, context.now)
        was_hot = run.hot_since is not None and waiter.since >= run.hot_since
        return [IssueGrant(waiter, run, was_hot, run.occupied)]
    run.is_speculative = False
    commands: list[Command] = []
    if replica.state is State.COOLING:
        mark_used(run, context.now)
        commands.append(become(replica, Trigger.USED, "loaded again while cooling", context))
    return [*commands, Resolve(waiter.outcome)]


def count_grant(run: Run, at: float) -> None:
    """One more request is at work; whether that is a use will be seen."""
    run.is_speculative = False
    run.granted += 1
    run.granted_at = at


def mark_used(run: Run, at: float) -> None:
    """The last request ended then; its lease counts from it on."""
    run.last_used = max(run.last_used or 0.0, at)
    run.lease = run.lease.used(at)


# -- the way down ---------------------------------------------------------------------------------


def ask_to_drain(
    run: Run, reason: str, idle_seconds: float, *, is_eviction: bool = False
) -> list[Command]:
    """The worker alone knows of requests made straight to its port, so it decides."""
    run.drain_reason = reason
    run.is_eviction = is_eviction
    return [Drain(run, DrainRequest(idle_seconds, reason))]


def stop(replica: Replica, reason: str, context: Context, *, cut: bool = False) -> list[Command]:
    """End the worker; ``cut`` does not let its current work end."""
    run = run_of(replica)
    run.drain_reason = run.yields_to = ""
    run.is_asked_to_sleep = False
    told = reason if replica.state.is_serving else ""  # a load has no work to cut
    commands = begin_unloading(replica, reason, context)
    if run.worker is not None:
        is_draining = run.facts is not None and run.facts.phase is Phase.DRAINING
        return commands + terminate(run, told, cut=cut, is_draining=is_draining)
    if not run.is_launched:  # it was still waiting for room: there is no process to end
        return commands + gone(replica, context)
    return commands  # its launch is awaited first


def begin_unloading(replica: Replica, reason: str, context: Context) -> list[Command]:
    """UNLOADING, and where it makes room for another, evicted."""
    commands: list[Command] = [become(replica, Trigger.STOP, reason, context)]
    if run_of(replica).is_eviction:
        replica.keep_warm = False  # or two warm-up models in the room of one would take turns
        commands.append(announce(replica, "model-evicted"))
    return commands


def terminate(run: Run, reason: str, *, cut: bool, is_draining: bool = False) -> list[Command]:
    """Order the process to end."""
    run.is_cut = cut
    return [Terminate(run, reason, cut, is_draining)]


def reap(run: Run, exit_code: int | None, *, is_killed: bool = False) -> list[Command]:
    """Remove what is left of the process, once."""
    if run.is_reaping:
        return []
    run.is_reaping = True
    return [Reap(run, exit_code, is_killed)]


def release(replica: Replica) -> Release:
    """Its port, bytes and count are free again."""
    return Release(forget_run(replica))


def forget_run(replica: Replica) -> Run:
    """There is no worker any more."""
    run = run_of(replica)
    replica.run = None
    replica.waiting_for = ""
    return run


def gone(
    replica: Replica, context: Context, result: ExitReport | Exception | None = None
) -> list[Command]:
    """The end of its worker, which was to end, is complete."""
    commands = complain_of(replica, result)
    commands.append(release(replica))
    commands.append(become(replica, Trigger.STOPPED, replica.reason, context))
    commands += answer_unloads(replica, replica.reason)
    if replica.is_deleted:
        commands += fail_waiters(replica, cancellation(replica, "deleted", context))
    return commands + start_if_wanted(replica, context)


def complain_of(replica: Replica, result: ExitReport | Exception | None) -> list[Command]:
    """Say what was wrong with an end."""
    if isinstance(result, Exception):
        return [ReportBug(result)]
    if result is not None and not result.is_released:
        return [announce(replica, "memory-not-back", "some of its processes would not end")]
    return []


def answer_unloads(replica: Replica, text: str) -> list[Command]:
    """Whoever asked for an unload has it."""
    answered, replica.unloads = replica.unloads, []
    return [Resolve(outcome, text) for outcome in answered]


def cancellation(replica: Replica, reason: str, context: Context) -> ModelPoolError:
    """What those are told who waited for a load that will not be."""
    name = replica.model.model_id
    if replica.is_deleted:
        return ModelNotFound(f"{name} was deleted", param="model")
    if context.is_stopping:
        return PoolStopping("the pool is shutting down")
    return LoadCancelled(f"the load of {name} was cancelled: {reason}", retry_after=1)


# -- failure --------------------------------------------------------------------------------------


def fail_waiters(replica: Replica, error: ModelPoolError) -> list[Command]:
    """Nobody waits any more."""
    return [Reject(waiter.outcome, error) for waiter in replica.waiters.take_all()]


def failed_error(replica: Replica, context: Context) -> ModelPoolError:
    """What a request for a failed model is told."""
    left = replica.failures.retry_at - context.now
    return load_error(replica.model.model_id, replica.failures, left)


def no_port_free() -> NoPortFree:
    """For whoever waited for a start."""
    return NoPortFree("all worker ports are taken; unload a model", retry_after=10)


def fail_load(
    replica: Replica, failure: Failure, context: Context, held: Requirements | None = None
) -> list[Command]:
    """A load failed. Out of memory for the first time it is tried once more with more than it
    ``held``, if that fits."""
    run = run_of(replica)
    if failure.code == OOM and held is not None and replica.insufficient is None:
        set_more_aside(replica, run, failure, held)
        return [Release(run), PlanRetry(run, failure, held)]
    return [release(replica), *end_load(replica, failure, context)]


def end_load(replica: Replica, failure: Failure, context: Context) -> list[Command]:
    """FAILED; everybody is told."""
    now, wall, config = context.now, context.wall, context.config
    replica.failures = replica.failures.load_failed(failure, now, wall, config)
    reason = f"the load failed ({failure.code}): {failure.message}"
    failed = become(replica, Trigger.LOAD_FAILED, reason, context)
    has_no_port = failure.code == NoPortFree.default_code
    error = no_port_free() if has_no_port else failed_error(replica, context)
    return [failed, *fail_waiters(replica, error)]


def set_more_aside(replica: Replica, run: Run, failure: Failure, held: Requirements) -> None:
    """For the next start, after it ran out of memory; not for another entry's."""
    entry = run.model or replica.model
    if replica.insufficient is None and runs_alike(entry, replica.model):
        replica.insufficient = short_of(held, failure.message)
