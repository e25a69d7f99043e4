"""Models that are made of several, in front of real processes: members that fail, hang and die,
clients that leave, and what all of them are told."""

from __future__ import annotations

import base64
import itertools
import json
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest
from support.providers import faults
from support.providers.openai import OpenAIApi
from support.providers.server import KEY, Answer, Asked, FakeProvider

from e2e.conftest import Add, MakePool
from e2e.helpers import (
    assert_error,
    chat,
    content,
    fake,
    in_background,
    result,
    streamed,
    until,
    until_busy,
)
from e2e.support import PoolProcess

pytestmark = pytest.mark.long

HEADERS = "x-modelpool-"
StandFor = Callable[..., str]
_numbers = itertools.count(1)


@pytest.fixture
def stand_for(pool: PoolProcess) -> Iterator[StandFor]:
    """Make a virtual model of a name of its own; deleted after the test."""
    with ExitStack() as stack:

        def put(kind: str, **entry: Any) -> str:
            name = f"joint{next(_numbers)}"
            answer = pool.http.put(f"/virtual-models/{name}", json={"kind": kind, **entry})
            assert answer.status_code == 200, answer.text
            stack.callback(pool.http.delete, f"/virtual-models/{name}")
            return name

        yield put


def members_of(answer: httpx.Response) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = answer.json()["modelpool"]["members"]
    return found


def test_a_vote_on_every_api_whole_and_as_a_stream(
    pool: PoolProcess, add: Add, stand_for: StandFor
) -> None:
    a, b, c, broken = add(reply="41"), add(reply="42"), add(reply="42."), add(fail_load="oom")
    name = stand_for("ensemble", members=[a, broken, b, c])
    answer = pool.chat(name)
    assert content(answer) == "42"
    assert set(answer.headers[HEADERS + "model"].split(", ")) == {a, b, c}
    assert answer.headers[HEADERS + "fallback"] == f"{broken} (oom)"
    assert "1 of 4 did not answer" in answer.headers[HEADERS + "route"]
    told = [(m["model"], m["status"], m.get("vote")) for m in members_of(answer)]
    assert told == [
        (a, "answered", "41"),
        (broken, "failed", None),
        (b, "answered", "42"),
        (c, "answered", "42"),
    ]
    assert answer.json()["modelpool"]["usage"]["total_tokens"] == 9
    full = {"X-ModelPool-Members": "full"}
    answer = pool.http.post("/v1/chat/completions", json=chat(name), headers=full)
    assert members_of(answer)[0]["answer"]["choices"][0]["message"]["content"] == "41"
    wrong = {"X-ModelPool-Members": "some"}
    answer = pool.http.post("/v1/chat/completions", json=chat(name), headers=wrong)
    assert_error(answer, 400, "invalid_request", "x-modelpool-members")

    user = {"role": "user", "content": "6 times 7?"}
    for path, said in (
        ("/v1/completions", {"prompt": "6 times 7?"}),
        ("/v1/responses", {"input": "6 times 7?"}),
        ("/v1/messages", {"messages": [user], "max_tokens": 9}),
        ("/api/chat", {"messages": [user], "stream": False}),
        ("/api/generate", {"prompt": "6 times 7?", "stream": False}),
    ):
        answer = pool.http.post(path, json={"model": name, **said})
        assert answer.status_code == 200, (path, answer.text)
        assert "42" in json.dumps({**answer.json(), "modelpool": None}), path
        assert len(members_of(answer)) == 4, path

    stream = streamed(pool.url, chat(name))
    assert (stream.text, stream.is_done) == ("42", True)
    assert stream.data[-1]["modelpool"]["method"] == "vote"
    client = openai.OpenAI(api_key="none", base_url=f"{pool.url}/v1", max_retries=0)
    chunks = client.completions.create(model=name, prompt="?", stream=True)
    assert "".join(x.choices[0].text for x in chunks if x.choices) == "42"
    with client.responses.stream(model=name, input="?") as events:
        assert events.get_final_response().output_text == "42"
    claude = anthropic.Anthropic(api_key="none", base_url=pool.url, max_retries=0)
    with claude.messages.stream(model=name, messages=[user], max_tokens=9) as told_:  # type: ignore[list-item]
        assert "".join(told_.text_stream) == "42"
    for path, asked in (("/api/chat", {"messages": [user]}), ("/api/generate", {"prompt": "?"})):
        answer = pool.http.post(path, json={"model": name, **asked})
        (line,) = answer.text.splitlines()
        assert json.loads(line)["done"] is True
        assert answer.headers["content-type"] == "application/x-ndjson"


