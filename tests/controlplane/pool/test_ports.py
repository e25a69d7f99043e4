"""Who stands on which port: every branch, and any sequence of takes and frees."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from modelpool.pool.ports import Ports


def some(last: int = 12, rest: float = 60) -> Ports:
    return Ports(10, last, rest=rest)


def test_the_lowest_first_until_none_is_left() -> None:
    ports = some()
    assert [ports.take(m, 0) for m in "abcd"] == [10, 11, 12, None]
    assert ports.available == 0


def test_a_freed_port_rests() -> None:
    ports = some()
    assert ports.take("a", 0) == 10
    ports.free(10, 100)
    assert ports.take("b", 100) == 11
    assert ports.take("c", 159) == 12
    ports.free(12, 159)
    assert ports.take("c", 160) == 10


def test_resting_ports_are_better_than_none_and_the_longest_rested_comes_first() -> None:
    ports = some()
    for name, port in (("a", 10), ("b", 11), ("c", 12)):
        assert ports.take(name, 0) == port
    ports.free(11, 5)
    ports.free(10, 6)
    assert ports.take("d", 7) == 11
    assert ports.take("e", 7) == 10


def test_without_rest_a_port_is_free_at_once() -> None:
    ports = some(rest=0)
    assert ports.take("a", 5) == 10
    ports.free(10, 5)
    assert ports.take("b", 5) == 10


def test_avoided_ports_are_not_handed_out() -> None:
    ports = some()
    assert ports.take("a", 0, avoid=frozenset({10, 11})) == 12
    assert ports.take("b", 0, avoid=frozenset({10, 11})) is None


def test_standing_ports() -> None:
    ports = some()
    ports.reserve_standing(["w0", "w1"])
    assert (ports.standing("w0"), ports.standing("w1"), ports.standing("a")) == (10, 11, None)
    assert ports.take("a", 0) == 12  # 10 and 11 are kept
    assert ports.take("w1", 0) == 11
    assert ports.take("w0", 0) == 10


def test_a_model_stands_where_its_alias_is_listed() -> None:
    ports = some(last=13)
    ports.reserve_standing(["x", "other", "alias"])
    for name, names in (("m", ("m", "alias")), ("o", ("o", "other", "x")), ("a", ("a", "b"))):
        ports.stand_for(name, names)
    assert (ports.standing("m"), ports.standing("o"), ports.standing("a")) == (12, 10, None)
    assert ports.take("a", 0) == 11
    assert ports.take("m", 0) == 12


def test_a_standing_port_needs_no_rest_for_its_owner() -> None:
    ports = some()
    ports.reserve_standing(["w0"])
    assert ports.take("w0", 0) == 10
    ports.free(10, 1)
    assert ports.take("w0", 1) == 10


def test_others_get_a_standing_port_only_when_nothing_else_is_left() -> None:
    ports = some(last=11)
    ports.reserve_standing(["w0"])
    assert ports.take("a", 0) == 11
    assert ports.take("b", 0) == 10  # rested, though it is another's
    assert ports.take("w0", 0) is None


def test_even_a_resting_standing_port_is_better_than_none() -> None:
    ports = some(last=10)
    ports.reserve_standing(["w0"])
    assert ports.take("w0", 0) == 10
    ports.free(10, 1)
    assert ports.take("a", 2) == 10


def test_a_standing_port_in_strange_hands_is_replaced() -> None:
    ports = some()
    ports.reserve_standing(["w0"])
    assert ports.take("w0", 0, avoid=frozenset({10})) == 11


def test_more_standing_models_than_ports() -> None:
    ports = some(last=10)
    ports.reserve_standing(["w0", "w1"])
    assert ports.standing("w1") is None


def test_claims() -> None:
    ports = some()
    assert ports.claim(11, "a")
    assert ports.claim(11, "a")
    assert not ports.claim(11, "b")
    assert [ports.take(m, 0) for m in "bc"] == [10, 12]
    assert repr(ports) == "<Ports 3 held, 0 available>"


def test_to_free_what_nobody_holds_changes_nothing() -> None:
    ports = some()
    ports.free(11, 0)
    assert ports.available == 3
    assert ports.take("a", 1) == 10
    assert ports.take("b", 1) == 11


names = st.sampled_from(["w0", "w1", *"abcdef"])


class PortsMachine(RuleBasedStateMachine):
    """Takes, frees and time in any order, against the plainest bookkeeping."""

    def __init__(self) -> None:
        super().__init__()
        self.ports = Ports(10, 15, rest=60)
        self.ports.reserve_standing(["w0", "w1"])
        self.now = 0.0
        self.held: dict[int, str] = {}
        self.freed: dict[int, float] = {}

    @rule(name=names, avoid=st.frozensets(st.integers(10, 15), max_size=3))
    def take(self, name: str, avoid: frozenset[int]) -> None:
        free = [p for p in range(10, 16) if p not in self.held and p not in avoid]
        rested = [p for p in free if self.now - self.freed.get(p, -60) >= 60]
        port = self.ports.take(name, self.now, avoid=avoid)
        if port is None:
            assert not free, "there was one"
            return
        assert port in free
        own = self.ports.standing(name)
        if own in free:
            assert port == own, "it has one of its own"
        elif [p for p in rested if p not in (10, 11)]:
            assert port in rested, "one that had rested was there"
            assert port not in (10, 11), "another's standing port"
        self.held[port] = name

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        port = data.draw(st.sampled_from(sorted(self.held)))
        self.ports.free(port, self.now)
        del self.held[port]
        self.freed[port] = self.now

    @rule(port=st.integers(10, 15), name=names)
    def claim(self, port: int, name: str) -> None:
        mine = self.held.get(port, name) == name
        assert self.ports.claim(port, name) == mine
        if mine:
            self.held[port] = name

    @rule(seconds=st.sampled_from([0.5, 30, 60, 1000]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def nobody_shares(self) -> None:
        assert self.ports.available == 6 - len(self.held)


TestPorts = PortsMachine.TestCase
TestPorts.settings = settings(max_examples=60, stateful_step_count=30)


@pytest.mark.parametrize("start", [8051, 1])
def test_the_range_includes_both_ends(start: int) -> None:
    assert Ports(start, start, rest=0).take("a", 0) == start
