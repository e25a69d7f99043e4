"""Server-sent events may be cut anywhere; chat chunks carry text, errors and an end."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool_client import errors
from modelpool_client._stream import (
    ChunkReader,
    EventParser,
    LogReader,
    ServerSentEvent,
    event_of,
)
from modelpool_client.wire import LOG_OFFSET_HEADER

LINES = st.sampled_from(
    ["", ": ping", "data: a", "data:b", "data", "event: x", "id: 7", "id", "odd: 1", "data: é…"]
)
ENDS = st.sampled_from(["\n", "\r", "\r\n"])
STREAMS = st.lists(st.tuples(LINES, ENDS)).map(lambda ls: "".join(a + b for a, b in ls).encode())


def events_of(chunks: list[bytes]) -> list[ServerSentEvent]:
    parser = EventParser()
    return [event for chunk in chunks for event in parser.feed(chunk)]


@given(STREAMS, st.data())
def test_any_cut_gives_the_same_events(stream: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)))))
    edges = [0, *cuts, len(stream)]
    chunks = [stream[a:b] for a, b in pairwise(edges)]
    assert events_of(chunks) == events_of([stream])


@given(STREAMS)
def test_one_byte_at_a_time(stream: bytes) -> None:
    assert events_of([stream[i : i + 1] for i in range(len(stream))]) == events_of([stream])


@given(st.binary())
def test_any_bytes_are_survived(stream: bytes) -> None:
    events_of([stream])


TEXTS = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), min_size=1)


@given(st.lists(st.tuples(TEXTS, TEXTS.filter(lambda t: "\0" not in t), TEXTS)), ENDS)
def test_what_is_sent_is_read(sent: list[tuple[str, str, str]], end: str) -> None:
    text = "".join(f"event: {e}{end}id: {i}{end}data: {d}{end}{end}" for e, i, d in sent)
    assert events_of([text.encode()]) == [ServerSentEvent(e, d, i) for e, i, d in sent]


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: a\ndata: b\n\n", [("message", "a\nb", "")]),
        (b": ping\n\n", []),
        (b"event: x\n\ndata: a\n\n", [("message", "a", "")]),
        (b"id: 1\n\ndata: a\n\n", [("message", "a", "1")]),
        (b"id: 1\nid: 2\x003\ndata: a\n\n", [("message", "a", "1")]),
        (b"\xef\xbb\xbfdata:  a\r\n\r\n", [("message", " a", "")]),
        (b"data: unfinished\n", []),
    ],
)
def test_the_standard(stream: bytes, expected: list[tuple[str, str, str]]) -> None:
    assert events_of([stream]) == [ServerSentEvent(*e) for e in expected]


def test_who_resumes_has_had_the_last_event_whole() -> None:
    parser = EventParser("4")
    parser.feed(b'id: 5\nevent: x\ndata: {"a"')
    assert parser.last_id == "4"
    parser.feed(b":1}\n")
    assert parser.last_id == "4"
    parser.feed(b"\n")
    assert parser.last_id == "5"
    parser.feed(b"id: 6\n\n")
    assert parser.last_id == "6", "an event without data moves it, too"


@given(STREAMS, st.data())
def test_a_log_in_pieces_over_connections(log: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(log)))))
    reader, lines = LogReader(follow=True), list[str]()
    for a, b in pairwise([0, *cuts, len(log)]):
        assert reader.can_resume
        assert reader.offset in (None, 70 + a)
        reader.begin({LOG_OFFSET_HEADER: str(70 + a)})
        lines += reader.feed(log[a:b])
    whole = log.decode().replace("\r\n", "\n").replace("\r", "\n")
    assert lines + reader.rest() == whole.removesuffix("\n").split("\n") * bool(whole)


def test_a_log_that_cannot_be_resumed() -> None:
    for follow, headers in ((False, {LOG_OFFSET_HEADER: "0"}), (True, {})):
        reader = LogReader(follow)
        assert reader.can_resume, "nothing was read yet"
        reader.begin(headers)
        assert not reader.can_resume


def test_events_of_the_pool() -> None:
    data = {"id": 9, "event": "model-loaded", "model_id": "m", "state": "HOT", "generation": 2}
    event = event_of(ServerSentEvent("model-loaded", json.dumps({**data, "new": 1}), "9"))
    assert (event.id, event.state, event.previous, event.generation) == ("9", "HOT", "", 2)
    assert event.data["new"] == 1
    assert event_of(ServerSentEvent("message", json.dumps(data), "")).event == "model-loaded"
    assert event_of(ServerSentEvent("odd", "no JSON", "")).data == {"text": "no JSON"}


def chunk(**choice: object) -> str:
    return json.dumps({"choices": [choice]})


def test_chunks_of_a_chat() -> None:
    reader = ChunkReader()
    assert reader.text(chunk(delta={"role": "assistant", "content": None})) == ""
    assert reader.text(chunk(delta={"content": "hi"})) == "hi"
    assert reader.text(json.dumps({"choices": [], "usage": {}})) == ""
    with pytest.raises(errors.WorkerFailed, match="cut off"):
        reader.finish()
    assert reader.text("[DONE]") == ""
    reader.finish()


def test_a_finish_reason_is_an_end_too() -> None:
    reader = ChunkReader()
    reader.text(chunk(delta={}, finish_reason="length"))
    reader.finish()


def test_errors_within_a_stream() -> None:
    reader = ChunkReader()
    with pytest.raises(errors.LoadFailed, match="no memory"):
        reader.text(json.dumps(errors.LoadFailed("no memory", code="oom").body()))
    with pytest.raises(errors.BadGateway, match="something"):
        reader.text('{"error": {"message": "something"}}')
    with pytest.raises(errors.BadGateway, match="not JSON"):
        reader.text("<html>")
