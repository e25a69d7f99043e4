"""What is filled, bounded and taken away of requests, in the words of each API."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool.catalog.request_rules import Limit, Rules, check_rules, read_rules
from modelpool.routing.apply_rules import FORMS, applied, header_value
from modelpool.routing.failover import moves_on
from modelpool.routing.names import best_match
from modelpool_client.surfaces.routes import SURFACES

CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
FIM = "/v1/fim/completions"
HI = {"role": "user", "content": "hi"}
BOTH = {"temperature": 0.2, "max_tokens": 9}


@pytest.mark.parametrize(
    ("path", "rules", "said", "body", "changes"),
    [
        (
            CHAT,
            {"defaults": BOTH},
            {},
            BOTH,
            ["temperature=0.2 (default)", "max_tokens=9 (default)"],
        ),
        (CHAT, {"defaults": BOTH}, {"temperature": 1, "max_completion_tokens": 5}, {}, []),
        (CHAT, {"defaults": {"temperature": 1}}, {"temperature": None}, {"temperature": 1}, None),
        (
            CHAT,
            {"limits": {"max_tokens": 9}},
            {"max_completion_tokens": 50},
            {"max_completion_tokens": 9},
            ["max_completion_tokens=9 (limit, was 50)"],
        ),
        (CHAT, {"limits": {"max_tokens": 9}}, {}, {"max_tokens": 9}, ["max_tokens=9 (limit)"]),
        (CHAT, {"limits": {"temperature": {"min": 0.5}}}, {}, {}, []),
        (
            CHAT,
            {"limits": {"temperature": {"min": 0.5}}},
            {"temperature": 0},
            {"temperature": 0.5},
            None,
        ),
        (CHAT, {"strip": ["seed"]}, {"seed": 1}, {}, ["seed (stripped)"]),
        (
            CHAT,
            {"overrides": {"seed": 7}},
            {"seed": 1},
            {"seed": 7},
            ["seed=7 (override, was 1)"],
        ),
        (CHAT, {"system_prompt": "be"}, {}, None, ["system prompt (default)"]),
        (RESPONSES, {"defaults": {"max_tokens": 9}}, {}, {"max_output_tokens": 9}, None),
        (RESPONSES, {"system_prompt": "be"}, {}, {"instructions": "be"}, None),
        (MESSAGES, {"system_prompt": "be"}, {"system": "own"}, {}, []),
        (MESSAGES, {"defaults": {"stop": ["x"]}}, {}, {"stop_sequences": ["x"]}, None),
        ("/api/chat", {"limits": {"max_tokens": 9}}, {}, {"options": {"num_predict": 9}}, None),
        (
            "/api/generate",
            {"strip": ["temperature"]},
            {"options": {"temperature": 1, "seed": 2}},
            {"options": {"seed": 2}},
            ["temperature (stripped)"],
        ),
        ("/v1/embeddings", {"defaults": BOTH}, {"input": "x"}, {}, []),
        ("/v1/embeddings", {"defaults": {"mirostat": 1, "n_keep": 4}}, {"input": "x"}, {}, []),
        ("/api/generate", {"defaults": {"n_keep": 4}}, {}, {"options": {"num_keep": 4}}, None),
        (
            "/v1/embeddings",
            {"defaults": {"dimensions": 8}},
            {"input": "x"},
            {"dimensions": 8},
            None,
        ),
        ("/v1/audio/transcriptions", {"defaults": BOTH}, {}, {}, []),
        # What an API cannot be told is not said to be set.
        (
            RESPONSES,
            {"defaults": {"stop": ["x"], "top_k": 4, "top_p": 0.5}, "overrides": {"min_p": 0.1}},
            {},
            {"top_p": 0.5},
            [
                "min_p (override, not set: not a parameter of /v1/responses)",
                "stop (default, not set: not a parameter of /v1/responses)",
                "top_k (default, not set: not a parameter of /v1/responses)",
                "top_p=0.5 (default)",
            ],
        ),
        (MESSAGES, {"defaults": {"top_k": 4, "seed": 1}}, {}, {"top_k": 4}, None),
        (
            "/api/chat",
            {"defaults": {"top_k": 4, "logit_bias": {}}},
            {},
            {"options": {"top_k": 4}},
            [
                "top_k=4 (default)",
                "logit_bias (default, not set: not a parameter of /api/chat)",
            ],
        ),
        (FIM, {"defaults": {"seed": 3, "n": 2}}, {}, {"random_seed": 3}, None),
    ],
)
def test_a_request_after_the_rules(
    path: str, rules: dict[str, Any], said: dict[str, Any], body: Any, changes: Any
) -> None:
    data = {"model": "m", "messages": [HI], **said}
    found, told = applied(read_rules(rules), path, data)
    if body is None:
        assert found["messages"] == [{"role": "system", "content": "be"}, HI]
    else:
        stripped = set(rules.get("strip", ()))
        kept = {k: v for k, v in data.items() if k not in stripped}
        assert found == {**kept, **body}
    if changes is not None:
        assert told == changes
    assert header_value(told).isascii()


def test_a_system_prompt_of_the_client_stays() -> None:
    for role in ("system", "developer"):
        data = {"messages": [{"role": role, "content": "own"}, HI]}
        assert applied(Rules(system_prompt="be"), CHAT, data) == (data, [])


def test_every_form_is_of_a_route() -> None:
    assert FORMS.keys() <= SURFACES.keys()


VALUES = st.one_of(st.integers(0, 5000), st.floats(0, 4), st.none(), st.text(max_size=3))
BODIES = st.dictionaries(st.sampled_from(["temperature", "max_tokens", "seed", "x"]), VALUES)


@given(BODIES, st.sampled_from(sorted(FORMS)), st.integers(1, 100))
def test_twice_is_as_good_as_once_and_bounds_hold(
    said: dict[str, Any], path: str, most: int
) -> None:
    rules = read_rules(
        {
            "defaults": {"temperature": 0.5},
            "limits": {"max_tokens": most, "temperature": {"max": 1}},
            "strip": ["seed"],
            "system_prompt": "be",
        }
    )
    once, _ = applied(rules, path, {"messages": [HI], **said})
    twice, told = applied(rules, path, once)
    assert (twice, told) == (once, [])
    inside = once.get("options", once)
    for name in ("max_tokens", "num_predict", "n_predict", "max_output_tokens"):
        value = inside.get(name)
        if FORMS[path].makes_text and name in FORMS[path].names.get("max_tokens", ("max_tokens",)):
            assert not isinstance(value, int) or isinstance(value, bool) or value <= most


@pytest.mark.parametrize(
    ("value", "part"),
    [
        (7, "must be an object"),
        ({"x": 1}, "unknown key 'x'"),
        ({"limits": {"a": "b"}}, "must be numbers"),
        ({"limits": {"a": {"min": 2, "max": 1}}}, "above its max"),
        ({"limits": {"a": {}}}, "must be a number, or like"),
        ({"strip": ["model"]}, "is no parameter"),
        ({"defaults": {"system": "x"}}, "system_prompt fills it"),
        ({"system_prompt": 5}, "must be a text"),
    ],
)
def test_what_is_wrong_with_rules(value: Any, part: str) -> None:
    with pytest.raises(ValueError, match=part):
        check_rules(value)


def test_rules_are_written_as_they_are_read() -> None:
    said = {
        "preset": "Balanced",
        "defaults": {"a": 1},
        "overrides": {"b": [2]},
        "limits": {"c": 3, "d": {"min": 1, "max": 2}, "e": {"min": 0}},
        "strip": ["f"],
        "system_prompt": "be",
    }
    assert check_rules(said) == said
    assert read_rules(said)
    assert not read_rules({})


def test_bounds_of_two_that_exclude_each_other_are_those_of_the_inner() -> None:
    assert Limit(0, 1).within(Limit(2, 3)) == Limit(2, 3)
    assert Limit(0, 2).within(Limit(1, 3)) == Limit(1, 2)


@pytest.mark.parametrize(
    ("status", "code", "moves"),
    [
        (503, "oom", True),
        (503, "breaker_open", True),
        (507, "cannot_fit", True),
        (502, "worker_failed", True),
        (504, "upstream_timeout", True),
        (429, "rate_limited", True),
        (404, "model_not_found", True),
        (400, "missing_capability", True),
        (400, "invalid_request", False),
        (400, "context_length_exceeded", False),
        (413, "payload_too_large", False),
        (503, "pool_stopping", False),
        (503, "pool_restarting", False),
    ],
)
def test_after_which_errors_another_is_asked(status: int, code: str, moves: bool) -> None:
    assert moves_on(status, code) is moves
    assert moves_on(status, code, {code}) is (moves or not code.startswith("pool_"))


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("gpt-4o", "gpt-4*"),
        ("gpt-3.5", "gpt-*"),
        ("my-gpt-3", None),
        ("x-mini", "*-mini"),
        ("gpt-4o-mini", "gpt-4*"),  # as much as the other, and of its beginning
    ],
)
def test_the_pattern_that_says_most_counts(name: str, found: str | None) -> None:
    assert best_match(name, ["gpt-*", "gpt-4*", "*-mini"]) == found
