"""When a breaker opens and closes, who is shut out, and how much may be asked again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool.gateway import breaker as b
from modelpool.gateway.breaker import Breaker, Rules, State, Verdict
from modelpool.gateway.breakers import Breakers
from modelpool.gateway.retry_budget import LEAST_KEPT, RetryBudget, pause_seconds
from modelpool.pool.waiters import Grant
from modelpool_client.errors import NotFound, RateLimited, Unavailable
from modelpool_client.http1.endpoint import LocalEndpoint

RULES = Rules()
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "good", "bad", "nothing", "reset"]),
        st.floats(0, 30),
        st.integers(0, 5),
    ),
    max_size=120,
)


NOWHERE = LocalEndpoint("127.0.0.1", 1, "")


def fail(breaker: Breaker, times: int, now: float = 0.0) -> Breaker:
    for _ in range(times):
        breaker = b.ended(breaker, Verdict.BAD, breaker.era, now, RULES, "500")
    return breaker


def test_five_failures_open_it_a_minute_half_opens_it_three_answers_close_it() -> None:
    breaker = fail(Breaker(), 4)
    assert breaker.state is State.CLOSED
    breaker = fail(breaker, 1, 1.0)
    assert (breaker.state, b.admits(breaker, RULES)) == (State.OPEN, False)
    assert breaker.reason == "5 of 5 requests failed in 1.0 s; the last: 500"
    assert b.looked_at(breaker, 60.9, RULES).state is State.OPEN
    breaker = b.looked_at(breaker, 61.0, RULES)
    assert breaker.state is State.HALF_OPEN
    for _ in range(3):
        assert b.admits(breaker, RULES)
        breaker = b.began(breaker)
    assert not b.admits(breaker, RULES)
    for _ in range(3):
        breaker = b.ended(breaker, Verdict.GOOD, breaker.era, 62.0, RULES)
    assert (breaker.state, breaker.is_at_rest) == (State.CLOSED, True)


def test_a_trial_that_fails_opens_it_anew_and_one_that_says_nothing_gives_its_place_back() -> None:
    breaker = b.began(b.looked_at(fail(Breaker(), 5), 60.0, RULES))
    left = b.ended(breaker, Verdict.NOTHING, breaker.era, 61.0, RULES)
    assert (left.state, left.trials) == (State.HALF_OPEN, 0)
    again = b.ended(breaker, Verdict.BAD, breaker.era, 61.0, RULES, "502")
    assert (again.state, again.since, again.reason) == (State.OPEN, 61.0, "a trial failed: 502")


@pytest.mark.parametrize(
    ("good_between", "opens"), [(0, True), (4, True), (6, False)], ids=["all", "enough", "few"]
)
def test_few_failures_among_many_requests_do_not_open_it(good_between: int, opens: bool) -> None:
    breaker = Breaker()
    for _ in range(20):
        breaker = fail(breaker, 1)
        for _ in range(good_between):
            breaker = b.ended(breaker, Verdict.GOOD, breaker.era, 0.0, RULES)
    assert (breaker.state is State.OPEN) is opens


def test_old_failures_and_what_began_in_another_state_do_not_count() -> None:
    breaker = b.looked_at(fail(Breaker(), 4), 60.0, RULES)
    assert breaker.is_at_rest
    assert fail(fail(Breaker(), 4, 0.0), 1, 60.0).state is State.CLOSED
    half = b.looked_at(fail(Breaker(), 5), 60.0, RULES)
    assert b.ended(half, Verdict.BAD, 0, 61.0, RULES) is half
    assert fail(Breaker(), 99, 0.0) != Breaker()
    off = Rules(failures=0)
    assert b.ended(Breaker(), Verdict.BAD, 0, 0.0, off) == Breaker()


@given(STEPS)
def test_never_more_trials_than_successes_are_wanted_whatever_happens(
    steps: list[tuple[str, float, int]],
) -> None:
    breaker, now, at_work = Breaker(), 0.0, list[int]()
    for step, seconds, lot in steps:
        now += seconds
        breaker = b.looked_at(breaker, now, RULES)
        if step == "ask":
            if b.admits(breaker, RULES):
                breaker = b.began(breaker)
                at_work.append(breaker.era)
        elif step == "reset":
            breaker = b.reset(breaker, "told to", now)
        elif at_work:
            era = at_work.pop(lot % len(at_work))
            before = breaker
            breaker = b.ended(breaker, Verdict(step), era, now, RULES)
            if era != before.era:
                assert breaker is before
            if before.state is State.CLOSED and breaker.state is State.OPEN:
                assert len(before.failed) == RULES.failures - 1 or step == "bad"
        assert len(breaker.failed) <= RULES.failures
        mine = at_work.count(breaker.era)
        if breaker.state is State.HALF_OPEN:
            assert breaker.trials == mine
            assert breaker.trials + breaker.good <= RULES.successes
        assert b.admits(breaker, RULES) or breaker.state is not State.CLOSED


@given(st.lists(st.booleans(), min_size=1, max_size=6))
def test_never_all_copies_are_shut_out(admitted: list[bool]) -> None:
    copies = [(f"m#{i}", is_admitted) for i, is_admitted in enumerate(admitted)]
    shut = b.shut_out(copies)
    assert len(shut) < len(copies)
    if any(admitted):
        assert shut == {key for key, is_admitted in copies if not is_admitted}


@pytest.mark.parametrize(
    ("status", "source", "code", "verdict", "who"),
    [
        (200, "", "", "good", ""),
        (400, "engine", "", "nothing", "worker"),
        (404, "upstream", "", "nothing", "upstream"),
        (429, "upstream", "rate_limited", "nothing", "upstream"),
        (500, "engine", "", "bad", "worker"),
        (502, "worker", "engine_failed", "bad", "worker"),
        (502, "upstream", "upstream_failed", "bad", "upstream"),
        (503, "worker", "worker_draining", "nothing", "worker"),
        (503, "worker", "model_loading", "nothing", "worker"),
        (503, "upstream", "upstream_overloaded", "bad", "upstream"),
        (504, "upstream", "upstream_timeout", "bad", "upstream"),
        (500, "engine", "oom", "nothing", "worker"),
        (501, "engine", "", "nothing", "worker"),
    ],
)
def test_whose_failure_an_answer_is(
    status: int, source: str, code: str, verdict: str, who: str
) -> None:
    fields = [(b"x-modelpool-source", source.encode()), (b"x-modelpool-code", code.encode())]
    headers = [pair for pair in fields if pair[1]]
    assert b.verdict_of(status, headers) == (Verdict(verdict), who)


# -- all of them ----------------------------------------------------------------------------------


class Copies:
    """A model ``m`` with copies, and ``p:x``, which ``p`` serves."""

    def __init__(self, *keys: str) -> None:
        self.open = {key: f"{key}-1" for key in keys}
        self.shut: frozenset[str] = frozenset()
        self.restarted: list[str] = []

    def replica_id(self, model_id: str) -> str:
        return model_id.partition(":")[0]

    def open_copies(self, model_id: str) -> Mapping[str, str]:
        return self.open

    def shut_out(self, model_id: str, keys: frozenset[str]) -> None:
        self.shut = keys

    def restart_copy(self, key: str, reason: str) -> None:
        self.restarted.append(key)


class World:
    def __init__(self, *keys: str) -> None:
        self.now = 0.0
        self.copies = Copies(*keys)
        self.events: list[dict[str, Any]] = []
        self.breakers = Breakers(
            Rules, self.copies, lambda name, **data: self.events.append(data), lambda: self.now
        )

    def ask(
        self, key: str, status: int, source: str = "engine", model: str = "m", **more: str
    ) -> None:
        self.breakers.admit(model)
        grant = Grant(model, self.copies.open[key], NOWHERE, 1, True, lambda use: None, key)
        passed = self.breakers.began(model, grant)
        headers = [(b"x-modelpool-source", source.encode())]
        headers += [(k.replace("_", "-").encode(), v.encode()) for k, v in more.items()]
        self.breakers.answered(model, grant, passed, status, headers)


def test_a_copy_that_fails_is_shut_out_until_it_is_well() -> None:
    world = World("m", "m#2")
    assert not world.breakers.is_watched("m")
    for _ in range(5):
        world.ask("m#2", 500)
    assert (world.copies.shut, world.copies.restarted) == ({"m#2"}, [])
    assert world.breakers.refusal("m") is None
    world.now = 60.0
    for _ in range(3):
        world.breakers.admit("m")
        assert world.copies.shut == frozenset()
        world.ask("m#2", 200)
    assert not world.breakers.is_watched("m")
    states = [event["state"] for event in world.events]
    assert states == ["OPEN", "HALF_OPEN", "CLOSED"]
    assert all(event["reason"] and event["breaker"] == "worker:m#2" for event in world.events)


def test_the_only_copy_is_restarted_once_and_never_shut_out() -> None:
    world = World("m")
    for _ in range(20):
        world.ask("m", 500)
    assert (world.copies.shut, world.copies.restarted) == (frozenset(), ["m"])
    refusal = world.breakers.refusal("m")  # but whoever has somebody else asks him
    assert refusal is not None
    assert refusal.code == "circuit_open"
    world.copies.open["m"] = "m-2"  # its next worker
    assert world.breakers.refusal("m") is None
    for _ in range(5):
        world.ask("m", 500)
    assert world.copies.restarted == ["m"]


def test_a_server_elsewhere_that_fails_is_not_asked_until_it_is_tried() -> None:
    world = World("p")
    for _ in range(5):
        world.ask("p", 502, "upstream", "p:x")
    with pytest.raises(Unavailable) as caught:
        world.ask("p", 200, "upstream", "p:y")
    assert (caught.value.code, caught.value.retry_after) == ("circuit_open", 60.0)
    assert [v.breaker_id for v in world.breakers if v.is_shut_out] == ["upstream:p"]
    world.breakers.reset("upstream:p", "by hand")
    world.ask("p", 200, "upstream", "p:x")
    assert not world.breakers.watched
    with pytest.raises(NotFound):
        world.breakers.reset("upstream:p", "by hand")


def test_a_server_that_says_when_is_not_asked_before_and_that_is_no_failure() -> None:
    world = World("p")
    for _ in range(9):
        world.ask("p", 429, "upstream", "p:y", retry_after="1")
    world.ask("p", 429, "upstream", "p:x", retry_after="30")
    world.now = 10.0
    with pytest.raises(RateLimited) as caught:
        world.ask("p", 200, "upstream", "p:x")
    assert caught.value.retry_after == 20.0
    assert world.breakers.pauses() == {"p:x": 20.0}
    world.ask("p", 200, "upstream", "p:y")  # limits are a model's
    world.now = 30.0
    world.ask("p", 200, "upstream", "p:x")
    assert not world.events


@given(
    st.lists(
        st.tuples(st.sampled_from(["m", "m#2"]), st.booleans(), st.floats(0, 20)), max_size=150
    )
)
def test_somebody_is_always_asked_and_nothing_is_kept_of_who_is_well(
    steps: list[tuple[str, bool, float]],
) -> None:
    world = World("m", "m#2")
    for key, is_good, seconds in steps:
        world.now += seconds
        world.breakers.admit("m")
        if key in world.copies.shut:
            key = "m" if key == "m#2" else "m#2"
        world.ask(key, 200 if is_good else 500)
        assert world.copies.shut < {"m", "m#2"}
    world.now += 60
    list(world.breakers)  # OPEN ones are tried now
    for key in ("m", "m#2"):
        for _ in range(3):
            world.ask(key, 200)
    world.now += 60
    list(world.breakers)
    assert not world.breakers.watched


def test_of_a_model_that_is_gone_nothing_is_remembered_though_it_was_well_again() -> None:
    keys = {"m": ["m"], "n": ["n", "n#2"], "n:x": ["n:x"]}
    world, left = World("other"), World("other")
    for breakers in (world.breakers, left.breakers):
        breakers.opened["worker:other"] = 1
    for model_id, copies in keys.items():
        for key in copies:
            world.copies.open = {key: f"{key}-1"}
            for _ in range(5):
                world.ask(key, 500, model=model_id)
            world.now += 60
            for _ in range(3):
                world.ask(key, 200, model=model_id)
            world.now += 60
            list(world.breakers)
    assert not world.breakers.watched
    assert world.copies.restarted
    assert len(world.breakers.opened) > 3
    for model_id in keys:
        world.breakers.forget(model_id)
    assert world.breakers.opened == left.breakers.opened
    assert not world.breakers._restarted


# -- again ---------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from(["ask", "retry", "wait"]), max_size=400), st.floats(0, 1))
def test_what_is_asked_again_is_a_share_of_what_is_asked(steps: list[str], share: float) -> None:
    budget, now, asked, again = RetryBudget(), 0.0, 0, 0
    for step in steps:
        if step == "ask":
            asked += 1
            budget.deposit(share)
        elif step == "wait":
            now += 0.1
        else:
            again += budget.withdraw(now)
        assert again <= LEAST_KEPT + share * asked + 2 * now + 1e-6


def test_pauses_grow_and_differ() -> None:
    for attempt, longest in enumerate((0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0)):
        pauses = {pause_seconds(attempt, draw / 20) for draw in range(21)}
        assert len(pauses) == 21
        assert longest / 2 <= min(pauses) <= max(pauses) <= longest
