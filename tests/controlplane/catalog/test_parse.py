"""What an entry becomes, in every spelling, and what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from modelpool.catalog.entry_schema import FIELDS, model_entry_schema
from modelpool.catalog.model import (
    Model,
)
from modelpool.catalog.parse import KNOWN_KEYS, METADATA_KEYS, SYNONYMS, parse_model
from modelpool_client.errors import InvalidModelId, InvalidRequest

BASE = Path("/base")
ENTRY: dict[str, Any] = {"model_id": "a", "engine": "fake", "source": "x"}
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


def parse(**changes: Any) -> Model:
    return parse_model(ENTRY | changes, base_dir=BASE)


def test_defaults_of_an_entry() -> None:
    assert parse() == Model("a", "fake", "x", display_name="a")


def test_every_spelling_is_read() -> None:
    values: dict[str, Any] = {
        "model_id": "b",
        "display_name": "B",
        "source": "/x.gguf",
        "engine": "fake",
        "model_type": "code",
        "memory_mb": 5,
        "context_length": 9,
        "size_bytes": 7,
    }
    for key, spellings in SYNONYMS.items():
        for spelling in spellings:
            entry = {k: v for k, v in ENTRY.items() if k != key} | {spelling: values[key]}
            assert getattr(parse_model(entry, base_dir=BASE), key) == values[key], spelling


def test_name_is_the_id_or_beside_one_the_display_name() -> None:
    assert parse_model({"name": "b", "engine": "fake", "source": "x"}).model_id == "b"
    assert parse(name="B").display_name == "B"


def test_gigabytes_are_a_thousand_megabytes() -> None:
    assert parse(memory_gb=1.5).memory_mb == 1500


@pytest.mark.parametrize(
    ("given_name", "ours"),
    [("gguf", "auto"), ("llama_cpp", "llama.cpp"), ("Claude", "anthropic"), ("mlx", "mlx")],
)
def test_engines_by_their_other_names(given_name: str, ours: str) -> None:
    assert parse_model({"id": "a", "path": "/x", "provider": given_name}).engine == ours


def test_the_engine_follows_from_a_gguf_file() -> None:
    model = parse_model({"id": "a", "path": "m/X.GGUF"}, base_dir=BASE)
    assert (model.engine, model.source) == ("llama.cpp", "/base/m/X.GGUF")
    with pytest.raises(InvalidRequest, match="does not follow") as caught:
        parse_model({"id": "a", "path": "/m/x.safetensors"})
    assert caught.value.param == "engine"


@pytest.mark.parametrize(
    ("source", "engine", "absolute"),
    [
        ("m.gguf", "llama.cpp", "/base/m.gguf"),
        ("m", "llama.cpp", "/base/m"),
        ("../m.gguf", "llama.cpp", "/m.gguf"),
        ("/abs/./m.gguf", "llama.cpp", "/abs/m.gguf"),
        ("./dir", "transformers", "/base/dir"),
        ("Qwen/Qwen2.5-0.5B", "transformers", "Qwen/Qwen2.5-0.5B"),
        ("llama3.1:8b", "ollama", "llama3.1:8b"),
    ],
)
def test_sources_that_are_paths_become_absolute(source: str, engine: str, absolute: str) -> None:
    assert parse(source=source, engine=engine).source == absolute


def test_files_of_options_are_relative_to_the_same_folder() -> None:
    options = {
        "draft_model": "drafts/d.gguf",
        "mmproj": "/elsewhere/p.gguf",
        "chat_template_file": "../t.jinja",
        "lora": [{"path": "a.gguf", "scale": 0.5}, {"path": 5}, "b"],
        "vae": " ",
        "threads": 2,
    }
    assert parse(options=options).options == {
        "draft_model": str(BASE / "drafts/d.gguf"),
        "mmproj": "/elsewhere/p.gguf",
        "chat_template_file": str(BASE.parent / "t.jinja"),
        "lora": [{"path": str(BASE / "a.gguf"), "scale": 0.5}, {"path": 5}, "b"],
        "vae": " ",
        "threads": 2,
    }
    assert parse_model(ENTRY | {"source": "/m.bin", "options": options}).options == options


def test_relative_paths_need_a_folder() -> None:
    with pytest.raises(InvalidRequest, match="absolute"):
        parse_model({"id": "a", "path": "m.gguf"})


def test_capabilities_in_the_documents_spellings() -> None:
    words = ["TEXT_GENERATION", "json mode", "CHAT_COMPLETION", "chat", "speech-to-text"]
    expected = ("completion", "json_mode", "chat", "speech_to_text")
    assert parse(capabilities=words).capabilities == expected


def test_fields_that_nothing_reads_yet_are_kept() -> None:
    model = parse(cost_per_token=0.1, repository="r", metadata={"x": [1], "repository": "own"})
    assert model.metadata == {"cost_per_token": 0.1, "repository": "own", "x": [1]}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("warmup", 1),
        ("pinned", "true"),
        ("auto_unload", 0),
        ("ttl_minutes", True),
        ("ttl_minutes", 4.9),
        ("ttl_minutes", 61),
        ("ttl_minutes", -1),
        ("ttl_minutes", float("nan")),
        ("memory_mb", float("inf")),
        ("memory_gb", "4"),
        ("memory_gb", 1e300),
        ("memory_mb", -1),
        ("context_length", 0),
        ("context_length", 1.5),
        ("context_length", 10**30),
        ("priority", "urgent"),
        ("priority", []),
        ("tags", "code"),
        ("tags", [1]),
        ("tags", [""]),
        ("tags", ["x"] * 257),
        ("aliases", ["a/load"]),
        ("aliases", ["a"]),
        ("options", []),
        ("options", {"a": float("nan")}),
        ("options", {"a": 2**64}),
        ("options", {"a": "x" * 70_000}),
        ("options", {1: 2}),
        ("metadata", 3),
        ("display_name", ""),
        ("display_name", "a\x00"),
        ("source", "\ud800"),
        ("source", "x" * 5000),
        ("engine", 3),
        ("ttl", 15),
        ("state", "HOT"),
    ],
)
def test_wrong_values_are_named(key: str, value: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(**{key: value})
    assert caught.value.param == key
    assert caught.value.message.startswith(f"{key} ")


def test_ttl_of_zero_and_at_the_bounds() -> None:
    assert [parse(ttl_minutes=m).ttl_minutes for m in (0, 5, 7.5, 60, None)] == [
        0,
        5,
        7.5,
        60,
        None,
    ]
    assert parse_model(ENTRY | {"ttl_minutes": 90}, ttl_range=(1, 100)).ttl_minutes == 90


def test_lease() -> None:
    assert parse().lease_minutes(15) == 15
    assert parse(ttl_minutes=5).lease_minutes(15) == 5
    assert parse(ttl_minutes=0).lease_minutes(15) is None
    assert parse(warmup=True, ttl_minutes=5).lease_minutes(15) is None
    assert parse().lease_minutes(0) is None


def test_everything_wrong_at_once() -> None:
    with pytest.raises(InvalidModelId) as caught:
        parse_model({"model_id": "a/../b", "warmup": 1, "modelType": "x"}, known_engines={"fake"})
    params = [e["param"] for e in caught.value.details["errors"]]
    assert sorted(params) == ["engine", "modelType", "model_id", "source", "warmup"]


@pytest.mark.parametrize("stays", ["warmup", "pinned"])
def test_a_schedule_that_could_never_unload(stays: str) -> None:
    night, morning = ({"cron": "0 1 * * *", "action": action} for action in ("unload", "load"))
    with pytest.raises(InvalidRequest, match=f"schedule unloads a model that is to stay: {stays}"):
        parse(schedule=[night, morning], **{stays: True})
    assert parse(schedule=[morning], **{stays: True}).schedule == (morning,)
    assert parse(schedule=[night]).schedule == (night,)


def test_two_spellings_that_disagree() -> None:
    assert parse(path="x").source == "x"
    with pytest.raises(InvalidRequest, match="path contradicts source"):
        parse(path="y")


def test_only_known_engines() -> None:
    with pytest.raises(InvalidRequest, match=r"there are: llama\.cpp, ollama"):
        parse_model(ENTRY, known_engines=("ollama", "llama.cpp"))


@settings(deadline=None)
@given(JSON | st.dictionaries(st.sampled_from(KNOWN_KEYS) | st.text(), JSON, max_size=8))
def test_arbitrary_json_is_a_model_or_an_invalid_request(data: object) -> None:
    try:
        model = parse_model(data, base_dir=BASE)
    except InvalidRequest as e:
        body = json.dumps(e.body(), ensure_ascii=False).encode()
    else:
        body = json.dumps(model.as_dict(), allow_nan=False, ensure_ascii=False).encode()
    assert body


@settings(deadline=None)
@given(st.sampled_from(sorted({*FIELDS, *METADATA_KEYS})), JSON)
def test_one_arbitrary_value_is_kept_or_named(key: str, value: object) -> None:
    try:
        model = parse(**{key: value})
    except InvalidRequest as e:
        params = {error["param"] for error in e.details["errors"]}
    else:
        assert Model.from_dict(json.loads(json.dumps(model.as_dict()))) == model
        assert parse_model(model.as_entry()) == model
        return
    assert params <= {key, "metadata"}


def test_the_schema_knows_every_field() -> None:
    assert set(model_entry_schema()["properties"]) == set(FIELDS)
