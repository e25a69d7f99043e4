"""What servers of Ollama have, against the catalog; how far a pull is."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool.catalog.model import Model
from modelpool.ollama_server.entries import description, known_digests, planned
from modelpool.ollama_server.progress import PullProgress
from modelpool.ollama_server.servers import with_ollama_servers
from modelpool.pulling.reference import parse_reference
from modelpool_client.errors import InvalidRequest


def described(name: str, *capabilities: str) -> dict[str, Any]:
    listed = {"model": name, "digest": f"digest of {name}", "size": 5}
    return description(listed, {"capabilities": list(capabilities) or ["completion"]})


def at(*models: dict[str, Any], error: str = "") -> dict[str, Any]:
    return {"name": "http://a", "models": list(models), "error": error}


def found_before(name: str) -> Model:
    metadata = {"ollama_server": {"digest": f"digest of {name}", "is_found": True}}
    return Model(name, "ollama", name, metadata=metadata)


def put_ids(found: list[dict[str, Any]], *models: Model) -> list[tuple[str, list[str]]]:
    return [(e["model_id"], e["aliases"]) for e in planned(found, models).put]


def test_new_ones_and_their_names() -> None:
    a, plain = described("a:1b"), described("b:latest")
    assert put_ids([at(a, plain), at(a)]) == [
        ("a:1b", ["ollama:a:1b", "ollama_a:1b"]),
        ("b", ["ollama:b", "ollama_b"]),
    ]
    taken = Model("a:1b", "llama.cpp", "/a.gguf")
    assert put_ids([at(a)], taken) == [("ollama:a:1b", ["ollama_a:1b"])]
    assert put_ids([at(a)], found_before("a:1b")) == []
    assert put_ids([at(plain)], Model("mine", "ollama", "b")) == []
    assert put_ids([at(described("c:cloud"), described("d:2b-cloud"))]) == []


def test_what_is_gone() -> None:
    old, own = found_before("old:1b"), Model("own", "ollama", "gone:1b")
    assert [i for i, _ in planned([at(described("a:1b"))], [old, own]).drop] == ["old:1b"]
    assert planned([at(), at(error="down")], [old]).drop == ()
    assert planned([], [old]).drop == ()
    assert planned([at({"name": "old:1b", "digest": "x"})], [old]).drop == []
    assert known_digests([old, own, found_before("b")]) == [
        ("old:1b", "digest of old:1b"),
        ("b:latest", "digest of b"),
    ]


def test_what_a_model_can_do() -> None:
    (entry,) = planned([at(described("a", "completion", "vision", "odd"))], []).put
    assert entry["capabilities"] == [
        *("chat", "completion", "streaming", "json_mode", "json_schema"),
        "vision",
    ]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.none() | st.just(9))))
def test_a_pull_is_never_further_than_all(lines: list[tuple[str, int, int | None]]) -> None:
    progress = PullProgress()
    for digest, done, total in lines:
        said: dict[str, Any] = {"status": "pulling", "digest": digest, "completed": done}
        told = progress.take(said if total is None else {**said, "total": total})
        assert 0 <= told["done"] <= told["total"]
        assert not progress.is_done
    assert progress.take({"status": "success"})["text"] == "success"
    assert progress.is_done


def test_servers_of_the_pool_are_for_whoever_names_none() -> None:
    mine = Model("a", "ollama", "a")
    assert with_ollama_servers(mine, ["http://a"]).options == {"servers": ["http://a"]}
    own = Model("a", "ollama", "a", options={"servers": ["http://b"]})
    for same in (own, Model("a", "fake", "a")):
        assert with_ollama_servers(same, ["http://a"]) is same
    assert with_ollama_servers(mine, ()) is mine


@pytest.mark.parametrize(
    ("text", "reference", "model_id"),
    [
        ("ollama-server:a", "ollama-server:a:latest", "a"),
        ("Ollama-Server:a:1b", "ollama-server:a:1b", "a:1b"),
        ("ollama-server:hf.co/owner/a:Q4", "ollama-server:hf.co/owner/a:Q4", "hf.co/owner/a:Q4"),
    ],
)
def test_references(text: str, reference: str, model_id: str) -> None:
    found = parse_reference(text)
    assert (str(found), found.model_id) == (reference, model_id)
    assert parse_reference(str(found)) == found


@pytest.mark.parametrize("text", ["ollama-server:", "ollama-server:a/b/c/d", "ollama-server:a:b c"])
def test_no_references(text: str) -> None:
    with pytest.raises(InvalidRequest, match="no name of Ollama's"):
        parse_reference(text)
