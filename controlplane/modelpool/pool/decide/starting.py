"""PURE: from the wish for a model to a worker that serves: admission, room, launch, adoption."""

from __future__ import annotations

from modelpool_client.errors import CannotFit, ModelPoolError, NoMemoryFree, NoPortFree
from modelpool_client.wire import Facts, Failure, Phase, Progress

from modelpool.pool.admission import Refuse, Start, Wait, amount
from modelpool.pool.commands import (
    Admit,
    AwaitExit,
    Cancel,
    CancelReservation,
    ClaimPort,
    Command,
    EvictOthers,
    JoinQueue,
    LeaveQueue,
    NotifyCapacity,
    ReadAhead,
    SettleAsleep,
)
from modelpool.pool.context import Context
from modelpool.pool.decide.handlers import Handlers
from modelpool.pool.decide.serving import acquire, ready_if_known, serve_waiters, take_facts
from modelpool.pool.decide.sleeping import (
    begin_waking,
    did_not_wake,
    note_held,
    sleep_on,
    sleep_planned,
    stop_sleeper,
)
from modelpool.pool.decide.steps import (
    admit,
    announce,
    become,
    end_load,
    fail_load,
    fail_waiters,
    forget_run,
    gone,
    launch,
    leave_queue,
    mark_used,
    may_start,
    no_port_free,
    release,
    run_of,
    start_if_wanted,
    terminate,
    ttl_seconds,
)
from modelpool.pool.failures import without_room
from modelpool.pool.messages import (
    AbandonLoad,
    Acquire,
    Admitted,
    Adopt,
    Launched,
    Load,
    LoadSpeculatively,
    PortAssigned,
    RefuseLoad,
    RetryAdmission,
    RetryPlanned,
    RoomDenied,
    RoomFreed,
    SleepPlanned,
    Woken,
)
from modelpool.pool.replica import Replica, Run
from modelpool.pool.states import Lease, State, Trigger
from modelpool.pool.worker import Worker

# What other programs hold comes back without notice: so often it is worth to ask again.
HOST_RETRY_SECONDS = 10.0


def load(replica: Replica, message: Load, context: Context) -> list[Command]:
    """As a request would, but from FAILED at once."""
    waiter = message.waiter
    if replica.state is State.FAILED:
        replica.failures = replica.failures.retry_now(context.now)
    replica.keep_warm = replica.keep_warm or message.keep_warm
    if waiter.is_standing and any(w.is_standing for w in replica.waiters):
        # One wish for a load that nobody waits on is enough.
        return [Cancel(waiter.outcome), *start_if_wanted(replica, context)]
    return acquire(replica, Acquire(waiter), context)


def load_speculatively(
    replica: Replica, message: LoadSpeculatively, context: Context
) -> list[Command]:
    """Only into spare room."""
    if not may_start(replica, context):
        return []
    return [Admit(message.reason, is_speculative=True)]


def refuse_load(replica: Replica, message: RefuseLoad, context: Context) -> list[Command]:
    """Say why, where it is down."""
    if not replica.state.is_down:
        return []
    replica.reason = f"refused: {message.reason}"
    return [announce(replica, "model-refused")]


def abandon_load(replica: Replica, message: AbandonLoad, context: Context) -> list[Command]:
    """A load that could not begin is not kept in mind for ever."""
    if not replica.waiters.discard(message.waiter):
        return []
    commands: list[Command] = [Cancel(message.waiter.outcome)]
    is_wanted = replica.keep_warm or len(replica.waiters) or replica.state is State.WARMING
    if not is_wanted:
        what = replica.waiting_for or replica.reason
        text = f"waited {message.seconds:.0f} s in vain: {what}"
        commands.append(announce(replica, "load-given-up", text))
    return [*commands, NotifyCapacity()]


def retry_admission(replica: Replica, message: RetryAdmission, context: Context) -> list[Command]:
    """Something changed in the pool."""
    return start_if_wanted(replica, context)


# -- room -----------------------------------------------------------------------------------------


def admitted(replica: Replica, message: Admitted, context: Context) -> list[Command]:
    """Begin, wait, or say that it cannot be."""
    if message.is_outdated:
        return stop_sleeper(replica, "its options were changed while it slept", context)
    if isinstance(message.plan, Refuse):
        return _refused(replica, message.plan)
    if isinstance(message.plan, Wait):
        replica.waiting_for = message.plan.why
        return [JoinQueue(message.plan.until)]
    return _begin(replica, message, message.plan, context)


