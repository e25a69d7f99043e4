"""What Ollama is asked and how its answers are told, without a server."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool_client.errors import InvalidRequest
from modelpool_client.http1.upstream_connection import BadReply
from modelpool_client.surfaces import sse
from modelpool_client.surfaces.routes import CHAT_PATH, EMBEDDINGS_PATH, TEXT_PATH
from modelpool_worker.json_lines import JsonLines
from modelpool_worker.link import Held
from modelpool_worker.ollama_link.addresses import Address, address_of, addresses_of
from modelpool_worker.ollama_link.answers import Chunks, Infill, Own, Telling, failed
from modelpool_worker.ollama_link.asks import CHAT, EMBED, GENERATE, Target, asked, load_options
from modelpool_worker.ollama_link.facts import (
    NEWEST,
    Running,
    context_length_of,
    model_facts,
    running_of,
    unable,
    version_of,
)
from modelpool_worker.ollama_link.servers import Server, held, ranked

TARGET = Target("llama:1b", {"num_ctx": 512, "num_gpu": 1})
HEAD = {"id": "chatcmpl-0123456789abcdef", "created": 1, "model": "mine"}


# -- where -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "url", "is_here"),
    [
        ("127.0.0.1", "http://127.0.0.1:11434", True),
        ("localhost:1", "http://localhost:1", True),
        ("0.0.0.0:5", "http://127.0.0.1:5", True),
        ("http://[::1]:2/", "http://[::1]:2", True),
        ("http://box", "http://box:80", False),
        ("https://box/ollama/", "https://box:443/ollama", False),
        ("10.0.0.1:11434", "http://10.0.0.1:11434", False),
    ],
)
def test_addresses(text: str, url: str, is_here: bool) -> None:
    found = address_of(text)
    assert (found.url, found.is_here) == (url, is_here)
    assert address_of(found.url) == found


@pytest.mark.parametrize("text", ["ftp://a", "http://u:p@a", "http://a?b", "http://a:99999"])
def test_no_addresses(text: str) -> None:
    with pytest.raises(ValueError):
        address_of(text)


def test_whose_addresses() -> None:
    assert addresses_of({}, {}) == [address_of("127.0.0.1:11434")]
    assert addresses_of({}, {"OLLAMA_HOST": "0.0.0.0"}) == [address_of("127.0.0.1:11434")]
    assert addresses_of({"servers": ["a", "b", "a"]}, {"OLLAMA_HOST": "c"}) == [
        address_of("a"),
        address_of("b"),
    ]


# -- what it says of itself ------------------------------------------------------------------------


def test_versions_in_order() -> None:
    told = ["0.1.38", "0.9.0", "0.12.11-rc1", "0.33.0", "0.0.0", "what?"]
    assert sorted(told, key=version_of)[:4] == told[:4]
    assert version_of("0.0.0") == version_of("what?") == NEWEST
    assert version_of("v0.5.7") == (0, 5, 7)


def test_capabilities_of_versions_that_do_not_say() -> None:
    def guessed(**shown: Any) -> set[str]:
        return set(model_facts(shown).capabilities)

    assert guessed() == {"completion"}
    assert guessed(template="{{ .Tools }}{{ .Suffix }}") == {"completion", "tools", "insert"}
    assert guessed(projector_info={"a": 1}) == {"completion", "vision"}
    assert guessed(model_info={"general.architecture": "nomic-bert"}) == {"embedding"}
    assert guessed(capabilities=["audio"], template="{{ .Tools }}") == {"audio"}
    assert set(unable({"completion"}, (0, 5, 0))) == {
        *("tools", "parallel_tool_calls", "suffix", "reasoning_effort", "think"),
        *("logprobs", "top_logprobs"),
    }
    assert unable({"completion", "tools", "insert", "thinking"}, NEWEST) == {}


@pytest.mark.parametrize(
    ("options", "parameters", "trained", "context"),
    [
        ({}, "", 8192, 4096),
        ({}, "", 2048, 2048),
        ({}, "", None, 4096),
        ({}, 'stop "a"\nnum_ctx 6000', 8192, 6000),
        ({}, "num_ctx 9000", 8192, 8192),
        ({"context_length": 9000}, "num_ctx 100", 8192, 9000),
    ],
)
def test_the_context(
    options: dict[str, Any], parameters: str, trained: int | None, context: int
) -> None:
    info = {"general.architecture": "llama", "llama.context_length": trained}
    facts = model_facts({"model_info": info, "parameters": parameters})
    assert context_length_of(options, facts) == context


def test_what_runs() -> None:
    entry = {"name": "Llama:latest", "size": 9, "size_vram": 4}
    body = {"models": [{"name": "llama:1b", "size": 1}, entry]}
    assert running_of(body, "llama") == Running(9, 4, None)
    assert running_of({"models": [{**entry, "context_length": 5}]}, "llama:latest") == Running(
        9, 4, 5
    )
    assert running_of(body, "llama:2b") is None
    assert running_of({"models": None}, "llama") is None


# -- which server ----------------------------------------------------------------------------------


def server(port: int, **more: Any) -> Server:
    return Server(Address("127.0.0.1", port), is_up=True, **more)


def test_who_is_asked_first() -> None:
    loaded = Running(10, 0)
    busy, free = server(1, running=loaded, in_flight=3), server(2, running=loaded, in_flight=1)
    cold, lacks = server(3), server(4, has_model=False)
    down = Server(Address("127.0.0.1", 5), is_up=False)
    assert ranked([down, lacks, cold, busy, free]) == [free, busy, cold, lacks, down]


def test_whose_memory_it_is() -> None:
    here = server(1, running=Running(100, 60))
    there = Server(Address("box", 9), is_up=True, running=Running(50, 20))
    both = [here, there, server(2)]
    assert held(both, None, is_unified=False) == Held(
        40, {"ollama@127.0.0.1:1": 60, "ollama@box:9": 50}
    )
    assert held(both, "cuda:0", is_unified=False) == Held(40, {"cuda:0": 60, "ollama@box:9": 50})
    assert held([here], "cuda:0", is_unified=True) == Held(100)


# -- asked -----------------------------------------------------------------------------------------


def test_a_chat() -> None:
    body = {
        "messages": [
            {"role": "developer", "content": "be"},
            {"role": "assistant", "tool_calls": [{"id": "x", "function": {"name": "f"}}]},
            {"role": "tool", "tool_call_id": "x", "content": [{"type": "text", "text": "y"}]},
        ],
        "max_tokens": 5,
        "stop": "s",
        "temperature": 0,
        "response_format": {"type": "json_object"},
        "tools": [{"a": 1}],
        "tool_choice": "none",
        "reasoning_effort": "none",
    }
    path, told = asked(TARGET, CHAT_PATH, body)
    assert path == CHAT
    call = {"id": "x", "function": {"index": 0, "name": "f", "arguments": {}}}
    assert told == {
        "model": "llama:1b",
        "messages": [
            {"role": "system", "content": "be"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": "y", "tool_name": "f", "tool_call_id": "x"},
        ],
        "stream": True,
        "options": {
            "temperature": 0,
            "repeat_penalty": 1.0,
            "num_predict": 5,
            "stop": ["s"],
            **TARGET.options,
        },
        "format": "json",
        "think": False,
        "keep_alive": -1,
        "truncate": False,
        "shift": False,
    }


def test_texts_and_vectors() -> None:
    path, told = asked(TARGET, TEXT_PATH, {"prompt": ["a"], "logprobs": 2})
    assert (path, told["prompt"], told["raw"], told["top_logprobs"]) == (GENERATE, "a", True, 2)
    path, told = asked(TARGET, EMBEDDINGS_PATH, {"input": "a"})
    assert (path, told["input"], told["truncate"]) == (EMBED, ["a"], False)
    assert load_options({"context_length": 9, "mmap": False}, 5) == {
        "num_ctx": 5,
        "use_mmap": False,
    }


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (TEXT_PATH, {"prompt": ["a", "b"]}, "prompt"),
        (TEXT_PATH, {"prompt": [1, 2]}, "prompt"),
        (EMBEDDINGS_PATH, {"input": [1, 2]}, "input"),
        (
            CHAT_PATH,
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]},
            "messages[0].content[0].image_url",
        ),
        (
            CHAT_PATH,
            {"messages": [{"role": "user", "content": [{"type": "file"}]}]},
            "messages[0].content[0]",
        ),
    ],
)
def test_what_it_has_no_words_for(path: str, body: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        asked(TARGET, path, body)
    assert caught.value.param == param


OWN_OPTIONS = st.dictionaries(
    st.sampled_from(["num_ctx", "num_gpu", "num_thread", "use_mmap", "temperature", "seed"]),
    st.integers(0, 9) | st.none(),
)


@given(OWN_OPTIONS, st.none() | st.integers(-1, 9), st.sampled_from([CHAT, GENERATE, EMBED]))
def test_no_request_changes_the_load(
    options: dict[str, Any], keep_alive: int | None, path: str
) -> None:
    body = {"model": "mine", "options": options, "keep_alive": keep_alive, "prompt": "a"}
    _, told = asked(TARGET, path, body)
    own = {k: v for k, v in told["options"].items() if k not in ("temperature", "seed")}
    assert own == TARGET.options
    assert (told["keep_alive"], told["model"]) == (-1, "llama:1b")
    assert None not in told.values()
    assert None not in told["options"].values()


# -- answered --------------------------------------------------------------------------------------


def line(said: dict[str, Any], **more: Any) -> bytes:
    head = {"model": "llama:1b", "created_at": "then", **said, "done": False, **more}
    return json.dumps(head, separators=(",", ":"), ensure_ascii=False).encode()


def chat(content: str = "", **more: Any) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": content, **more}}


LAST = {"done": True, "done_reason": "stop", "prompt_eval_count": 2, "eval_count": 3}


def told_by(telling: Telling, data: bytes, cuts: list[int]) -> bytes:
    lines, out, at = JsonLines(failed), b"", 0
    for cut in [*sorted(cuts), len(data)]:
        out += b"".join(map(telling.line, lines.feed(data[at:cut])))
        at = cut
    return out + b"".join(map(telling.line, lines.end()))


@given(st.lists(st.text(), max_size=6), st.data())
def test_a_stream_in_any_pieces(words: list[str], data: st.DataObject) -> None:
    stream = b"\n".join([*(line(chat(word)) for word in words), line(chat(), **LAST)])
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=5))
    chunks = Chunks(HEAD, is_chat=True, wants_usage=True)
    *events, done = sse.Events().feed(told_by(chunks, stream, cuts))
    assert done == sse.DONE
    told = [json.loads(event) for event in events]
    assert chunks.is_done
    said = "".join(c["delta"].get("content", "") for t in told for c in t["choices"])
    assert said == "".join(words)
    assert told[0]["choices"][0]["delta"]["role"] == "assistant"
    assert told[-1]["usage"] == {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}
    own = Own("llama:1b", "mine")
    lines = [json.loads(each) for each in told_by(own, stream, cuts).splitlines()]
    assert own.is_done
    assert lines == [{**json.loads(each), "model": "mine"} for each in stream.split(b"\n")]


def test_calls_and_thoughts() -> None:
    chunks = Chunks(HEAD, is_chat=True, wants_usage=False)
    calls = [{"function": {"name": "f", "arguments": {"done": False}}}]
    stream = line(chat(thinking="hm")) + b"\n" + line(chat(tool_calls=calls)) + b"\n"
    events = sse.Events().feed(told_by(chunks, stream + line(chat(), **LAST), []))
    told = [json.loads(event)["choices"][0] for event in events[:-1]]
    assert told[0]["delta"] == {"role": "assistant", "reasoning_content": "hm"}
    (call,) = told[1]["delta"]["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {"done": False}
    assert told[-1]["finish_reason"] == "tool_calls"


def test_the_end_is_seen_whatever_a_call_holds() -> None:
    own = Own("llama:1b", "mine")
    calls = [{"function": {"name": "f", "arguments": {"done": False}}}]
    own.line(line(chat(tool_calls=calls), done=True))
    assert own.is_done


@pytest.mark.parametrize("make", [lambda: Own("a", "b"), Infill])
def test_errors_end_it(make: Any) -> None:
    telling = make()
    assert b"broken" in telling.line(b'{"error":"broken"}')
    assert telling.is_done
    for nothing in (b"<html>", b"[]", b"1"):
        with pytest.raises(BadReply, match="no JSON object"):
            make().line(nothing)
