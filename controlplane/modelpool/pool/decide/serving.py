"""PURE: use of a replica: requests come and go, the worker reports, the lease follows."""

from __future__ import annotations

from modelpool_client.errors import Conflict, ModelNotFound, PoolStopping
from modelpool_client.wire import Facts, Failure, Phase, Progress

from modelpool.catalog.memory_estimate import runs_alike
from modelpool.pool.commands import (
    Command,
    Forward,
    NotifyCapacity,
    NotifyClosed,
    NotifyOpen,
    Reject,
    Resolve,
    Shed,
)
from modelpool.pool.concurrency import ADAPTIVE, UNLIMITED, Search, bounds_of
from modelpool.pool.context import Context
from modelpool.pool.decide.handlers import Handlers
from modelpool.pool.decide.sleeping import sleep_news, stop_sleeper
from modelpool.pool.decide.steps import (
    announce,
    become,
    count_grant,
    failed_error,
    grant,
    mark_used,
    run_of,
    start_if_wanted,
    stop,
    ttl_seconds,
)
from modelpool.pool.messages import (
    Acquire,
    ConfigChanged,
    Extend,
    HandOver,
    ReplaceModel,
    Reported,
    RequestEnded,
    Resume,
    Withdraw,
    Yield,
)
from modelpool.pool.replica import Replica, Run
from modelpool.pool.states import Lease, State, Trigger
from modelpool.pool.waiters import Use, Waiter
from modelpool.pool.yielding import Yielding

# A worker that has been idle for that long has nothing of the grants that were given before.
IDLE_GRANT_SECONDS = 5.0
# Of the last time to a first token in the moving average: about ten requests count.
PACE_WEIGHT = 0.1

# -- requests -------------------------------------------------------------------------------------


def acquire(replica: Replica, message: Acquire, context: Context) -> list[Command]:
    """Grant it, let it wait and start what it waits for, or refuse it."""
    waiter = message.waiter
    if context.is_stopping:
        return [Reject(waiter.outcome, PoolStopping("the pool is shutting down"))]
    if replica.is_deleted:
        error = ModelNotFound(f"{replica.model.model_id} was deleted", param="model")
        return [Reject(waiter.outcome, error)]
    if _may_grant(replica, waiter):
        return grant(replica, waiter, context)
    if _refuses_while_failed(replica, waiter, context):
        return [Reject(waiter.outcome, failed_error(replica, context))]
    is_full = len(replica.waiters) >= context.config.max_waiting_requests
    if is_full and not message.is_forwarded:
        # It may have ended a back-off all the same, which those that wait are to have of it.
        return [Shed(waiter.outcome), *start_if_wanted(replica, context)]
    if replica.run is not None and not replica.is_leaving:  # else it is not this one that serves
        replica.run.is_speculative = False
    replica.waiters.add(waiter)
    return start_if_wanted(replica, context)


def grant_at_once(replica: Replica, now: float) -> Run | None:
    """What ``acquire`` comes to where there is a place, for whoever comes by without a message, as
    nearly every request does; None: there is more to decide, and nothing has changed."""
    run = replica.run
    if run is None or replica.is_deleted or run.room <= 0 or not replica.is_open:
        return None
    count_grant(run, now)
    return run


def _may_grant(replica: Replica, waiter: Waiter) -> bool:
    return replica.has_room if waiter.wants_grant else _is_there(replica)


def _is_there(replica: Replica) -> bool:
    return replica.state.is_serving and not replica.is_leaving


def _refuses_while_failed(replica: Replica, waiter: Waiter, context: Context) -> bool:
    failures = replica.failures
    if replica.state is not State.FAILED or context.now >= failures.retry_at:
        return False
    return failures.is_given_up or not waiter.had_worker


def withdraw(replica: Replica, message: Withdraw, context: Context) -> list[Command]:
    """Who leaves may have been first in a queue that others stand in."""
    return [NotifyCapacity()] if replica.waiters.discard(message.waiter) else []


