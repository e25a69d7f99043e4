"""Workers in front of stand-ins of providers: what passes, and what becomes of every way in which a
provider can fail."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from e2e.helpers import until
from modelpool_client.wire import EndedRequest
from support.bare_client import connected, request
from support.providers import faults
from support.providers.anthropic import AnthropicApi
from support.providers.google import GoogleApi
from support.providers.openai import OpenAIApi
from support.providers.server import KEY, FakeProvider
from support.providers.templated import OwnApi

pytestmark = [pytest.mark.e2e, pytest.mark.long]

# How long a provider may be silent: for all but those who are to be.
PATIENT, HASTY = 60, 1
STREAM = {"stream": True}
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}},
}
OWN = {
    "body": json.dumps({"q": "{last_message}", "limit": "{max_tokens}", "live": "{stream}"}),
    "answer": "results.0.text",
    "stream_format": "ndjson",
    "stream_answer": "t",
    "stream_done": "end",
    "error": "fault.why",
    "prompt_tokens": "used.in",
    "completion_tokens": "used.out",
    "api_key_header": "Token: {api_key}",
}


class Remote:
    """A worker, and the stand-in that it asks."""

    def __init__(self, fake: FakeProvider, worker: Any) -> None:
        self.fake = fake
        self.worker = worker

    def chat(self, text: str = "one two three", **body: Any) -> Any:
        return self.worker.chat(text, **body)

    def quiet(self) -> None:
        """Nothing that the worker wrote or says has the key in it."""
        worker = self.worker
        said = [worker.log, worker.http.get("/health").text, worker.http.get("/metrics").text]
        said += [json.dumps(worker.manager.facts(worker.id)), worker.http.get("/v1/models").text]
        shown = subprocess.run(["ps", "axww"], capture_output=True, text=True, check=True)
        for text in [*said, shown.stdout]:
            assert KEY not in text
            assert KEY[:12] not in text


SUFFIX = "-hastily"
APIS: dict[str, tuple[Callable[[], Any], str, str]] = {
    "openai": (OpenAIApi, "openai", "/v1"),
    "anthropic": (AnthropicApi, "anthropic", "/v1"),
    "google": (GoogleApi, "openai", "/v1beta/openai"),
    "own": (OwnApi, "http", ""),
}
MODELS = {
    "openai": ["gpt-4o", "text-embedding-3-small", "tts-1", "whisper-1", "gpt-image-1", "gone"],
    "anthropic": ["claude-sonnet-5-5"],
    "google": ["gemini-3-flash"],
    "own": ["own-1"],
}


@pytest.fixture(scope="module")
def remotes(
    manager: Any, running: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Remote]]:
    """One worker of each provider for the whole module; one that waits for hardly anything, too,
    if it is called so."""
    made: dict[str, Remote] = {}

    def get(asked: str) -> Remote:
        if asked not in made:
            name = asked.removesuffix(SUFFIX)
            api, engine, prefix = APIS[name]
            fake = FakeProvider(api())
            where = {"base_url": fake.url + prefix} if name != "own" else {}
            if name == "own":
                where = {"url": f"{fake.url}/generate/{{model}}", **OWN}
            options = {
                **where,
                "api_key_variable": "FAKE_KEY",
                "request_timeout_seconds": PATIENT if asked == name else HASTY,
                "models": MODELS[name],
            }
            folder = tmp_path_factory.mktemp(asked)
            worker = running(
                manager, folder, options=options, engine=engine, model_id=name, source=name
            )
            made[asked] = Remote(fake, worker.ready())
        return made[asked]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAKE_KEY", KEY)
        yield get
    for one in made.values():
        one.worker.close()
        one.fake.stop()


@pytest.fixture
def remote(remotes: Callable[[str], Remote], request: pytest.FixtureRequest) -> Iterator[Remote]:
    one = remotes(request.param)
    one.fake.asked.clear()
    one.fake.faults.clear()
    yield one
    one.quiet()


def first(name: str) -> str:
    return f"{name}:{MODELS[name][0]}"


each = pytest.mark.parametrize("remote", list(APIS), indirect=True)
each_hastily = pytest.mark.parametrize("remote", [f"{api}{SUFFIX}" for api in APIS], indirect=True)
in_openais = pytest.mark.parametrize("remote", ["openai"], indirect=True)
in_anthropics = pytest.mark.parametrize("remote", ["anthropic"], indirect=True)


def name_of(remote: Remote) -> str:
    return first(str(remote.worker.assignment["model_id"]))


def error_in(answer: Any) -> dict[str, Any]:
    """Of a whole answer, or the last thing that a stream says."""
    if answer.headers["content-type"].startswith("text/event-stream"):
        events = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
        return dict(json.loads(events[-1])["error"])
    return dict(answer.json()["error"])


@each
@pytest.mark.parametrize("stream", [False, True])
def test_a_chat(remote: Remote, stream: bool) -> None:
    answer = remote.chat(model=name_of(remote), stream=stream, max_tokens=50)
    assert answer.status_code == 200, answer.text
    if stream:
        assert answer.text.endswith("data: [DONE]\n\n")
        events = [json.loads(e[6:]) for e in answer.text.split("\n\n") if e.startswith("data: {")]
        deltas = [c["delta"].get("content") or "" for e in events for c in e["choices"]]
        assert "".join(deltas).replace(" ", "") == "onetwothree"
    else:
        assert answer.json()["choices"][0]["message"]["content"] == "one two three"
        assert answer.json()["usage"]["completion_tokens"] == 3
    assert len(remote.fake.asked) == 1


def tokens_total(remote: Remote) -> int:
    page = str(remote.worker.http.get("/metrics").text)
    lines = [line for line in page.splitlines() if "worker_tokens_total{" in line]
    return int(float(lines[0].rpartition(" ")[2]))


def tokens_estimated(remote: Remote) -> int:
    return int(remote.worker.http.get("/health").json()["upstream"]["tokens_estimated"])


@each
def test_the_tokens_of_a_stream_are_counted_whoever_asks(remote: Remote) -> None:
    tells = remote.worker.assignment["model_id"] != "own"
    for asked, options in ((False, {}), (True, {"stream_options": {"include_usage": True}})):
        estimated, total = tokens_estimated(remote), tokens_total(remote)
        answer = remote.chat(model=name_of(remote), stream=True, max_tokens=50, **options)
        events = [json.loads(e[6:]) for e in answer.text.split("\n\n") if e.startswith("data: {")]
        assert any(e.get("usage") for e in events) == (asked and tells)
        assert tokens_total(remote) == total + 3
        assert tokens_estimated(remote) == estimated + (0 if tells else 3)


@in_openais
def test_tokens_that_a_stream_does_not_tell_are_estimated(remote: Remote) -> None:
    body = {"model": first("openai"), "prompt": "one two", "stream": True}
    estimated, total = tokens_estimated(remote), tokens_total(remote)
    answer = remote.worker.http.post("/v1/completions", json=body)
    assert answer.status_code == 200, answer.text
    assert tokens_total(remote) == total + 1
    assert tokens_estimated(remote) == estimated + 1
    assert remote.fake.asked[-1].json["stream_options"] == {"include_usage": True}


def last_of(remote: Remote, answer: Any) -> EndedRequest:
    """What the manager is told of a request."""
    worker, request_id = remote.worker, answer.headers["x-request-id"]

    def told() -> EndedRequest | None:
        posts = [facts.get("ended") for facts in worker.manager.facts(worker.id)]
        requests = [EndedRequest(*each) for ended in posts if ended for each in ended["requests"]]
        return next((r for r in requests if r.request_id == request_id), None)

    found = until(told, "the end of the request")
    assert isinstance(found, EndedRequest)
    return found


@in_openais
@pytest.mark.parametrize("options", [{}, {"stream_options": {"include_usage": True}}])
def test_what_a_stream_tells_counts_whoever_asked_for_it(
    remote: Remote, options: dict[str, Any]
) -> None:
    """The prompt, too: it is not taken from the bytes of the request."""
    answer = remote.chat(model=first("openai"), stream=True, **options)
    ended = last_of(remote, answer)
    assert (ended.prompt_tokens, ended.completion_tokens, ended.is_estimated) == (3, 3, False)


SAID = {"role": "assistant", "content": "x" * 41}
NO_USAGE = {
    "id": "x", "object": "chat.completion", "created": 1, "model": "gpt-4o",
    "choices": [{"index": 0, "finish_reason": "stop", "message": SAID}],
}  # fmt: skip


@in_openais
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/api/chat"])
def test_an_answer_without_usage_is_estimated(remote: Remote, path: str) -> None:
    """In OpenAI's words it passes as it is; other APIs must tell tokens, and are told as many."""
    remote.fake.faults.append(faults.answering(200, NO_USAGE))
    body = {"model": first("openai"), "stream": False, "max_tokens": 50}
    body |= {"messages": [{"role": "user", "content": "one two three"}]}
    answer = remote.worker.http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    said = answer.json()
    if path == "/v1/messages":
        assert said["usage"]["output_tokens"] == 11
    if path == "/api/chat":
        assert said["eval_count"] == 11
    ended = last_of(remote, answer)
    assert (ended.completion_tokens, ended.is_estimated) == (11, True)
    assert ended.prompt_tokens > 3


