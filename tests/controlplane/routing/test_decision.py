"""Which model is chosen, and what must hold of any choice."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from modelpool.routing import decision
from modelpool.routing import table as tables
from modelpool.routing.candidate import Candidate, prior_quality, skill_of, timing_of
from modelpool.routing.confidence import (
    Calibration,
    calibration_error,
    calibration_of,
    chances,
    step_of,
)
from modelpool.routing.constraints import KEYS, BadConstraint, Constraints, read_constraints
from modelpool.routing.decision import (
    LOOKED_AT,
    Conversation,
    Decision,
    cost_of,
    decide,
    latency_of,
)
from modelpool.routing.features import Features, features_of
from modelpool.routing.learning import MOST, NOTHING, learned, offsets_of
from modelpool.routing.policy import WEIGHTS, Policy, Strategy, Weights
from modelpool.routing.table import MOST_LOOSE, Table, table_of

TREE = features_of({"prompt": "Implement a binary search tree in Rust with unit tests"})
HELLO = features_of({"prompt": "Hello!"})
HARD = features_of(
    {
        "prompt": "Prove that every finite integral domain is a field, then generalise it to rings "
        "without zero divisors in which every descending chain of ideals ends, and show by an "
        "example that the condition cannot be dropped."
    }
)


def hot(name: str, **facts: Any) -> Candidate:
    return Candidate(name, **{"is_hot": True, **facts})


EXAMPLE = table_of(
    [
        hot("llama-3-8b", quality=0.7, latency_ms=50),
        hot("llama-3-70b", quality=0.95, latency_ms=500),
        Candidate("gpt-4", is_remote=True, quality=1.0, latency_ms=2000, output_price=30_000),
    ]
)


def test_the_example_of_the_document() -> None:
    limits = read_constraints({"max_latency_ms": 1000, "max_cost": 0.10})
    found = decide(TREE, EXAMPLE, limits)
    assert found.model_id == "llama-3-70b"
    assert found.features.complexity.value == "MODERATE"
    assert 0.85 < found.confidence < 0.99
    assert "code generation (MODERATE" in found.reasons[0]
    assert [s.model_id for s in found.runners_up] == ["llama-3-8b"]
    assert found.excluded["gpt-4"][0] == "would take 2,000 ms, more than 1000"
    told = found.as_dict()
    assert told["selected_model"] == "llama-3-70b"
    assert {"performance", "capability", "cost", "reliability", "total"} <= told["scores"].keys()


def test_strategies_choose_by_what_they_are_called() -> None:
    pool = table_of(
        [
            hot("quick", parameters=1, bits=8, output_per_second=200),
            hot("middle", parameters=14, bits=8, output_per_second=40),
            hot("big", parameters=70, bits=8, output_per_second=12),
            Candidate("dear", is_remote=True, quality=0.99, output_price=60, output_per_second=50),
        ]
    )

    def by(strategy: Strategy, features: Features) -> str | None:
        return decide(features, pool, policy=Policy(strategy)).model_id

    assert by(Strategy.LATENCY, HARD) == "quick"
    assert by(Strategy.QUALITY, HARD) == "dear"
    assert by(Strategy.COST, HELLO) == "quick"
    assert by(Strategy.COST, HARD) != "dear"
    assert by(Strategy.COMPLEXITY, HELLO) == "quick"
    assert by(Strategy.COMPLEXITY, HARD) in ("big", "dear")
    assert by(Strategy.BALANCED, HELLO) == "quick"


def test_what_is_hot_is_taken_before_its_like() -> None:
    cold, warm = Candidate("a", parameters=8), hot("b", parameters=8)
    assert decide(TREE, table_of([cold, warm])).model_id == "b"


def test_what_fits_is_taken_before_what_needs_others_to_go() -> None:
    pool = table_of([Candidate("a", parameters=8, fits_now=False), Candidate("b", parameters=8)])
    assert decide(TREE, pool).model_id == "b"


def test_a_busy_one_is_left_for_its_like() -> None:
    pool = table_of([hot("a", parameters=8, in_flight=4, queued=6), hot("b", parameters=8)])
    assert decide(TREE, pool).model_id == "b"


def test_a_conversation_stays_unless_the_gain_is_worth_its_prefix() -> None:
    pool = table_of([hot("a", quality=0.70), hot("b", quality=0.74)])
    assert decide(TREE, pool).model_id == "b"
    stays = decide(TREE, pool, conversation=Conversation("a", 8000))
    assert stays.model_id == "a"
    assert "8,000 tokens" in " ".join(stays.reasons)
    better = table_of([hot("a", quality=0.3), hot("b", quality=0.95)])
    leaves = decide(TREE, better, conversation=Conversation("a", 8000))
    assert leaves.model_id == "b"
    assert "worth leaving a" in " ".join(leaves.reasons)


def test_a_mapping_by_complexity_is_followed_where_conditions_allow() -> None:
    policy = Policy(by_complexity={"moderate": "llama-3-8b"})
    assert decide(TREE, EXAMPLE, policy=policy).model_id == "llama-3-8b"
    without = Constraints(excluded=frozenset({"llama-3-8b"}))
    assert decide(TREE, EXAMPLE, without, policy).model_id == "llama-3-70b"
    asked = dataclasses.replace(policy, strategy=Strategy.QUALITY)
    assert decide(TREE, EXAMPLE, policy=asked).model_id == "gpt-4"


def test_none_is_told_with_the_condition_that_fails() -> None:
    found = decide(TREE, EXAMPLE, read_constraints({"required_capabilities": ["vision"]}))
    assert (found.model_id, found.failed) == (None, "required_capabilities")
    assert found.as_dict()["selected_model"] is None
    assert set(found.excluded) == {"gpt-4", "llama-3-70b", "llama-3-8b"}
    empty = decide(TREE, table_of([]))
    assert (empty.model_id, empty.reasons) == (None, ("There is no model.",))


CONDITIONS: dict[str, tuple[dict[str, Any], Candidate, str]] = {
    "latency": ({"max_latency_ms": 100}, hot("x", latency_ms=200), "would take 200 ms"),
    "a load": ({"max_latency_ms": 100}, Candidate("x", load_seconds=9), "would take"),
    "cost": ({"max_cost": 0.01}, hot("x", request_price=0.02), "would cost $0.0200"),
    "reliability": ({"min_reliability": 0.9}, hot("x", reliability=0.8), "80.0% of its requests"),
    "backend": ({"preferred_backend": "vllm"}, hot("x", engine="llama.cpp"), "runs on llama.cpp"),
    "excluded": ({"excluded_models": ["x"]}, hot("x"), "the request excludes it"),
    "available": ({"available_models": ["y"]}, hot("x"), "none of available_models"),
    "capability": ({"required_capabilities": ["tools"]}, hot("x"), "cannot, as far as is known"),
    "context": ({"min_context": 9000}, hot("x", context_tokens=4096), "4,096 tokens"),
    "memory": (
        {"resource_limits": {"max_memory_mb": 100}},
        hot("x", memory_bytes=200_000_000),
        "needs 200 MB",
    ),
    "loaded": ({"resource_limits": {"only_loaded": True}}, Candidate("x"), "not loaded"),
    "fits": (
        {"resource_limits": {"fits_now": True}},
        Candidate("x", fits_now=False),
        "others would be unloaded",
    ),
    "gone": ({}, Candidate("x", is_available=False, why_unavailable="it failed"), "it failed"),
}


@pytest.mark.parametrize("name", CONDITIONS)
def test_each_condition_excludes_and_says_why(name: str) -> None:
    limits, candidate, why = CONDITIONS[name]
    found = decide(TREE, table_of([candidate]), read_constraints(limits))
    assert found.model_id is None
    assert why in " ".join(found.excluded["x"])
    assert name == "gone" or found.failed in (*limits, "max_cost", "context")


def test_what_is_not_known_excludes_nothing() -> None:
    limits = {
        "max_latency_ms": 1,
        "min_reliability": 1,
        "min_context": 99999,
        "resource_limits": {"max_memory_mb": 1},
    }
    assert decide(TREE, table_of([hot("x")]), read_constraints(limits)).model_id == "x"


BAD: dict[str, dict[str, Any]] = {
    "max_latency_ms": {"max_latency_ms": "soon"},
    "max_cost": {"max_cost": -1},
    "min_reliability": {"min_reliability": 2},
    "required_capabilities": {"required_capabilities": "vision"},
    "excluded_models": {"excluded_models": [1]},
    "preferred_backend": {"preferred_backend": 3},
    "resource_limits": {"resource_limits": 3},
    "resource_limits.gpu": {"resource_limits": {"gpu": 3}},
    "resource_limits.fits_now": {"resource_limits": {"fits_now": 1}},
    "colour": {"colour": 3},
}


@pytest.mark.parametrize("param", BAD)
def test_conditions_that_cannot_be_read_are_named(param: str) -> None:
    with pytest.raises(BadConstraint) as refused:
        read_constraints(BAD[param])
    assert refused.value.param == param


def test_conditions_that_are_null_are_none() -> None:
    assert read_constraints(dict.fromkeys(KEYS)) == Constraints()


# Any pool, any request, any conditions.

CANDIDATES = st.builds(
    Candidate,
    model_id=st.sampled_from([f"m{i}" for i in range(12)]),
    engine=st.sampled_from(["llama.cpp", "vllm", "openai"]),
    is_remote=st.booleans(),
    capabilities=st.frozensets(st.sampled_from(["chat", "vision", "tools"])).map(
        lambda found: found | {"chat"}
    ),
    quality=st.none() | st.sampled_from([0.2, 0.5, 0.7, 0.95]),
    parameters=st.none() | st.sampled_from([0.5, 3.0, 8.0, 70.0]),
    context_tokens=st.none() | st.sampled_from([512, 4096, 32768]),
    output_per_second=st.none() | st.sampled_from([2.0, 20.0, 100.0]),
    load_seconds=st.none() | st.sampled_from([1.0, 30.0]),
    is_hot=st.booleans(),
    fits_now=st.booleans(),
    is_available=st.sampled_from([True, True, True, False]),
    in_flight=st.integers(0, 9),
    output_price=st.sampled_from([0.0, 0.5, 5.0, 60.0]),
    reliability=st.none() | st.sampled_from([0.5, 0.9, 0.99]),
    memory_bytes=st.none() | st.sampled_from([10**9, 10**10]),
)
POOLS = st.lists(CANDIDATES, max_size=14, unique_by=lambda c: c.model_id)
CONSTRAINTS = st.builds(
    Constraints,
    max_latency_ms=st.none() | st.sampled_from([500.0, 5_000.0, 60_000.0]),
    max_cost=st.none() | st.sampled_from([0.0, 0.001, 0.02]),
    min_reliability=st.none() | st.sampled_from([0.6, 0.95]),
    engine=st.none() | st.sampled_from(["llama.cpp", "vllm"]),
    capabilities=st.frozensets(st.sampled_from(["vision", "tools"])),
    excluded=st.frozensets(st.sampled_from([f"m{i}" for i in range(6)]), max_size=2),
    only=st.none() | st.frozensets(st.sampled_from([f"m{i}" for i in range(12)])),
    max_memory_bytes=st.none() | st.just(5 * 10**9),
    only_hot=st.booleans(),
    only_fitting=st.booleans(),
    min_context=st.none() | st.just(4096),
)
FEATURES = st.sampled_from([TREE, HELLO, HARD])
STRATEGIES = st.sampled_from(list(Strategy))


def eligible(found: Decision) -> set[str]:
    table = found.table
    assert table is not None
    return set(table.ids) - set(found.excluded)


def breaks(f: Features, table: Table, row: int, c: Constraints) -> bool:
    """Said once more, in the plainest way."""
    m = table.candidates[row]
    wait = timing_of(m).wait
    return any(
        (
            not m.is_available,
            not (f.needs | c.capabilities) <= m.capabilities,
            m.model_id in c.excluded,
            c.only is not None and m.model_id not in c.only,
            c.engine is not None and m.engine != c.engine,
            m.context_tokens is not None
            and m.context_tokens < max(f.context_tokens, c.min_context or 0),
            c.min_reliability is not None
            and m.reliability is not None
            and m.reliability < c.min_reliability,
            c.max_memory_bytes is not None
            and m.memory_bytes is not None
            and m.memory_bytes > c.max_memory_bytes,
            c.only_hot and not m.is_hot,
            c.only_fitting and not (m.is_hot or m.is_remote or m.fits_now),
            c.max_cost is not None and cost_of(f, table, row) > c.max_cost,
            c.max_latency_ms is not None
            and latency_of(f, table, row) > c.max_latency_ms
            and (m.is_timed or wait > c.max_latency_ms),
        )
    )


@given(POOLS, CONSTRAINTS, FEATURES, STRATEGIES)
@settings(max_examples=100, deadline=None)
def test_conditions_are_never_broken(
    pool: list[Candidate], limits: Constraints, features: Features, strategy: Strategy
) -> None:
    table = table_of(pool)
    found = decide(features, table, limits, Policy(strategy))
    expected = {
        name for row, name in enumerate(table.ids) if not breaks(features, table, row, limits)
    }
    assert eligible(found) == expected
    assert found.eligible == len(expected)
    assert (found.model_id is None) == (not expected)
    assert {s.model_id for s in found.runners_up} <= expected
    assert found.model_id is None or found.model_id in expected
    assert (found.failed == "") == bool(expected or not pool)
    if found.best is not None:
        assert [s.total for s in found.runners_up] == sorted(
            (s.total for s in found.runners_up), reverse=True
        )
        assert 0 <= found.confidence <= 1
        assert all(found.reasons)


TIGHTER: dict[str, tuple[Any, Any]] = {
    "max_latency_ms": (60_000.0, 500.0),
    "max_cost": (0.02, 0.001),
    "min_reliability": (0.6, 0.95),
    "engine": (None, "vllm"),
    "capabilities": (frozenset(), frozenset({"tools"})),
    "excluded": (frozenset(), frozenset({"m1", "m2"})),
    "only": (None, frozenset({"m1", "m3", "m5"})),
    "max_memory_bytes": (None, 5 * 10**9),
    "only_hot": (False, True),
    "only_fitting": (False, True),
    "min_context": (None, 4096),
}


@given(POOLS, CONSTRAINTS, FEATURES, st.sampled_from(sorted(TIGHTER)))
@settings(max_examples=100, deadline=None)
def test_a_tighter_condition_never_adds_a_candidate(
    pool: list[Candidate], limits: Constraints, features: Features, name: str
) -> None:
    loose, tight = TIGHTER[name]
    table = table_of(pool)
    before = decide(features, table, dataclasses.replace(limits, **{name: loose}))
    after = decide(features, table, dataclasses.replace(limits, **{name: tight}))
    assert eligible(after) <= eligible(before)
    if before.model_id in eligible(after):
        assert after.model_id == before.model_id


@given(
    POOLS, CONSTRAINTS, FEATURES, STRATEGIES, st.integers(0, 40), st.integers(1, 60), st.booleans()
)
@settings(max_examples=100, deadline=None)
def test_a_higher_weight_of_cost_never_picks_a_dearer_model(
    pool: list[Candidate],
    limits: Constraints,
    features: Features,
    strategy: Strategy,
    low: int,
    more: int,
    talks: bool,
) -> None:
    def with_cost(weight: int) -> Decision:
        weights = dataclasses.replace(WEIGHTS[strategy], cost=weight / 50)
        policy = Policy(strategy, {**WEIGHTS, strategy: weights})
        conversation = Conversation(pool[0].model_id, 3000) if talks and pool else None
        return decide(features, table_of(pool), limits, policy, conversation)

    before, after = with_cost(low), with_cost(low + more)
    assume(before.best is not None and after.best is not None)
    assert before.best is not None
    assert after.best is not None
    assert after.best.cost <= before.best.cost


@given(st.permutations(range(8)), st.lists(CANDIDATES, min_size=8, max_size=8), CONSTRAINTS)
@settings(max_examples=50, deadline=None)
def test_the_order_of_candidates_changes_nothing(
    order: list[int], pool: list[Candidate], limits: Constraints
) -> None:
    named = [dataclasses.replace(c, model_id=f"n{i}") for i, c in enumerate(pool)]
    plain = decide(TREE, table_of(named), limits)
    shuffled = decide(TREE, table_of([named[i] for i in order]), limits)
    assert plain.as_dict() == shuffled.as_dict()
    assert plain.as_dict() == decide(TREE, table_of(named), limits).as_dict()


@given(POOLS, st.lists(CANDIDATES, max_size=4, unique_by=lambda c: c.model_id), STRATEGIES)
@settings(max_examples=75, deadline=None)
def test_a_changed_table_is_as_one_made_anew(
    pool: list[Candidate], news: list[Candidate], strategy: Strategy
) -> None:
    policy = Policy(strategy)
    table = table_of(pool)
    decide(TREE, table, policy=policy)  # what it remembers must be right afterwards, too
    merged = {c.model_id: c for c in [*pool, *news]}
    anew = decide(TREE, table_of(merged.values()), policy=policy).as_dict()
    assert decide(TREE, table.changed(news), policy=policy).as_dict() == anew


@given(POOLS, FEATURES)
@settings(max_examples=50, deadline=None)
def test_a_model_that_loses_never_turns_the_choice_between_others(
    pool: list[Candidate], features: Features
) -> None:
    found = decide(features, table_of(pool))
    assume(found.runners_up)
    loser = found.runners_up[-1].model_id
    assert (
        decide(features, table_of(c for c in pool if c.model_id != loser)).model_id
        == found.model_id
    )


def test_equals_go_to_the_cheaper_then_the_quicker_then_by_name() -> None:
    none = Weights(0, 0, 0, 0, 0, 0)
    policy = Policy(Strategy.BALANCED, {**WEIGHTS, Strategy.BALANCED: none})
    dear, cheap = hot("a", output_price=5.0), hot("b", output_price=1.0)
    assert decide(TREE, table_of([dear, cheap]), policy=policy).model_id == "b"
    slow, quick = hot("a", latency_ms=90), hot("b", latency_ms=80)
    assert decide(TREE, table_of([slow, quick]), policy=policy).model_id == "b"
    assert decide(TREE, table_of([hot("b"), hot("a")]), policy=policy).model_id == "a"


def test_quality_is_presumed_by_size_bits_and_name() -> None:
    sizes = [prior_quality(Candidate("x", parameters=p)) for p in (0.5, 3, 8, 70)]
    assert sizes == sorted(sizes)
    assert abs(sizes[2] - 0.7) < 0.02
    assert abs(sizes[3] - 0.95) < 0.01
    coarse = prior_quality(Candidate("x", parameters=8, bits=2))
    assert coarse < prior_quality(Candidate("x", parameters=8, bits=4.5)) <= sizes[2]
    mixture = prior_quality(Candidate("x", parameters=47, active_parameters=13))
    assert sizes[2] < mixture < prior_quality(Candidate("x", parameters=47))
    mini, full = (Candidate(name, is_remote=True) for name in ("gpt-5-mini", "gpt-5"))
    assert prior_quality(mini) < prior_quality(full)
    coder = Candidate("x", parameters=8, made_for=frozenset({"code"}))
    assert skill_of(coder, "code_generation") > skill_of(coder, "creative_writing")


def test_waiting_counts() -> None:
    idle, busy = hot("x", output_per_second=50), hot("x", output_per_second=50, in_flight=9)
    cold = Candidate("x", output_per_second=50, load_seconds=10)
    assert timing_of(idle).wait == 0 < timing_of(busy).wait
    assert timing_of(cold).fixed - timing_of(idle).fixed == 10_000


def test_chances_rise_with_skill_and_fall_with_difficulty() -> None:
    easy, hard = chances(0.2), chances(0.8)
    assert easy == sorted(easy)
    assert all(a > b for a, b in zip(easy, hard, strict=True))
    assert abs(chances(0.5)[step_of(0.5)] - 0.5) < 1e-9
    assert chances(0.5, 0.3)[step_of(0.9)] < chances(0.5, 0.05)[step_of(0.9)]


def test_calibration_draws_what_is_stated_to_what_was_seen() -> None:
    boastful = [(0.9, float(i % 10 < 7)) for i in range(400)]
    boastful += [(0.5, float(i % 10 < 4)) for i in range(400)]
    found = calibration_of(boastful)
    assert 0.70 < found.of(0.9) < 0.75
    assert 0.40 < found.of(0.5) < 0.43
    after = [(found.of(p), o) for p, o in boastful]
    assert calibration_error(after) < 0.04 < calibration_error(boastful)
    assert calibration_of(boastful[:10]) == Calibration()


@given(
    st.lists(st.tuples(st.floats(0, 1), st.sampled_from([0.0, 1.0])), max_size=300),
    st.floats(0, 1),
)
@settings(max_examples=50, deadline=None)
def test_a_calibrated_probability_is_one(
    outcomes: list[tuple[float, float]], stated: float
) -> None:
    assert 0 <= calibration_of(outcomes).of(stated) <= 1


def test_outcomes_move_a_skill_within_bounds_and_less_with_each() -> None:
    standing = learned(NOTHING, 0.9, 0.0)
    assert standing.offset < 0
    first = -standing.offset
    for _ in range(300):
        before, standing = standing, learned(standing, 0.9, 0.0)
    assert standing.offset == -MOST
    assert learned(before, 0.9, 1.0).offset - before.offset < first
    offsets = offsets_of({("a", TREE.task.value): standing, ("b", "math"): NOTHING})
    assert offsets == {("a", TREE.task.value): -MOST}
    pool = [hot("a", quality=0.8), hot("b", quality=0.78)]
    assert decide(TREE, table_of(pool)).model_id == "a"
    assert decide(TREE, table_of(pool).changed([], offsets)).model_id == "b"


def test_what_was_right_moves_nothing_on_average() -> None:
    standing = NOTHING
    for turn in range(1000):
        standing = learned(standing, 0.75, float(turn % 4 != 0))
    assert abs(standing.offset) < 0.02


def numbered(pool: list[Candidate]) -> list[Candidate]:
    return [dataclasses.replace(c, model_id=f"m{i}") for i, c in enumerate(pool)]


MANY = st.lists(CANDIDATES, min_size=2 * LOOKED_AT + 1, max_size=60).map(numbered)
# What may become of a model while it is used, or measured.
LIVE = st.fixed_dictionaries(
    {},
    optional={
        "is_hot": st.booleans(),
        "fits_now": st.booleans(),
        "in_flight": st.integers(0, 9),
        "reliability": st.sampled_from([0.3, 0.9, 1.0]),
        "memory_bytes": st.sampled_from([10**9, 10**10]),
        "output_per_second": st.sampled_from([1.0, 500.0]),
        "load_seconds": st.sampled_from([0.1, 60.0]),
    },
)
LEARNED = st.dictionaries(
    st.tuples(
        st.sampled_from([f"m{i}" for i in range(12)]), st.sampled_from([TREE.task.value, "math"])
    ),
    st.sampled_from([-0.15, 0.0, 0.001, 0.1]),
    max_size=3,
)


@given(
    MANY,
    FEATURES,
    STRATEGIES,
    st.booleans(),
    CONSTRAINTS | st.just(Constraints()),
    st.lists(st.tuples(st.integers(0, 59), LIVE), max_size=6),
    st.lists(LEARNED, max_size=2),
)
@settings(max_examples=100, deadline=None)
def test_who_is_not_looked_at_would_not_have_been_taken(
    pool: list[Candidate],
    features: Features,
    strategy: Strategy,
    talks: bool,
    limits: Constraints,
    changes: list[tuple[int, dict[str, Any]]],
    lessons: list[dict[tuple[str, str], float]],
) -> None:
    table, policy = table_of(pool), Policy(strategy)
    conversation = Conversation(pool[0].model_id, 3000) if talks else None
    decide(features, table, limits, policy, conversation)  # what that has worked out is kept
    for lesson in lessons:
        table = table.changed([], lesson)
        decide(features, table, limits, policy, conversation)
    for index, news in changes:
        before = table.candidates[index % len(pool)]
        table = table.changed([dataclasses.replace(before, **news)])
        decide(features, table, limits, policy, conversation)
    quick = decide(features, table, limits, policy, conversation)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decision, "LOOKED_AT", 1000)  # so that all are
        anew = table_of(table.candidates, table.offsets)
        thorough = decide(features, anew, limits, policy, conversation)
    assert quick.as_dict() == thorough.as_dict()


def test_more_changes_than_are_kept_up_with_make_a_new_table() -> None:
    pool = [hot(f"m{i:03}", parameters=1.0 + i / 10) for i in range(3 * MOST_LOOSE)]
    table = table_of(pool)
    for at, each in enumerate(pool[: 2 * MOST_LOOSE]):
        news = dataclasses.replace(each, reliability=1.0 if at % 2 else 0.2)
        table = table.changed([news])
        assert table.loose.bit_count() <= MOST_LOOSE
    assert decide(TREE, table).as_dict() == decide(TREE, table_of(table.candidates)).as_dict()


def test_not_every_policy_that_was_ever_tried_is_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tables, "MOST_REMEMBERED", 9)
    models = [hot(f"m{n}", quality=n / 99, output_per_second=9 + n * 37 % 31) for n in range(60)]
    kept = table_of(models)
    for n in range(30):
        weights = {Strategy.BALANCED: Weights(1 + n, 9, 1, 1, 1, 1)}
        policy = Policy(weights={**WEIGHTS, **weights})
        found, anew = (decide(TREE, t, policy=policy) for t in (kept, table_of(models)))
        assert found.as_dict() == anew.as_dict()
        assert len(kept._memo) < 15


def test_of_equals_the_first_by_name_are_told() -> None:
    pool = [hot(f"m{i:03}", parameters=4.0) for i in range(100)]
    found = decide(TREE, table_of(pool), Constraints(excluded=frozenset({"m000", "m002"})))
    told = [found.model_id, *(s.model_id for s in found.runners_up)]
    assert told == ["m001", "m003", "m004", "m005"]
    assert found.eligible == 98
