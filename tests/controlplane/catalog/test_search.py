"""Searching by an index finds what looking at every model does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool.catalog.index import Index
from modelpool.catalog.model import Model
from modelpool.catalog.search import Search, ordered

WORDS = st.sampled_from(("a", "B", "ab"))
MODELS = st.builds(
    Model,
    st.sampled_from([f"m{n}" for n in range(8)]),
    WORDS,
    st.just("x"),
    tags=st.lists(WORDS, max_size=2).map(tuple),
    capabilities=st.lists(WORDS, max_size=2).map(tuple),
    model_type=WORDS,
    size_bytes=st.none() | st.integers(0, 3),
)
ANY_WORD = st.none() | WORDS
SIZE = st.none() | st.integers(0, 3)
SEARCHES = st.builds(Search, ANY_WORD, ANY_WORD, ANY_WORD, ANY_WORD, ANY_WORD, SIZE, SIZE)


def meets(model: Model, search: Search) -> bool:
    texts = [t.casefold() for t in (*model.names, model.display_name, *model.tags)]
    return (
        search.engine in (None, model.engine)
        and search.model_type in (None, model.model_type)
        and (search.tag is None or search.tag in model.tags)
        and (search.capability is None or search.capability in model.capabilities)
        and (search.q is None or any(search.q.casefold() in t for t in texts))
        and search.has_size(model)
    )


@given(st.lists(st.lists(MODELS, max_size=5), max_size=4), st.lists(MODELS, max_size=3), SEARCHES)
def test_a_search_finds_what_meets_it(
    puts: list[list[Model]], gone: list[Model], search: Search
) -> None:
    index = Index()
    for models in puts:
        index.put(models)
    index.drop(m.model_id for m in gone)
    wanted = sorted(
        (m for m in index.models.values() if meets(m, search)), key=lambda m: m.model_id
    )
    assert index.search(search) == wanted
    counted = sum(index.counts("engine").values())
    assert counted == len(index.models) == len(index.search(Search()))


def test_the_unsaid_comes_last_in_both_directions() -> None:
    models = [Model(str(n), "e", "x", size_bytes=size) for n, size in enumerate((None, 1, 2))]
    assert [m.size_bytes for m in ordered(models, "size")] == [1, 2, None]
    assert [m.size_bytes for m in ordered(models, "-size")] == [2, 1, None]
    with pytest.raises(ValueError, match="did you mean size"):
        ordered(models, "sise")
