"""PURE: to sleep in place of an unload: the worker stays, without the memory of its devices.

It is UNLOADING while it falls asleep, then ASLEEP, which is COLD to clients; the next start wakes
it up. Whatever goes wrong on the way makes an ordinary unload of it, and the next start a load.
"""

from __future__ import annotations

from modelpool_client.wire import DrainRequest, Facts, Failure, Phase

from modelpool.pool.admission import Requirements
from modelpool.pool.commands import (
    CancelReservation,
    Command,
    Drain,
    PlanSleep,
    SettleAsleep,
)
from modelpool.pool.context import Context
from modelpool.pool.decide.steps import (
    announce,
    ask_to_drain,
    become,
    begin_unloading,
    reap,
    release,
    run_of,
    start_if_wanted,
    stop,
    terminate,
    ttl_seconds,
)
from modelpool.pool.messages import SleepPlanned
from modelpool.pool.replica import Replica, Run
from modelpool.pool.states import Lease, State, Trigger

GAVE_UP = "it did not fall asleep"

# -- falling asleep -------------------------------------------------------------------------------


def may_sleep(replica: Replica, context: Context) -> bool:
    """Its worker can, and the pool wants it."""
    return context.config.may_sleep and replica.can_sleep and not context.is_stopping


def retire(replica: Replica, reason: str, idle_seconds: float, context: Context) -> list[Command]:
    """The question whether it can go, or sleep where it may and there is room for that."""
    run = run_of(replica)
    if not may_sleep(replica, context):
        return ask_to_drain(run, reason, idle_seconds)
    run.drain_reason = reason
    run.is_eviction = False
    return [PlanSleep(run, idle_seconds)]


def sleep_planned(replica: Replica, message: SleepPlanned, context: Context) -> list[Command]:
    """There is room for it asleep, or it has to go."""
    run = run_of(replica)
    if not run.drain_reason:
        return []
    if message.refusal:
        reason = f"{run.drain_reason}; not put to sleep: {message.refusal}"
        return ask_to_drain(run, reason, message.idle_seconds)
    return ask_to_sleep(run, run.drain_reason, message.idle_seconds)


def ask_to_sleep(
    run: Run, reason: str, idle_seconds: float, *, is_eviction: bool = False
) -> list[Command]:
    """As for a drain, the worker decides."""
    run.drain_reason = reason
    run.is_eviction = is_eviction
    run.is_asked_to_sleep = True
    return [Drain(run, DrainRequest(idle_seconds, reason), to_sleep=True)]


def fall_asleep(replica: Replica, reason: str, context: Context) -> list[Command]:
    """It has agreed, and takes no requests any more."""
    run = run_of(replica)
    run.yields_to = ""
    run.falls_asleep_by = context.now + context.config.load_stall_seconds
    commands = begin_unloading(replica, f"{reason} (falls asleep)", context)
    run.is_eviction = False
    # What it says of itself may be there before its answer.
    return commands + sleep_news(replica, context)


def sleep_news(replica: Replica, context: Context) -> list[Command]:
    """What it last said of its sleep, where that is not what is known."""
    run = run_of(replica)
    phase = run.facts.phase if run.facts is not None else None
    if run.falls_asleep_by is not None:
        if phase is Phase.ASLEEP:
            return _fell_asleep(replica, run, context)
        if phase is not Phase.FALLING_ASLEEP and phase is not Phase.READY:
            failure = run.facts.failure if run.facts is not None else None
            return give_up_sleep(replica, failure.message if failure else GAVE_UP, context)
        return []
    is_awake = phase in (Phase.READY, Phase.LOADING)
    if replica.is_asleep and is_awake and not replica.is_leaving:
        return stop(replica, "it woke up, and nobody has told it to", context)
    sleeps = phase in (Phase.FALLING_ASLEEP, Phase.ASLEEP)
    if replica.state.is_serving and sleeps and not replica.is_leaving:
        return stop(replica, "it sleeps, and nobody has told it to", context)
    return []


def _fell_asleep(replica: Replica, run: Run, context: Context) -> list[Command]:
    if replica.unloads or not may_sleep(replica, context):
        return _end(run)
    run.falls_asleep_by = run.hot_since = None
    assert run.facts is not None
    note_held(replica, run.facts)
    reason = f"asleep: {replica.reason.removesuffix(' (falls asleep)')}"
    run.asleep_since = context.now
    slept = become(replica, Trigger.FELL_ASLEEP, reason, context)
    return [SettleAsleep(run), slept, *start_if_wanted(replica, context)]


