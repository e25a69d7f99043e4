"""What tools say of themselves, what they take, and what they make of the pool's answers."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from modelpool.mcp_server.tools import TOOLS
from modelpool_client._async_transport import AsyncTransport
from modelpool_client.errors import BadGateway, CannotFit, InvalidRequest, QueueFull
from support.lazy import Lazy

server = Lazy("modelpool.mcp_server.server")

# What each needs at least.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "list_models": {},
    "search_models": {"query": "x"},
    "model_status": {"model": "m"},
    "pool_status": {},
    "load_model": {"model": "m"},
    "unload_model": {"model": "m"},
    "pull_model": {"source": "hf:o/r"},
    "job_status": {"job": "pull-1"},
    "chat": {"model": "m", "prompt": "x"},
    "embed": {"model": "m", "texts": ["x"]},
    "rerank": {"model": "m", "query": "x", "documents": ["y"]},
    "transcribe": {"model": "m", "audio": base64.b64encode(b"RIFF").decode()},
}
READ_ONLY = {"list_models", "search_models", "model_status", "pool_status", "job_status"}


def ask(name: str, answer: Any, status: int = 200, **more: Any) -> tuple[Any, httpx.Request]:
    """The result of a tool where the pool answers so, and what it was asked."""
    asked: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(status, json=answer)

    async def run() -> Any:
        pool = AsyncTransport("http://pool.test", transport=httpx.MockTransport(handle))
        try:
            return await TOOLS[name].run(pool, TOOLS[name].read({**ARGUMENTS[name], **more}))
        finally:
            await pool.close()

    return asyncio.run(run()), asked[0]


def bounds(schema: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every type that a schema names, with what it says of it."""
    if isinstance(schema, dict):
        if isinstance(schema.get("type"), str):
            yield schema["type"], schema
        for part in schema.values():
            yield from bounds(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from bounds(part)


def test_there_is_a_test_for_each() -> None:
    assert ARGUMENTS.keys() == TOOLS.keys()


@pytest.mark.parametrize("name", TOOLS)
def test_a_tool_says_all_that_a_client_can_be_told(name: str) -> None:
    shown = server.entry(TOOLS[name]).model_dump(mode="json", by_alias=True)
    assert shown["name"] == name
    assert shown["title"]
    assert shown["description"].endswith(".")
    annotations = shown["annotations"]
    hints = ("readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint")
    assert all(isinstance(annotations[hint], bool) for hint in hints)
    assert annotations["readOnlyHint"] is (name in READ_ONLY)
    assert annotations["destructiveHint"] is (name == "unload_model")


@pytest.mark.parametrize("name", TOOLS)
def test_schemas_are_schemas_without_noise(name: str) -> None:
    for schema in (TOOLS[name].input_schema, TOOLS[name].output_schema):
        Draft202012Validator.check_schema(schema)
        assert schema["type"] == "object"
        assert '"title"' not in json.dumps(schema)
    takes = TOOLS[name].input_schema
    assert takes["additionalProperties"] is False
    for kind, found in bounds(takes):
        if kind in ("integer", "number"):
            assert {"minimum", "exclusiveMinimum"} & found.keys(), found
        if kind == "array":
            assert "maxItems" in found


@pytest.mark.parametrize("name", TOOLS)
def test_the_schema_and_the_check_agree(name: str) -> None:
    tool, validator = TOOLS[name], Draft202012Validator(TOOLS[name].input_schema)
    good = ARGUMENTS[name]
    validator.validate(good)
    tool.read(good)
    for key, value in [*((k, {}) for k in good), *((k, [[]]) for k in good), ("other", 1)]:
        wrong = {**good, key: value}
        assert not validator.is_valid(wrong)
        with pytest.raises(InvalidRequest, match=key) as caught:
            tool.read(wrong)
        assert (caught.value.param or "").split(".")[0] == key
    for key in good:
        with pytest.raises(InvalidRequest, match=key):
            tool.read({k: v for k, v in good.items() if k != key})


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({}, "give either prompt or messages"),
        ({"prompt": "x", "messages": [{"role": "user", "content": "x"}]}, "give either"),
        ({"system": "x", "messages": [{"role": "user", "content": "x"}]}, "system goes with"),
        ({"prompt": "x", "temperature": float("nan")}, "temperature"),
        ({"prompt": "\ud800"}, "prompt"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
    ],
)
def test_what_chat_does_not_take(arguments: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        TOOLS["chat"].read({"model": "m", **arguments})


def test_chat_takes_what_users_send() -> None:
    """As its route does: empty stop texts, and more tokens than any context has."""
    TOOLS["chat"].read({"model": "m", "prompt": "x", "stop": ["", "a"], "max_tokens": 10**12})


def test_chat() -> None:
    answer = {
        "model": "m2",
        "choices": [
            {"message": {"content": "hi", "reasoning_content": "hm"}, "finish_reason": "stop"}
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "details": {}},
    }
    result, request = ask("chat", answer, system="be brief", temperature=0)
    assert json.loads(request.content) == {
        "model": "m",
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "x"}],
        "temperature": 0.0,
        "stream": False,
    }
    assert TOOLS["chat"].text(result) == result.text == "hi"
    assert (result.model, result.reasoning, result.usage.total_tokens) == ("m2", "hm", 3)


