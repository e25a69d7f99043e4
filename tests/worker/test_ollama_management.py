"""What Ollama's clients are told of models: which there are, run, and come."""

from __future__ import annotations

import json

import pytest
from modelpool_client.errors import InvalidRequest
from modelpool_client.surfaces.ollama import (
    PULL_BEGINS,
    PULL_ENDS,
    Details,
    Listed,
    Running,
    asked_model,
    ps_body,
    pull_line,
    pull_progress,
    show_body,
    tags_body,
    version_body,
)
from modelpool_client.surfaces.ollama.management import capabilities, parameter_size

DETAILS = Details("gguf", "llama", 8_030_261_248, "Q4_0", context_length=8192)
MODEL = Listed("m", 4_661_224_676, 1_500_000_000_000_000_000, "9f43", DETAILS, ("chat", "tools"))


def test_tags() -> None:
    old = Listed("org/x:7b")
    body = tags_body([old, MODEL])
    assert body["models"][0] == {
        "name": "m:latest",
        "model": "m:latest",
        "modified_at": "2017-07-14T02:40:00.000000Z",
        "size": 4_661_224_676,
        "digest": "9f43",
        "details": {
            "parent_model": "",
            "format": "gguf",
            "family": "llama",
            "families": ["llama"],
            "parameter_size": "8.0B",
            "quantization_level": "Q4_0",
            "context_length": 8192,
        },
        "capabilities": ["completion", "tools"],
    }
    other = body["models"][1]
    assert other["name"] == "org/x:7b"
    assert len(other["digest"]) == 64
    assert other["details"]["families"] == []


def test_a_digest_stands_for_what_is_known_of_the_file() -> None:
    def digest(**facts: int) -> str:
        return str(Listed("m", **facts).body()["digest"])

    assert digest(size=1) == digest(size=1)
    assert len({digest(), digest(size=1), digest(size=1, modified_ns=1)}) == 3


@pytest.mark.parametrize(
    ("name", "shown"),
    [("m", "m:latest"), ("m:latest", "m:latest"), ("m:7b", "m:7b"), ("a/b", "a/b:latest")],
)
def test_names_have_tags(name: str, shown: str) -> None:
    assert Listed(name).body()["name"] == shown


def test_ps_has_the_longest_lived_first() -> None:
    soon = Running(Listed("soon"), 5, 3, 1_500_000_000_000_000_000, 4096)
    body = ps_body([soon, Running(Listed("ever"))])
    ever, found = body["models"]
    assert ever["expires_at"].startswith("2262-")
    assert found["expires_at"] == "2017-07-14T02:40:00.000000Z"
    names = ("name", "size", "size_vram", "context_length")
    assert [found[name] for name in names] == ["soon:latest", 5, 3, 4096]
    assert found["digest"] == Listed("soon").body()["digest"]


def test_show() -> None:
    body = show_body(
        MODEL,
        template="{{ messages }}",
        parameters={"num_ctx": 4096, "stop": ['a"', "b"], "flag": True},
        metadata={"llama.block_count": 32},
    )
    assert body["model_info"] == {
        "general.architecture": "llama",
        "general.parameter_count": 8_030_261_248,
        "llama.context_length": 8192,
        "llama.block_count": 32,
    }
    assert body["parameters"].splitlines() == [
        "num_ctx                        4096",
        'stop                           "a\\""',
        'stop                           "b"',
        "flag                           true",
    ]
    assert body["capabilities"] == ["completion", "tools"]
    assert body["template"] == "{{ messages }}"
    first, second, *_ = body["modelfile"].splitlines()
    assert (first, second.split()) == ("FROM m:latest", ["PARAMETER", "num_ctx", "4096"])
    assert show_body(Listed("m"))["model_info"] == {}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ((), ["completion"]),
        (("chat", "completion"), ["completion"]),
        (("json_mode",), ["completion"]),
        (("embeddings",), ["embedding"]),
        (("rerank",), []),
        (("infill", "thinking", "vision"), ["completion", "vision", "insert", "thinking"]),
        (("embeddings", "chat"), ["completion", "embedding"]),
    ],
)
def test_capabilities(ours: tuple[str, ...], theirs: list[str]) -> None:
    assert capabilities(ours) == theirs


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (12, "12"),
        (12_300, "12K"),
        (494_030_000, "494.03M"),
        (22_000_000, "22M"),
        (8_000_000_000, "8B"),
        (8_300_000_000, "8.3B"),
    ],
)
def test_numbers_of_parameters(count: int, text: str) -> None:
    assert parameter_size(count) == text


def test_pull() -> None:
    lines = [PULL_BEGINS, pull_progress("sha256:0123456789abcdef", 10, 0), PULL_ENDS]
    assert [json.loads(text) for text in lines] == [
        {"status": "pulling manifest"},
        {"status": "pulling 0123456789ab", "digest": "sha256:0123456789abcdef", "total": 10},
        {"status": "success"},
    ]
    assert pull_line("x", completed=3) == b'{"status":"x","completed":3}\n'


def test_version() -> None:
    assert version_body("1.2.3") == {"version": "1.2.3"}
    # What Ollama's clients ask for at most today.
    assert [int(part) for part in version_body()["version"].split(".")] >= [0, 12, 0]


def test_which_model() -> None:
    assert asked_model("/api/show", {"name": "m"}) == "m"
    assert asked_model("/api/pull", {"model": "m", "name": "n", "stream": False}) == "m"
    for nothing in ({}, {"model": ""}, {"model": 3}, {"name": None}):
        with pytest.raises(InvalidRequest) as caught:
            asked_model("/api/delete", nothing)
        assert caught.value.param == "model"
