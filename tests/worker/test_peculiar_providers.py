"""Workers in front of servers that speak OpenAI's API in ways of their own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from e2e.helpers import until
from modelpool_client.wire import EndedRequest
from support.providers import faults
from support.providers.peculiar import WAYS, AzureApi, PeculiarApi
from support.providers.server import KEY, Exchange, FakeProvider

pytestmark = [pytest.mark.e2e, pytest.mark.long]

PATHS = ("/v1/chat/completions", "/v1/messages", "/v1/responses", "/api/chat")
TRANSLATED = PATHS[1:]
each = pytest.mark.parametrize("path", PATHS)
translated = pytest.mark.parametrize("path", TRANSLATED)
both = pytest.mark.parametrize("stream", [False, True])
PARAMETERS = {"type": "object", "properties": {}}
FUNCTION = {"name": "weather", "parameters": PARAMETERS}


class Pair:
    def __init__(self, fake: FakeProvider, worker: Any) -> None:
        self.fake = fake
        self.worker = worker

    def ask(self, path: str, model: str, messages: Any = None, **more: Any) -> Any:
        body = {"model": f"odd:{model}", **more}
        said = messages or [{"role": "user", "content": "hi"}]
        body["input" if path == "/v1/responses" else "messages"] = said
        if path == "/v1/messages":
            body["max_tokens"] = 50
        return self.worker.http.post(path, json=body)

    def tokens(self, answer: Any) -> tuple[int, int, int, bool]:
        """Prompt, cached, generated, and whether that is estimated, as the manager is told."""
        worker, request_id = self.worker, answer.headers["x-request-id"]

        def told() -> EndedRequest | None:
            posts = [facts.get("ended") for facts in worker.manager.facts(worker.id)]
            ended = [EndedRequest(*each) for e in posts if e for each in e["requests"]]
            return next((r for r in ended if r.request_id == request_id), None)

        r = until(told, "the end of the request")
        assert isinstance(r, EndedRequest)
        return r.prompt_tokens, r.cached_tokens, r.completion_tokens, r.is_estimated


@pytest.fixture(scope="module")
def shared(manager: Any, running: Any, tmp_path_factory: Any) -> Iterator[Pair]:
    fake = FakeProvider(PeculiarApi())
    options = {"base_url": f"{fake.url}/v1", "api_key_variable": "FAKE_KEY", "models": list(WAYS)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAKE_KEY", KEY)
        given = {"options": options, "engine": "openai", "model_id": "odd", "source": "odd"}
        worker = running(manager, tmp_path_factory.mktemp("odd"), **given)
        yield Pair(fake, worker.ready())
    worker.close()
    fake.stop()


@pytest.fixture
def pair(shared: Pair) -> Pair:
    shared.fake.asked.clear()
    return shared


def said(path: str, answer: Any) -> tuple[str, str]:
    """Text and thoughts, of a whole answer or of a stream."""
    assert answer.status_code == 200, answer.text
    if "json" in answer.headers["content-type"] and "ndjson" not in answer.headers["content-type"]:
        return _whole(path, answer.json())
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines()]
    events = [json.loads(line) for line in lines if line.startswith("{")]
    if path == "/v1/messages":
        deltas = [e["delta"] for e in events if e["type"] == "content_block_delta"]
        return _joined(deltas, "text"), _joined(deltas, "thinking")
    if path == "/v1/responses":
        return _whole(path, events[-1]["response"])
    if path == "/api/chat":
        messages = [e["message"] for e in events]
        return _joined(messages, "content"), _joined(messages, "thinking")
    deltas = [c["delta"] for e in events for c in e["choices"]]
    return _joined(deltas, "content"), _joined(deltas, "reasoning_content")


def _joined(objects: list[dict[str, Any]], key: str) -> str:
    return "".join(each.get(key) or "" for each in objects)


def _whole(path: str, body: dict[str, Any]) -> tuple[str, str]:
    if path == "/v1/messages":
        return _joined(body["content"], "text"), _joined(body["content"], "thinking")
    if path == "/v1/responses":
        of = {kind: [p for i in body["output"] if i["type"] == kind for p in i["content"]]
              for kind in ("message", "reasoning")}  # fmt: skip
        return _joined(of["message"], "text"), _joined(of["reasoning"], "text")
    message = body["message"] if path == "/api/chat" else body["choices"][0]["message"]
    thoughts = message.get("thinking") or message.get("reasoning_content") or ""
    return message["content"], thoughts


@each
@both
def test_a_model_that_wants_the_newer_word_for_tokens_is_told_it(
    pair: Pair, path: str, stream: bool
) -> None:
    more = {
        "/v1/chat/completions": {"max_tokens": 50},
        "/v1/responses": {"max_output_tokens": 50},
        "/api/chat": {"options": {"num_predict": 50}},
    }.get(path, {})
    assert said(path, pair.ask(path, "reasons", stream=stream, **more))[0] == "told"
    assert pair.fake.asked[-1].json["max_completion_tokens"] == 50
    assert "max_tokens" not in pair.fake.asked[-1].json
    pair.fake.asked.clear()
    assert said(path, pair.ask(path, "reasons", stream=stream, **more))[0] == "told"
    assert len(pair.fake.asked) == 1  # it is known by now


def test_the_newer_word_for_tokens_is_of_chats_alone(pair: Pair) -> None:
    assert pair.ask(PATHS[0], "reasons", max_tokens=50).status_code == 200
    body = {"model": "odd:reasons", "prompt": "hi", "max_tokens": 50}
    assert pair.worker.http.post("/v1/completions", json=body).status_code == 200
    assert pair.fake.asked[-1].json["max_tokens"] == 50


def test_what_would_be_asked_in_the_same_words_is_not_asked_again(pair: Pair) -> None:
    body = {"model": "odd:reasons", "prompt": "a cat", "max_tokens": 50}
    answer = pair.worker.http.post("/v1/images/generations", json=body)
    assert answer.status_code == 400
    assert "max_completion_tokens" in answer.json()["error"]["message"]
    assert len(pair.fake.asked) == 1


def test_requests_that_are_refused_together_learn_together(pair: Pair) -> None:
    """Whichever hears of it second was refused for what is known by then."""
    both_are_there: list[asyncio.Event] = []

    async def refused_together(exchange: Exchange) -> None:
        both_are_there.append(asyncio.Event())
        if len(both_are_there) == 2:
            for event in both_are_there:
                event.set()
        await asyncio.wait_for(both_are_there[-1].wait(), 30)
        exchange.answer.headers["connection"] = "close"  # as every fault is
        await exchange.send(exchange.answer)

    pair.fake.faults += [refused_together, refused_together]
    call = {"id": "call-7", "type": "function", "function": {"name": "w", "arguments": "{}"}}
    turn = [
        {"role": "user", "content": "weather?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call-7", "content": "rain"},
    ]
    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(lambda _: pair.ask(PATHS[0], "signs-too", turn), range(2)))
    assert [answer.status_code for answer in answers] == [200, 200]


def test_a_model_of_another_route_says_which(pair: Pair) -> None:
    answer = pair.ask(PATHS[0], "only-responses")
    assert answer.status_code == 400
    assert "/v1/responses; the option native_responses" in answer.json()["error"]["message"]


@translated
@both
def test_content_in_parts_is_text_and_thoughts(pair: Pair, path: str, stream: bool) -> None:
    assert said(path, pair.ask(path, "parts", stream=stream)) == ("told", "hm")


@both
def test_a_client_of_its_own_api_gets_its_parts(pair: Pair, stream: bool) -> None:
    assert '"thinking"' in pair.ask(PATHS[0], "parts", stream=stream).text


def call_in(path: str, answer: Any) -> list[dict[str, Any]]:
    """The assistant's turn, as its client would send it back."""
    assert answer.status_code == 200, answer.text
    body = answer.json()
    if path == "/v1/messages":
        return [{"role": "assistant", "content": body["content"]}]
    if path == "/v1/responses":
        return list(body["output"])
    return [body["message"] if path == "/api/chat" else body["choices"][0]["message"]]


