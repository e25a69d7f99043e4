"""Names and paths in whichever way clients write them."""

from __future__ import annotations

import timeit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool_client.errors import MethodNotAllowed
from modelpool_client.surfaces.names import answers_to, other_spelling, spellings
from modelpool_client.surfaces.paths import route_path
from modelpool_client.surfaces.routes import SURFACES, check_capabilities


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("llama3", "llama3:latest"),
        ("llama3:latest", "llama3"),
        ("org/llama3", "org/llama3:latest"),
        ("host:5000/llama3", "host:5000/llama3:latest"),
        ("host:5000/llama3:latest", "host:5000/llama3"),
        ("llama3:8b", None),
        ("llama3:8b:latest", None),
        ("openai:gpt-4", None),
        (":latest", None),
    ],
)
def test_latest_is_what_has_no_tag(name: str, other: str | None) -> None:
    assert other_spelling(name) == other
    if other is not None:
        assert other_spelling(other) == name
        assert answers_to([other], name)
        assert answers_to([name], other)
        assert set(spellings([name])) == {name, other}
    assert answers_to([name], name)
    assert not answers_to([name], "other")


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        ("/", "/"),
        ("//", "/"),
        ("/v1/models/", "/v1/models"),
        ("/v1//models", "/v1/models"),
        ("//v1/chat/completions", "/v1/chat/completions"),
        ("/v1//chat///completions//", "/v1/chat/completions"),
        ("/models/x/load/", "/models/x/load"),
        ("/models//x//load", "/models/x/load"),
        ("/models/", "/models"),
        ("/models//register", "/models/register"),
        ("/models/org/x:7b/", "/models/org/x:7b"),
        ("/models/org%2Fx%3A7b/", "/models/org/x:7b"),
        ("//models/org%2Fx/load", "/models/org/x/load"),
        ("/v1/models//org/x/", "/v1/models/org/x"),
        ("/load/", "/load"),
        # No slip of the pen: the id is refused.
        ("/models/a//b", "/models/a//b"),
        ("/models/a//b/load/", "/models/a//b/load"),
        ("/models/a%2F%2Fb", "/models/a//b"),
        ("/models/a%2F", "/models/a/"),
        ("/models/%2Fa/load", "/models//a/load"),
        ("/v1/models/a//b", "/v1/models/a//b"),
    ],
)
def test_slashes_too_many(raw: str, path: str) -> None:
    decoded = raw.replace("%2F", "/").replace("%3A", ":")
    assert route_path(decoded, raw.encode(), {"load", "register"}) == path
    if "%" not in raw:
        assert route_path(raw, None, {"load", "register"}) == path


@given(st.text(st.sampled_from("/av1models")).map(lambda text: f"/{text}"))
def test_a_path_that_is_tidy_stays_and_any_becomes_so(path: str) -> None:
    tidy = route_path(path)
    assert route_path(tidy) == tidy
    assert tidy.startswith("/")
    assert tidy == "/" or not tidy.endswith("/")
    assert list(filter(None, tidy.split("/"))) == list(filter(None, path.split("/")))


def test_a_long_path_costs_no_more_than_its_length() -> None:
    """Two that differ by a factor of 32: the square of that would be seen."""

    def steps(count: int) -> float:
        path = "//" + "a/" * count
        return min(timeit.repeat(lambda: route_path(path), number=3, repeat=5))

    assert steps(32_000) < 300 * steps(1_000)


def test_a_405_names_head_beside_get() -> None:
    error = MethodNotAllowed.of("/x", "PUT", ("GET", "PATCH"))
    assert error.headers()["allow"] == "GET, HEAD, PATCH"
    assert "allow" not in MethodNotAllowed("as another program said it").headers()


@pytest.mark.parametrize(
    "capabilities",
    [(), ("chat",), ("completion",), ("embeddings", "chat"), ("vision", "tools"), ("code",)],
)
def test_who_writes_text_may_be_asked_for_it(capabilities: tuple[str, ...]) -> None:
    check_capabilities(SURFACES["/v1/chat/completions"], "m", capabilities)
