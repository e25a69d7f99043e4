"""Which entries can be models that a provider's worker serves."""

from __future__ import annotations

from typing import Any

import pytest
from modelpool.catalog.model import Model
from modelpool.catalog.served_by import provider_problems, served, told_models
from modelpool_client.wire import ServedModels

PROVIDER = Model("p", "openai", "http://p", options={"models": ["x", "y"]})
OPEN = Model("open", "openai", "http://p", options={"discover": True})
ONE = Model("p:x", "openai", "x", served_by="p")
OWN = Model("own", "openai", "x")
KNOWN = {m.model_id: m for m in (PROVIDER, OPEN, ONE, OWN)}


@pytest.mark.parametrize(
    ("model", "wrong"),
    [
        (OWN, []),
        (ONE, []),
        (Model("p:y", "openai", "y", served_by="p"), []),
        (Model("p:y", "openai", "x", served_by="p"), ["model_id"]),
        (Model("p:y", "http", "y", served_by="p"), ["served_by"]),
        (Model("q:y", "openai", "y", served_by="q"), ["served_by"]),
        (Model("self", "openai", "y", served_by="self"), ["served_by"]),
        (Model("p:x:y", "openai", "y", served_by="p:x"), ["served_by"]),
        (Model("own", "openai", "x", served_by="p"), ["served_by", "model_id"]),
        (Model("own", "openai", "x", served_by="own"), ["served_by", "source", "model_id"]),
        (Model("p:z", "openai", "z", served_by="p"), ["source"]),
        (Model("open:z", "openai", "z", served_by="open"), []),
        (Model("p:x", "openai", "x"), ["served_by"]),
    ],
)
def test_who_may_serve_it(model: Model, wrong: list[str]) -> None:
    assert [p.param for p in provider_problems(model, KNOWN)] == wrong


def test_a_provider_may_come_with_its_models() -> None:
    assert provider_problems(ONE, {}, {"p": PROVIDER}) == []


def test_what_a_provider_serves() -> None:
    assert served(PROVIDER, KNOWN.values()) == [ONE]


@pytest.mark.parametrize(
    ("options", "entries", "told"),
    [
        ({"models": ["x", "y"]}, [ONE], ServedModels(("x",))),
        ({"models": ["x", "y"]}, [], ServedModels(("x", "y"))),
        ({"models": []}, [], ServedModels(())),
        ({"models": ["x"], "discover": True}, [ONE], ServedModels(("x",), is_open=True)),
        ({"models": ["x"], "base_url": "http://other"}, [ONE], None),
        ({}, [], None),
    ],
)
def test_what_its_worker_is_told(
    options: dict[str, Any], entries: list[Model], told: ServedModels | None
) -> None:
    now = Model("p", "openai", "http://p", options=options)
    assert told_models(now, PROVIDER, entries) == told
