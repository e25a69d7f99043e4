"""Our own rules on virtual time: a whole healthy day is quiet, and what is planted is found."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from modelpool.alerts.evaluate import Status
from modelpool.alerts.rules import BUILT_IN, Rule
from modelpool.pool.states import State as ReplicaState
from support.alert_world import HOUR, World, status


@pytest.mark.parametrize("seed", [1, 2])
def test_a_healthy_day_is_quiet(seed: int) -> None:
    world = World(seed)
    world.run(24 * HOUR)
    assert world.news == []
    # Not because nobody came.
    assert world.at == 24 * HOUR
    assert world.sampler.requests.models()


def errors(world: World) -> None:
    world.ask("a", 3, status=503, first_seconds=None, completion_tokens=0)


def slow(world: World) -> None:
    world.ask("a", 3, seconds=200.0, started_at=world.now - 200)


def late(world: World) -> None:
    world.ask("a", 3, first_seconds=40.0, seconds=45.0, started_at=world.now - 45)


def breaking(world: World) -> None:
    world.ask("a", 1, status=502, first_seconds=0.3)


def empty(world: World) -> None:
    world.ask("a", 3, completion_tokens=0, status=200)


def waiting(world: World) -> None:
    world.pool.copies["a"] = [status(waiting=5, since=world.now - 200)]


def queue(world: World) -> None:
    world.pool.copies["a"] = [status(waiting=400, since=world.now - 20)]


def crashing(world: World) -> None:
    if world.random.random() < 0.2:
        world.event("model-failed")


def hanging(world: World) -> None:
    if world.random.random() < 0.2:
        world.event("worker-replaced")


def failed(world: World) -> None:
    world.pool.copies["a"] = [status(ReplicaState.FAILED), status(ReplicaState.FAILED)]


def broken(world: World) -> None:
    world.breakers = [("a", "5 of 5 requests failed")]


def thrashing(world: World) -> None:
    world.event("model-evicted", "b")


def memory(world: World) -> None:
    world.is_short_of_memory = True


PLANTS = [
    (errors, "HighErrorRate"),
    (slow, "SlowRequests"),
    (late, "SlowFirstToken"),
    (breaking, "BrokenStreams"),
    (empty, "EmptyAnswers"),
    (waiting, "RequestsWait"),
    (queue, "LongQueue"),
    (crashing, "CrashLoop"),
    (hanging, "CrashLoop"),
    (failed, "ModelFailed"),
    (broken, "BreakerOpen"),
    (thrashing, "EvictionsThrash"),
    (memory, "MemoryPressure"),
]
# What else follows of it, rightly.
ALSO = {"BrokenStreams": {"HighErrorRate"}}


@pytest.mark.parametrize(("plant", "rule"), PLANTS, ids=lambda v: getattr(v, "__name__", v))
def test_a_planted_outage_is_found_once_and_its_end_too(
    plant: Callable[[World], None], rule: str
) -> None:
    world = World(7, at=10 * HOUR)
    world.run(0.5 * HOUR)
    assert world.news == []
    began = world.at
    world.run(20 * 60, plant)
    ended = world.at
    world.run(1.5 * HOUR)
    own = [each for each in world.news if each[2] == rule]
    others = {each[2] for each in world.news} - {rule} - ALSO.get(rule, set())
    assert not others
    assert [status for _, status, _ in own] == ["firing", "resolved"]
    (fired, _, _), (resolved, _, _) = own
    assert began < fired <= began + 12 * 60
    assert ended < resolved <= ended + 45 * 60


def test_every_rule_of_ours_has_an_outage() -> None:
    assert {rule for _, rule in PLANTS} == BUILT_IN.keys()


def test_a_failure_that_comes_and_goes_is_one_alert() -> None:
    """Half a minute bad, half a minute good, for an hour."""
    world = World(3, at=10 * HOUR)

    def now_and_then(world: World) -> None:
        if int(world.at / 30) % 2:
            errors(world)

    world.run(HOUR, now_and_then)
    assert [status for _, status, _ in world.news] == ["firing"]
    assert Status.FIRING in {alert.status for alert in world.state.active.values()}


def test_budgets_fire_by_what_the_store_says_and_end_at_midnight() -> None:
    rules = [
        Rule("Budget", "cost_day", 5.0, for_seconds=0, keep_firing_for_seconds=0),
        Rule("Others", "cost_day", 5.0, for_seconds=0, models=("b*",)),
    ]
    world = World(1, rules, at=20 * HOUR)
    world.run(HOUR)
    world.store.spent = 5.01
    world.run(HOUR)
    (fired,) = world.news
    assert fired[1:] == ("firing", "Budget")
    (alert,) = world.state.active.values()
    assert dict(alert.labels) == {"currency": "EUR"}
    world.store.spent = 0.0
    world.run(60)
    assert world.news[1][1:] == ("resolved", "Budget")
