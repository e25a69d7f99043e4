"""PURE: what is due by itself: the end of lease and grace, stalled loads, workers gone quiet.

Deadlines are looked at as levels: whatever is over is acted on, whenever that is noticed.
"""

from __future__ import annotations

from modelpool_client.wire import Failure, Phase

from modelpool.pool.commands import CheckHealth, Command, ReportBug
from modelpool.pool.context import Context
from modelpool.pool.decide.handlers import Handlers
from modelpool.pool.decide.serving import end_yielding, take_facts
from modelpool.pool.decide.sleeping import end_sleep, retire, sleep_due
from modelpool.pool.decide.steps import (
    announce,
    become,
    reap,
    run_of,
    start_if_wanted,
)
from modelpool.pool.health import (
    FAILED_EXIT_SECONDS,
    Liveness,
    diagnosis,
    progress_at,
)
from modelpool.pool.messages import Acquire, HealthChecked, Message, RequestEnded, Tick
from modelpool.pool.replica import Replica, Run
from modelpool.pool.states import State, Trigger


def next_deadline(replica: Replica, context: Context) -> float | None:
    """When something is due by itself, seconds of the pool's clock; None: nothing ever."""
    if replica.run is None:
        return _retry_due(replica, context)
    times = (
        _retry_due(replica, context),
        _resume_due(replica),
        _idle_due(replica, context),
        _check_due(replica, context),
        sleep_due(replica, context),
    )
    return min([t for t in times if t is not None], default=None)


def may_hasten(replica: Replica, message: Message) -> bool:
    """Whether something may be due earlier after a message than it was before. Requests that come
    to a replica that is in use, or leave it so, only delay: of these there are thousands a second.
    """
    is_request = isinstance(message, (Acquire, RequestEnded))
    return not (is_request and replica.is_busy and replica.state.is_serving)


def tick(replica: Replica, message: Tick, context: Context) -> list[Command]:
    """Do what is due, if anything is."""
    if replica.state is State.FAILED:
        return start_if_wanted(replica, context)
    commands: list[Command] = []
    if _is_over(_resume_due(replica), context):
        commands += end_yielding(replica, context)
    if _is_over(_check_due(replica, context), context):
        commands += _check(run_of(replica), context)
    if _is_over(_idle_due(replica, context), context):
        commands += _end_lease(replica, context)
    if _is_over(sleep_due(replica, context), context):
        commands += end_sleep(replica, context)
    return commands


def _is_over(due: float | None, context: Context) -> bool:
    return due is not None and context.now >= due


def _retry_due(replica: Replica, context: Context) -> float | None:
    if replica.state is not State.FAILED:
        return None
    is_wanted = replica.keep_warm or len(replica.waiters) > 0
    backs_off = context.now < replica.failures.retry_at  # else the queue has it
    return replica.failures.retry_at if is_wanted and backs_off else None


def _resume_due(replica: Replica) -> float | None:
    run = replica.run
    if run is None or not run.yields_to or replica.is_leaving:
        return None
    return run.yielding.until


# -- idleness -------------------------------------------------------------------------------------


def _idle_due(replica: Replica, context: Context) -> float | None:
    run = replica.run
    if run is None or run.is_busy or replica.is_leaving or not may_idle_out(replica, context):
        return None
    if replica.state is State.HOT:
        return None if context.is_kept else run.lease.until
    if replica.state is State.COOLING:
        return run.cooling_since + context.config.grace_minutes * 60
    return None


def may_idle_out(replica: Replica, context: Context) -> bool:
    """It is unloaded when its lease and the grace period are over."""
    own = replica.model.auto_unload
    return context.config.auto_unload if own is None else own


def _end_lease(replica: Replica, context: Context) -> list[Command]:
    """COOLING; or, where the grace period is over, too, the question whether it can go."""
    run = run_of(replica)
    if replica.state is State.HOT:
        assert run.facts is not None
        run.cooling_since = context.now
        run.requests_before_cooling = run.facts.requests_total
        return [become(replica, Trigger.LEASE_OVER, "idle until the lease was over", context)]
    idle = context.now - run.cooling_since
    return retire(replica, "idle: the lease and the grace period are over", idle, context)


