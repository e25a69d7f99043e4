"""The grammar of ids, and names that are near."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from modelpool.catalog.model import RESERVED_VERBS, id_problem, near_names, validate_model_id
from modelpool_client.errors import InvalidModelId


@pytest.mark.parametrize(
    "name",
    [
        "qwen2.5-coder:7b",
        "TheBloke/deepseek-coder-6.7B-instruct-GGUF",
        "openai:gpt-4",
        "load/x",
        "a b",
        "модель",
        "x" * 255,
        "a..b",
        "..a",
        "loaded",
        "registered/model",
        "a/Load",
        "100%/x?y#z",
    ],
)
def test_good_ids(name: str) -> None:
    assert validate_model_id(name) == name


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "empty"),
        ("/a", "empty segments"),
        ("a/", "empty segments"),
        ("a//b", "empty segments"),
        ("..", "'..'"),
        ("a/../b", "'..'"),
        ("./a", "'.'"),
        ("a\nb", "control"),
        ("a\x7f", "control"),
        ("a\x85b", "control"),
        ("a\u2028b", "control"),
        (" a", "white space"),
        ("a ", "white space"),
        ("x" * 256, "256 bytes"),
        ("é" * 128, "256 bytes"),
        ("\ud800", "Unicode"),
        ("register", "register"),
        ("auto", "gateway"),
        (3, "string"),
        (None, "string"),
        *((f"a/{verb}", verb) for verb in sorted(RESERVED_VERBS)),
        *((verb, verb) for verb in sorted(RESERVED_VERBS)),
        ("a/versions/1", "versions"),
    ],
)
def test_bad_ids(name: object, reason: str) -> None:
    with pytest.raises(InvalidModelId, match=reason) as caught:
        validate_model_id(name)
    assert caught.value.param == "model_id"


@settings(deadline=None)
@given(st.text() | st.text(alphabet="a./: \n"))
def test_an_accepted_id_is_one_path_that_ends_in_no_verb(name: str) -> None:
    if id_problem(name) is None:
        segments = name.split("/")
        assert all(s not in ("", ".", "..") for s in segments)
        assert segments[-1] not in RESERVED_VERBS
        assert 0 < len(name.encode()) <= 255


def test_near_names() -> None:
    known = ["qwen2.5-coder:7b", "llama3.1:8b", "Phi-4"]
    assert near_names("qwen2.5-coder:7B", known) == ["qwen2.5-coder:7b"]
    assert near_names("phi4", known) == ["Phi-4"]
    assert near_names("coder", known) == ["qwen2.5-coder:7b"]
    assert near_names("zzz", known) == []
    assert near_names("q" * 10_000_000, known) == []