def request_ended(replica: Replica, message: RequestEnded, context: Context) -> list[Command]:
    """Only one that the engine was given is a use."""
    run = run_of(replica)
    if run.granted == 0:
        return []
    was_full = run.room == 0
    run.granted -= 1
    run.idle_grants = min(run.idle_grants, run.granted)
    _adapt(run, message.in_flight, message.use)
    _note_pace(run, message.use)
    commands = _note_yielding(run, run.yielding.released(message.given_after))
    if message.use.is_used:
        mark_used(run, context.now)
        if replica.state is State.COOLING and not replica.is_leaving:
            commands.append(become(replica, Trigger.USED, "used while cooling", context))
    if run.granted == 0:
        commands.append(NotifyCapacity())
    return commands + serve_waiters(replica, context) if was_full else commands


def end_at_once(replica: Replica, run: Run, in_flight: int, use: Use, now: float) -> bool | None:
    """What ``request_ended`` comes to where the replica stays as it is and nobody waits for the
    place: whether it is idle now. None: there is more to decide, and nothing has changed."""
    is_plain = run is replica.run and replica.state is State.HOT and not run.yielding.left
    if not is_plain or run.granted == 0 or run.room == 0:
        return None
    run.granted -= 1
    if run.idle_grants > run.granted:
        run.idle_grants = run.granted
    if run.search is not None:
        _adapt(run, in_flight, use)
    _note_pace(run, use)
    if use.is_used:
        mark_used(run, now)
    return run.granted == 0


def _adapt(run: Run, in_flight: int, use: Use) -> None:
    if run.search is None:
        return
    if use.is_overload:
        run.search.refused(in_flight)
    elif use.first_token_seconds is not None:
        run.search.first_token(in_flight, use.first_token_seconds)
    run.limit = run.search.limit


def _note_pace(run: Run, use: Use) -> None:
    seconds, former = use.first_token_seconds, run.first_token_seconds
    if seconds is not None:
        run.first_token_seconds = (
            seconds if former is None else former + PACE_WEIGHT * (seconds - former)
        )


def serve_waiters(replica: Replica, context: Context) -> list[Command]:
    """As many of those that wait as there are places for, and where there are more than that, who
    waits for another copy."""
    commands: list[Command] = []
    if _is_there(replica):
        for waiter in replica.waiters.take_loads():
            commands += grant(replica, waiter, context)
    while replica.has_room:
        next_one = replica.waiters.take_next(context.config.priority_ageing_seconds)
        if next_one is None:
            return [*commands, NotifyOpen()]
        commands += grant(replica, next_one, context)
    return commands


def hand_over(replica: Replica, message: HandOver, context: Context) -> list[Command]:
    """Whoever waits need not: another copy serves."""
    if replica.has_room:
        return []
    ageing_seconds = context.config.priority_ageing_seconds
    return [Forward(waiter) for waiter in replica.waiters.take(message.most, ageing_seconds)]


# -- reports --------------------------------------------------------------------------------------


def reported(replica: Replica, message: Reported, context: Context) -> list[Command]:
    """Facts that the worker sent."""
    if not run_of(replica).is_launched:
        return []
    return take_facts(replica, message.facts, context)


def take_facts(replica: Replica, facts: Facts, context: Context) -> list[Command]:
    """What the worker says of itself; older than what is known, it is nothing."""
    run = run_of(replica)
    if run.facts is not None and facts.sequence <= run.facts.sequence:
        return []
    _count_uses(replica, run, facts, context)
    was_busy, was_full, run.facts = run.is_busy, run.room == 0, facts
    run.heard_at = context.now
    _note_places(replica, run, facts, context)
    commands = _note_yielding(run, run.yielding.heard(run.granted, facts.in_flight))
    if facts.phase is Phase.LOADING:
        commands += _note_progress(replica, run, facts.progress, context)
    elif facts.phase is Phase.FAILED:
        commands += _note_failure(run, facts.failure, context)
    elif facts.phase is Phase.READY:
        commands += ready_if_known(replica, context)
    elif facts.phase is Phase.DRAINING and _goes_by_itself(replica, run):
        commands += stop(replica, "the worker is draining by itself", context)
    commands += sleep_news(replica, context)
    commands += _note_use(replica, run, facts, context)
    if was_busy and not run.is_busy:
        commands.append(NotifyCapacity())
    return commands + serve_waiters(replica, context) if was_full else commands