# -- health ---------------------------------------------------------------------------------------


def _check_due(replica: Replica, context: Context) -> float | None:
    """When the worker must be asked how it is, unless it is heard of before."""
    run, config = replica.run, context.config
    is_watched = replica.state.is_serving or replica.state in (State.WARMING, State.ASLEEP)
    if run is None or run.worker is None or not is_watched or run.is_checking:
        return None
    if _ends_in_time(replica, run):
        return None
    liveness = Liveness(run.heard_at, config.beat_seconds, _progress_at(run, context))
    due = liveness.due(config.hang_seconds)
    is_loading = run.facts is None or run.facts.phase is Phase.LOADING
    if replica.state is State.WARMING and is_loading:
        due = min(due, run.progress_at + config.load_stall_seconds)
    if run.failed_at is not None:
        due = min(due, run.failed_at + FAILED_EXIT_SECONDS)
    return max(due, run.checked_at + min(config.beat_seconds, config.hang_seconds))


def _progress_at(run: Run, context: Context) -> float | None:
    """When the engine last gave something for the work that it owes; None if it owes none."""
    if run.facts is None:
        return None
    at = progress_at(run.facts, run.heard_at, context.config.hang_seconds)
    return None if at is None else max(at, run.checked_at)


def _ends_in_time(replica: Replica, run: Run) -> bool:
    """Its end is under way, and has a limit of its own."""
    says_so_itself = run.failed_at is not None and not run.drain_reason
    return run.is_reaping or (replica.is_leaving and not says_so_itself)


def _check(run: Run, context: Context) -> list[Command]:
    run.is_checking = True
    run.check_began = context.now
    return [CheckHealth(run)]


def health_checked(replica: Replica, message: HealthChecked, context: Context) -> list[Command]:
    """Replace a worker that will not get well or end by itself."""
    run, report, config = run_of(replica), message.result, context.config
    if not run.is_checking:
        return []
    run.is_checking = False
    run.checked_at = context.now
    if isinstance(report, Exception):  # it was us who could not ask
        return [ReportBug(report)]
    commands: list[Command] = []
    if report.facts is not None:
        facts = report.probe.facts if report.probe is not None else report.facts
        commands += take_facts(replica, facts, context)
    elif run.heard_at > run.check_began:  # it spoke up meanwhile
        return commands
    if replica.run is not run or _ends_in_time(replica, run):
        return commands
    # One that was never heard is still coming up, which takes as long as the machine lets it.
    why = diagnosis(report, config.hang_seconds) if run.facts is not None else ""
    if why:
        commands += _replace(replica, run, Failure("worker_hung", why))
    elif replica.state is State.WARMING and _has_stalled(run, context):
        text = f"no progress for {config.load_stall_seconds:.0f} s"
        commands += _replace(replica, run, Failure("timeout", text))
    elif _lingers(run, context):
        told = run.verdict or Failure("worker_failed", "the worker failed")
        text = f"{told.message}; it did not end by itself"
        commands += _replace(replica, run, Failure(told.code, text))
    return commands


def _lingers(run: Run, context: Context) -> bool:
    """It has said that it failed, and stays."""
    return run.failed_at is not None and context.now >= run.failed_at + FAILED_EXIT_SECONDS


def _has_stalled(run: Run, context: Context) -> bool:
    return context.now >= run.progress_at + context.config.load_stall_seconds


def _replace(replica: Replica, run: Run, failure: Failure) -> list[Command]:
    """End a worker that will not end by itself; what follows is what follows a death."""
    run.verdict = failure
    return [
        announce(replica, "worker-replaced", failure.message),
        *reap(run, None, is_killed=True),
    ]


HANDLERS: Handlers = {Tick: tick, HealthChecked: health_checked}