def _begin(replica: Replica, message: Admitted, plan: Start, context: Context) -> list[Command]:
    replica.waiting_for = ""
    if replica.run is not None:  # asleep
        started = begin_waking(
            replica, message.why, is_speculative=message.is_speculative, context=context
        )
        return [started, *_make_room(replica, replica.run, plan, context), LeaveQueue()]
    victims = plan.evict
    if message.port is None and not victims:
        replica.reason = "all worker ports are taken"
        return [CancelReservation(), *_not_now(replica, "a free port", no_port_free())]
    run = replica.run = Run(
        message.worker_id,
        message.port,
        Lease(ttl_seconds(replica, context)),
        context.now,
        replica.model,
        message.is_speculative,
    )
    started = become(replica, Trigger.START, f"loading: {message.why}", context)
    # Only then: those that yield to it are asked to leave before they may serve again.
    return [started, *_make_room(replica, run, plan, context), LeaveQueue()]


def _make_room(replica: Replica, run: Run, plan: Start, context: Context) -> list[Command]:
    victims = plan.evict
    if not victims:
        return launch(replica, run, context)
    run.victims = set(victims)
    names = ", ".join(victims)
    run.progress = Progress(f"waiting for the memory of {names}", estimated=False)
    replica.waiting_for = f"the memory of {names}"
    read_ahead = [] if run.is_waking else [ReadAhead()]
    return [*read_ahead, EvictOthers(victims, plan.asleep)]


def room_freed(replica: Replica, message: RoomFreed, context: Context) -> list[Command]:
    """One of those that it waits for is gone."""
    run = replica.run
    if run is None or message.by not in run.victims:
        return []
    run.victims.discard(message.by)
    return [] if run.victims else launch(replica, run, context)


def room_denied(replica: Replica, message: RoomDenied, context: Context) -> list[Command]:
    """A victim turned out to be in use: back into the queue."""
    run = replica.run
    if run is None or message.by not in run.victims:
        return []
    if run.is_waking:
        return sleep_on(replica, message.by, context)
    released = release(replica)
    lost = become(replica, Trigger.ROOM_LOST, f"{message.by} is in use after all", context)
    return [released, lost, *start_if_wanted(replica, context)]


def _refused(replica: Replica, refusal: Refuse) -> list[Command]:
    name = replica.model.model_id
    if replica.insufficient is not None:
        return _try_as_before(replica, refusal)
    if refusal.is_passing:
        replica.reason = f"refused for now: {refusal.why}"
        text = f"{name} does not fit now: {refusal.text}"
        refused = [] if replica.keep_warm else [announce(replica, "model-refused")]
        error = NoMemoryFree(text, retry_after=HOST_RETRY_SECONDS)
        return [*refused, *_not_now(replica, refusal.why, error)]
    commands = leave_queue(replica)
    replica.keep_warm = False
    replica.reason = f"refused: {refusal.why}"
    commands.append(announce(replica, "model-refused"))
    return commands + fail_waiters(replica, CannotFit(f"{name} can never fit: {refusal.text}"))


def _try_as_before(replica: Replica, refusal: Refuse) -> list[Command]:
    """It ran well with less before, or runs out of memory again and backs off."""
    replica.insufficient = None
    text = f"there is no room for more than when it ran out of memory: {refusal.why}"
    return [announce(replica, "model-retrying", text), admit(replica)]


def _not_now(replica: Replica, waiting_for: str, error: ModelPoolError) -> list[Command]:
    """It is nobody's failure: whoever asks is told, and a warm-up model waits for it."""
    commands = fail_waiters(replica, error)
    if not replica.keep_warm:
        return commands + leave_queue(replica)
    replica.waiting_for = waiting_for
    return [*commands, JoinQueue(None)]


def retry_planned(replica: Replica, message: RetryPlanned, context: Context) -> list[Command]:
    """Once; its options are its own, so what changes is the room that is made for it."""
    held = amount(message.held)
    forget_run(replica)
    if isinstance(message.plan, Refuse):
        replica.insufficient = None
        failure = without_room(message.failure, held, message.plan.text)
        return end_load(replica, failure, context)
    more = amount(message.requirements)
    text = f"out of memory with {held}; trying once more with {more} set aside"
    retrying = announce(replica, "model-retrying", text)
    lost = become(replica, Trigger.ROOM_LOST, text, context)
    return [retrying, lost, *start_if_wanted(replica, context)]


