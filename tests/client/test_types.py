"""What the pool answers is read tolerantly; what cannot be meant is refused by name."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import modelpool_client
import pytest
from modelpool_client import errors, types

VIEWS = [
    types.ModelView,
    types.Endpoint,
    types.Extension,
    types.PoolHealth,
    types.EngineView,
    types.ConfigChange,
    types.RegistryChange,
    types.Event,
    types.FailureView,
]


@pytest.mark.parametrize("cls", VIEWS)
def test_missing_null_and_unknown_keys(cls: type) -> None:
    nulls = {f.name: None for f in dataclasses.fields(cls)}
    assert types.view(cls, {}) == types.view(cls, {**nulls, "new": {"a": [1]}}) == cls()


def test_a_whole_model() -> None:
    model = types.view(
        types.ModelView,
        {
            "model_id": "m",
            "state": "SOMETHING_NEW",
            "tags": ["a"],
            "ttl_remaining_minutes": 3,
            "progress": {"stage": "weights", "fraction": 0.5, "new": 1},
            "failure": {"code": "oom", "message": "no memory", "lines": ["x"], "retry_at": None},
            "replicas": [{"state": "HOT"}],
        },
    )
    assert model.progress is not None
    assert model.failure is not None
    assert (model.progress.fraction, model.failure.lines) == (0.5, ("x",))
    assert model.ttl_remaining_minutes == 3.0
    assert not model.is_loaded


@pytest.mark.parametrize("state", ["HOT", "COOLING"])
def test_is_loaded(state: str) -> None:
    assert types.ModelView(state=state).is_loaded


@pytest.mark.parametrize(
    ("document", "words"),
    [({"port": "x"}, r"ModelView\.port"), ([], "expected an object"), ("<html>", "object")],
)
def test_nonsense_is_named(document: object, words: str) -> None:
    with pytest.raises(errors.BadGateway, match=words) as caught:
        types.view(types.ModelView, document)
    assert caught.value.code == "bad_answer"


def test_a_reply_is_its_text() -> None:
    raw = {"choices": [{"finish_reason": "stop"}], "usage": {"total_tokens": 3}}
    reply = types.Reply("hello", raw)
    assert reply == "hello"
    assert (reply.finish_reason, reply.usage) == ("stop", {"total_tokens": 3})
    assert (types.Reply("").finish_reason, types.Reply("").usage) == (None, {})


def test_exported_names() -> None:
    assert set(modelpool_client.__all__) <= set(dir(modelpool_client))
    assert all(getattr(modelpool_client, name) for name in modelpool_client.__all__)
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = modelpool_client.nothing_like_it  # type: ignore[attr-defined]


def test_wire_and_errors_are_light() -> None:
    code = (
        "import sys, modelpool_client.wire, modelpool_client.errors\n"
        "print([m for m in ('httpx', 'typer', 'rich', 'openai') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
