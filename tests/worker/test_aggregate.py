"""Streams put together: the sum of any cutting is the whole."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool_client.surfaces import sse
from modelpool_worker.engine_client import BrokenOffError, Gathering
from modelpool_worker.surfaces.aggregate import Aggregate
from modelpool_worker.surfaces.text_frame import TextChunks
from support.two_ways import pieces

HEAD = {"id": "c1", "created": 7, "model": "m", "system_fingerprint": "f"}


def chat(*parts: dict[str, Any], **last: Any) -> dict[str, Any]:
    aggregate = Aggregate(chat=True)
    for part in parts:
        aggregate.add({**HEAD, "object": "chat.completion.chunk", "choices": [part]})
    if last:
        aggregate.add({**HEAD, "object": "chat.completion.chunk", "choices": [], **last})
    return aggregate.result()


def part(index: int = 0, reason: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"index": index, "delta": delta, "finish_reason": reason}


def test_what_stopped_it_is_kept() -> None:
    for key in ("stop_reason", "matched_stop"):
        result = chat(part(content="a"), {**part(reason="stop"), key: "END"})
        assert result["choices"][0][key] == "END"
    assert "stop_reason" not in chat(part(reason="stop"))["choices"][0]


def test_a_chat() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    result = chat(
        part(role="assistant", content=None),
        part(content="Hel"),
        part(content="lo"),
        part(reason="stop"),
        usage=usage,
        timings={"predicted_n": 2},
    )
    assert result == {
        **HEAD,
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello"},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": usage,
        "timings": {"predicted_n": 2},
    }


def test_what_is_told_as_usage_and_is_none_is_left_out() -> None:
    aggregate = Aggregate(chat=True)
    for usage in (7, "two", [1]):
        aggregate.add({"choices": [part(0, content="a")], "usage": usage})
    result = aggregate.result()
    assert result["choices"][0]["message"]["content"] == "aaa"
    assert "usage" not in result


def test_reasoning_and_unknown_text_add_up() -> None:
    result = chat(part(reasoning_content="hm"), part(reasoning_content="m"), part(content="a"))
    message = result["choices"][0]["message"]
    assert message == {"role": "assistant", "content": "a", "reasoning_content": "hmm"}


def test_tool_calls_come_in_pieces() -> None:
    def call(index: int, **function: str) -> dict[str, Any]:
        return {"index": index, "function": function}

    first = {**call(0, name="look", arguments=""), "id": "t1", "type": "function"}
    second = {**call(1, name="see", arguments="{}"), "id": "t2"}
    result = chat(
        part(tool_calls=[first]),
        part(tool_calls=[call(0, arguments='{"a"')]),
        part(tool_calls=[call(0, arguments=":1}"), second]),
        part(reason="tool_calls"),
    )
    choice = result["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    assert choice["message"]["tool_calls"] == [
        {"id": "t1", "type": "function", "function": {"name": "look", "arguments": '{"a":1}'}},
        {"id": "t2", "type": "function", "function": {"name": "see", "arguments": "{}"}},
    ]


def test_an_answer_without_text_has_an_empty_one() -> None:
    assert chat(part(role="assistant", content=None), part(reason="stop")) == {
        **HEAD,
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": ""},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
    }


def test_logprobs_add_up() -> None:
    a, b = {"token": "a", "logprob": -1.0}, {"token": "b", "logprob": -2.0}
    parts = [{**part(content=t["token"]), "logprobs": {"content": [t]}} for t in (a, b)]
    assert chat(*parts)["choices"][0]["logprobs"] == {"content": [a, b]}


def test_choices_are_kept_apart_and_in_order() -> None:
    result = chat(part(1, content="b"), part(0, content="a"), part(1, "length", content="B"))
    texts = [(c["index"], c["message"]["content"]) for c in result["choices"]]
    assert texts == [(0, "a"), (1, "bB")]


def test_a_text_completion_with_usage_per_choice() -> None:
    # llama.cpp sends so for n=2; the prompt counts once.
    aggregate = Aggregate(chat=False, n=2)
    usage = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    for index in (1, 0):
        aggregate.add({"choices": [{"text": "x", "index": index, "finish_reason": None}]})
        end = {"text": "", "index": index, "finish_reason": "length"}
        aggregate.add({"choices": [end], "usage": usage})
    result = aggregate.result()
    assert result["object"] == "text_completion"
    assert [c["text"] for c in result["choices"]] == ["x", "x"]
    assert result["usage"] == {"prompt_tokens": 3, "completion_tokens": 10, "total_tokens": 13}


@given(st.lists(st.tuples(st.integers(0, 2), st.text()), min_size=1), st.data())
def test_any_cutting_of_the_bytes_gives_the_same(
    pieces: list[tuple[int, str]], data: st.DataObject
) -> None:
    chunks = [{**HEAD, "choices": [part(i, content=text)]} for i, text in pieces]
    stream = b"".join(sse.event(c) for c in chunks) + b": a comment\n\ndata: [DONE]\n\n"
    events, aggregate, done = sse.Events(), Aggregate(chat=True), False
    rest = stream
    while rest:
        cut = data.draw(st.integers(1, len(rest)))
        for item in events.feed(rest[:cut]):
            done = item == sse.DONE
            if not done:
                aggregate.add(json.loads(item))
        rest = rest[cut:]
    assert done
    for choice in aggregate.result()["choices"]:
        whole = "".join(text for i, text in pieces if i == choice["index"])
        assert (choice["message"]["content"] or "") == whole


TEXTS = st.one_of(
    st.sampled_from(["a", " b", "", "\n", '"', "\\", "é", "😀", "content", '"content":"', "}"]),
    st.text(),
)
WHO = (None, "", "a")
CHUNKS = st.one_of(
    st.builds(lambda i, t: {"choices": [part(i, content=t)]}, st.integers(0, 1), TEXTS),
    st.builds(lambda t: {"choices": [{**part(0, content=t), "logprobs": None}]}, TEXTS),
    st.builds(lambda t: {"choices": [part(0, content=t, reasoning_content=t)]}, TEXTS),
    st.builds(lambda t: {"choices": [part(0, "stop", content=t)]}, TEXTS),
    st.builds(lambda t: {"choices": [part(0, content=t)], "usage": {"n": 1}}, TEXTS),
    st.builds(lambda t: {"choices": [part(0, content=t)], "created": 8}, TEXTS),
    st.builds(lambda t: {"choices": [part(role="assistant", content=t)]}, st.sampled_from(WHO)),
    st.just({"choices": [part(role="assistant", content=None)], "model": "delta"}),
    st.just({"choices": [part()]}),
    st.just({"choices": [], "usage": {"completion_tokens": 3}}),
)


@given(chunks=st.lists(CHUNKS), is_spaced=st.booleans(), is_escaped=st.booleans())
def test_what_is_read_as_text_only_adds_up_to_the_same(
    chunks: list[dict[str, Any]], is_spaced: bool, is_escaped: bool
) -> None:
    separators = (", ", ": ") if is_spaced else (",", ":")
    slow, quick = Aggregate(chat=True), Aggregate(chat=True)
    for chunk in ({**HEAD, **c} for c in chunks):
        data = json.dumps(chunk, separators=separators, ensure_ascii=is_escaped)
        slow.add(chunk)
        if not quick.takes(data.encode("utf-8", "surrogatepass")):
            quick.add(chunk, data.encode("utf-8", "surrogatepass"))
    assert quick.result() == slow.result()


class Noted(Aggregate):
    """Notes what was parsed."""

    def __init__(self) -> None:
        super().__init__(chat=True)
        self.parsed: list[bytes] = []

    def add(self, chunk: dict[str, Any], data: bytes = b"") -> None:
        self.parsed.append(data)
        super().add(chunk, data)


class Unwatched:
    def sent(self) -> None: ...
    def gave(self) -> None: ...
    def asks(self) -> None: ...
    def goes_on(self) -> None: ...
    def rests(self) -> None: ...


@given(st.lists(CHUNKS), st.booleans(), st.lists(st.integers(0, 2000), max_size=5), st.booleans())
def test_what_comes_together_or_alone_adds_up_to_the_same(
    chunks: list[dict[str, Any]], is_escaped: bool, cuts: list[int], comes_alone: bool
) -> None:
    slow, quick = Aggregate(chat=True), Aggregate(chat=True)
    stream = b""
    for chunk in ({**HEAD, **c} for c in chunks):
        slow.add(chunk)
        data = json.dumps(chunk, ensure_ascii=is_escaped).encode("utf-8", "surrogatepass")
        stream += b"data: " + data + b"\n\n"
    stream += b"data: [DONE]\n\n" + stream + b"data: nothing is read behind the end\n\n"
    gathering = Gathering(quick, None, Unwatched())
    for piece in re.findall(rb".*?\n\n", stream) if comes_alone else pieces(stream, cuts):
        gathering.write(piece)
    assert gathering.is_whole()
    assert quick.result() == slow.result()


@pytest.mark.parametrize("come_together", [True, False])
def test_chunks_are_not_parsed_one_by_one(
    monkeypatch: pytest.MonkeyPatch, come_together: bool
) -> None:
    parsed: list[str] = []

    def read_json(text: str) -> Any:
        parsed.append(text)
        return json.loads(text), len(text)

    def fails(*_: object) -> bool:
        raise AssertionError("one was looked at by itself")

    monkeypatch.setattr("modelpool_worker.engine_client._read_json", read_json)
    aggregate = Aggregate(chat=True)
    events = [sse.event({**HEAD, "choices": [part(0, content=f" {i}")]}) for i in range(50)]
    gathering = Gathering(aggregate, None, Unwatched())
    gathering.write(events[0])
    monkeypatch.setattr(aggregate, "takes", fails)
    for piece in [b"".join(events[1:])] if come_together else events[1:]:
        gathering.write(piece)
    assert not gathering.is_whole()
    assert len(parsed) == 1
    text = aggregate.result()["choices"][0]["message"]["content"]
    assert text.split() == [str(i) for i in range(50)]


@given(st.lists(TEXTS, min_size=1), st.booleans(), st.booleans(), st.sampled_from(WHO[:2]))
def test_a_chat_that_comes_together_is_parsed_where_it_says_more_than_text(
    texts: list[str], is_spaced: bool, is_escaped: bool, who: str | None
) -> None:
    separators = (", ", ": ") if is_spaced else (",", ":")
    texts = [t for t in texts if t.isprintable()]  # whether or not it is escaped
    parts = [part(role="assistant", content=who), *(part(content=t) for t in texts)]
    chunks = [{**HEAD, "choices": [p]} for p in (*parts, part(reason="stop"))]
    lines = [json.dumps(c, separators=separators, ensure_ascii=is_escaped) for c in chunks]
    aggregate = Noted()
    gathering = Gathering(aggregate, None, Unwatched())
    gathering.write("".join(f"data: {line}\n\n" for line in (*lines, "[DONE]")).encode())
    assert gathering.is_whole()
    assert aggregate.parsed == [lines[0].encode(), lines[-1].encode()]
    assert aggregate.result()["choices"][0]["message"]["content"] == "".join(texts)


@pytest.mark.parametrize("text", ["\\", "\\u12", 'a"', "\\x"])
@pytest.mark.parametrize("comes_alone", [True, False])
def test_a_text_that_is_no_json_is_none_among_others(text: str, comes_alone: bool) -> None:
    lines = [json.dumps({**HEAD, "choices": [part(content=t)]}) for t in ("a", "b", "TEXT", "nc")]
    events = [f"data: {line}\n\n".replace("TEXT", text).encode() for line in lines]
    gathering = Gathering(Aggregate(chat=True), None, Unwatched())

    def gather() -> None:
        for piece in events if comes_alone else [b"".join(events)]:
            gathering.write(piece)
        gathering.is_whole()

    with pytest.raises(BrokenOffError, match="sent no JSON"):
        gather()


def test_most_of_a_stream_is_read_as_text_only() -> None:
    aggregate, parsed = Aggregate(chat=False), 0
    for word in ("It", " will", " rain", "\n", "until", " it"):
        chunk = {**HEAD, "choices": [{"text": word, "index": 0, "finish_reason": None}]}
        data = json.dumps(chunk).encode()
        if not aggregate.takes(data):
            aggregate.add(chunk, data)
            parsed += 1
    assert aggregate.result()["choices"][0]["text"] == "It will rain\nuntil it"
    assert parsed == 3, "the first, the one with an escape, and the one after it"


def test_events_with_crlf_and_other_fields() -> None:
    stream = b'event: x\r\ndata: {"a": 1}\r\n\r\nid: 3\r\ndata:[DONE]\r\n\r\n'
    assert sse.Events().feed(stream) == [b'{"a": 1}', b"[DONE]"]


@given(st.lists(st.text(max_size=6), max_size=8), st.booleans(), st.booleans())
def test_a_chunk_like_the_one_before_says_the_same_unparsed(
    texts: list[str], is_chat: bool, is_ascii: bool
) -> None:
    chunks = TextChunks("content" if is_chat else "text")
    for text in texts:
        choice = {"index": 0, **({"delta": {"content": text}} if is_chat else {"text": text})}
        whole = {**HEAD, "choices": [{**choice, "finish_reason": None}]}
        data = json.dumps(whole, ensure_ascii=is_ascii).encode("utf-8", "surrogatepass")
        read = chunks.read(data)
        if read is None:
            chunks.parsed(data, whole)
        else:
            assert chunks.chunk(read) == {"choices": [choice]}
        assert chunks.event(b"data: " + data + b"\n\n") == chunks.read(data)
        assert chunks.event(b"data: " + data + b"\n\ndata: " + data + b"\n\n") is None


def test_most_chunks_are_read_so() -> None:
    chunks = TextChunks("content")
    lines = [json.dumps({**HEAD, "choices": [part(content=t)]}).encode() for t in ("a", "b", "c")]
    chunks.parsed(lines[0], json.loads(lines[0]))
    assert [chunks.read(line) is not None for line in lines] == [True] * 3
    ending = json.dumps({**HEAD, "choices": [part(reason="stop")]}).encode()
    assert chunks.read(ending) is None