def test_a_server_that_refuses_to_tell_tokens_is_asked_for_none(
    manager: Any, running: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_KEY", KEY)
    fake = FakeProvider(OpenAIApi())
    options = {"base_url": f"{fake.url}/v1", "api_key_variable": "FAKE_KEY"}
    given = {"options": options, "engine": "openai", "model_id": "m", "source": "gpt-4o"}
    worker = running(manager, tmp_path, **given).ready()
    try:
        detail = [{"type": "extra_forbidden", "loc": ["body", "stream_options", "include_usage"]}]
        refusal = {"object": "error", "message": {"detail": detail}}
        fake.faults.append(faults.answering(422, refusal, connection="close"))
        for asks in ([True, False], [False]):
            fake.asked.clear()
            answer = worker.chat("one two three", stream=True)
            assert answer.status_code == 200, answer.text
            assert answer.text.endswith("data: [DONE]\n\n")
            assert ["stream_options" in asked.json for asked in fake.asked] == asks
        assert worker.http.get("/health").json()["upstream"]["tokens_estimated"] == 6
        # Nothing else is asked twice.
        fake.asked.clear()
        fake.faults.append(faults.answering(422, {"message": "stream_options, again"}))
        assert worker.chat("one", stream=True).status_code == 400
        assert len(fake.asked) == 1
    finally:
        worker.close()
        fake.stop()


@each
def test_only_its_models_are_served(remote: Remote) -> None:
    answer = remote.chat(model="openai:gpt-99")
    assert answer.status_code == 404
    assert name_of(remote) in answer.json()["error"]["message"]
    assert remote.fake.asked == []


@each
def test_its_list_has_every_name(remote: Remote) -> None:
    ids = [m["id"] for m in remote.worker.http.get("/v1/models").json()["data"]]
    assert name_of(remote) in ids
    one = remote.worker.http.get(f"/v1/models/{name_of(remote)}")
    assert one.json()["id"] == name_of(remote)


@in_openais
def test_everything_that_is_said_passes(remote: Remote) -> None:
    said = {"store": True, "metadata": {"a": "b"}, "service_tier": "flex", "seed": 3, "n": 1}
    answer = remote.chat(model="openai:gpt-4o", **said, priority="high")
    assert answer.status_code == 200, answer.text
    assert said.items() <= remote.fake.asked[0].json.items()
    assert "priority" not in remote.fake.asked[0].json


@in_openais
def test_its_other_surfaces(remote: Remote) -> None:
    http = remote.worker.http
    body = {"model": "openai:text-embedding-3-small", "input": ["a", "bcd"]}
    told = http.post("/v1/embeddings", json=body).json()
    assert [item["embedding"][0] for item in told["data"]] == [1.0, 3.0]
    spoken = http.post("/v1/audio/speech", json={"model": "openai:tts-1", "input": "hello"})
    assert spoken.headers["content-type"] == "audio/wav"
    assert spoken.content == b"RIFF" + b"hello" * 100
    drawn = http.post("/v1/images/generations", json={"model": "openai:gpt-image-1", "prompt": "x"})
    assert drawn.json()["data"] == [{"b64_json": "aGk="}]
    form = {"model": (None, "openai:whisper-1"), "file": ("a.wav", b"RIFF\r\n--x", "audio/wav")}
    heard = http.post("/v1/audio/transcriptions", files=form)
    assert heard.json() == {"text": "heard"}, heard.text
    written = http.post("/v1/completions", json={"model": "openai:gpt-4o", "prompt": "a b"})
    assert written.json()["choices"][0]["text"] == "a b"


FAULTS: list[tuple[str, faults.Fault, int, str]] = [
    ("reset", faults.reset, 502, "it is not asked again"),
    ("garbage", faults.garbage, 502, "does not speak HTTP/1.1"),
    ("page", faults.answering(200, b"<html>", content_type="text/html"), 502, "text/html"),
    ("no JSON", faults.answering(200, b"{{{"), 502, "no JSON object"),
    ("error in 200", faults.answering(200, {"error": {"message": "oh no"}}), 502, "oh no"),
    ("500", faults.answering(500, {"error": {"message": "the server had an error"}}), 502, "500"),
    ("HTML 502", faults.answering(502, b"<html>", content_type="text/html"), 502, "base_url"),
    ("529", faults.answering(529, {"error": {"type": "overloaded_error"}}), 503, "overloaded"),
    ("400", faults.answering(400, {"error": {"message": "bad thing"}}), 400, "bad thing"),
    ("redirect", faults.answering(307, b"", location="http://127.0.0.1:9/"), 502, "redirect"),
    (
        "quota",
        faults.answering(429, {"error": {"code": "insufficient_quota", "message": "pay"}}),
        429,
        "waiting does not mend",
    ),
    (
        "key",
        faults.answering(401, {"error": {"message": f"no: {KEY[:7]}****{KEY[-4:]} {KEY}"}}),
        502,
        "environment variable FAKE_KEY",
    ),
]


@each
@pytest.mark.parametrize(
    ("fault", "status", "words"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS]
)
@pytest.mark.parametrize("stream", [False, True])
def test_faults(
    remote: Remote, fault: faults.Fault, status: int, words: str, stream: bool, until: Any
) -> None:
    # A limit that an earlier fault told of is over before this one.
    until(lambda: _is_open(remote), "the block to end")
    remote.fake.faults.append(fault)
    answer = remote.chat(model=name_of(remote), stream=stream, max_tokens=50)
    assert answer.status_code == status, answer.text
    error = error_in(answer)
    assert words in error["message"], error
    assert error["source"] == "upstream"
    assert f"127.0.0.1:{remote.fake.port}" in error["message"]
    assert KEY not in answer.text
    assert KEY[-4:] not in answer.text
    assert len(remote.fake.asked) == 1  # never twice


@each_hastily
@pytest.mark.parametrize("stream", [False, True])
def test_one_that_hangs(remote: Remote, stream: bool, until: Any) -> None:
    hang, words = faults.hang_before_head, f"did not answer within {HASTY} s"
    test_faults(remote, hang, 504, words, stream, until)


def _is_open(remote: Remote) -> bool:
    about = remote.worker.http.get("/health").json()["upstream"]["models"]
    return all(model["blocked_seconds"] == 0 for model in about.values())


STREAM_FAULTS: list[tuple[str, faults.Fault, str]] = [
    ("early end", faults.end_stream_early, "ended its stream early"),
    ("broken off", faults.break_stream_off, "broke off its answer"),
    ("garbage", faults.streaming(b"data: }}{{\n\n"), "sent no JSON in its stream"),
    (
        "error",
        faults.streaming(b'data: {"type": "error", "error": {"message": "it \\u0026 burst"}}\n\n'),
        "it & burst",
    ),
]


@pytest.mark.parametrize("remote", ["openai", "anthropic", "google"], indirect=True)
@pytest.mark.parametrize(
    ("fault", "words"), [f[1:] for f in STREAM_FAULTS], ids=[f[0] for f in STREAM_FAULTS]
)
def test_faults_in_streams(remote: Remote, fault: faults.Fault, words: str) -> None:
    remote.fake.faults.append(fault)
    answer = remote.chat(model=name_of(remote), stream=True, max_tokens=50)
    error = error_in(answer)
    assert words in error["message"], answer.text
    assert error["source"] == "upstream"
    assert len(remote.fake.asked) == 1


@pytest.mark.parametrize("remote", [f"openai{SUFFIX}", f"anthropic{SUFFIX}"], indirect=True)
def test_one_that_hangs_in_a_stream(remote: Remote) -> None:
    test_faults_in_streams(remote, faults.hang_in_stream, f"sent nothing for {HASTY} s")


@pytest.mark.parametrize("remote", ["openai", "anthropic"], indirect=True)
def test_a_line_without_an_end_costs_no_memory(remote: Remote) -> None:
    remote.fake.faults.append(faults.endless_line(40 << 20))
    before = remote.worker.live_facts()["rss_bytes"]
    answer = remote.chat(model=name_of(remote), stream=True, max_tokens=50)
    assert "a line of more than 16 MB" in answer.text[-2000:]
    assert remote.worker.live_facts()["rss_bytes"] < before + (120 << 20)


@each
def test_a_client_that_leaves_ends_the_work(remote: Remote, until: Any) -> None:
    remote.fake.faults.append(faults.hang_before_head)
    gone = remote.fake.gone
    body = {"model": name_of(remote), "messages": [{"role": "user", "content": "a"}]}
    with connected(remote.worker.port) as client:
        client.sendall(request(remote.worker.port, json.dumps(body).encode()))
        until(lambda: remote.fake.asked, "the provider to be asked")
    until(lambda: remote.fake.gone > gone, "the provider to see it")
    until(lambda: remote.worker.live_facts()["in_flight"] == 0, "the call to end")


@each
@pytest.mark.parametrize("after", ["280", "Fri, 31 Dec 2100 23:59:59 GMT"])
def test_limits_are_respected_and_shown(remote: Remote, after: str, until: Any) -> None:
    model = name_of(remote)
    until(lambda: _is_open(remote), "the block to end")
    remote.fake.faults.append(
        faults.answering(429, {"error": {"message": "too fast"}}, retry_after=after)
    )
    refused = remote.chat(model=model, max_tokens=9)
    assert refused.status_code == 429, refused.text
    assert int(refused.headers["retry-after"]) >= 280
    again = remote.chat(model=model, max_tokens=9)
    assert again.status_code == 429
    assert "nothing was sent" in again.json()["error"]["message"]
    assert 220 <= int(again.headers["retry-after"]) <= 300
    assert len(remote.fake.asked) == 1
    health = remote.worker.http.get("/health").json()["upstream"]
    assert health["requests_not_sent"] >= 1
    page = remote.worker.http.get("/metrics").text
    assert "modelpool_worker_upstream_blocked_seconds" in page
    _restart(remote)


def _restart(remote: Remote) -> None:
    """Limits are known to one worker alone."""
    old = remote.worker
    remote.worker = type(old)(
        old.manager,
        old.log_path.parent,
        **{
            k: v
            for k, v in old.assignment.items()
            if k in ("options", "engine", "model_id", "source")
        },
    ).ready()
    old.close()


@in_openais
def test_limits_of_good_answers(remote: Remote, until: Any) -> None:
    until(lambda: _is_open(remote), "the block to end")
    said = {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "6m0s",
    }
    remote.fake.faults.append(faults.adding(said))
    assert remote.chat(model="openai:gpt-4o").status_code == 200
    refused = remote.chat(model="openai:gpt-4o")
    assert refused.status_code == 429
    body = {"model": "openai:text-embedding-3-small", "input": "a"}
    assert remote.worker.http.post("/v1/embeddings", json=body).status_code == 200  # another model
    told = remote.worker.http.get("/health").json()["upstream"]["models"]["gpt-4o"]
    assert told["limits"]["requests"]["remaining"] == 0
    _restart(remote)


@pytest.mark.parametrize("remote", ["openai", "anthropic"], indirect=True)
def test_nothing_leaks(remote: Remote, until: Any) -> None:
    """Every way to fail, again and again: no connection, file or memory is left of it."""

    def fail(times: int) -> None:
        for _ in range(times):
            for fault in (faults.reset, faults.garbage, faults.cut_body):
                remote.fake.faults.append(fault)
                assert remote.chat(model=name_of(remote), max_tokens=9).status_code == 502
            for fault in (faults.break_stream_off, faults.end_stream_early):
                remote.fake.faults.append(fault)
                assert "error" in remote.chat(model=name_of(remote), stream=True).text

    def files() -> int:
        return len(os.listdir(f"/proc/{pid}/fd"))

    pid = remote.worker.live_facts()["pid"]
    fail(5)
    until(lambda: remote.fake.open_connections <= 1, "its connections to end")
    had, used = files(), remote.worker.live_facts()["rss_bytes"]
    fail(12)
    until(lambda: remote.fake.open_connections <= 1, "its connections to end")
    facts = remote.worker.live_facts()
    assert files() <= had + 1
    assert facts["rss_bytes"] < used + (4 << 20)
    assert facts["in_flight"] == 0


@in_openais
def test_a_model_that_is_gone_there(remote: Remote) -> None:
    answer = remote.chat(model="openai:gone")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"


@in_anthropics
def test_a_chat_with_everything(remote: Remote) -> None:
    body = {
        "model": "anthropic:claude-sonnet-5-5",
        "max_tokens": 50,
        "tools": [WEATHER],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "temperature": 0.5,
        "user": "me",
        "stop": "END",
        "messages": [
            {"role": "system", "content": "be short"},
            {"role": "user", "content": "weather?"},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [
                    {"id": "t1", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
                ],
            },
            {"role": "tool", "tool_call_id": "t1", "content": "rain"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "and here?"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
                ],
            },
        ],
    }
    answer = remote.worker.http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-modelpool-ignored"] == "temperature"
    call = answer.json()["choices"][0]["message"]["tool_calls"][0]
    assert json.loads(call["function"]["arguments"]) == {"city": "Rome"}
    told = remote.fake.asked[0].json
    assert told["tool_choice"] == {"type": "any", "disable_parallel_tool_use": True}
    assert [turn["role"] for turn in told["messages"]] == ["user", "assistant", "user"]
    assert told["system"] == "be short"