def _note_places(replica: Replica, run: Run, facts: Facts, context: Context) -> None:
    """A grant that was lost, or whose client reads slowly, takes no place."""
    run.direct = facts.direct
    since_grant = context.now - run.granted_at
    if facts.in_flight == 0 and min(facts.idle_seconds, since_grant) >= IDLE_GRANT_SECONDS:
        run.idle_grants = run.granted
    else:
        at_work = facts.in_flight - facts.direct
        run.idle_grants = min(run.idle_grants, max(0, run.granted - at_work))
    settle_limit(replica, context)


def settle_limit(replica: Replica, context: Context) -> None:
    """What the model says, else the pool, of an engine with its slots."""
    run = run_of(replica)
    setting = replica.model.concurrency_limit or context.config.concurrency_limit
    slots = run.facts.slots if run.facts is not None else None
    if run.limit_basis == (setting, slots):
        return
    run.limit_basis, run.search = (setting, slots), None
    if setting != ADAPTIVE:
        run.limit = None if setting == UNLIMITED else setting
    elif slots == 0:  # it takes any number
        run.limit = None
    else:
        run.search = Search(bounds_of(slots), replica.limit_after_oom or 0)
        run.limit = run.search.limit


def _goes_by_itself(replica: Replica, run: Run) -> bool:
    """Nobody asked it to, and its end is not seen to already."""
    is_there = replica.state.is_serving or replica.is_asleep
    return is_there and not (run.drain_reason or run.is_reaping)


def _count_uses(replica: Replica, run: Run, facts: Facts, context: Context) -> None:
    if run.facts is None and run.model is None:
        return  # adopted: its past is not of this moment
    before = run.facts.requests_total if run.facts is not None else 0
    if (uses := facts.requests_total - before) > 0:
        replica.uses += uses
        replica.rate = replica.rate.used(uses, context.now)


def _note_progress(
    replica: Replica, run: Run, progress: Progress | None, context: Context
) -> list[Command]:
    if progress is None or progress == run.progress:
        return []
    before, run.progress = run.progress, progress
    if _reached(progress) == _reached(before):  # what is left is only estimated anew
        return []
    run.progress_at = context.now
    return [announce(replica, "model-progress")]


def _reached(progress: Progress | None) -> tuple[object, ...]:
    """How far a load is; the time that is left grows by itself while nothing moves."""
    if progress is None:
        return ()
    return progress.stage, progress.fraction, progress.bytes_done


def _note_failure(run: Run, failure: Failure | None, context: Context) -> list[Command]:
    """It will end; meanwhile nobody is sent to it."""
    run.verdict = failure
    if run.failed_at is not None:
        return []
    run.failed_at = context.now
    return [NotifyClosed()]


def _note_use(replica: Replica, run: Run, facts: Facts, context: Context) -> list[Command]:
    if not replica.state.is_serving:
        return []
    if facts.in_flight == 0 and facts.requests_total > 0:
        mark_used(run, context.now - facts.idle_seconds)
    run.is_speculative = run.is_speculative and not (facts.in_flight or facts.requests_total)
    is_used = facts.in_flight > 0 or facts.requests_total > run.requests_before_cooling
    if replica.state is State.COOLING and is_used:
        reason = "used while cooling" + ("" if run.granted else ", on the worker's own port")
        return [become(replica, Trigger.USED, reason, context)]
    return []


def ready_if_known(replica: Replica, context: Context) -> list[Command]:
    """The worker's word that it is ready and the news of its start may come in either order."""
    run = run_of(replica)
    is_ready = run.facts is not None and run.facts.phase is Phase.READY
    if replica.state is not State.WARMING or run.worker is None or not is_ready or run.is_reaping:
        return []
    run.progress = None
    replica.waiting_for = ""
    run.hot_since = context.now
    loaded, run.start_seconds = "loaded", context.now - run.began
    if run.is_waking:
        loaded = "woken up"
        run.is_waking, run.asleep_since = False, None
    else:
        replica.load_seconds = run.start_seconds
    run.lease = Lease(ttl_seconds(replica, context))
    mark_used(run, context.now)
    replica.failures = replica.failures.load_succeeded()
    ready = become(replica, Trigger.READY, loaded, context)
    return [ready, *serve_waiters(replica, context), NotifyCapacity()]


