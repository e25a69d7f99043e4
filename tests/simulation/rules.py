"""What must hold after every step of a simulation, besides the rules of ``support.rules``.

One function for each rule; its docstring names the rule of the house that it guards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from support import rules as of_pool
from support.sim import SimProcess

from simulation import moments
from simulation.world import World

# A hang is noticed by missed beats, or by work without progress; then come the questions, the KILL
# and the reaping.
ENDING_SECONDS = 30.0


class Broken(Exception):
    """A rule does not hold."""

    def __init__(self, rule: str, what: str) -> None:
        super().__init__(f"{rule}: {what}")
        self.rule = rule


def nothing_was_wrong_on_the_way(world: World) -> None:
    """The rules of ``simulation.moments``, which events are held against at once."""
    assert not world.broken, "; ".join(world.broken)


def answers_come_in_time(world: World) -> None:
    """Rule 3: every wait has a deadline, and it is kept."""
    manager = world.manager
    if not world.is_awake:
        return
    now = manager.own_time()
    late = [w.what for w in manager.wishes if not w.task.done() and now > w.deadline]
    assert not late, f"not answered in time: {late}"


def answers_are_in_words(world: World) -> None:
    """Rule 10: who is refused is told why, in an error of ours."""
    world.look_at_answers()


def grants_are_counted(world: World) -> None:
    """Rule 1: the pool knows of every grant in a client's hands, and of no other."""
    if not world.is_awake:
        return
    for replica in world.replicas:
        if (run := replica.run) is not None:
            held = world.manager.held[run.worker_id]
            assert run.granted == held, f"{replica!r}: {run.granted} granted, {held} held"


def nobody_is_lost(world: World) -> None:
    """Rule 3: whoever waits for a model is among those that its copies know of."""
    if not world.is_awake:
        return
    asked = [w.what.split() for w in world.manager.wishes if not w.task.done()]
    waiting = Counter(name for verb, name in asked if verb in ("acquire", "load"))
    for name, count in waiting.items():
        copies = world.pool.statuses(name) if world.pool.has(name) else ()
        known = sum(status.waiting for status in copies)
        assert count <= known, f"{count} wait for {name}, which knows of {known}"


def hung_ones_are_replaced(world: World) -> None:
    """Rule 9: what serves and does not answer is noticed, and does not stay."""
    since = world.memory.hung
    if not world.is_awake:
        since.clear()
        return
    now, config = world.manager.own_time(), world.pool.config
    hung = {p.assignment.worker_id: p for p in world.alive() if _hangs(p)}
    for worker_id in list(since):
        if worker_id not in hung:
            del since[worker_id]
    looks = 3 * config.beat_seconds + min(config.beat_seconds, config.hang_seconds)
    limit = looks + config.hang_seconds + ENDING_SECONDS
    for worker_id in hung:
        status = world.pool.status_of_worker(worker_id)
        if status is None or not status.state.is_serving or status.is_leaving:
            since.pop(worker_id, None)
        elif now - since.setdefault(worker_id, now) > limit:
            raise AssertionError(f"hangs for {now - since[worker_id]:.0f} s: {status!r}")


def _hangs(process: SimProcess) -> bool:
    return process.script.front_hangs or (process.script.engine_hangs and process.is_suspect)


def workers_are_on_record(world: World) -> None:
    """Rule 8: a manager may die at any moment, and the next one finds every worker."""
    unknown = [p for p in world.alive() if p.assignment.worker_id not in world.records]
    assert not unknown, f"on no record: {[p.assignment.model_id for p in unknown]}"


ALWAYS: tuple[Callable[[World], None], ...] = (
    nothing_was_wrong_on_the_way,
    of_pool.no_handler_fails,
    of_pool.events_have_reasons,
    of_pool.no_work_is_cut,
    workers_are_on_record,
    answers_come_in_time,
    answers_are_in_words,
    grants_are_counted,
    nobody_is_lost,
    hung_ones_are_replaced,
)
MANAGED: tuple[Callable[[World], None], ...] = (
    of_pool.one_worker_per_copy,
    of_pool.within_limits,
    of_pool.reservations_are_true,
    of_pool.ports_are_kept,
    of_pool.records_are_true,
    of_pool.waiters_wait_for_something,
    of_pool.places_are_used,
    of_pool.leases_end,
    of_pool.sleeps_end,
    of_pool.what_sleeps_holds_little,
    of_pool.room_is_used,
    of_pool.nobody_starves,
)
DESCRIBED = (*ALWAYS, *MANAGED, *moments.MOMENTS, moments.adoption_is_sound)


def check(world: World) -> None:
    """Hold the world against every rule.

    Raises:
        Broken: one does not hold.
    """
    for rule in ALWAYS + (MANAGED if world.is_awake else ()):
        try:
            rule(world)
        except AssertionError as e:
            raise Broken(rule.__name__, str(e)) from e
