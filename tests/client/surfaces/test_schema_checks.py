"""Checks by one function, and requests that are told as they are: both are the quick way to what a
slower one says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool_client.errors import InvalidRequest
from modelpool_client.surfaces import anthropic, embeddings, media, ollama, openai, responses
from modelpool_client.surfaces.openai_bodies import BODIES
from modelpool_client.surfaces.parameters import ANY, Support
from modelpool_client.surfaces.routes import CHAT_PATH, TEXT_PATH
from modelpool_client.surfaces.schema import Schema, check
from modelpool_client.surfaces.schema_checks import predicate

TABLES: dict[str, Schema] = {
    **BODIES,
    **embeddings.BODIES,
    **media.BODIES,
    **anthropic.BODIES,
    **ollama.BODIES,
    **responses.BODIES,
}
NUMBERS = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([0.0, 0.5, 1.0, 2.0, -1.0, 1e12, 1 << 31, (1 << 31) - 1, 1 << 63]),
)
SCALARS = st.one_of(
    st.none(), st.booleans(), NUMBERS, st.sampled_from(["", "a", "user", "x" * 200])
)


def values(schema: Schema, depth: int = 3) -> st.SearchStrategy[Any]:
    """What is near to what it allows."""
    options = schema.get("anyOf", [schema])
    near = st.one_of([_near(option, depth) for option in options])
    return st.one_of(near, near, near, SCALARS, st.lists(SCALARS, max_size=2))


def _near(schema: Schema, depth: int) -> st.SearchStrategy[Any]:
    if "enum" in schema:
        return st.sampled_from(list(schema["enum"]))
    if "anyOf" in schema:
        return values(schema, depth)
    kinds = schema.get("type", "string")
    kind = kinds if isinstance(kinds, str) else kinds[0]
    if kind == "array" and depth:
        item = values(schema["items"], depth - 1) if "items" in schema else SCALARS
        return st.lists(item, max_size=3)
    if kind == "object" and depth:
        known = schema.get("properties", {})
        required = {
            n: values(known[n], depth - 1) for n in schema.get("required", ()) if n in known
        }
        others = {n: values(s, depth - 1) for n, s in known.items() if n not in required}
        # Of many parameters a few at a time.
        some = st.sets(st.sampled_from(sorted(others)), max_size=3) if others else st.just(set())
        return some.flatmap(
            lambda names: st.fixed_dictionaries(required, optional={n: others[n] for n in names})
        ).flatmap(lambda found: st.one_of(st.just(found), _with_another(found)))
    return {
        "integer": NUMBERS,
        "number": NUMBERS,
        "boolean": st.booleans(),
        "null": st.none(),
    }.get(kind, st.sampled_from(["", "a", "x" * 200]))


def _with_another(found: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    return SCALARS.map(lambda value: {**found, "other": value})


def is_sound(schema: Schema, value: Any) -> bool:
    try:
        check(schema, value)
    except InvalidRequest:
        return False
    return True


@pytest.mark.parametrize("path", sorted(TABLES))
@given(st.data())
def test_a_value_fits_if_nothing_is_wrong_with_it(path: str, data: st.DataObject) -> None:
    value = data.draw(values(TABLES[path]))
    assert predicate(TABLES[path])(value) == is_sound(TABLES[path], value)


@pytest.mark.parametrize(
    ("schema", "fitting", "others"),
    [
        ({"type": "integer", "minimum": 1}, [1, 2.0], [0, 1.5, True, "1", None]),
        ({"type": ["integer", "null"]}, [1, 2.0, None], [1.5, True, []]),
        ({"type": ["number", "integer"]}, [1, 1.5], [True]),
        ({"type": ["integer", "number"]}, [1, 1.5], [True]),
        ({"type": "boolean"}, [True], [0, None]),
        ({"enum": [-1]}, [-1, -1.0], [1, "-1", []]),
        (
            {"minimum": 2, "minLength": 2, "minItems": 2},
            [2, "ab", [1, 2], {}, None, True],
            [1, "a"],
        ),
        ({"anyOf": [{"type": "string", "maxLength": 1}, {"type": "array"}]}, ["a", []], ["ab", 1]),
        (
            {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["b"]},
            [{"b": 1}, {"b": 1, "a": "x", "c": None}],
            [{}, {"b": 1, "a": 1}, []],
        ),
        ({"type": "object", "additionalProperties": False}, [{}], [{"a": 1}]),
        (
            {"type": "object", "additionalProperties": {"type": "integer"}},
            [{}, {"a": 1}],
            [{"a": "x"}],
        ),
    ],
)
def test_what_fits(schema: Schema, fitting: list[Any], others: list[Any]) -> None:
    fits = predicate(schema)
    assert [value for value in fitting if not (fits(value) and is_sound(schema, value))] == []
    assert [value for value in others if fits(value) or is_sound(schema, value)] == []


CHAT_HONOURS = Support({CHAT_PATH: ["seed", "temperature", "n", "tools"], TEXT_PATH: ["seed"]})
HELLO = [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize("path", [CHAT_PATH, TEXT_PATH])
@pytest.mark.parametrize("support", [ANY, CHAT_HONOURS], ids=["any", "some"])
@given(st.data())
def test_what_is_told_as_it_is_would_be_told_so_anyway(
    path: str, support: Support, data: st.DataObject
) -> None:
    said = data.draw(values(BODIES[path]).filter(lambda value: isinstance(value, dict)))
    assert told(path, said, support) == told(path, said, support, is_plain=False)


@pytest.mark.parametrize(
    ("said", "is_plain"),
    [
        ({"max_tokens": 5, "temperature": 0.5}, True),
        ({"max_tokens": 5.0}, False),
        ({"max_tokens": -1}, False),
        ({"max_tokens": 1 << 31}, False),
        ({"n": 1.0}, False),
        ({"stream": None}, False),
        ({"stop": ["a", ""]}, False),
        ({"top_logprobs": 0}, False),
        ({"unheard_of": 1}, False),
        ({"messages": [{"role": "user", "content": "a", "name": None}]}, False),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]}, False),
        ({"messages": [{"role": "assistant", "content": "", "tool_calls": []}]}, False),
    ],
)
def test_what_is_told_as_it_is(said: dict[str, Any], is_plain: bool) -> None:
    body = {"messages": HELLO, **said}
    assert openai._is_plain(CHAT_PATH, body, ANY) is is_plain
    assert told(CHAT_PATH, body, ANY) == told(CHAT_PATH, body, ANY, is_plain=False)


def told(
    path: str, said: Mapping[str, Any], support: Support, *, is_plain: bool | None = None
) -> Any:
    raw = json.dumps(said).encode()
    quick = {} if is_plain is None else {"return_value": is_plain}
    with mock.patch.object(openai, "_is_plain", **(quick or {"side_effect": openai._is_plain})):
        try:
            return openai.check_request(path, dict(said), raw, support)
        except InvalidRequest as e:
            return e.message, e.param


@pytest.mark.parametrize(
    ("value", "said"),
    [("abc", "an integer, not a string"), (0, "at least 1"), (1.5, "an integer, not a number")],
)
def test_what_a_count_of_tokens_should_be_is_said(value: object, said: str) -> None:
    with pytest.raises(InvalidRequest, match=f"max_tokens must be {said}"):
        check(BODIES[CHAT_PATH]["properties"]["max_tokens"], value, "max_tokens")