# -- yielding -------------------------------------------------------------------------------------


def yield_to(replica: Replica, message: Yield, context: Context) -> list[Command]:
    """Let new requests wait, for a time and if that is of any use."""
    run, config = replica.run, context.config
    is_able = replica.state.is_serving and not replica.is_leaving
    if run is None or run.yields_to or not is_able or run.yielding.is_useless:
        return []
    # Those that it holds back are to be served before they give up.
    longest = config.load_wait_seconds / 2
    run.yielding = run.yielding.begun(context.now, config.graceful_shutdown_seconds, longest)
    run.yields_to = message.on_behalf_of
    text = (
        f"yields to {message.on_behalf_of}, which has waited long:"
        " new requests wait, current ones end"
    )
    return [announce(replica, "model-yielding", text), NotifyClosed()]


def end_yielding(replica: Replica, context: Context) -> list[Command]:
    """Its time for that is over."""
    run = run_of(replica)
    text = f"its current work did not end in time for {run.yields_to}: it serves again"
    run.yielding = run.yielding.over(run.granted, run.in_flight)
    resuming = announce(replica, "model-resuming", text)
    return [resuming, *resume(replica, Resume(), context), NotifyCapacity()]


def resume(replica: Replica, message: Resume, context: Context) -> list[Command]:
    """Serve again."""
    if replica.run is None:
        return []
    replica.run.yields_to = ""
    replica.run.yielding = replica.run.yielding.dropped()
    return serve_waiters(replica, context)


def _note_yielding(run: Run, yielding: Yielding) -> list[Command]:
    was_useless, run.yielding = run.yielding.is_useless, yielding
    # It may be asked to yield again.
    return [NotifyCapacity()] if was_useless and not yielding.is_useless else []


# -- settings -------------------------------------------------------------------------------------


def extend(replica: Replica, message: Extend, context: Context) -> list[Command]:
    """Add to the lease."""
    if not replica.state.is_serving or replica.is_leaving:
        text = f"{replica.model.model_id} is {replica.state.shown}; only a loaded model has a lease"
        return [Reject(message.outcome, Conflict(f"{text} to extend", code="not_loaded"))]
    run, longest = run_of(replica), context.config.max_ttl_minutes * 60
    run.lease, added = run.lease.extended(message.seconds, context.now, longest)
    commands: list[Command] = []
    if replica.state is State.COOLING:
        reason = "lease extended while cooling"
        commands.append(become(replica, Trigger.USED, reason, context))
    return [*commands, Resolve(message.outcome, added)]


def replace_model(replica: Replica, message: ReplaceModel, context: Context) -> list[Command]:
    """What runs goes on with what it was started with."""
    if not runs_alike(replica.model, message.model):
        replica.insufficient = replica.held_asleep = None
        replica.cannot_sleep = ""
    replica.model = message.model
    commands = config_changed(replica, ConfigChanged(), context)
    if replica.is_asleep and not (replica.can_sleep or replica.is_leaving):
        commands += stop_sleeper(replica, "its entry was changed while it slept", context)
    return commands


def config_changed(replica: Replica, message: ConfigChanged, context: Context) -> list[Command]:
    """The lease of what runs follows the TTL."""
    run, ttl, commands = replica.run, ttl_seconds(replica, context), list[Command]()
    if run is not None and ttl != run.lease.ttl:
        last_used = context.now if run.last_used is None else run.last_used
        run.lease = run.lease.with_ttl(ttl, last_used)
        left = run.lease.remaining(context.now)
        is_longer = left is None or left > 0
        if replica.state is State.COOLING and not replica.is_leaving and is_longer:
            reason = "its lease is longer now"
            commands.append(become(replica, Trigger.USED, reason, context))
    if run is not None:
        was_full = run.room == 0
        settle_limit(replica, context)
        commands += serve_waiters(replica, context) if was_full else []
    return [*commands, NotifyCapacity()]


HANDLERS: Handlers = {
    Acquire: acquire,
    Withdraw: withdraw,
    RequestEnded: request_ended,
    HandOver: hand_over,
    Reported: reported,
    Yield: yield_to,
    Resume: resume,
    Extend: extend,
    ReplaceModel: replace_model,
    ConfigChanged: config_changed,
}
