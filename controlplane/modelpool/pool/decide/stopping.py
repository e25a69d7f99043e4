"""PURE: the way down: unload, eviction, the answer to a drain, exit and death."""

from __future__ import annotations

from modelpool_client.errors import UnloadProtected
from modelpool_client.wire import WORKER_EXIT_PORT_TAKEN, DrainReply, Failure, Phase

from modelpool.pool.admission import Requirements
from modelpool.pool.commands import (
    Command,
    CutWork,
    DenyRoom,
    LeaveQueue,
    NotifyCapacity,
    Reject,
    ReportBug,
    ReturnPort,
)
from modelpool.pool.context import Context
from modelpool.pool.decide.handlers import Handlers
from modelpool.pool.decide.serving import serve_waiters, take_facts
from modelpool.pool.decide.sleeping import (
    ask_to_sleep,
    died_asleep,
    end_while_falling_asleep,
    fall_asleep,
    give_up_sleep,
    load_in_place_of_waking,
    may_sleep,
    stop_sleeper,
)
from modelpool.pool.decide.steps import (
    OOM,
    announce,
    answer_unloads,
    ask_to_drain,
    become,
    begin_unloading,
    cancellation,
    complain_of,
    fail_load,
    fail_waiters,
    failed_error,
    gone,
    launch,
    reap,
    release,
    run_of,
    set_more_aside,
    start_if_wanted,
    stop,
)
from modelpool.pool.failures import explain
from modelpool.pool.messages import (
    Delete,
    Drained,
    Evict,
    Exited,
    Reaped,
    Restart,
    StopIfIdle,
    Terminated,
    Unload,
    WorkCut,
)
from modelpool.pool.replica import Replica, Run
from modelpool.pool.states import State, Trigger
from modelpool.pool.worker import ExitReport

# -- somebody wants it to go ----------------------------------------------------------------------


def unload(replica: Replica, message: Unload, context: Context) -> list[Command]:
    """Whatever it does, it ends; who waits for a load is told."""
    model = replica.model
    kept = "pinned" if model.pinned else "a warm-up model" if model.warmup else ""
    if kept and not message.force:
        text = f"{model.model_id} is {kept}; unload it with force"
        return [Reject(message.outcome, UnloadProtected(text, param="force"))]
    replica.keep_warm = False
    replica.cannot_sleep = ""
    commands: list[Command] = []
    if replica.state is not State.UNLOADING or context.is_stopping:
        commands += fail_waiters(replica, cancellation(replica, message.reason, context))
    replica.unloads.append(message.outcome)
    commands.append(LeaveQueue())
    if replica.state is State.COLD:
        return commands + answer_unloads(replica, "it was not loaded")
    if replica.state is State.FAILED:
        commands.append(become(replica, Trigger.CLEAR, message.reason, context))
        return commands + answer_unloads(replica, "the failure was cleared")
    if replica.state is State.UNLOADING and replica.falls_asleep:
        return commands + end_while_falling_asleep(replica, cut=message.cut)
    if replica.state is State.UNLOADING:
        return commands + (_cut_short(run_of(replica), message.reason) if message.cut else [])
    cut = message.cut or replica.state is State.WARMING
    run_of(replica).is_eviction = False  # whoever had asked it to make room
    return commands + stop(replica, message.reason, context, cut=cut)


def _cut_short(run: Run, reason: str) -> list[Command]:
    if run.is_cut or run.worker is None:
        return []
    run.is_cut = True
    return [CutWork(run, reason)]


def restart(replica: Replica, message: Restart, context: Context) -> list[Command]:
    """End a worker that fails; whoever asks meanwhile waits for the next."""
    if not replica.state.is_serving or replica.is_leaving:
        return []
    event = announce(replica, "worker-replaced", message.reason)
    return [event, *stop(replica, message.reason, context)]


def delete(replica: Replica, message: Delete, context: Context) -> list[Command]:
    """What ends it is the unload that follows."""
    replica.is_deleted = True
    return []