RESULTS = {
    "/v1/chat/completions": {"role": "tool", "tool_call_id": "call-1", "content": "rain"},
    "/v1/messages": {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": "call-1", "content": "rain"}],
    },
    "/v1/responses": {"type": "function_call_output", "call_id": "call-1", "output": "rain"},
    "/api/chat": {"role": "tool", "tool_name": "weather", "content": "rain"},
}
TOOLS = {
    "/v1/messages": [{"name": "weather", "input_schema": PARAMETERS}],
    "/v1/responses": [{"type": "function", **FUNCTION}],
}
OPENAIS_TOOLS = [{"type": "function", "function": FUNCTION}]


@each
@both
@pytest.mark.parametrize("is_its_own", [True, False])
def test_what_is_signed_goes_back_with_its_signature(
    pair: Pair, path: str, stream: bool, is_its_own: bool
) -> None:
    """A call that another model made, or whose worker was another, goes with Google's word for
    that; it was refused before, so that nothing is billed twice."""
    user, tools = {"role": "user", "content": "weather?"}, TOOLS.get(path, OPENAIS_TOOLS)
    turn = call_in(path, pair.ask(path, "signs", [user], tools=tools, stream=False))
    if not is_its_own:
        turn = json.loads(json.dumps(turn).replace("call-1", "call-9").replace("signed", ""))
        turn[0].get("tool_calls", [{}])[0].pop("extra_content", None)
    call = "call-1" if is_its_own else "call-9"
    result = json.loads(json.dumps(RESULTS[path]).replace("call-1", call))
    answer = pair.ask(path, "signs", [user, *turn, result], tools=tools, stream=stream)
    assert said(path, answer)[0] == "told"
    calls = [m["tool_calls"][0] for m in pair.fake.asked[-1].json["messages"] if "tool_calls" in m]
    signature = calls[0]["extra_content"]["google"]["thought_signature"]
    if path != "/api/chat":  # Ollama's clients need not send ids back
        assert signature == ("signed" if is_its_own else "skip_thought_signature_validator")


