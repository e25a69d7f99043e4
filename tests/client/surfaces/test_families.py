"""What gateway and worker know of an API without translating, beside what a translation says."""

from __future__ import annotations

import json
from functools import cache, partial
from typing import Any

import pytest
from modelpool_client.errors import InvalidRequest, WorkerFailed
from modelpool_client.surfaces.families import FAMILIES, NOTHING_KNOWN

SAYS = [{"role": "user", "content": "hello"}]
REQUESTS: list[tuple[str, str, dict[str, Any]]] = [
    ("anthropic", "/v1/messages", {"max_tokens": 3, "messages": SAYS}),
    ("ollama", "/api/chat", {"messages": SAYS}),
    ("ollama", "/api/generate", {"prompt": "hello"}),
    ("ollama", "/api/embed", {"input": "hello"}),
    ("ollama", "/api/embeddings", {"prompt": "hello"}),
    ("responses", "/v1/responses", {"input": "hello"}),
]


@pytest.mark.parametrize("stream", [{}, {"stream": None}, {"stream": True}, {"stream": False}])
@pytest.mark.parametrize(("family", "path", "body"), REQUESTS, ids=[r[1] for r in REQUESTS])
def test_whether_it_streams_is_known_before_it_is_translated(
    family: str, path: str, body: dict[str, Any], stream: dict[str, Any]
) -> None:
    one, data = FAMILIES[family], {"model": "m", **body, **stream}
    assert one.translate is not None
    try:
        told = one.translate(path, data, NOTHING_KNOWN).told
    except InvalidRequest:  # embeddings know no stream
        return
    assert one.is_stream(path, data) is told.stream


@pytest.mark.parametrize("family", ["anthropic", "ollama"])
def test_a_request_that_is_wrong_is_left_to_whoever_it_is_relayed_to(family: str) -> None:
    one = FAMILIES[family]
    assert one.translate is not None
    path = "/v1/messages" if family == "anthropic" else "/api/chat"
    dialect = one.of(cache(partial(one.translate, path, {"messages": 5}, NOTHING_KNOWN)))
    assert dialect.comment("it waits") == b""
    assert dict(dialect.stream_headers)[b"content-type"].startswith(b"text/event-stream")
    assert b"it died" in dialect.broken(WorkerFailed("it died"))
    assert "it died" in json.dumps(dialect.error(WorkerFailed("it died")))


def test_a_stream_that_goes_on_from_what_only_the_worker_knows_is_kept_alive() -> None:
    one = FAMILIES["responses"]
    assert one.translate is not None
    data = {"input": "and then?", "previous_response_id": "resp_a"}
    assert one.earlier_id(data) == "resp_a"
    dialect = one.of(cache(partial(one.translate, "/v1/responses", data, NOTHING_KNOWN)))
    assert dialect.comment("it waits") == b": it waits\n\n"


@pytest.mark.parametrize(
    ("family", "data", "said"),
    [
        ("openai", {"seed": 1}, 1),
        ("openai", {"options": {"seed": 1}}, None),
        ("ollama", {"options": {"seed": 1}}, 1),
        ("ollama", {"seed": 1, "options": 5}, None),
        ("anthropic", {"seed": 1}, None),
    ],
)
def test_only_what_an_api_has_makes_its_answers_alike(
    family: str, data: dict[str, Any], said: Any
) -> None:
    assert FAMILIES[family].sampling(data).get("seed") == said