def evict(replica: Replica, message: Evict, context: Context) -> list[Command]:
    """Go if idle; whoever waits for its room hears of its end, or that it stays."""
    if replica.is_leaving:
        return []
    reason = f"evicted to make room for {message.on_behalf_of}"
    if replica.is_speculative_load:
        return _cut_load(replica, reason, context, is_eviction=True)
    if replica.is_asleep:
        return stop_sleeper(replica, reason, context, is_eviction=True)
    if not replica.state.is_serving or replica.is_busy or replica.model.pinned:
        return [DenyRoom()]
    if message.may_sleep and may_sleep(replica, context):
        return ask_to_sleep(run_of(replica), reason, 0.0, is_eviction=True)
    return ask_to_drain(run_of(replica), reason, 0.0, is_eviction=True)


def stop_if_idle(replica: Replica, message: StopIfIdle, context: Context) -> list[Command]:
    """Go if idle; nobody waits for its room."""
    if replica.is_speculative_load:
        return _cut_load(replica, message.reason, context, is_eviction=message.is_eviction)
    since = message.unused_since
    if since is not None and _is_load_for_nobody(replica, since):
        return _cut_load(replica, message.reason, context, is_eviction=message.is_eviction)
    is_there = replica.state.is_serving or replica.is_asleep
    if not is_there or replica.is_leaving or replica.is_busy:
        return []
    run = run_of(replica)
    if since is not None and (run.last_used or 0.0) > since:
        return []
    if replica.is_asleep:
        is_eviction = message.is_eviction
        return stop_sleeper(replica, message.reason, context, is_eviction=is_eviction)
    return ask_to_drain(run, message.reason, 0.0, is_eviction=message.is_eviction)


def _is_load_for_nobody(replica: Replica, since: float) -> bool:
    """Whoever it was begun for before then has left."""
    if replica.state is not State.WARMING or replica.keep_warm or len(replica.waiters):
        return False
    return run_of(replica).began <= since


def _cut_load(
    replica: Replica, reason: str, context: Context, *, is_eviction: bool
) -> list[Command]:
    run_of(replica).is_eviction = is_eviction
    return stop(replica, reason, context, cut=True)


# -- what the worker does -------------------------------------------------------------------------


def drained(replica: Replica, message: Drained, context: Context) -> list[Command]:
    """Whether it can go."""
    run, reply = run_of(replica), message.result
    if not run.drain_reason:
        return []
    to_sleep = run.is_asked_to_sleep
    if run.is_reaping:  # it has ended already, which will say how
        run.has_drained = isinstance(reply, DrainReply) and reply.drained and not to_sleep
        return []
    reason, run.drain_reason, run.is_asked_to_sleep = run.drain_reason, "", False
    if not isinstance(reply, DrainReply):
        what = "sleep" if to_sleep else "drain"
        text = f"{reason}; the worker did not answer when asked to {what}"
        return stop(replica, text, context)
    if reply.drained and to_sleep:
        commands = fall_asleep(replica, reason, context)
        return commands + take_facts(replica, reply.facts, context)
    if reply.drained:
        return stop(replica, reason, context)
    return _stay(replica, run, reply, context)


def _stay(replica: Replica, run: Run, reply: DrainReply, context: Context) -> list[Command]:
    run.is_eviction = False
    commands = take_facts(replica, reply.facts, context)
    commands.append(DenyRoom())
    if replica.is_leaving:  # it says that it has failed
        return commands
    if replica.state is State.COOLING:
        commands.append(become(replica, Trigger.USED, "used while cooling", context))
    return commands + serve_waiters(replica, context)


def exited(replica: Replica, message: Exited, context: Context) -> list[Command]:
    """By itself, unless its end was ordered: then that is seen through already."""
    run, code = run_of(replica), message.result
    if replica.state is State.UNLOADING and replica.falls_asleep:
        return give_up_sleep(replica, "its worker ended while it fell asleep", context)
    if replica.state is State.UNLOADING or run.worker is None:
        return []
    return reap(run, code if isinstance(code, int) else None)


