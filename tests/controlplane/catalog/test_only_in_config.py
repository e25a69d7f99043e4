"""What of a model only the config file may say."""

from __future__ import annotations

from typing import Any

import pytest
from modelpool.catalog.model import Model
from modelpool.catalog.only_in_config import ALWAYS, BILLED, untrusted
from modelpool_worker import engines
from modelpool_worker.engine_table import REMOTE

SCHEMAS = {"run": {"only_in_config": True}, "size": {"type": "integer"}}
KNOWN = Model("m", "e", "s", options={"run": "this", "size": 1})


def said(options: dict[str, Any], engine: str = "e", source: str = "s") -> list[str]:
    return [
        p.param for p in untrusted(Model("n", engine, source, options=options), SCHEMAS, [KNOWN])
    ]


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({}, []),
        ({"size": 2}, []),
        ({"run": "that"}, ["options.run"]),
        ({"run": "this"}, []),
        ({"run": "this", "size": 9}, []),
        ({"run": "this", "command": ["x"]}, ["options.command", "options.run"]),
    ],
)
def test_what_is_run_is_for_the_config_file(options: dict[str, Any], wrong: list[str]) -> None:
    assert said(options) == wrong


def test_what_stands_there_is_trusted_for_its_own_source_only() -> None:
    assert said({"run": "this"}, source="other") == ["options.run"]
    assert said({"run": "this"}, engine="other") == ["options.run"]


def test_every_option_by_which_an_engine_runs_something_is_guarded() -> None:
    options = {name: s for n in engines.names() for name, s in engines.get(n).options.items()}
    marked = {name for name, schema in options.items() if schema.get("only_in_config")}
    assert marked - {"headers"} == ALWAYS, "or a client may say it where no engine could be asked"


@pytest.mark.parametrize("engine", sorted(REMOTE))
def test_where_requests_go_and_with_which_key_is_for_the_config_file(engine: str) -> None:
    options = engines.get(engine).options
    marked = {name for name, schema in options.items() if schema.get("only_in_config")}
    assert marked >= ALWAYS & options.keys()
    assert marked & {"base_url", "url", "servers"}
    assert "api_key_variable" in marked


PAID = [Model("p:x", "openai", "x", served_by="p"), Model("gpt", "openai", "gpt-4o")]


@pytest.mark.parametrize(
    ("model", "wrong"),
    [
        (Model("mine", "openai", "o3"), ["engine"]),
        (Model("mine", "openai", "o3", options={"url": "x"}), ["options.url", "engine"]),
        (Model("p:o3", "openai", "o3", served_by="p"), []),
        (Model("copy", "openai", "gpt-4o"), []),
        # A provider's model may be asked elsewhere, with another key.
        (Model("mine", "openai", "x"), ["engine"]),
        (Model("mine", "stranger", "o3"), ["engine"]),
    ],
)
def test_what_is_paid_for_is_for_the_config_file(model: Model, wrong: list[str]) -> None:
    assert [p.param for p in untrusted(model, {}, PAID, is_billed=True)] == wrong


def test_engines_that_may_bill_are_known_where_none_could_be_asked() -> None:
    assert {name for name in REMOTE if engines.get(name).asked_once} == BILLED
    model = Model("mine", "openai", "o3")
    assert [p.param for p in untrusted(model, {}, [])] == ["engine"]
