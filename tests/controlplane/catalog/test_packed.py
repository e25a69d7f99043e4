"""What is kept of many models in little memory."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from modelpool.catalog.model import Model
from modelpool.catalog.packed import NOTHING, packed
from modelpool.catalog.recent import Recent

PLAIN = st.dictionaries(
    st.text(), st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.integers())
)


@given(PLAIN, PLAIN)
def test_packed_values_are_the_values(one: dict[str, object], other: dict[str, object]) -> None:
    assert packed(one) == one
    assert dict(packed(one)) == one
    assert (packed(one) == packed(other)) == (one == other)
    assert packed(dict(reversed(one.items()))) == packed(one), "in any order"
    assert bool(packed(one)) == bool(one)
    assert packed(packed(one)) is packed({}) if not one else packed(one)


@given(PLAIN)
def test_a_model_comes_back_from_the_store_as_it_was(facts: dict[str, object]) -> None:
    model = Model("m", "e", "/m", places=("/m",), tags=("a",), facts=packed(facts))
    again = Model.from_dict(json.loads(json.dumps(model.as_dict())))
    assert again == model
    assert again.as_dict()["facts"] == facts


def test_models_share_what_they_have_in_common() -> None:
    said = {"model_id": "m", "source": "/m", "display_name": "m", "places": ["/m"]}
    texts = [json.dumps({**said, "engine": "llama.cpp", "tags": ["a", "b"], "options": {}})] * 2
    one, other = (Model.from_dict(json.loads(text)) for text in texts)
    assert one.engine is other.engine
    assert one.tags is other.tags
    assert one.options is other.options is NOTHING
    assert one.display_name is one.model_id
    assert one.places[0] is one.source


def test_nothing_that_is_shared_is_changed() -> None:
    model = replace(Model("m", "e", "/m"), context_length=5)
    entry = model.as_entry()
    assert entry == {"model_id": "m", "engine": "e", "source": "/m", "context_length": 5}
    assert not NOTHING


def test_the_last_values_are_kept() -> None:
    recent: Recent[str, int] = Recent(2)
    for key, value in (("a", 1), ("b", 2), ("a", 3), ("c", 4)):
        recent.put(key, value)
    assert [recent.get(k) for k in "abc"] == [3, None, 4]
    recent.drop("a")
    recent.drop("never")
    assert (recent.get("a"), len(recent)) == (None, 1)
