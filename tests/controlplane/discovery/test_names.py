"""What models that were found are called."""

from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool.catalog.model import MAX_ID_BYTES, id_problem
from modelpool.discovery.names import Named, allowed, proposals, short_name

CODER = "TheBloke/deepseek-coder-6.7B-instruct-GGUF"


def named(path: str, name: str, tag: str = "", header: str = "", repo: bool = False) -> Named:
    return Named(path, name, tag, header, repo)


def ids(model: Named, *others: Named, count: int = 1) -> list[str]:
    return list(islice(proposals(model, [model, *others]), count))


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (named(f"/m/{CODER}/deepseek-coder-6.7b-instruct.Q4_K_M.gguf", CODER), f"{CODER}:Q4_K_M"),
        (named("/m/a/Qwen-GGUF/qwen-q8_0.gguf", "a/Qwen-GGUF"), "a/Qwen-GGUF:Q8_0"),
        (named("/m/a/b/b-00001-of-00002.gguf", "a/b", header="Q4_0"), "a/b:Q4_0"),
        (named("/m/a/b-GGUF/b-UD-Q4_K_XL.gguf", "a/b-GGUF"), "a/b-GGUF:UD-Q4_K_XL"),
        (named("/m/llm/qwen2.5-0.5b-q4_0.gguf", "llm"), "llm/qwen2.5-0.5b-q4_0"),
        (named("/m/qwen2.5-0.5b-q4_0.gguf", ""), "qwen2.5-0.5b-q4_0"),
        (named("/hub/x/weights-q4_0.gguf", "o/r", repo=True), "o/r:Q4_0"),
        (named("/m/o/Qwen2.5-0.5B", "o/Qwen2.5-0.5B", header="BF16"), "o/Qwen2.5-0.5B"),
        (named("/store/blobs/sha256-ab", "llama3.2", "3b", "Q4_0"), "llama3.2:3b"),
        (named("/m/x/load.gguf", "x"), "x/load-model"),
    ],
)
def test_as_people_expect(model: Named, expected: str) -> None:
    assert ids(model) == [expected]


def test_two_of_one_quantisation_are_told_apart_by_their_files() -> None:
    a = named("/hub/a-q4_0.gguf", "o/r", repo=True)
    b = named("/hub/b-q4_0.gguf", "o/r", repo=True)
    assert (ids(a, b), ids(b, a)) == (["o/r:a-q4_0"], ["o/r:b-q4_0"])


def test_there_is_no_end_of_proposals_and_no_two_are_the_same() -> None:
    many = ids(named("/m/o/r/r-q4_0.gguf", "o/r"), count=50)
    assert len(set(many)) == 50
    assert many[:3] == ["o/r:Q4_0", "o/r:r-q4_0", "o/r:Q4_0-2"]


def test_a_repository_alone_is_the_one_that_llama_cpp_would_take() -> None:
    files = [named(f"/m/o/r/r-{q}.gguf", "o/r") for q in ("q2_k", "q8_0", "q4_k_m", "f16")]
    assert short_name(files) == ("o/r", "/m/o/r/r-q4_k_m.gguf")
    assert short_name(files[:2]) == ("o/r", "/m/o/r/r-q8_0.gguf")
    assert short_name(files[:1]) == ("o/r", "/m/o/r/r-q2_k.gguf")
    assert short_name([named("/m/o/r", "o/r")]) is None


@given(st.text(max_size=400))
def test_any_name_becomes_one_that_is_allowed(text: str) -> None:
    made = allowed(text)
    assert id_problem(made) is None
    assert len(made.encode()) <= MAX_ID_BYTES
    assert allowed(made) == made
