"""What users send, in every API that it can stand in: through the gateway and on a worker's own
port, an engine that speaks chat only."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import ollama
import pytest
import tritonclient.http
from websockets.sync.client import connect

from e2e.helpers import fake
from e2e.support import PoolProcess


@dataclass(frozen=True)
class Api:
    """How one says what users send.

    Attributes:
        body: the least that it takes.
        content: the parameter that holds what is said.
        stop, tokens: where stop texts and the most tokens stand; empty: there is no such thing.
        wrong: a value that an enum does not have, and one that it has.
        schema: a format of JSON whose schema is missing.
        calls: conversations with a call that has no arguments.
    """

    path: str
    body: dict[str, Any]
    content: str
    stop: str = "stop"
    tokens: str = "max_tokens"
    wrong: tuple[Any, ...] = ()
    schema: dict[str, Any] = field(default_factory=dict)
    calls: tuple[dict[str, Any], ...] = ()

    def saying(self, text: str) -> dict[str, Any]:
        value: Any = text
        if self.content == "messages":
            value = [{"role": "user", "content": text}]
        return {**self.body, self.content: value}


HI = [{"role": "user", "content": "hi"}]
RESULT = {"role": "tool", "tool_call_id": "c", "content": "ok"}
NONE: tuple[Any, ...] = (..., None, "", {})


def _with(name: str, value: Any, said: dict[str, Any]) -> dict[str, Any]:
    return said if value is ... else {**said, name: value}


def _chat(value: Any) -> dict[str, Any]:
    function = _with("arguments", value, {"name": "f"})
    call = {"id": "c", "type": "function", "function": function}
    return {"messages": [*HI, {"role": "assistant", "tool_calls": [call]}, RESULT]}


def _anthropic(value: Any) -> dict[str, Any]:
    call = _with("input", value, {"type": "tool_use", "id": "c", "name": "f"})
    result = {"type": "tool_result", "tool_use_id": "c", "content": "ok"}
    said = [{"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}]
    return {"messages": [*HI, *said]}


def _ollama(value: Any) -> dict[str, Any]:
    call = {"function": _with("arguments", value, {"name": "f"})}
    said = [{"role": "assistant", "tool_calls": [call]}, {"role": "tool", "content": "ok"}]
    return {"messages": [*HI, *said]}


def _responses(value: Any) -> dict[str, Any]:
    call = _with("arguments", value, {"type": "function_call", "call_id": "c", "name": "f"})
    result = {"type": "function_call_output", "call_id": "c", "output": "ok"}
    return {"input": [*HI, call, result]}


EFFORT = {"reasoning_effort": "wild"}
FORMAT = {"response_format": {"type": "json_schema", "json_schema": {"name": "n"}}}
QUIET = {"stream": False}
APIS = [
    Api(
        "/v1/chat/completions",
        {"messages": HI},
        "messages",
        wrong=(EFFORT, "'medium'"),
        schema=FORMAT,
        calls=tuple(map(_chat, NONE)),
    ),
    Api("/v1/completions", {"prompt": "hi"}, "prompt"),
    Api(
        "/v1/responses",
        {"input": "hi"},
        "input",
        "",
        "max_output_tokens",
        ({"reasoning": {"effort": "wild"}}, "'medium'"),
        {"text": {"format": {"type": "json_schema", "name": "n"}}},
        tuple(map(_responses, (..., ""))),
    ),
    Api(
        "/v1/messages",
        {"messages": HI, "max_tokens": 9},
        "messages",
        "stop_sequences",
        wrong=({"output_config": {"effort": "wild"}}, "'medium'"),
        schema={"output_config": {"format": {"type": "json_schema"}}},
        calls=tuple(map(_anthropic, NONE)),
    ),
    Api(
        "/api/chat",
        {"messages": HI, **QUIET},
        "messages",
        "options.stop",
        "options.num_predict",
        ({"think": "wild"}, "'medium'"),
        calls=tuple(map(_ollama, NONE)),
    ),
    Api(
        "/api/generate",
        {"prompt": "hi", **QUIET},
        "prompt",
        "options.stop",
        "options.num_predict",
        ({"format": "xml"}, "'json'"),
    ),
    Api("/v2/models/plain/generate", {"text_input": "hi"}, "text_input"),
    Api("/v1/fim/completions", {"prompt": "hi"}, "prompt"),
]


def of_apis(having: str) -> pytest.MarkDecorator:
    """A test for those that have such a thing."""
    found = [api for api in APIS if getattr(api, having)]
    return pytest.mark.parametrize("api", found, ids=lambda api: api.path)


every_api = of_apis("path")


@pytest.fixture(params=["gateway", "port"])
def server(request: pytest.FixtureRequest, pool: PoolProcess) -> Iterator[httpx.Client]:
    """A client of the gateway, then one of the worker."""
    view = pool.load("plain")
    url = pool.url if request.param == "gateway" else view["endpoint"]
    with httpx.Client(base_url=url, timeout=60, trust_env=False, verify=False) as client:
        yield client


def ask(server: httpx.Client, api: Api, **more: Any) -> httpx.Response:
    body = {"model": "plain", **api.body, **more}
    if "{model}" in api.path or api.path.startswith("/v2/"):
        del body["model"]
    return server.post(api.path, json=body)


def put(where: str, value: Any) -> dict[str, Any]:
    outer, _, inner = where.partition(".")
    return {outer: {inner: value}} if inner else {outer: value}


def text_of(answer: httpx.Response) -> str:
    error = answer.json()["error"]
    return str(error if isinstance(error, str) else error["message"])


@of_apis("stop")
def test_empty_stop_texts_are_dropped(server: httpx.Client, api: Api) -> None:
    """This engine knows none: one that is kept would be named as ignored."""
    answer = ask(server, api, **put(api.stop, ["", ""]))
    assert answer.status_code == 200, answer.text
    assert "x-modelpool-ignored" not in answer.headers
    named = ask(server, api, **put(api.stop, ["x", ""])).headers["x-modelpool-ignored"]
    assert named == api.stop


@of_apis("calls")
def test_a_call_without_arguments(server: httpx.Client, api: Api) -> None:
    for said in api.calls:
        answer = ask(server, api, **said)
        assert answer.status_code == 200, (said, answer.text)


@every_api
def test_more_tokens_than_there_is_room_for(server: httpx.Client, api: Api) -> None:
    answer = ask(server, api, **put(api.tokens, 10**12))
    assert answer.status_code == 200, answer.text
    assert "x-modelpool-ignored" not in answer.headers


@of_apis("wrong")
def test_a_word_that_is_none_of_those_allowed(server: httpx.Client, api: Api) -> None:
    said, allowed = api.wrong
    answer = ask(server, api, **said)
    assert answer.status_code == 400
    assert allowed in text_of(answer)


@of_apis("schema")
def test_a_format_without_its_schema(server: httpx.Client, api: Api) -> None:
    answer = ask(server, api, **api.schema)
    assert answer.status_code == 400
    assert "schema is required" in text_of(answer)


@every_api
def test_what_is_too_long_is_named_as_its_client_calls_it(server: httpx.Client, api: Api) -> None:
    answer = ask(server, api, **api.saying("x " * 5000))
    assert (answer.status_code, answer.headers["x-modelpool-code"]) == (
        400,
        "context_length_exceeded",
    )
    text = text_of(answer)
    assert f"and {api.content} has 5000" in text
    assert "is 4096 tokens" in text
    error = answer.json()["error"]
    if isinstance(error, dict):
        assert error["param"] == api.content


@every_api
def test_bodies_that_are_compressed(server: httpx.Client, api: Api) -> None:
    body = {**api.body} if api.path.startswith("/v2/") else {"model": "plain", **api.body}
    kind = {"content-type": "application/json"}
    packed = gzip.compress(json.dumps(body).encode())
    answer = server.post(api.path, content=packed, headers={**kind, "content-encoding": "gzip"})
    assert answer.status_code == 200, answer.text
    refused = server.post(api.path, content=packed, headers={**kind, "content-encoding": "br"})
    assert refused.status_code == 415
    assert "gzip" in text_of(refused)


@every_api
def test_errors_before_a_body_is_read_are_in_the_words_of_the_api(
    server: httpx.Client, api: Api
) -> None:
    shape = server.post(api.path, json={**api.body, "model": "nobody", api.content: 5}).json()
    strange = {"origin": "https://elsewhere.example"}
    for refused in (
        server.put(api.path, json=api.body),
        server.post(api.path, json=api.body, headers=strange),
        server.post(api.path, content=b"{}", headers={"content-type": "text/plain"}),
    ):
        assert refused.status_code in (403, 405, 415)
        told = refused.json()
        assert told.keys() == shape.keys()
        assert type(told["error"]) is type(shape["error"])


def test_messages_of_a_websocket(pool: PoolProcess) -> None:
    endpoint = pool.load("plain")["endpoint"]
    chat = APIS[0]
    said = [{"stop": ["", ""]}, {"max_tokens": 10**12}, *chat.calls]
    wrong = [chat.wrong[0], chat.schema, chat.saying("x " * 5000)]
    for url in (pool.url, endpoint):
        with connect(f"ws{url.removeprefix('http')}/v1/ws") as ws:
            for more in [*said, *wrong]:
                body = {"model": "plain", **chat.body, "stream": False, **more}
                ws.send(json.dumps(body))
                answer = json.loads(ws.recv(60))
                assert ("error" in answer) == (more in wrong), answer


def test_a_worker_is_loaded_whatever_a_client_of_ollama_asks_first(pool: PoolProcess) -> None:
    endpoint = pool.load("plain")["endpoint"]
    client = ollama.Client(host=endpoint, timeout=60, trust_env=False)
    assert client.generate(model="plain", prompt="").done_reason == "load"
    assert client.chat(model="plain").done_reason == "load"
    with pytest.raises(ollama.ResponseError, match="the pool's own port"):
        client.generate(model="plain", prompt="", keep_alive=0)
    with pytest.raises(ollama.ResponseError, match="the pool's own port"):
        client.pull("other")
    client._client.close()
    asked = {"model": "plain", "messages": HI, "stream": False, "keep_alive": "5m"}
    with httpx.Client(timeout=60, trust_env=False, verify=False) as http:
        told = http.post(f"{endpoint}/api/chat", json=asked).headers
        assert told["x-modelpool-ignored"] == "keep_alive"
        told = http.post(f"{pool.url}/api/chat", json=asked).headers
        assert "x-modelpool-ignored" not in told


def test_a_worker_has_an_index_of_its_one_model(pool: PoolProcess) -> None:
    endpoint = pool.load("plain")["endpoint"]
    with tritonclient.http.InferenceServerClient(endpoint.removeprefix("http://")) as client:
        (entry,) = client.get_model_repository_index()
        assert (entry["name"], entry["state"]) == ("plain", "READY")
        with pytest.raises(tritonclient.utils.InferenceServerException, match="own port"):
            client.load_model("plain")


def test_rules_are_said_where_they_do_not_count(with_models: Any) -> None:
    rules = {"defaults": {"temperature": 0.1}, "limits": {"max_tokens": {"max": 5}}}
    pool = with_models(fake("ruled", request={**rules, "strip": ["seed"], "system_prompt": "be"}))
    text = {"name": "text_input", "shape": [1], "datatype": "BYTES", "data": ["hi"]}
    for path, body in (("infer", {"inputs": [text]}), ("generate", {"text_input": "hi"})):
        answer = pool.http.post(f"/v2/models/ruled/{path}", json=body)
        assert answer.status_code == 200, answer.text
        where = f"not set: no rules at /v2/models/{{model}}/{path}"
        assert answer.headers["x-modelpool-changed"] == (
            f"seed (stripped, {where}), temperature (default, {where}), "
            f"max_tokens (limit, {where}), system prompt (default, {where})"
        )


def test_an_operators_defaults_are_said_as_they_are(with_models: Any) -> None:
    defaults = {"stop": ["x"], "top_k": 4, "temperature": 0.1}
    pool = with_models(fake("ruled", request={"defaults": defaults}))
    answer = pool.http.post("/v1/responses", json={"model": "ruled", "input": "hi"})
    assert answer.headers["x-modelpool-ignored"] == "temperature"  # this engine knows none
    assert answer.headers["x-modelpool-changed"] == (
        "stop (default, not set: not a parameter of /v1/responses), "
        "top_k (default, not set: not a parameter of /v1/responses), temperature=0.1 (default)"
    )
