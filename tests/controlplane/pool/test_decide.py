"""Decisions: every pair of state and message, and what may cross on its way."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from typing import Any

import pytest
from modelpool.pool import messages as m
from modelpool.pool.commands import Command, PlanRetry, Publish, Terminate
from modelpool.pool.decide import HANDLERS, decide, next_deadline, table
from modelpool.pool.decide.table import KINDS, SITUATIONS, Kind, Situation
from modelpool.pool.health import HealthReport
from modelpool.pool.replica import Replica, Run
from modelpool.pool.states import TRANSITIONS, Lease, State
from modelpool.pool.worker import ExitReport
from modelpool_client.wire import DrainReply, Failure, Phase

PAIRS = list(itertools.product(SITUATIONS, KINDS))


def is_sound(replica: Replica) -> None:
    """What holds between two messages."""
    assert (replica.run is not None) == replica.state.has_worker, replica
    assert replica.reason
    assert not (replica.has_room and len(replica.waiters)), "somebody waits for what is there"


def moves(commands: list[Command]) -> list[tuple[State, State]]:
    """The changes of state that are told."""
    events = [c for c in commands if isinstance(c, Publish) and not c.name]
    return [(e.previous, e.status.core_state) for e in events]


def pair(each: tuple[Situation, Kind]) -> str:
    situation, kind = each
    return f"{situation.state} {situation.detail}-{kind.message.__name__} {kind.detail}"


def test_every_message_has_a_handler_and_a_place_in_the_table() -> None:
    assert set(HANDLERS) == set(m.Message.__args__)
    assert {kind.message for kind in KINDS} == set(HANDLERS)


def test_every_state_has_a_situation() -> None:
    assert {situation.state for situation in SITUATIONS} == set(State)


@pytest.mark.parametrize("each", PAIRS, ids=pair)
def test_every_pair_leaves_a_sound_replica(each: tuple[Situation, Kind]) -> None:
    """The impossible ones, too: such a message changes nothing that matters."""
    situation, kind = each
    replica = situation.make()
    message = kind.make(replica)
    if message is None:
        assert replica.run is None or not len(replica.waiters), "there is nothing to speak of"
        return
    commands = decide(replica, message, table.context())
    legal = {(state, to) for (state, _), to in TRANSITIONS.items()}
    path = moves(commands)
    assert set(path) <= legal
    assert (path[-1][1] if path else situation.state) is replica.state, "a move that is not told"
    assert next_deadline(replica, table.context()) is None or replica.state is not State.COLD
    if not any(isinstance(c, PlanRetry) for c in commands):  # else its answer comes first
        is_sound(replica)


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda s: f"{s.state} {s.detail}")
def test_news_of_a_former_worker_concern_nobody(situation: Situation) -> None:
    former = Run("former", 8051, Lease(900.0), 0.0, is_launched=True)
    for kind in KINDS:
        source = next(s for s in SITUATIONS if kind.make(s.make()) is not None)
        message = kind.make(source.make())
        if not hasattr(message, "run"):
            continue
        replica = situation.make()
        before = vars_of(replica)
        assert decide(replica, replace(message, run=former), table.context()) == []
        assert vars_of(replica) == before


def vars_of(replica: Replica) -> list[Any]:
    run = replica.run
    fields = [getattr(replica, name) for name in Replica.__slots__ if name != "waiters"]
    of_run = [] if run is None else [repr(getattr(run, name)) for name in Run.__slots__]
    return [repr(f) for f in fields] + of_run + [len(replica.waiters)]


# -- what may cross -------------------------------------------------------------------------------


def asked_to_drain(state: State = State.COOLING) -> Replica:
    return situated(state, "was asked to drain")


def situated(state: State, detail: str) -> Replica:
    return next(s for s in SITUATIONS if (s.state, s.detail) == (state, detail)).make()


def now() -> Any:
    return table.context()


def drained(run: Run, answer: bool | None = True) -> m.Drained:
    reply = None if answer is None else DrainReply(answer, table.facts(Phase.DRAINING))
    return m.Drained(run, reply)


def silent(run: Run) -> m.HealthChecked:
    return m.HealthChecked(run, HealthReport(None))


def exited(run: Run) -> m.Exited:
    return m.Exited(run, 0)


def terminated(run: Run) -> m.Terminated:
    return m.Terminated(run, ExitReport(0, Failure("worker_died", "no word")))


def reaped(run: Run, code: int | None = 0) -> m.Reaped:
    return m.Reaped(run, ExitReport(code, Failure("worker_died", "no word")), table.HELD)


@pytest.mark.parametrize("state", [State.HOT, State.COOLING])
@pytest.mark.parametrize("answer", [True, None], ids=["answered", "broke off"])
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
def test_a_good_end_is_never_judged_a_bad_one(
    state: State, answer: bool | None, order: tuple[int, ...]
) -> None:
    """It was asked to drain, drained and exited 0, while a health check found it silent: in
    whatever order that is heard, it ended as it was told to."""
    replica = asked_to_drain(state)
    run = replica.run
    assert run is not None
    news = (drained(run, answer), silent(run), exited(run))
    for number in order:
        decide(replica, news[number], now())
    decide(replica, reaped(run), now())
    decide(replica, terminated(run), now())
    assert replica.state is State.COLD, replica
    assert replica.failures.failure is None
    assert replica.run is None


def test_what_it_did_by_our_order_outranks_what_was_guessed_before() -> None:
    """It seemed to hang and is being killed; but it had exited 0, draining as it was asked to."""
    replica = asked_to_drain()
    run = replica.run
    assert run is not None
    run.verdict = Failure("worker_hung", "the worker does not answer")
    run.is_reaping = True
    decide(replica, reaped(run), now())
    assert (replica.state, replica.failures.failure) == (State.COLD, None)


@pytest.mark.parametrize("code", [-9, 1, None])
def test_what_really_hung_is_a_failure(code: int | None) -> None:
    replica = situated(State.HOT, "is idle")
    run = replica.run
    assert run is not None
    decide(replica, silent(run), now())
    assert run.is_reaping
    decide(replica, reaped(run, code), now())
    assert replica.state is State.FAILED
    assert replica.failures.failure is not None
    assert replica.failures.failure.code == "worker_hung"


def test_a_crash_while_it_is_asked_to_drain_is_a_crash() -> None:
    replica = asked_to_drain()
    run = replica.run
    assert run is not None
    decide(replica, exited(run), now())
    decide(replica, drained(run, None), now())
    decide(replica, reaped(run, -11), now())
    assert replica.state is State.FAILED


def test_one_that_had_drained_is_gone_however_it_exits() -> None:
    replica = asked_to_drain()
    run = replica.run
    assert run is not None
    decide(replica, exited(run), now())
    decide(replica, drained(run), now())
    decide(replica, reaped(run, 1), now())
    assert (replica.state, replica.failures.failure) == (State.COLD, None)


def test_a_dead_one_that_said_that_it_drains_is_ended_once() -> None:
    """Its last report comes after its end was noticed."""
    situation = next(
        s for s in SITUATIONS if s.detail == "has a worker that died" and s.state is State.HOT
    )
    replica = situation.make()
    run = replica.run
    assert run is not None
    last = m.Reported(run, table.facts(Phase.DRAINING))
    assert not [c for c in decide(replica, last, now()) if isinstance(c, Terminate)]
    decide(replica, reaped(run), now())
    assert (replica.state, replica.failures.failure) == (State.COLD, None)


def test_any_messages_in_any_order_leave_a_sound_replica() -> None:
    """Those that could come, in no order that they would come in."""
    lots = random.Random(9)
    for _ in range(300):
        replica = lots.choice(SITUATIONS).make()
        for _ in range(30):
            message = lots.choice(KINDS).make(replica)
            if message is None:
                continue
            commands = decide(replica, message, now())
            kept = [c for c in commands if isinstance(c, PlanRetry)]
            if kept:
                retry = m.RetryPlanned(
                    kept[0].run, table.Wait((), "x"), table.HELD, kept[0].failure, table.HELD
                )
                decide(replica, retry, now())
            is_sound(replica)
