"""Kinds of virtual models: what they read, and what they decide."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool.catalog.index import Index
from modelpool.catalog.model import Model
from modelpool.routing.kinds.registry import UnknownKind, kind, names
from modelpool.routing.plan import (
    MOST_DEEP,
    Ask,
    Collect,
    FirstOf,
    InOrder,
    Outcome,
    Plan,
    asks_of,
    described,
)
from modelpool.routing.request import RouteRequest, key_digest
from modelpool.routing.resolve import Resolver
from modelpool.routing.virtual_model import VirtualModel, entry_schema, read_virtual_model
from modelpool_client.errors import Conflict, InvalidRequest

ANY = RouteRequest("v")


class Known:
    """A catalog of names, of which nothing runs."""

    now = datetime(2026, 1, 1, tzinfo=UTC)

    def __init__(self, *names: str, model: Model | None = None) -> None:
        own = [] if model is None else [model]
        self._index = Index([*own, *(Model(name, "fake", "") for name in names)])

    def model(self, name: str) -> Model | None:
        return self._index.find(name)

    def models(self) -> Iterator[Model]:
        return iter(self._index.models.values())

    def is_serving(self, model_id: str) -> bool:
        return False

    def in_flight(self, model_id: str) -> int:
        return 0

    def fact(self, name: str) -> Any:
        return None


def virtual(name: str, entry: Any) -> VirtualModel:
    return read_virtual_model(name, entry, kind)


def planned(entry: Any, request: RouteRequest, **others: Any) -> Any:
    """The plan of the virtual model ``v`` beside others, where a, b and c are models."""
    models = {n: virtual(n, e) for n, e in {"v": entry, **others}.items()}
    resolver = Resolver(kind, models.get, lambda name: {"temperature": 0.5})
    return resolver.resolve(models["v"], request, Known("a", "b", "c"))


def asked(entry: Any, request: RouteRequest = ANY, **others: Any) -> list[str]:
    return [ask.model for ask in asks_of(planned(entry, request, **others).step)]


@pytest.mark.parametrize(
    ("entry", "models"),
    [
        ("a", ["a"]),
        ({"target": "a"}, ["a"]),
        ({"kind": "alias", "target": {"model": "a"}}, ["a"]),
        (["a", "b"], ["a", "b"]),
        ({"targets": ["b", {"model": "a"}]}, ["b", "a"]),
        ({"kind": "alias", "target": "a", "fallbacks": ["b", "c"]}, ["a", "b", "c"]),
        ({"a": 1, "b": 0}, ["a"]),
        ({"kind": "by_class", "default": ["c", "a"]}, ["c", "a"]),
    ],
)
def test_entries_and_whom_they_ask(entry: Any, models: list[str]) -> None:
    assert asked(entry) == models
    again = virtual("v", virtual("v", entry).as_entry())
    assert again == virtual("v", entry)


@pytest.mark.parametrize(
    ("entry", "begin"),
    [
        ({}, "kind is required"),
        (7, "a virtual model must be"),
        ({"kind": "nope"}, "kind 'nope' is unknown"),
        ({"kind": "alias"}, "target is required"),
        ({"kind": "alias", "target": "a", "traget": "b"}, "traget is unknown"),
        ({"kind": "alias", "target": ""}, "target must not be empty"),
        (
            {"kind": "alias", "target": {"model": "a", "x": 1}},
            "target has an unknown key 'x'; known:",
        ),
        (
            {"kind": "policy", "rules": [{"if": {}, "use": "a"}], "default": "a"},
            "rules[0] has an unknown key 'if'; known: name, when, use",
        ),
        ({"kind": "fallback", "targets": []}, "targets must be a list"),
        ({"kind": "fallback", "targets": ["a", "a"]}, "targets name 'a' more than once"),
        ({"a": 0, "b": 0}, "targets have weights of 0 only"),
        ({"a": -1}, "targets[0].weight must be between"),
        ({"kind": "weighted", "targets": [{"model": "a", "weight": 1}], "sticky": "x"}, "sticky "),
        ({"kind": "by_class", "classes": {}}, "classes or default is required"),
        ({"kind": "by_class", "classes": {"A": ["a"], "a": ["b"]}}, "classes: two of them"),
        ({"kind": "alias", "target": "a", "request": {"limit": 1}}, "request has an unknown key"),
        (
            {"kind": "alias", "target": "a", "request": {"defaults": {"model": "x"}}},
            "request defaults: 'model' is no parameter",
        ),
    ],
)
def test_what_is_wrong_with_entries(entry: Any, begin: str) -> None:
    with pytest.raises(ValueError) as error:
        virtual("v", entry)
    assert str(error.value).startswith(begin)


@pytest.mark.parametrize("name", ["*", "current", "", "a//b", "x/load", "a*b*c*d*e*f"])
def test_what_none_may_be_called(name: str) -> None:
    with pytest.raises(ValueError, match=r"^name must"):
        virtual(name, "a")


def test_auto_may_be_one() -> None:
    assert virtual("auto", "a").name == "auto"


def test_every_kind_that_is_built_in_can_be_had_and_has_a_schema() -> None:
    kinds = {name: kind(name) for name in names()}
    ours = {"alias", "by_class", "cascade", "ensemble", "fallback", "omni", "weighted"}
    assert ours <= kinds.keys()
    assert all(found.name == name and found.summary for name, found in kinds.items())
    assert len(entry_schema(kinds)["oneOf"]) == len(kinds)
    with pytest.raises(UnknownKind):
        kind("nope")


CONVERSATION = {"messages": [{"role": "user", "content": "hello"}]}
LATER = {
    "messages": [
        *CONVERSATION["messages"],
        {"role": "assistant", "content": "hi"},
        {"role": "user", "content": "more"},
    ]
}


def test_a_conversation_without_a_name_is_known_by_its_beginning() -> None:
    first, later = (RouteRequest("v", data=data) for data in (CONVERSATION, LATER))
    assert first.conversation == later.conversation != ""
    other = RouteRequest("v", data={"messages": [{"role": "user", "content": "bye"}]})
    assert other.conversation != first.conversation
    named = RouteRequest("v", data=CONVERSATION, session="s")
    assert named.conversation == "s"
    assert key_digest(b"secret") not in ("", "secret")
    assert not key_digest(b"")


@given(st.lists(st.text(min_size=1), min_size=1, max_size=20, unique=True), st.floats(0, 0.999))
def test_what_is_sticky_is_decided_by_that_alone(sessions: list[str], draw: float) -> None:
    entry = {"a": 3, "b": 2, "c": 1}
    for session in sessions:
        one, other = (RouteRequest("v", session=session, draw=d) for d in (draw, 0.0))
        assert asked(entry, one) == asked(entry, other)


def test_shares_are_as_the_weights_and_only_as_many_move_as_must() -> None:
    requests = [RouteRequest("v", session=str(i)) for i in range(3000)]
    before = [asked({"a": 70, "b": 30}, r)[0] for r in requests]
    assert 0.66 < before.count("a") / 3000 < 0.74
    after = [asked({"a": 70, "b": 30, "c": 10}, r)[0] for r in requests]
    moved = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert all(new == "c" for _, new in moved)
    assert 0.05 < len(moved) / 3000 < 0.13


def test_who_says_nothing_is_drawn_by_chance() -> None:
    entry = {"a": 1, "b": 3}
    assert asked(entry, RouteRequest("v", draw=0.2)) == ["a"]
    assert asked(entry, RouteRequest("v", draw=0.3)) == ["b"]
    assert asked(entry, RouteRequest("v", draw=0.999)) == ["b"]


def test_a_class_of_callers_has_its_models_and_its_settings() -> None:
    entry = {
        "kind": "by_class",
        "classes": {"Architect": ["a", "b"]},
        "default": ["c"],
        "settings": {"architect": {"defaults": {"temperature": 0.1}}},
    }
    plan = planned(entry, RouteRequest("v", caller_class="ARCHITECT"))
    assert [ask.model for ask in asks_of(plan.step)] == ["a", "b"]
    assert all(ask.rules.defaults == {"temperature": 0.1} for ask in asks_of(plan.step))
    assert asked(entry, RouteRequest("v", caller_class="Other")) == ["c"]
    del entry["default"]
    with pytest.raises(InvalidRequest, match="Architect"):
        asked(entry, RouteRequest("v"))


# -- virtual models that name others --------------------------------------------------------------


def test_others_are_followed_and_lists_become_one() -> None:
    others = {"x": ["a", "y"], "y": {"kind": "alias", "target": "b", "fallbacks": ["c"]}}
    plan = planned("x", RouteRequest("v"), **others)
    assert plan.step == InOrder((Ask("a"), Ask("b"), Ask("c", reason="a fallback")))
    assert [p.name for p in plan.passed] == ["v", "x", "y"]
    assert plan.reasons[0] == "v: it stands for x"


def test_rules_of_the_outer_come_before_those_of_the_inner() -> None:
    outer = {
        "kind": "alias",
        "target": "x",
        "request": {"defaults": {"temperature": 1}, "limits": {"max_tokens": 100}},
    }
    inner = {
        "kind": "alias",
        "target": "a",
        "request": {"preset": "Any", "defaults": {"top_p": 0.9}, "limits": {"max_tokens": 50}},
    }
    (ask,) = asks_of(planned(outer, RouteRequest("v"), x=inner).step)
    assert ask.rules.defaults == {"temperature": 1, "top_p": 0.9}
    assert ask.rules.limits["max_tokens"].high == 50
    assert not ask.rules.preset


@pytest.mark.parametrize(
    ("fallbacks", "models", "why"),
    [
        (("b", "v"), ["a", "b", "c"], "a: it comes first, then b, v"),
        (("b", "x"), ["a", "b"], "a: it comes first, then b; nobody is called x any more"),
        (("x", "y"), ["a"], "a: it comes first, then nobody; nobody is called x, y any more"),
    ],
)
def test_fallbacks_of_a_model_that_are_gone_are_not_asked(
    fallbacks: tuple[str, ...], models: list[str], why: str
) -> None:
    """Or a client would hear of a model that it has not named that there is none."""
    resolver = Resolver(kind, {"v": virtual("v", "c")}.get, lambda name: {})
    model = Model("a", "fake", "", fallbacks=fallbacks)
    plan = resolver.resolve_model(model, RouteRequest("a"), Known("b", "c", model=model))
    assert [ask.model for ask in asks_of(plan.step)] == models
    assert plan.reasons[0] == why


def test_there_is_an_end_to_how_deep_and_how_many() -> None:
    row = {f"v{i}": f"v{i + 1}" for i in range(MOST_DEEP + 1)}
    with pytest.raises(Conflict) as error:
        planned("v0", RouteRequest("v"), **row)
    assert error.value.code == "too_deep"
    names = [f"w{i}" for i in range(9)]
    wide = {name: [f"{name}{c}" for c in "abcdefgh"] for name in names}
    leaves = {leaf: "a" for each in wide.values() for leaf in each}
    with pytest.raises(Conflict) as error:
        planned(names, RouteRequest("v"), **wide, **leaves)
    assert error.value.code == "too_many_models"


def test_steps_side_by_side_keep_what_stands_behind_their_names() -> None:
    def then(outcomes: Any) -> Outcome:
        return outcomes[0]

    class Panel:
        name = "panel"
        summary = "asks two"
        keys: ClassVar[dict[str, Any]] = {}
        required = ()

        def plan(self, spec: Any, request: Any, known: Any) -> Plan:
            return Plan(Collect((Ask("x"), Ask("c")), then, "the first", may_ask=("c",)))

    safe = virtual("x", ["a", "b"])
    panel = VirtualModel("p", "panel", virtual("q", "a").spec)
    find = {"x": safe}.get
    resolver = Resolver(lambda n: Panel() if n == "panel" else kind(n), find, lambda n: {})
    step = resolver.resolve(panel, RouteRequest("p"), Known("a", "b", "c")).step
    assert isinstance(step, Collect)
    assert step.steps == (InOrder((Ask("a"), Ask("b"))), Ask("c"))
    assert described(step)["then"] == "the first"
    assert described(FirstOf((Ask("a"),)))["do"] == "first of"
