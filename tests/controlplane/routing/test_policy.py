"""How a configuration says what matters."""

from __future__ import annotations

from typing import Any

import pytest
from modelpool.routing.policy import (
    DEFAULT_POLICY,
    WEIGHTS,
    BadPolicy,
    Strategy,
    Weights,
    read_policy,
)


def test_nothing_said_is_the_default() -> None:
    assert read_policy({}) == DEFAULT_POLICY


def test_the_words_of_the_documents_are_understood() -> None:
    policy = read_policy(
        {
            "strategy": "BALANCED",
            "weights": {"performance": 0.4, "cost": 0.3, "reliability": 0.2, "capabilities": 0.1},
            "complexity_mapping": {"trivial": "tinyllama-onnx", "expert": "llama-3-70b-4bit"},
        }
    )
    assert policy.weights[Strategy.BALANCED] == Weights(0.1, 0.4, 0.3, 0.2, 0.0, 0.0)
    assert policy.weights[Strategy.COST] == WEIGHTS[Strategy.COST]
    assert policy.by_complexity == {"trivial": "tinyllama-onnx", "expert": "llama-3-70b-4bit"}


def test_weights_of_several_strategies() -> None:
    policy = read_policy({"strategy": "cost", "weights": {"latency": {"latency": 1}}})
    assert policy.strategy is Strategy.COST
    assert policy.weights[Strategy.LATENCY] == Weights(0, 1, 0, 0, 0, 0)
    assert policy.weights[Strategy.COST] == WEIGHTS[Strategy.COST]


BAD: dict[str, dict[str, Any]] = {
    "strategy": {"strategy": "best"},
    "weight": {"weight": {}},
    "weights": {"weights": 3},
    "weights.beauty": {"weights": {"beauty": 1}},
    "weights.cost": {"weights": {"cost": -1}},
    "weights.best": {"weights": {"best": {"cost": 1}}},
    "weights.cost.cost": {"weights": {"cost": {"cost": "much"}}},
    "complexity_mapping": {"complexity_mapping": []},
    "complexity_mapping.hard": {"complexity_mapping": {"hard": "x"}},
    "complexity_mapping.expert": {"complexity_mapping": {"expert": 3}},
    "latency_reference_ms": {"latency_reference_ms": 0},
    "switch_margin": {"switch_margin": float("nan")},
}


@pytest.mark.parametrize("param", BAD)
def test_what_cannot_be_is_named(param: str) -> None:
    with pytest.raises(BadPolicy) as refused:
        read_policy(BAD[param])
    assert refused.value.param == param


def test_weights_that_are_all_nothing_are_refused() -> None:
    with pytest.raises(BadPolicy, match="more than 0"):
        read_policy({"weights": {"cost": 0}})
