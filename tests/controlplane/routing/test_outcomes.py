"""What reported outcomes teach: within bounds, once each, fading, and only where it is wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool.catalog.store import Store
from modelpool.routing.candidate import Candidate
from modelpool.routing.decision import decide
from modelpool.routing.features import features_of
from modelpool.routing.learning import MOST, Standing, faded
from modelpool.routing.outcomes import MOST_DECISIONS, Outcomes, Rules
from modelpool.routing.table import Table, table_of
from modelpool_client.errors import Conflict, NotFound

HELLO = features_of({"prompt": "What is the capital of France, and why?"})
TWINS = [Candidate(name, is_hot=True, quality=0.8) for name in "ab"]
DAY = 86_400.0


class World:
    """Two models that are alike."""

    def __init__(self, rules: Rules = Rules(is_on=True)) -> None:  # noqa: B008
        self.now = 1e9
        self.rules = rules
        self.table: Table = table_of(TWINS)
        self.outcomes = Outcomes(lambda: self.rules, self.learn, lambda: self.now)

    def learn(self, offsets: Mapping[tuple[str, str], float]) -> None:
        self.table = self.table.changed((), offsets)

    def chosen(self) -> str | None:
        self.outcomes.keep_up()
        return decide(HELLO, self.table).model_id

    def decision(self, model: str) -> str:
        decision_id = self.outcomes.new_id()
        self.outcomes.note(decision_id, decide(HELLO, self.table), model)
        return decision_id

    def report(self, model: str, score: float) -> None:
        asyncio.run(self.outcomes.report(self.decision(model), score))


def test_outcomes_turn_a_choice_and_are_told() -> None:
    w = World()
    assert w.chosen() == "a"
    for _ in range(5):
        w.report("a", 0.0)
    assert w.chosen() == "b"
    w.report("b", 0.5)
    assert any("Reported outcomes" in text for text in decide(HELLO, w.table).reasons)
    assert [t.model_id for t in w.outcomes] == ["a", "b"]
    asyncio.run(w.outcomes.forget("a"))
    assert [t.model_id for t in w.outcomes] == ["b"]
    asyncio.run(w.outcomes.forget())
    assert w.chosen() == "a"


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 1), st.floats(0, 1e6)), max_size=40))
def test_they_never_move_a_skill_by_more_and_equal_ones_teach_the_same(
    told: list[tuple[str, float, float]],
) -> None:
    worlds = World(), World()
    for model, score, seconds in told:
        for w in worlds:
            w.now += seconds
            w.report(model, score)
    first, second = (list(w.outcomes) for w in worlds)
    assert first == second
    assert all(abs(t.standing.offset) <= MOST for t in first)
    assert worlds[0].chosen() == worlds[1].chosen()


@given(st.floats(-MOST, MOST), st.floats(0, 1000))
def test_what_was_learned_fades(offset: float, days: float) -> None:
    standing = Standing(offset, 40, 0.0)
    later = faded(standing, days * DAY, 30 * DAY)
    assert abs(later.offset) <= abs(offset)
    assert later.offset == pytest.approx(offset * 0.5 ** (days / 30), abs=1e-12)
    assert faded(standing, days * DAY, 0) == standing


def test_time_is_taken_in_without_news() -> None:
    w = World()
    w.report("a", 0.0)
    w.chosen()
    before = dict(w.table.offsets)
    w.now += 30 * DAY
    w.chosen()
    key = ("a", HELLO.task.value)
    assert w.table.offsets[key] == pytest.approx(before[key] / 2)


def test_nothing_counts_where_it_is_off() -> None:
    w = World(Rules())
    with pytest.raises(Conflict, match="learn_from_outcomes is off"):
        w.report("a", 0.0)
    w.rules = Rules(is_on=True)
    for _ in range(5):
        w.report("a", 0.0)
    assert w.chosen() == "b"
    w.rules = Rules()
    assert w.chosen() == "a"


def test_an_outcome_is_told_once_and_of_decisions_that_were_made() -> None:
    w = World()
    decision = w.decision("a")
    asyncio.run(w.outcomes.report(decision, 1.0))
    with pytest.raises(Conflict, match="told before"):
        asyncio.run(w.outcomes.report(decision, 1.0))
    for other in ("nonsense", w.decision("a model of the list that was not scored")):
        with pytest.raises(NotFound):
            asyncio.run(w.outcomes.report(other, 1.0))
    oldest = w.decision("a")
    for _ in range(MOST_DECISIONS):
        w.decision("a")
    with pytest.raises(NotFound):
        asyncio.run(w.outcomes.report(oldest, 1.0))


def test_a_restart_forgets_nothing(tmp_path: Path) -> None:
    async def scene() -> None:
        store = await Store.open(tmp_path / "pool.db")
        first, second, third = World(), World(), World()
        await first.outcomes.open(store)
        for _ in range(5):
            await first.outcomes.report(first.decision("a"), 0.0)
        await second.outcomes.open(store)
        assert list(second.outcomes) == list(first.outcomes)
        assert second.chosen() == "b"
        await second.outcomes.forget()
        await third.outcomes.open(store)
        assert list(third.outcomes) == []
        await store.close()

    asyncio.run(scene())
