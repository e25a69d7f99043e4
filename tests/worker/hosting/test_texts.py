"""Stop texts, characters and calls of tools, however a text is cut into pieces."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool_worker.hosting.audio import read_wav, wav
from modelpool_worker.hosting.detokenize import Pieces, Utf8
from modelpool_worker.hosting.stops import StopFinder
from modelpool_worker.hosting.tool_calls import FORMATS, CallFinder, format_of

LETTERS = st.text("ab", max_size=12)
CUTS = st.lists(st.integers(1, 5), max_size=40)


def cut(text: str, sizes: Sequence[int]) -> list[str]:
    parts, at = [], 0
    for size in sizes:
        parts.append(text[at : at + size])
        at += size
    return [*parts, text[at:]]


@given(LETTERS, st.lists(st.text("ab", min_size=1, max_size=4), max_size=3), CUTS)
def test_a_stop_text_is_found_whatever_the_pieces(
    text: str, stops: list[str], sizes: list[int]
) -> None:
    finder = StopFinder(stops)
    told = "".join(map(finder.feed, cut(text, sizes))) + finder.end()
    ends = [
        (end, end - len(stop), stop)
        for stop in stops
        for end in range(len(stop), len(text) + 1)
        if text[:end].endswith(stop)
    ]
    if ends:
        _, begin, stop = min(ends)
        assert (told, finder.found) == (text[:begin], stop)
    else:
        assert (told, finder.found) == (text, None)


@given(LETTERS, st.text("ab", min_size=1, max_size=4))
def test_no_more_is_held_back_than_may_begin_a_stop_text(text: str, stop: str) -> None:
    finder, told = StopFinder([stop]), ""
    for letter in text:
        told += finder.feed(letter)
        if finder.found is not None:
            return
    held = text[len(told) :]
    assert stop.startswith(held)
    assert held != stop


@given(st.text(), CUTS)
def test_characters_are_whole(text: str, sizes: list[int]) -> None:
    data, decoder, at = text.encode(errors="replace"), Utf8(), 0
    told = ""
    for size in sizes:
        told += decoder.feed(data[at : at + size])
        assert "\ufffd" not in told or "\ufffd" in text
        at += size
    told += decoder.feed(data[at:]) + decoder.end()
    assert told == data.decode()


@given(st.text())
def test_pieces_of_a_decoder_of_lists_are_the_text(text: str) -> None:
    data = text.encode(errors="replace")
    pieces = Pieces(lambda ids: bytes(ids).decode(errors="replace"))
    told = b"".join(map(pieces.add, data)) + pieces.end()
    assert told == data


def test_pieces_know_of_the_blanks_between_words() -> None:
    words = ["Once", "upon", "a", "time"]
    pieces = Pieces(lambda ids: " ".join(words[i] for i in ids))
    assert [pieces.add(i) for i in range(4)] == [b"Once", b" upon", b" a", b" time"]


CALL = {"name": "look", "arguments": {"at": "it"}}
WRITTEN = [
    ("hermes", f"<tool_call>\n{json.dumps(CALL)}\n</tool_call>", 1),
    ("hermes", f"<tool_call>{json.dumps(CALL)}</tool_call>\n<tool_call>{json.dumps(CALL)}", 2),
    ("mistral", f"[TOOL_CALLS]{json.dumps([CALL, CALL])}", 2),
    ("mistral", '[TOOL_CALLS]look{"at": "it"}', 1),
    ("mistral", '[TOOL_CALLS]look[ARGS]{"at": "it"}', 1),
    ("llama3", '<|python_tag|>{"name": "look", "parameters": {"at": "it"}}', 1),
    (
        "llama3",
        ' {"name": "look", "parameters": {"at": "it"}}; {"name": "look", "parameters": '
        '{"at": "it"}}',
        2,
    ),
    ("llama3", '{"type": "function", "function": {"name": "look", "parameters": {"at": "it"}}}', 1),
]
TEXTS = [
    ("hermes", "no call at all"),
    ("hermes", "<tool_call>no JSON</tool_call> and more"),
    ("hermes", '<tool_call>{"name": "unknown", "arguments": {}}</tool_call>'),
    ("mistral", "[TOOL_CALLS] are nice"),
    ("llama3", '{"name": "John"}'),
    ("llama3", "{ no JSON"),
    ("llama3", 'See: {"name": "look", "parameters": {}}'),
]


@pytest.mark.parametrize(("form", "text", "count"), WRITTEN)
@given(sizes=CUTS)
def test_calls_are_found(form: str, text: str, count: int, sizes: list[int]) -> None:
    finder = CallFinder(FORMATS[form], ["look"])
    told = "".join(map(finder.feed, cut(text, sizes))) + finder.end()
    assert told.strip() == ""
    assert [(c.name, json.loads(c.arguments)) for c in finder.calls] == [
        ("look", {"at": "it"})
    ] * count


@pytest.mark.parametrize(("form", "text"), TEXTS)
@given(sizes=CUTS)
def test_what_is_no_call_is_told(form: str, text: str, sizes: list[int]) -> None:
    finder = CallFinder(FORMATS[form], ["look"])
    told = "".join(map(finder.feed, cut(text, sizes))) + finder.end()
    assert told == text
    assert not finder.calls


def test_templates_tell_the_format() -> None:
    assert format_of("… <tool_call> …") == "hermes"
    assert format_of("{{ '[TOOL_CALLS]' }}") == "mistral"
    llama = '<|start_header_id|> … {"name": function name, "parameters": dictionary …}'
    assert format_of(llama) == "llama3"
    assert format_of("{{ messages }}") == ""


@given(st.binary(max_size=200).map(lambda data: data[: len(data) // 2 * 2]))
def test_samples_come_back(samples: bytes) -> None:
    assert read_wav(wav(samples, 16000), 16000) == samples
