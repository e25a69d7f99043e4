"""Keys: where they come from, and that no text shows them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool_client.errors import LoadFailed
from modelpool_worker.remote.keys import TELLING, Key, mask

KEY = "sk-proj-AbCdEf0123456789xyz"


@pytest.mark.parametrize(
    "text",
    [
        f"Incorrect API key provided: {KEY}.",
        f"Incorrect API key provided: {KEY[:7]}***************{KEY[-4:]}.",
        f"invalid x-api-key: {KEY[3:20]}",
        f"{KEY}{KEY}",
        f'{{"error": "token {KEY} {KEY[:12]}"}}',
    ],
)
def test_what_tells_a_key_is_masked(text: str) -> None:
    masked = mask(text, KEY)
    assert not any(KEY[i : i + TELLING] in masked for i in range(len(KEY) - TELLING + 1))
    assert "*" not in masked
    assert KEY[-4:] not in masked
    assert "[key]" in masked


@given(st.text(max_size=60), st.text("abcdef012", min_size=TELLING + 1, max_size=30), st.text())
def test_no_piece_of_a_key_is_left(before: str, key: str, after: str) -> None:
    masked = mask(before + key[1:] + after, key)
    pieces = [key[i : i + TELLING] for i in range(len(key) - TELLING + 1)]
    assert not any(piece in masked for piece in pieces)


@given(st.text("xyz ", max_size=50))
def test_other_texts_stay(text: str) -> None:
    assert mask(text, KEY) == text


def test_the_first_variable_that_is_set() -> None:
    key = Key({"B": "k-b", "C": "k-c"}, ("A", "B", "C"))
    assert key.value == "k-b"
    assert key.place == "environment variable B"
    assert Key({}, ("A", "B")).place == "environment variable A or B"


def test_a_file_counts_first_and_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("  one \n")
    key = Key({"A": "variable"}, ("A",), str(file))
    assert key.value == "one"
    file.write_text("two-two")
    assert key.value == "two-two"
    assert "two" not in repr(key)


@pytest.mark.parametrize("content", ["", " \n", "a\nb", "ä", "a\x00b"])
def test_what_is_no_key(tmp_path: Path, content: str) -> None:
    file = tmp_path / "key"
    file.write_text(content)
    with pytest.raises(LoadFailed, match=str(file)):
        Key({}, (), str(file)).value  # noqa: B018