# -- launch ---------------------------------------------------------------------------------------


def port_assigned(replica: Replica, message: PortAssigned, context: Context) -> list[Command]:
    """One that a victim has left, or another than the stranger's."""
    run = run_of(replica)
    if run.is_launched:
        return []
    if message.port is None:
        failure = Failure(NoPortFree.default_code, "all worker ports are taken")
        return fail_load(replica, failure, context)
    run.port, run.worker_id = message.port, message.worker_id
    return launch(replica, run, context)


def launched(replica: Replica, message: Launched, context: Context) -> list[Command]:
    """The process is there, or could not be started."""
    run, worker = run_of(replica), message.result
    if not run.is_launched or run.worker is not None:
        return []
    if isinstance(worker, Exception):
        if replica.state is State.UNLOADING:
            return gone(replica, context)
        return fail_load(replica, Failure("launch_failed", str(worker)), context)
    commands = _employ(replica, run, worker, context)
    if replica.state is State.UNLOADING:
        commands += terminate(run, "", cut=True)
    return commands + ready_if_known(replica, context)


def _employ(replica: Replica, run: Run, worker: Worker, context: Context) -> list[Command]:
    run.worker = worker
    run.port = worker.port
    run.heard_at = context.now
    replica.generation = worker.record.epoch
    return [AwaitExit(run)]


def adopt(replica: Replica, message: Adopt, context: Context) -> list[Command]:
    """Take over a worker that a former manager started."""
    worker, facts, now = message.worker, message.facts, context.now
    run = Run(worker.worker_id, worker.port, Lease(ttl_seconds(replica, context)), now)
    run.is_launched = True
    replica.run = run
    replica.keep_warm = replica.model.warmup
    commands: list[Command] = [ClaimPort(worker.port), *_employ(replica, run, worker, context)]
    if facts.phase is Phase.ASLEEP:
        run.asleep_since, run.last_used = now, now - facts.idle_seconds
        reason = "adopted asleep from a former manager"
        commands.append(become(replica, Trigger.ADOPT_ASLEEP, reason, context))
        commands += take_facts(replica, facts, context)
        note_held(replica, facts)
        return [*commands, SettleAsleep(run), *start_if_wanted(replica, context)]
    if facts.phase is Phase.FALLING_ASLEEP:
        run.falls_asleep_by = now + context.config.load_stall_seconds
        reason = "adopted while falling asleep"
        commands.append(become(replica, Trigger.ADOPT_DRAINING, reason, context))
    elif facts.phase is Phase.LOADING:
        run.progress_at = now
        commands.append(become(replica, Trigger.ADOPT_LOADING, "adopted while loading", context))
    elif facts.phase is Phase.READY:
        run.hot_since = now
        mark_used(run, now - facts.idle_seconds)
        run.lease = run.lease.at_least(facts.lease_left_seconds, now)
        reason = "adopted from a former manager"
        commands.append(become(replica, Trigger.ADOPT_READY, reason, context))
        return [*commands, *take_facts(replica, facts, context), *serve_waiters(replica, context)]
    else:
        reason = "adopted while draining"
        commands.append(become(replica, Trigger.ADOPT_DRAINING, reason, context))
        commands += terminate(run, reason, cut=False, is_draining=True)
    return commands + take_facts(replica, facts, context)


def woken(replica: Replica, message: Woken, context: Context) -> list[Command]:
    """It wakes up, which it will say itself, or does not even answer."""
    if not run_of(replica).is_waking:
        return []
    if isinstance(message.result, Facts):
        return take_facts(replica, message.result, context)
    text = "its worker did not answer when it was told to"
    return did_not_wake(replica, Failure("wake_failed", text))


HANDLERS: Handlers = {
    Load: load,
    LoadSpeculatively: load_speculatively,
    RefuseLoad: refuse_load,
    AbandonLoad: abandon_load,
    RetryAdmission: retry_admission,
    Admitted: admitted,
    RoomFreed: room_freed,
    RoomDenied: room_denied,
    RetryPlanned: retry_planned,
    PortAssigned: port_assigned,
    Launched: launched,
    Adopt: adopt,
    SleepPlanned: sleep_planned,
    Woken: woken,
}