@in_anthropics
def test_the_anthropic_package_speaks_to_it_as_it_is(remote: Remote) -> None:
    client = anthropic.Anthropic(
        api_key="none", base_url=str(remote.worker.http.base_url), max_retries=0
    )
    model = "anthropic:claude-sonnet-5-5"
    ask: Any = {
        "model": model,
        "max_tokens": 2000,
        "messages": [{"role": "user", "content": "a b"}],
        "thinking": {"type": "enabled", "budget_tokens": 1024},
    }
    told = client.messages.create(**ask)
    assert [block.type for block in told.content] == ["thinking", "text"]
    with client.messages.stream(**ask) as stream:
        assert stream.get_final_text() == "a b"
    count = client.messages.count_tokens(model=model, messages=ask["messages"])
    assert count.input_tokens == 7
    remote.fake.faults.append(faults.end_stream_early)
    stopped = pytest.raises(anthropic.APIStatusError, match="ended its stream early")
    with stopped, client.messages.stream(**ask) as stream:
        stream.get_final_text()


@pytest.mark.parametrize("remote", ["openai", "anthropic", "google"], indirect=True)
def test_the_openai_package(remote: Remote) -> None:
    url = f"{remote.worker.http.base_url}/v1"
    client = openai.OpenAI(api_key="none", base_url=url, max_retries=0)
    ask: Any = {"model": name_of(remote), "messages": [{"role": "user", "content": "a b c"}]}
    told = client.chat.completions.create(**ask)
    assert told.choices[0].message.content == "a b c"
    chunks = list(
        client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True})
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == "a b c"
    assert chunks[-1].usage is not None
    remote.fake.faults.append(faults.end_stream_early)
    with pytest.raises(openai.APIError, match="ended its stream early"):
        list(client.chat.completions.create(**ask, stream=True))