def note_held(replica: Replica, facts: Facts) -> None:
    """Remember what it takes asleep, where that was measured."""
    if facts.memory_bytes is not None:
        taken = dict(facts.device_memory_bytes)
        replica.held_asleep = Requirements(replica.key, facts.memory_bytes, taken)


def give_up_sleep(replica: Replica, why: str, context: Context) -> list[Command]:
    """It is unloaded, and put to sleep no more."""
    replica.cannot_sleep = why
    return [announce(replica, "model-not-asleep", f"{why}; it is unloaded"), *_end(run_of(replica))]


def end_while_falling_asleep(replica: Replica, *, cut: bool) -> list[Command]:
    """Whoever wants it to go does not want it to sleep."""
    return _end(run_of(replica), cut=cut)


def _end(run: Run, *, cut: bool = False) -> list[Command]:
    run.falls_asleep_by = None
    is_draining = run.facts is not None and run.facts.phase is Phase.DRAINING
    return terminate(run, "", cut=cut, is_draining=is_draining)


def stop_sleeper(
    replica: Replica, reason: str, context: Context, *, is_eviction: bool = False
) -> list[Command]:
    """It holds what others want, or has slept for long enough."""
    run_of(replica).is_eviction = is_eviction
    return stop(replica, reason, context)


def died_asleep(replica: Replica, failure: Failure, context: Context) -> list[Command]:
    """Nobody was served by it: it is cold, and the next request loads it."""
    released = release(replica)
    text = f"its worker ended while it slept: {failure.message}"
    return [
        released,
        become(replica, Trigger.DIED, text, context),
        *start_if_wanted(replica, context),
    ]


# -- waking up ------------------------------------------------------------------------------------


def begin_waking(replica: Replica, why: str, *, is_speculative: bool, context: Context) -> Command:
    """Its room is reserved."""
    run = run_of(replica)
    run.lease = Lease(ttl_seconds(replica, context))
    run.is_waking = True
    run.is_speculative = is_speculative
    run.began = context.now
    return become(replica, Trigger.START, f"waking: {why}", context)


def sleep_on(replica: Replica, by: str, context: Context) -> list[Command]:
    """There is no room for it awake after all."""
    run = run_of(replica)
    run.is_waking = False
    run.victims.clear()
    run.progress = None
    replica.waiting_for = ""
    on = become(replica, Trigger.SLEEPS_ON, f"{by} is in use after all", context)
    return [CancelReservation(), on, *start_if_wanted(replica, context)]


def did_not_wake(replica: Replica, failure: Failure) -> list[Command]:
    """What follows comes with its end."""
    run = run_of(replica)
    run.verdict = failure
    return reap(run, None, is_killed=True)


def load_in_place_of_waking(
    replica: Replica, why: str, context: Context, *, is_own_fault: bool
) -> list[Command]:
    """Its worker is gone; whoever waits has it loaded as from COLD. That somebody killed it says
    nothing against its sleep."""
    if is_own_fault:
        replica.cannot_sleep = why
    text = f"it did not wake up: {why}; it is loaded anew"
    failed = announce(replica, "model-not-woken", text)
    released = release(replica)
    return [
        failed,
        released,
        become(replica, Trigger.ROOM_LOST, text, context),
        *start_if_wanted(replica, context),
    ]


# -- its end --------------------------------------------------------------------------------------


def sleep_due(replica: Replica, context: Context) -> float | None:
    """When it has slept, or tried to, for long enough; None: it does neither, or is wanted."""
    run = replica.run
    if run is None:
        return None
    if run.falls_asleep_by is not None:
        return run.falls_asleep_by
    is_wanted = replica.keep_warm or len(replica.waiters) > 0
    if replica.state is not State.ASLEEP or replica.is_leaving or is_wanted:
        return None
    assert run.asleep_since is not None
    return run.asleep_since + context.config.sleep_minutes * 60


def end_sleep(replica: Replica, context: Context) -> list[Command]:
    """That time is over."""
    run, config = run_of(replica), context.config
    if run.falls_asleep_by is not None:
        text = f"it did not fall asleep within {config.load_stall_seconds:g} s"
        return give_up_sleep(replica, text, context)
    return stop_sleeper(replica, f"it slept for sleep_minutes ({config.sleep_minutes:g})", context)
