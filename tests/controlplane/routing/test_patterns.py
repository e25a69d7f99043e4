"""Patterns agree with ``re``, and never look at a text twice."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool.routing.patterns import MOST_CHARACTERS, BadPattern, pattern

ATOMS = st.sampled_from(["a", "b", "[ab]", "[^a]", ".", r"\w", r"\b", r"\B", "^", "$", r"\s", "c"])
PATTERNS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda two: f"(?:{two[0]}|{two[1]})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{1,3}", "{2}", "*?"])).map(
            lambda two: f"(?:{two[0]}){two[1]}"
        ),
    ),
    max_leaves=6,
)


@given(PATTERNS, st.text("abcA _", max_size=12), st.booleans())
def test_it_finds_what_re_finds(text: str, searched: str, is_blind: bool) -> None:
    text = f"(?i){text}" if is_blind else text
    assert pattern(text).is_in(searched) == bool(re.search(text, searched))


class Counted(str):
    """A text that counts how often somebody goes along it."""

    looks = 0

    def __iter__(self) -> Any:
        self.looks += 1
        return super().__iter__()


@pytest.mark.parametrize("text", ["(a+)+$", "(a|a)*b", "(.*)*x", "a*a*a*a*c"])
def test_what_is_hard_for_re_is_one_look(text: str) -> None:
    searched = Counted("a" * 5000 + "!")
    found = pattern(text)
    assert not found.is_in(searched)
    assert searched.looks == 1
    assert len(found._known) <= 16  # the same few steps, again and again


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (r"(a)\1", "groupref"),
        ("(?=a)b", "assert"),
        ("(?<!x)a", "assert not"),
        ("a{500}", "too much"),
        ("(?:){1000000000}", "too much"),
        ("(?:a{20}){50}", "too much"),
        ("[", "no regular expression"),
        ("(?s)a", "sets flags"),
        ("(?-i:a)", "flags within"),
        ("a" * (MOST_CHARACTERS + 1), "401 characters"),
        ("", "must be"),
        (7, "must be"),
    ],
)
def test_what_is_refused(text: object, why: str) -> None:
    with pytest.raises(BadPattern, match=re.escape(why)):
        pattern(text)
