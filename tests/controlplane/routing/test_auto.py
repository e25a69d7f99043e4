"""Kinds ``auto`` and ``policy``: what they read, what they decide, what they refuse."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from modelpool.catalog.index import Index
from modelpool.catalog.model import Model
from modelpool.routing.candidate import Candidate
from modelpool.routing.constraints import combined, read_constraints
from modelpool.routing.conversations import Conversations
from modelpool.routing.decision import Conversation
from modelpool.routing.kinds.auto import FACT
from modelpool.routing.kinds.registry import kind
from modelpool.routing.plan import asks_of
from modelpool.routing.request import RouteRequest
from modelpool.routing.resolve import Resolved, Resolver
from modelpool.routing.surface import asked_of, body_of, capability_of
from modelpool.routing.table import Table, table_of
from modelpool.routing.told import Told
from modelpool.routing.virtual_model import read_virtual_model
from modelpool_client.errors import InvalidRequest, NoSuitableModel

TREE = "Implement a binary search tree in Rust with unit tests"
MODELS = (
    Candidate("llama-3-8b", is_hot=True, quality=0.7, latency_ms=50),
    Candidate("llama-3-70b", is_hot=True, quality=0.95, latency_ms=500),
    Candidate("gpt-4", is_remote=True, quality=1.0, latency_ms=2000, output_price=30_000),
)
NIGHT = datetime(2026, 1, 2, 23, 30, tzinfo=UTC)  # a Friday


@dataclasses.dataclass
class World:
    """What is known: models, one of which has an alias, tags, conversations."""

    now: datetime = NIGHT
    tagged: Mapping[str, frozenset[str]] = dataclasses.field(
        default_factory=lambda: {"local": frozenset({"llama-3-8b", "llama-3-70b"})}
    )
    conversations: Conversations = dataclasses.field(default_factory=Conversations)
    candidates: tuple[Candidate, ...] = MODELS
    failing: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def model(self, name: str) -> Model | None:
        models = [Model(c.model_id, "fake", "") for c in self.candidates]
        models[0] = dataclasses.replace(models[0], aliases=("little",))
        return Index(models).find(name)

    def models(self) -> Iterator[Model]:
        return iter(())

    def is_serving(self, model_id: str) -> bool:
        return True

    def refused(self) -> Mapping[str, str]:
        return self.failing

    def in_flight(self, model_id: str) -> int:
        return 0

    def fact(self, name: str) -> Any:
        return self if name == FACT else None

    def table(self) -> Table:
        return table_of(self.candidates)

    def conversation(self, request: RouteRequest) -> Conversation | None:
        return self.conversations.of(request)


def said(text: str = TREE, **more: Any) -> RouteRequest:
    own = {key: more.pop(key) for key in ("session", "fields", "caller_class") if key in more}
    return RouteRequest("v", data={"messages": [{"role": "user", "content": text}], **more}, **own)


def planned(
    entry: Any, request: RouteRequest, world: World | None = None, **others: Any
) -> Resolved:
    models = {n: read_virtual_model(n, e, kind) for n, e in {"v": entry, **others}.items()}
    resolver = Resolver(kind, models.get, lambda name: {})
    return resolver.resolve(models["v"], request, world or World())


def asked(entry: Any, request: RouteRequest, world: World | None = None, **more: Any) -> list[str]:
    return [ask.model for ask in asks_of(planned(entry, request, world, **more).step)]


LIMITS = {"max_latency_ms": 1000, "max_cost": 0.10}


def test_the_example_of_the_document_with_what_is_known() -> None:
    found = planned({"kind": "auto"}, said(constraints=LIMITS))
    assert [a.model for a in asks_of(found.step)] == ["llama-3-70b", "llama-3-8b"]
    assert all(a.rules.strip == ("constraints",) for a in asks_of(found.step))
    told = found.passed[0].decision
    assert isinstance(told, Told)
    assert (told["complexity"], told["task_type"]) == ("MODERATE", "code_generation")
    assert told.short.startswith("task=code_generation; complexity=MODERATE; difficulty=0.")
    assert told["excluded"]["gpt-4"][0] == "would take 2,000 ms, more than 1000"


def test_the_example_of_the_document_with_figures_of_the_request() -> None:
    available = {
        "llama-3-8b": {"capability": 0.7, "latency_ms": 50},
        "llama-3-70b": {"capability": 0.95, "latency_ms": 500},
        "gpt-4": {"capability": 1.0, "latency_ms": 2000, "cost_per_token": 0.03},
    }
    world = World(candidates=(Candidate("other"),))
    request = said(constraints=LIMITS, available_models=available)
    assert asked({"kind": "auto"}, request, world)[0] == "llama-3-70b"
    for wrong in ({"x": {"taste": 1}}, {"x": 7}, {"x": {"capability": "much"}}):
        with pytest.raises(InvalidRequest, match=r"available_models\.x"):
            planned({"kind": "auto"}, said(available_models=wrong))


CHOICES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "quality": ({"strategy": "quality"}, {}, "gpt-4"),
    "latency": ({"strategy": "latency"}, {}, "llama-3-8b"),
    "of the request": ({"strategy": "latency"}, {"strategy": "QUALITY"}, "gpt-4"),
    "candidates": ({"candidates": ["little"], "strategy": "quality"}, {}, "llama-3-8b"),
    "tags": ({"tags": ["local"], "strategy": "quality"}, {}, "llama-3-70b"),
    "mapping": ({"complexity_mapping": {"moderate": "little"}}, {}, "llama-3-8b"),
    "excluded by an alias": (
        {"strategy": "latency"},
        {"constraints": {"excluded_models": ["little"]}},
        "llama-3-70b",
    ),
    "both conditions": (
        {"strategy": "quality", "constraints": {"max_latency_ms": 1000}},
        {"constraints": {"max_latency_ms": 9000}},
        "llama-3-70b",
    ),
}


@pytest.mark.parametrize("name", CHOICES)
def test_who_is_chosen(name: str) -> None:
    entry, more, expected = CHOICES[name]
    assert asked({"kind": "auto", **entry}, said(**more))[0] == expected


def test_the_default_model_comes_last_where_it_meets_the_conditions() -> None:
    many = tuple(Candidate(f"m{i}-9b", is_hot=True, quality=0.9) for i in range(5))
    world = World(candidates=(Candidate("small", is_hot=True, quality=0.1), *many))
    entry = {"kind": "auto", "strategy": "quality", "default_model": "small"}
    assert asked(entry, said(), world) == ["m0-9b", "m1-9b", "m2-9b", "m3-9b", "small"]
    without = said(constraints={"excluded_models": ["small"]})
    assert "small" not in asked(entry, without, world)


def test_none_is_told_and_fallbacks_take_over() -> None:
    blind = said(constraints={"required_capabilities": ["vision"]})
    with pytest.raises(NoSuitableModel, match="required_capabilities is what fails") as caught:
        planned({"kind": "auto"}, blind)
    assert caught.value.details["failed_constraint"] == "required_capabilities"
    found = planned({"kind": "auto", "fallbacks": ["gpt-4"]}, blind)
    assert [a.model for a in asks_of(found.step)] == ["gpt-4"]
    assert "required_capabilities is what fails" in found.reasons[0]
    assert asked(["inner", "little"], blind, inner={"kind": "auto"}) == ["little"]


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ({"strategy": "luck"}, "strategy: is none of"),
        ({"weights": {"taste": 1}}, "weights.taste"),
        ({"constraints": {"taste": 1}}, "constraints.taste"),
        ({"constraints": 7}, "constraints must be"),
        ({"candidates": []}, "candidates must name one"),
        ({"tags": "x"}, "tags must be a list"),
        ({"complexity_mapping": {"odd": "x"}}, "complexity_mapping.odd"),
        ({"default_model": 7}, "default_model must be"),
        ({"switch_margin": -1}, "switch_margin: must be"),
    ],
)
def test_entries_of_auto_that_are_refused(entry: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        read_virtual_model("v", {"kind": "auto", **entry}, kind)


def test_a_conversation_stays_with_its_model() -> None:
    twins = tuple(Candidate(name, is_hot=True, quality=0.8) for name in ("a", "b"))
    world = World(candidates=twins)
    first = said("Tell me of Rome", session="s")
    assert asked({"kind": "auto"}, first, world)[0] == "a"
    world.conversations.note(first, "b", 4000)
    assert asked({"kind": "auto"}, said("And of Athens?", session="s"), world)[0] == "b"
    assert asked({"kind": "auto"}, said("And of Athens?", session="t"), world)[0] == "a"
    other = dataclasses.replace(said("And?", session="s"), key="another key")
    assert asked({"kind": "auto"}, other, world)[0] == "a"


def test_only_so_many_conversations_are_remembered() -> None:
    known = Conversations(most=2)
    for session in "abac":
        known.note(said(session=session), "m", 1)
    assert [known.of(said(session=s)) is not None for s in "abc"] == [True, False, True]
    assert len(known) == 2


def test_of_two_conditions_the_stricter_counts() -> None:
    a = read_constraints({"max_cost": 1, "min_reliability": 0.5, "available_models": ["x", "y"]})
    b = read_constraints({"max_cost": 2, "min_reliability": 0.9, "available_models": ["y"]})
    both = combined(a, b)
    assert (both.max_cost, both.min_reliability, both.only) == (1, 0.9, {"y"})
    engines = [read_constraints({"preferred_backend": e}) for e in ("mlx", "vllm")]
    with pytest.raises(ValueError, match="mlx is all"):
        combined(*engines)


def test_bodies_of_other_apis() -> None:
    user = {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}
    responses = RouteRequest("v", "/v1/responses", {"instructions": "Be brief", "input": [user]})
    found = asked_of(responses)
    assert (found.text, found.system, found.surface) == ("Hi", "Be brief", "chat")
    claude = {"system": "Be brief", "messages": [{"role": "user", "content": "Hi"}]}
    assert asked_of(RouteRequest("v", "/v1/messages", claude)).system == "Be brief"
    assert asked_of(RouteRequest("v", "/api/chat", {**claude, "format": "json"})).wants_json
    plain = {"messages": [{"role": "user", "content": "Hi"}]}
    assert body_of(plain) is plain
    does = {"/v1/embeddings": "embeddings", "/v1/rerank": "rerank", "/v1/completions": "completion"}
    assert {path: capability_of(path) for path in does} == does


MET: dict[str, tuple[dict[str, Any], RouteRequest, RouteRequest]] = {
    "headers": (
        {"headers": {"X-Team": "^research$"}},
        said(fields={b"x-team": b"research"}),
        said(fields={b"x-team": b"sales"}),
    ),
    "no header": ({"headers": {"x-a": None}}, said(), said(fields={b"x-a": b"1"})),
    "metadata": (
        {"metadata": {"tier": ["gold", "silver"]}},
        said(metadata={"tier": "gold"}),
        said(),
    ),
    "text": ({"text": r"(?i)\brust\b"}, said(), said("rusty")),
    "system": (
        {"system": "lawyer"},
        said(messages=[{"role": "system", "content": "You are a lawyer"}]),
        said(),
    ),
    "length": ({"prompt_tokens": {"min": 100}}, said("word " * 200), said()),
    "turns": ({"turns": {"max": 1}}, said(), said(messages=[{"role": "user", "content": "a"}] * 2)),
    "tools": ({"tools": True}, said(tools=[{"type": "function"}]), said()),
    "pictures": (
        {"pictures": False},
        said(),
        said(messages=[{"role": "user", "content": [{"type": "image_url"}]}]),
    ),
    "json": ({"json": True}, said(response_format={"type": "json_object"}), said()),
    "language": (
        {"language": ["de", "fr"]},
        said("Was ist denn das, und wo ist der Hund?"),
        said(),
    ),
    "class": ({"class": "Architect"}, said(caller_class="architect"), said()),
    "user": ({"user": ["ann"]}, said(user="ann"), said(user="bob")),
    "task": ({"task_type": ["code_generation"]}, said(), said("Hello!")),
    "complexity": ({"complexity": ["trivial", "simple"]}, said("Hello!"), said()),
    "difficulty": ({"difficulty": {"min": 0.4}}, said(), said("Hello!")),
    "any": ({"any": [{"text": "Hello"}, {"user": "ann"}]}, said("Hello"), said()),
    "not": ({"not": {"text": "Hello"}}, said(), said("Hello")),
    "all keys": ({"text": "Rust", "user": "ann"}, said(user="ann"), said()),
    "the end of a long text": ({"text": "stop$"}, said("x" * 9000 + "stop"), said("x" * 9000)),
}


def policy(when: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "policy", "rules": [{"when": when, "use": "gpt-4"}], "default": ["little"]}


@pytest.mark.parametrize("name", MET)
def test_conditions(name: str) -> None:
    when, met, not_met = MET[name]
    assert asked(policy(when), met) == ["gpt-4"]
    found = planned(policy(when), not_met)
    assert [a.model for a in asks_of(found.step)] == ["little"]
    trace = found.passed[0].decision["trace"]
    assert trace[0]["because"].split(":")[0].split(".")[0] in when


@pytest.mark.parametrize(
    ("hours", "days", "is_met"),
    [
        (0, ["fri"], True),
        (5, ["fri"], True),  # Saturday, 4:30: of the night that began on Friday
        (5, ["sat"], False),
        (8, ["fri"], False),
        (24, ["sat"], True),
    ],
)
def test_a_time_of_day_may_go_over_midnight(hours: int, days: list[str], is_met: bool) -> None:
    when = {"time": {"from": "22:00", "to": "06:00", "days": days}}
    world = World(now=NIGHT + timedelta(hours=hours))
    assert asked(policy(when), said(), world) == ["gpt-4" if is_met else "little"]


@pytest.mark.parametrize(
    ("when", "text"),
    [
        ({}, "when must be an object"),
        ({"colour": 1}, "when.colour is unknown"),
        ({"text": r"(a)\1"}, "when.text has groupref"),
        ({"headers": {"Authorization": "x"}}, "is a secret"),
        ({"task_type": ["maths"]}, "has 'maths'"),
        ({"prompt_tokens": {"min": 9, "max": 1}}, "nothing is between"),
        ({"prompt_tokens": {"least": 9}}, "must be like"),
        ({"tools": 1}, "must be true or false"),
        ({"time": {"from": "25:00"}}, "must be a time of day"),
        ({"time": {"days": ["monday"]}}, "must be of mon"),
        ({"not": {"not": {"not": {"not": {"not": {"tools": True}}}}}}, "deep"),
    ],
)
def test_conditions_that_are_refused(when: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        read_virtual_model("v", policy(when), kind)


@pytest.mark.parametrize(
    ("rules", "text"),
    [
        ([], "rules must be"),
        ([{"when": {"tools": True}}], r"rules\[0\].use is missing"),
        (
            [{"when": {"tools": True}, "use": "a", "if": 1}],
            "unknown key 'if'; known: name, when, use",
        ),
        ([{"name": "x", "when": {"tools": True}, "use": "a"}] * 2, "two that are called 'x'"),
    ],
)
def test_rules_that_are_refused(rules: Any, text: str) -> None:
    entry = {"kind": "policy", "rules": rules, "default": "a"}
    with pytest.raises(ValueError, match=text):
        read_virtual_model("v", entry, kind)


def test_rules_are_tried_in_their_order_and_lead_to_auto() -> None:
    rules = [
        {"name": "never", "when": {"user": "nobody"}, "use": "gpt-4"},
        {"name": "tree", "when": {"text": "tree"}, "use": ["inner", "gpt-4"]},
        {"name": "late", "when": {"text": "tree"}, "use": "gpt-4"},
    ]
    entry = {"kind": "policy", "rules": rules, "default": "gpt-4"}
    found = planned(entry, said(), inner={"kind": "auto", "tags": ["local"]})
    assert [a.model for a in asks_of(found.step)] == ["llama-3-70b", "llama-3-8b", "gpt-4"]
    decision = found.passed[0].decision
    assert decision["rule"] == "tree"
    assert [(t["rule"], t["matches"]) for t in decision["trace"]] == [
        ("never", False),
        ("tree", True),
    ]
    assert found.passed[1].decision["complexity"] == "MODERATE"


def test_who_fails_is_left_out_unless_there_is_nobody_else() -> None:
    failing = World(failing={"llama-3-70b": "every copy fails: 5 of 5 requests"})
    found = planned({"kind": "auto", "tags": ["local"]}, said(), failing)
    assert [a.model for a in asks_of(found.step)] == ["llama-3-8b"]
    excluded = found.passed[0].decision["excluded"]
    assert excluded["llama-3-70b"] == ["every copy fails: 5 of 5 requests"]
    alone = {"kind": "auto", "candidates": ["llama-3-70b"]}
    assert asked(alone, said(), failing) == ["llama-3-70b"]


def test_who_serves_many_fails_for_all_of_them() -> None:
    away = tuple(Candidate(f"p:{n}", engine="p", is_remote=True, quality=0.99) for n in "ab")
    world = World(candidates=(*MODELS, *away), failing={"p": "the server of p fails"})
    found = planned({"kind": "auto", "strategy": "quality"}, said(), world)
    assert not {"p:a", "p:b"} & {a.model for a in asks_of(found.step)}
    assert found.passed[0].decision["excluded"]["p:b"] == ["the server of p fails"]


@pytest.mark.parametrize(
    ("more", "models"),
    [
        ({}, ["llama-3-8b"]),
        ({"by": "list"}, ["llama-3-8b"]),
        ({"by": "capability"}, ["llama-3-8b", "llama-3-70b", "gpt-4"]),
        ({"remote": True}, ["llama-3-8b", "gpt-4"]),
        ({"by": "capability", "remote": False}, ["llama-3-8b", "llama-3-70b"]),
    ],
)
def test_fallbacks_may_be_whoever_can_do_it(more: dict[str, Any], models: list[str]) -> None:
    entry = {"kind": "fallback", "targets": ["little"], **more}
    asked_for = asked(entry, said())
    assert [name.replace("little", "llama-3-8b") for name in asked_for] == models
    assert read_virtual_model("v", entry, kind).as_entry().items() >= more.items()


def test_a_fallback_that_nobody_can_do_says_so() -> None:
    pictures = said(messages=[{"role": "user", "content": [{"type": "image_url"}]}])
    found = planned({"kind": "fallback", "targets": ["little"], "by": "capability"}, pictures)
    assert [a.model for a in asks_of(found.step)] == ["little"]
    assert "no other model can do it" in found.reasons[0] + found.reasons[-1]


@pytest.mark.parametrize("more", [{"by": "luck"}, {"remote": 1}, {"by": "list", "remote": True}])
def test_fallbacks_that_are_refused(more: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        read_virtual_model("v", {"kind": "fallback", "targets": ["a"], **more}, kind)