@pytest.mark.parametrize(
    ("model", "tokens"),
    [
        ("signs", (5, 0, 7, False)),  # thoughts, which the total alone tells, among them
        ("deepseek", (5, 2, 7, False)),
        ("groq", (5, 0, 7, False)),
    ],
)
@each
@both
def test_tokens_are_counted_once_in_whatever_words(
    pair: Pair, path: str, stream: bool, model: str, tokens: tuple[int, int, int, bool]
) -> None:
    answer = pair.ask(path, model, stream=stream)
    assert said(path, answer)[0] == "told"
    assert pair.tokens(answer) == tokens
    if path == "/api/chat":
        last = answer.json() if not stream else json.loads(answer.text.splitlines()[-1])
        assert last["eval_count"] == 7


@pytest.mark.parametrize(
    ("model", "words"),
    [("fails", "the provider disconnected"), ("full", "insufficient_system_resource")],
)
@each
@both
def test_an_end_that_is_a_failure_is_told_as_one(
    pair: Pair, path: str, stream: bool, model: str, words: str
) -> None:
    answer = pair.ask(path, model, stream=stream)
    assert words in answer.text
    assert "broke off its answer" in answer.text
    assert stream or answer.status_code == 502
    assert "end_turn" not in answer.text
    assert len(pair.fake.asked) == 1


@translated
@both
def test_what_makes_no_sense_is_the_servers_fault(pair: Pair, path: str, stream: bool) -> None:
    answer = pair.ask(path, "strange", stream=stream)
    assert "makes no sense" in answer.text or "sent no answer" in answer.text, answer.text
    assert "a bug" not in answer.text
    assert len(pair.fake.asked) == 1


def test_the_tokens_of_a_long_stream_in_anthropics_words(
    worker: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first event tells of the prompt, the last of the answer."""
    from support.providers.anthropic import AnthropicApi

    monkeypatch.setenv("FAKE_KEY", KEY)
    fake = FakeProvider(AnthropicApi())
    try:
        options = {"base_url": f"{fake.url}/v1", "api_key_variable": "FAKE_KEY"}
        one = worker(options, engine="anthropic", model_id="m", source="claude-sonnet-5-5").ready()
        said = [{"role": "user", "content": "word " * 500}]
        body = {"model": "m", "max_tokens": 9, "messages": said, "stream": True}
        answer = one.http.post("/v1/messages", json=body)
        assert len(answer.text) > 20_000
        assert Pair(fake, one).tokens(answer) == (7, 2, 3, False)
    finally:
        fake.stop()


def test_azures_addresses_and_header(
    worker: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_KEY", KEY)
    fake = FakeProvider(AzureApi())
    try:
        options = {
            "base_url": f"{fake.url}/openai/deployments/{{model}}?api-version=2024-10-21",
            "api_key_header": "api-key: {api_key}",
            "api_key_variable": "FAKE_KEY",
        }
        one = worker(options, engine="openai", model_id="m", source="gpt-4o").ready()
        for path in PATHS:
            for stream in (False, True):
                given = {"content": "told", "role": "user"}
                body = {"model": "m", "stream": stream, "max_tokens": 9, "messages": [given]}
                if path == "/v1/responses":
                    body = {"model": "m", "stream": stream, "input": "told"}
                if path == "/api/chat":
                    del body["max_tokens"]
                assert said(path, one.http.post(path, json=body))[0] == "told"
        assert "authorization" not in fake.asked[0].headers
        # It has no list of its models, which is no sign that it is not there.
        probed = one.internal(
            "POST", "probe", json={"timeout_seconds": 60.0, "silent_seconds": None}
        )
        assert probed.json()["answered"], probed.text
        fake.faults.append(faults.answering(401, {"error": {"message": f"no {KEY}"}}))
        assert KEY not in one.chat("a").text
    finally:
        fake.stop()