def test_consensus_a_judge_and_who_comes_after_them(
    pool: PoolProcess, add: Add, stand_for: StandFor
) -> None:
    a, b, large = add(reply="yes"), add(reply="no"), add(reply="perhaps")
    name = stand_for("ensemble", members=[a, b], method="consensus", fallbacks=[large])
    assert content(pool.chat(name)) == "perhaps"
    alone = stand_for("ensemble", members=[a, b], method="consensus")
    message = assert_error(pool.chat(alone), 502, "no_consensus")
    assert "50% agree, 67% must" in message
    for says, taken in (("1", None), ("nonsense", "yes")):
        judge = add(reply=says)
        name = stand_for("ensemble", members=[a, b], method="best_of", judge=judge)
        answer = pool.chat(name)
        assert content(answer) == taken or (taken is None and content(answer) in ("yes", "no"))
        *_, told = members_of(answer)
        assert (told["role"], told["verdict"]) == ("judge", says)
    assert "the judge says 'nonsense'" in answer.headers[HEADERS + "route"]
    plan = pool.http.post("/route", json=chat(name)).json()["plan"]
    assert (plan["do"], plan["may_ask"]) == ("side by side", [judge])
    name = stand_for("ensemble", members=[a, b], method="average")
    assert_error(pool.chat(name), 400, "invalid_request", "model")
    answer = pool.http.post("/v1/classify", json={"model": name, "input": "a b c d e f"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["modelpool"]["method"] == "average"


@pytest.mark.slow
def test_members_that_hang_and_die_are_told(make_pool: MakePool) -> None:
    joint = {"kind": "ensemble", "members": ["one", "two", "hangs", "dies"], "seconds": 15}
    pool = make_pool(
        fake("one", options={"reply": "same"}),
        fake("two", options={"reply": "same"}),
        fake("hangs", options={"hang_after_tokens": 1, "reply": "a b c"}),
        fake("dies", options={"die_after_tokens": 2, "reply": "a b c"}),
        virtual_models={
            "joint": joint,
            "early": {"kind": "ensemble", "members": ["hangs", "one", "two"], "stop_early": True},
            "first": {"kind": "ensemble", "members": ["hangs", "one"], "method": "first"},
        },
        crash_budget=0,
    )
    for model in ("one", "two", "hangs", "dies"):
        pool.load(model)
    answer = pool.chat("joint")
    assert content(answer) == "same", answer.text
    status = {m["model"]: m for m in members_of(answer)}
    assert status["hangs"]["error"]["code"] == "member_timeout"
    assert status["dies"]["status"] == "failed"
    assert status["one"]["is_chosen"]
    assert "hangs (member_timeout)" in answer.headers[HEADERS + "fallback"]
    answer = pool.chat("early")
    assert {m["model"]: m["status"] for m in members_of(answer)}["hangs"] == "cancelled"
    assert content(pool.chat("first")) == "same"
    until(lambda: not in_flight(pool, "hangs"), "the losers to be cancelled")


def in_flight(pool: PoolProcess, model: str) -> int:
    return int(pool.http.get(f"/models/{model}/health").json().get("in_flight", 0))


def test_a_client_that_leaves_ends_the_work_of_all_members(
    pool: PoolProcess, add: Add, stand_for: StandFor
) -> None:
    slow = [add(first_token_seconds=600) for _ in range(3)]
    name = stand_for("ensemble", members=slow)
    for model in slow:
        pool.load(model)
    for is_stream in (False, True):
        with httpx.Client(timeout=60, trust_env=False) as client:
            body = {**chat(name), "stream": is_stream}
            url = f"{pool.url}/v1/chat/completions"

            def ask(client: httpx.Client = client, url: str = url, body: Any = body) -> None:
                with pytest.raises(httpx.HTTPError), client.stream("POST", url, json=body) as got:
                    got.read()

            asking = in_background(ask)
            for model in slow:
                until_busy(pool, model)
            _break(client)
            result(asking)
        for model in slow:
            until(lambda model=model: not in_flight(pool, model), f"{model} to be idle")  # type: ignore[misc]


def test_engines_are_left_by_who_has_lost_and_by_clients_that_leave(
    make_pool: MakePool, tmp_path: Path
) -> None:
    provider = FakeProvider(OpenAIApi())
    file = tmp_path / "key"
    file.write_text(KEY)
    models = [{"name": "gpt-4o", "aliases": ["remote"]}]
    remote = {"base_url": f"{provider.url}/v1", "api_key_file": str(file), "models": models}
    thrice = {"model": "remote", "samples": 3}
    pool = make_pool(
        fake("quick", options={"reply": "quick"}),
        providers={"openai": remote},
        virtual_models={
            "race": {"kind": "ensemble", "members": [thrice, "quick"], "method": "first"},
            "vote": {"kind": "ensemble", "members": [thrice]},
        },
    )
    assert content(pool.chat("remote", "to be loaded")) == "to be loaded"
    provider.faults.extend([faults.hang_before_head] * 3)
    with httpx.Client(timeout=60, trust_env=False) as client:
        before = provider.gone

        def ask() -> None:
            with pytest.raises(httpx.HTTPError):
                client.post(f"{pool.url}/v1/chat/completions", json=chat("vote"))

        asking = in_background(ask)
        until(lambda: not provider.faults, "all members to be asked")
        _break(client)
        result(asking)
    until(lambda: provider.gone == before + 3, "all members to be ended")
    # Last: a loser that left before it was asked may reach the server after all this.
    provider.faults.extend([faults.hang_before_head] * 3)
    pool.load("quick")
    before = provider.gone
    assert content(pool.chat("race")) == "quick"
    until(lambda: provider.gone == before + 3 - len(provider.faults), "the losers to be ended")
    provider.stop()


def _break(client: httpx.Client) -> None:
    """Close its connections under whoever reads."""
    import socket

    transport: Any = client._transport
    for connection in transport._pool.connections:
        stream = connection._connection._network_stream
        stream.get_extra_info("socket").shutdown(socket.SHUT_RDWR)


# -- of models that tell how sure they are, and call tools ----------------------------------------


class Scripted(OpenAIApi):
    """Sure of short answers only; draws a picture when it is told of one, and calls other tools
    that it is given when it is told to."""

    def chat(self, asked: Asked) -> Answer:
        answer = super().chat(asked)
        body = asked.json
        if answer.status != 200 or body.get("stream"):
            return answer
        choice = answer.body["choices"][0]
        said = choice["message"]["content"]
        if body.get("logprobs"):
            logprob = math.log(0.9 if len(said) < 6 else 0.3)
            choice["logprobs"] = {"content": [{"token": "x", "logprob": logprob}]}
        names = [tool["function"]["name"] for tool in body.get("tools", ())]
        wanted = [name for name in names if name in said]
        if wanted and body["messages"][-1]["role"] == "user":
            calls = [self._call(name) for name in wanted]
            choice["message"] = {"role": "assistant", "content": None, "tool_calls": calls}
            choice["finish_reason"] = "tool_calls"
        return answer

    def _call(self, name: str) -> dict[str, Any]:
        arguments = {"prompt": "a cat", "text": "hello there", "audio": 1}
        function = {"name": name, "arguments": json.dumps(arguments)}
        return {"id": f"call_{name}", "type": "function", "function": function}


@pytest.fixture
def scripted(make_pool: MakePool, tmp_path: Path) -> Iterator[PoolProcess]:
    provider = FakeProvider(Scripted())
    file = tmp_path / "key"
    file.write_text(KEY)
    models = [{"name": "gpt-4o", "aliases": ["talker"]}]
    remote = {"base_url": f"{provider.url}/v1", "api_key_file": str(file), "models": models}
    yield make_pool(
        fake("large", options={"reply": "certain"}),
        fake("media"),
        providers={"openai": remote},
        virtual_models={
            "steps": {"kind": "cascade", "targets": ["talker", "large"], "min_confidence": 0.7},
            "fakes": {"kind": "cascade", "targets": ["media", "large"], "must_contain": ["so:"]},
            "all": {
                "kind": "omni",
                "chat": "talker",
                **dict.fromkeys(("speech", "transcription", "picture"), "media"),
            },
        },
    )
    provider.stop()


def test_a_cascade_and_an_omni_model(scripted: PoolProcess) -> None:
    pool = scripted
    answer = pool.chat("steps", "short")
    assert content(answer) == "short", answer.text
    assert [m["confidence"] for m in members_of(answer)] == [pytest.approx(0.9)]
    assert answer.json()["choices"][0]["logprobs"] is None  # which the client did not ask for
    answer = pool.chat("steps", "something long")
    assert content(answer) == "certain"
    assert "confidence 0.30 is below 0.7" in answer.headers[HEADERS + "route"]
    first, second = members_of(answer)
    assert first["not_relied_on"] == "confidence 0.30 is below 0.7"
    assert second["is_chosen"]
    assert streamed(pool.url, chat("steps", "short")).text == "short"
    stream = streamed(pool.url, chat("fakes", "something long"))
    assert (stream.text.strip(), stream.is_done) == ("certain", True)
    for path, said in (
        ("/v1/messages", {"messages": [{"role": "user", "content": "x"}], "max_tokens": 9}),
        ("/api/generate", {"prompt": "x"}),
    ):
        for is_stream in (False, True):
            answer = pool.http.post(path, json={"model": "fakes", "stream": is_stream, **said})
            assert "certain" in answer.text, answer.text
            assert "lacks 'so:'" in answer.headers[HEADERS + "route"]

    answer = pool.chat("all", "please draw_picture and speak_aloud")
    message = answer.json()["choices"][0]["message"]
    assert message["images"][0]["image_url"]["url"].startswith("data:image/png;base64,"), message
    assert base64.b64decode(message["audio"]["data"]).startswith(b"RIFF")
    roles = sorted(m["role"] for m in members_of(answer))
    assert roles == ["chat", "chat", "picture", "speech"]
    sound = {"data": base64.b64encode(b"RIFF1234").decode(), "format": "wav"}
    parts = [
        {"type": "text", "text": "please transcribe_audio"},
        {"type": "input_audio", "input_audio": sound},
    ]
    body = {"model": "all", "messages": [{"role": "user", "content": parts}]}
    answer = pool.http.post("/v1/chat/completions", json=body)
    assert answer.json()["choices"][0]["message"]["content"] == '{"text": "8 bytes"}'
    mine = {"type": "function", "function": {"name": "mine", "parameters": {"type": "object"}}}
    answer = pool.chat("all", "mine and draw_picture", tools=[mine])
    (call,) = answer.json()["choices"][0]["message"]["tool_calls"]
    assert call["function"]["name"] == "mine"
    assert streamed(pool.url, chat("all", "hello")).text == "hello"