def test_streams_may_have_an_address_of_their_own(
    worker: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_KEY", KEY)
    fake = FakeProvider(OwnApi())
    try:
        options = {"url": f"{fake.url}/generate/{{model}}", "api_key_variable": "FAKE_KEY", **OWN}
        options["stream_url"] = f"{fake.url}/live/{{model}}?alt=x"
        one = worker(options, engine="http", model_id="m", source="own-1").ready()
        for stream in (False, True):
            assert one.chat("told", stream=stream).status_code == 200
        assert [asked.path for asked in fake.asked] == ["/generate/own-1", "/live/own-1?alt=x"]
        options["stream_url"] = "http://127.0.0.1:9/live"
        elsewhere = worker(options, engine="http", model_id="m", source="own-1").start()
        assert elsewhere.wait_exit() == 3
        assert "must be of the same server" in elsewhere.record["message"]
    finally:
        fake.stop()


def test_a_key_in_a_file_is_renewed(worker: Callable[..., Any], tmp_path: Path) -> None:
    api = OpenAIApi(key="sk-first-aaaaaaaaaaaa")
    fake = FakeProvider(api)
    try:
        file = tmp_path / "key"
        file.write_text("sk-first-aaaaaaaaaaaa\n")
        options = {"base_url": f"{fake.url}/v1", "api_key_file": str(file)}
        one = worker(options, engine="openai", model_id="gpt", source="gpt-4o").ready()
        api.key = "sk-second-bbbbbbbbbbb"
        refused = one.chat("a")
        assert refused.status_code == 502
        assert f"refused the key from file {file}" in refused.json()["error"]["message"]
        file.write_text("sk-second-bbbbbbbbbbb\n")
        assert one.chat("a").status_code == 200
        file.unlink()
        gone = one.chat("a")
        assert gone.status_code == 503
        assert f"file {file} cannot be read" in gone.json()["error"]["message"]
    finally:
        fake.stop()


def test_a_refused_key_fails_the_load(
    worker: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeProvider(OpenAIApi())
    monkeypatch.setenv("WRONG_KEY", "sk-wrong-99887766554433")
    try:
        options = {"base_url": f"{fake.url}/v1", "api_key_variable": "WRONG_KEY"}
        failed = worker(options, engine="openai", model_id="gpt", source="gpt-4o").start()
        assert failed.wait_exit() == 3
        said = json.dumps(failed.record)
        assert "refused the key from environment variable WRONG_KEY" in said
        assert "4433" not in said + failed.log
        assert "sk-wrong" not in said + failed.log
    finally:
        fake.stop()


def test_tls_is_verified(
    worker: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from support.providers.certificates import self_signed

    context, file = self_signed(tmp_path)
    fake = FakeProvider(OpenAIApi(), context)
    try:
        options = {"base_url": f"{fake.url}/v1", "api_key_variable": "FAKE_KEY"}
        failed = worker(options, engine="openai", model_id="gpt", source="gpt-4o").start()
        assert failed.wait_exit() == 3
        assert "certificate verify failed" in json.dumps(failed.record)
        trusting = {**options, "ca_file": str(file)}
        monkeypatch.setenv("FAKE_KEY", KEY)
        one = worker(trusting, engine="openai", model_id="gpt", source="gpt-4o").ready()
        assert one.chat("a b").json()["choices"][0]["message"]["content"] == "a b"
    finally:
        fake.stop()
