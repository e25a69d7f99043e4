"""What a server tells beside calls of tools goes back to it, in memory that has a limit."""

from __future__ import annotations

from typing import Any

from modelpool_worker.remote.call_extras import UNSIGNED, CallExtras

SIGNED = {"google": {"thought_signature": "s" * 100}}


def answer(name: str, extra: Any = SIGNED) -> dict[str, Any]:
    call = {"id": name, "function": {"name": "f", "arguments": "{}"}, "extra_content": extra}
    return {"choices": [{"message": {"role": "assistant", "tool_calls": [call]}}]}


def turn(*names: str) -> dict[str, Any]:
    return {"role": "assistant", "tool_calls": [{"id": name} for name in names]}


def extras(known: CallExtras, *names: str, signs: bool = False) -> list[Any]:
    (told,) = known.completed([turn(*names)], signs=signs)
    return [call.get("extra_content") for call in told["tool_calls"]]


def test_what_is_known_goes_back_and_the_first_is_signed_if_need_be() -> None:
    known = CallExtras()
    known.hear(answer("a"))
    assert extras(known, "a", "b") == [SIGNED, None]
    assert extras(known, "b", "a", signs=True) == [UNSIGNED, SIGNED]
    own = {**turn("a"), "tool_calls": [{"id": "a", "extra_content": {"x": 1}}]}
    assert known.completed([own], signs=True) == [own]


def test_the_oldest_are_forgotten() -> None:
    known = CallExtras(most_bytes=500)
    for i in range(50):
        known.hear(answer(f"call-{i % 10}"))
    kept = [i for i in range(10) if extras(known, f"call-{i}") != [None]]
    assert 1 <= len(kept) <= 4
    assert kept[-1] == 9


def test_what_has_another_shape_says_nothing() -> None:
    known = CallExtras()
    for odd in ({}, {"choices": 3}, {"choices": [{"message": "x"}]}, answer("a", "text")):
        known.hear(odd)
    assert extras(known, "a") == [None]
    assert known.completed("none", signs=True) == "none"
    odd_turns = [3, {"role": "user"}, {"tool_calls": "x"}, {"tool_calls": [4]}]
    assert known.completed(odd_turns, signs=True) == [*odd_turns[:3], {"tool_calls": [4]}]


def test_an_empty_id_names_no_call() -> None:
    """Some servers give their calls no more than that."""
    known = CallExtras()
    known.hear(answer(""))
    assert extras(known, "") == [None]