def terminated(replica: Replica, message: Terminated, context: Context) -> list[Command]:
    """The end that was ordered is complete."""
    return gone(replica, context, message.result)


def work_cut(replica: Replica, message: WorkCut, context: Context) -> list[Command]:
    """What follows comes from its end."""
    return [ReportBug(message.result)] if message.result is not None else []


def reaped(replica: Replica, message: Reaped, context: Context) -> list[Command]:
    """Nothing is left of the process; what its end means follows from how it came."""
    run, report = run_of(replica), message.result
    if replica.state is State.UNLOADING or not run.is_reaping:
        return []
    run.is_reaping = False
    commands = complain_of(replica, report)
    if isinstance(report, Exception):
        report = ExitReport(None, None)
    failure = explain(report, run.verdict)
    if replica.is_asleep:
        return commands + died_asleep(replica, failure, context)
    if replica.state is State.WARMING and run.is_waking:
        was_killed = run.verdict is None and not report.is_killed and (report.exit_code or 0) < 0
        why = failure.message
        return commands + load_in_place_of_waking(
            replica, why, context, is_own_fault=not was_killed
        )
    if replica.state is State.WARMING:
        if report.exit_code == WORKER_EXIT_PORT_TAKEN:
            return commands + _try_another_port(replica, run, context)
        return commands + fail_load(replica, failure, context, message.held)
    if _is_good_end(replica, run, report):
        reason = run.drain_reason or "the worker ended by itself"
        commands += begin_unloading(replica, reason, context)
        return commands + gone(replica, context)
    return commands + _died(replica, run, failure, message.held, context)


def _is_good_end(replica: Replica, run: Run, report: ExitReport) -> bool:
    """What it did by our own order outranks any guess about it; without one, one that is to be
    kept warm should have stayed, and would be started again at once, over and over."""
    if run.has_drained:
        return True
    if report.exit_code != 0:
        return False
    is_draining = run.facts is not None and run.facts.phase is Phase.DRAINING
    if run.drain_reason or is_draining:
        return True
    return run.verdict is None and not replica.keep_warm


def _try_another_port(replica: Replica, run: Run, context: Context) -> list[Command]:
    """A stranger has it."""
    assert run.port is not None
    commands: list[Command] = [announce(replica, "port-taken"), ReturnPort(run.port)]
    again = replica.run = Run(
        run.worker_id,
        None,
        run.lease,
        run.began,
        run.model,
        run.is_speculative,
        ports_tried=run.ports_tried | {run.port},
    )
    # What its process had of the host is back.
    return [*commands, *launch(replica, again, context), NotifyCapacity()]


def _died(
    replica: Replica, run: Run, failure: Failure, held: Requirements, context: Context
) -> list[Command]:
    now, wall, config = context.now, context.wall, context.config
    replica.failures = replica.failures.died(failure, now, wall, config)
    if failure.code == OOM:
        set_more_aside(replica, run, failure, held)
        if run.search is not None:
            run.search.refused(run.search.limit)
            replica.limit_after_oom = run.search.limit
    replica.keep_warm = replica.keep_warm or replica.model.warmup
    commands: list[Command] = [release(replica)]
    assert replica.failures.failure is not None
    reason = replica.failures.failure.message
    commands.append(become(replica, Trigger.DIED, reason, context))
    if replica.failures.is_given_up:  # those who wait would wait for nothing
        commands += fail_waiters(replica, failed_error(replica, context))
    return commands + start_if_wanted(replica, context)  # there may be no back-off


HANDLERS: Handlers = {
    Unload: unload,
    Restart: restart,
    Delete: delete,
    Evict: evict,
    StopIfIdle: stop_if_idle,
    Drained: drained,
    Exited: exited,
    Terminated: terminated,
    WorkCut: work_cut,
    Reaped: reaped,
}
