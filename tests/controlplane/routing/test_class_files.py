"""The two files of classes of callers: in the forms that people write, and back."""

from __future__ import annotations

from typing import Any

import pytest
from modelpool.routing.class_files import (
    preferences_of,
    read_settings,
    settings_of,
    with_preferences,
    with_settings,
)
from modelpool.routing.kinds.registry import kind
from modelpool.routing.virtual_model import read_virtual_model
from modelpool_client.errors import Conflict, InvalidRequest

PREFERENCES = {"Architect": ["a", "b"], "default": ["c"]}
ENTRY = {"kind": "by_class", "classes": {"Architect": ["a", "b"]}, "default": ["c"]}


@pytest.mark.parametrize(
    "data",
    [
        PREFERENCES,
        {"Architect": {"model": "a", "fallbacks": ["b"]}, "default": "c"},
        {"preferences": {"Architect": {"primary": "a", "fallback": "b"}}, "default": "c"},
        {"agent_classes": {"Architect": {"models": ["a", "b"]}, "*": "c"}},
    ],
)
def test_preferences_in_their_forms(data: Any) -> None:
    entry = with_preferences({}, data)
    assert entry == ENTRY
    assert preferences_of(entry) == PREFERENCES
    assert preferences_of({}) == {}
    read_virtual_model("preferred", entry, kind)


@pytest.mark.parametrize("data", [5, [], {"A": 5}, {"A": {}}])
def test_what_is_no_file_of_preferences(data: Any) -> None:
    with pytest.raises(InvalidRequest):
        with_preferences({}, data)


def test_new_preferences_leave_the_settings() -> None:
    settings = {"Architect": {"preset": "Creative"}}
    assert with_preferences({**ENTRY, "settings": settings}, {"X": "a"}) == {
        "kind": "by_class",
        "settings": settings,
        "classes": {"X": ["a"]},
    }


def test_settings_there_and_back() -> None:
    data = {
        "presets": {"Mine": {"temperature": 0.1}},
        "classes": {
            "Architect": {"preset": "Mine", "max_tokens": 5, "limits": {"n": 1}},
            "Tester": "Creative",
        },
    }
    found = read_settings(data)
    assert found.presets == {"Mine": {"temperature": 0.1}}
    assert found.classes == {
        "Architect": {"preset": "Mine", "limits": {"n": 1}, "defaults": {"max_tokens": 5}},
        "Tester": {"preset": "Creative"},
    }
    entry = with_settings(ENTRY, found.classes)
    read_virtual_model("preferred", entry, kind)
    again = read_settings(settings_of(entry, found.presets))
    assert again == found
    flat = read_settings({"Architect": {"temperature": 0}})
    assert flat.classes == {"Architect": {"defaults": {"temperature": 0}}}
    with pytest.raises(Conflict):
        with_settings({}, found.classes)
    for wrong in (5, {"presets": 5}, {"presets": {"x": {"model": "y"}}}, {"A": 5}):
        with pytest.raises(InvalidRequest):
            read_settings(wrong)