JOB = {
    "job_id": "pull-1",
    "kind": "pull",
    "subject": "hf:o/r",
    "state": "running",
    "progress": {"done": 1, "total": 4, "unit": "bytes", "text": "m.gguf"},
    "log": [{"at": "", "text": f"line {n}"} for n in range(30)],
}


def test_a_pull_is_begun_and_its_job_told() -> None:
    result, request = ask("pull_model", JOB, model="mine")
    assert (request.method, request.url.path) == ("POST", "/models/pull")
    assert json.loads(request.content) == {"source": "hf:o/r", "model_id": "mine"}
    assert (result.job, result.state, result.done, result.total) == ("pull-1", "running", 1, 4)
    assert (len(result.log), result.log[-1]) == (20, "line 29")
    assert result.model is None


def test_a_job_that_is_over_says_what_it_made() -> None:
    made = {"model_id": "o/r:Q4_0", "reasons": ["it fits"]}
    over = {**JOB, "state": "succeeded", "result": made}
    result, request = ask("job_status", over, wait_seconds=5)
    assert (request.url.path, request.url.params["wait"]) == ("/jobs/pull-1", "5")
    assert (result.model, result.reasons) == ("o/r:Q4_0", ["it fits"])


def test_vectors_stand_in_the_order_of_their_texts() -> None:
    items = [{"index": 1, "embedding": [3, 4]}, {"index": 0, "embedding": [1, 2]}]
    result, _ = ask("embed", {"data": items, "usage": {"prompt_tokens": 2}}, texts=["a", "b"])
    assert (result.vectors, result.dimensions) == ([[1, 2], [3, 4]], 2)


def test_speech_is_sent_as_a_file_of_a_form() -> None:
    result, request = ask("transcribe", {"text": "hello"}, format="mp3", language="en")
    assert result.text == TOOLS["transcribe"].text(result) == "hello"
    assert request.url.path == "/v1/audio/transcriptions"
    assert request.headers["content-type"].startswith("multipart/form-data; boundary=")
    for part in (b'name="model"\r\n\r\nm\r\n', b'name="language"\r\n\r\nen\r\n', b"RIFF"):
        assert part in request.content
    assert b'name="file"; filename="audio.mp3"' in request.content


def test_conditions_are_the_pools_own() -> None:
    models = {"models": [{"model_id": "m0"}, {"model_id": "m1"}], "total": 3}
    result, request = ask("list_models", models, state="HOT", tag="a b", limit=2)
    asked = {"state": "HOT", "tag": "a b", "limit": "2", "offset": "0"}
    assert dict(request.url.params) == asked
    assert ([m.model for m in result.models], result.total, result.next_offset) == (
        ["m0", "m1"],
        3,
        2,
    )
    models = {"models": [{"model_id": "m2"}], "total": 3}
    result, request = ask("search_models", models, offset=2)
    assert dict(request.url.params) == {"q": "x", "limit": "50", "offset": "2"}
    assert ([m.model for m in result.models], result.next_offset) == (["m2"], None)


def test_unload_is_never_forced() -> None:
    _, request = ask("unload_model", {"model": {"model_id": "m"}})
    assert json.loads(request.content) == {"force": False}


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("chat", []),
        ("embed", {"data": "x"}),
        ("embed", {"data": [{"index": 0, "embedding": "AAAA"}]}),
        ("rerank", {"results": [{"index": 0}]}),
        ("transcribe", {"words": []}),
        ("model_status", {"port": "x"}),
    ],
)
def test_an_answer_that_makes_no_sense_is_an_error(name: str, answer: Any) -> None:
    with pytest.raises(BadGateway) as caught:
        ask(name, answer)
    assert caught.value.code == "bad_answer"


def test_errors_as_results() -> None:
    error = QueueFull("too many wait", param="model", retry_after=3)
    found = server.failed(error).model_dump(mode="json", by_alias=True)
    assert found["isError"] is True
    assert found["structuredContent"]["error"] == {**error.body()["error"], "retry_after": 3}
    text = "too many wait (queue_full, from the pool; try again in 3 s)"
    assert found["content"][0]["text"] == text
    needs = CannotFit("it needs 9 MB of 5", details={"needed_mb": 9})
    structured = server.failed(needs).structured_content
    assert structured is not None
    assert structured["error"]["details"] == {"needed_mb": 9}


@pytest.fixture
def loaded() -> Callable[[str], set[str]]:
    def of(statement: str) -> set[str]:
        code = f"{statement}\nimport sys\nprint(*sys.modules)"
        run = subprocess.run(
            [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
        )
        return {name.split(".")[0] for name in run.stdout.split()}

    return of


def test_the_package_is_imported_by_the_first_request_only(
    loaded: Callable[[str], set[str]],
) -> None:
    brought = {"mcp", "mcp_types", "sse_starlette", "uvicorn", "jwt", "httpx2"}
    assert not brought & loaded("import modelpool.app, modelpool.server")
    assert {"mcp", "mcp_types"} <= loaded("import modelpool.mcp_server.server")
