"""What is measured for which rule, of a pool that is looked at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from modelpool.alerts.costs import Costs
from modelpool.alerts.evaluate import Sample
from modelpool.alerts.rules import Rule
from modelpool.alerts.sampler import Sampler
from modelpool.app import open_breakers
from modelpool.gateway.breaker import Rules
from modelpool.gateway.breakers import Breakers
from modelpool.pool.waiters import Grant
from modelpool_client.http1.endpoint import LocalEndpoint
from support.alert_world import FakePool, FakeStore, World, result_of


class Copies:
    """A pool of models with one copy each."""

    def replica_id(self, model_id: str) -> str:
        return model_id

    def open_copies(self, model_id: str) -> Mapping[str, str]:
        return {f"{model_id}/1": "w"}

    def shut_out(self, model_id: str, keys: frozenset[str]) -> None: ...

    def restart_copy(self, key: str, reason: str) -> None: ...


def look(sampler: Sampler, rule: Rule, now: float) -> list[Sample]:
    found = result_of(sampler.look([rule], now))
    return cast("list[Sample]", found[rule.name])


def test_breakers_that_are_open_are_told_of_by_model() -> None:
    breakers = Breakers(lambda: Rules(failures=2), Copies(), lambda *_, **__: None, lambda: 0.0)
    pool, store = FakePool(), FakeStore()
    sampler = Sampler(
        cast(Any, pool), lambda: open_breakers(breakers), lambda: "", Costs(cast(Any, store))
    )
    rule = Rule("Open", "breaker_open", 0)
    assert look(sampler, rule, 0.0) == []
    grant = Grant("m", "w", LocalEndpoint("127.0.0.1", 1, ""), 1, True, lambda use: None, "m/1")
    for _ in range(2):
        breakers.failed("m", grant, breakers.began("m", grant), "it broke off")
    (sample,) = look(sampler, rule, 0.0)
    assert (sample.labels, sample.value) == ((("model", "m"),), 1.0)
    assert "it broke off" in sample.text
    assert look(sampler, Rule("Open", "breaker_open", 0, models=("n*",)), 0.0) == []


def test_trials_count_for_nothing_and_patterns_choose() -> None:
    world = World(1)
    for model_id in ("a", "b", "a#01"):
        for _ in range(10):
            world.sampler.heard(model_id, world.request(status=500))
        world.event("model-failed", model_id)
    for signal, value in (("error_rate", 1.0), ("failures", 1)):
        for models, expected in (((), ["a", "b"]), (("b",), ["b"]), (("x*",), [])):
            rule = Rule("R", signal, 0.0, models=models)
            found = look(world.sampler, rule, world.now)
            assert [dict(s.labels)["model"] for s in found] == expected
            assert {s.value for s in found} <= {value}


def test_what_no_rule_looks_back_at_is_forgotten() -> None:
    world = World(1)
    world.sampler.heard("a", world.request())
    assert look(world.sampler, Rule("R", "error_rate", 0.0), world.now)
    later = world.now + 330
    assert look(world.sampler, Rule("R", "error_rate", 0.0), later) == []
    assert world.sampler.requests.models() == []
