"""What is captured of what is said: no keys, no more than is asked for, and nothing once it is
over."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool_client.http1.message import Request
from modelpool_client.wire import OWNER_HEADER, CaptureOrder
from modelpool_worker.capture import WAITING_BYTES, Capture, Recording
from modelpool_worker.redact import REDACTED, redacted, redacted_headers, redacted_stream

KEY = "sk-proj-abcdefghijklmnop1234"
JSON_TYPE = (b"content-type", b"application/json")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('{"api_key": "a\\"b", "x": 1}', '{"api_key": "[redacted]", "x": 1}'),
        ('{"OPENAI_API_KEY":"cut off her', '{"OPENAI_API_KEY":"[redacted]'),
        ('{"password" : "ends with\\', '{"password" : "[redacted]'),
        (
            r'{"a":"{\"secret\":\"s\",\"q\":\"x\"}"}',
            r'{"a":"{\"secret\":\"[redacted]\",\"q\":\"x\"}"}',
        ),
        (f"my key is {KEY}.", "my key is [redacted]."),
        ("Authorization: Bearer abcdefgh12", "Authorization: Bearer [redacted]"),
        ("a -----BEGIN PRIVATE KEY-----\nMII", "a [redacted]"),
        ("hf_abcdefghijklmnopqrst and ghp_abcdefghijklmnopqrst", "[redacted] and [redacted]"),
        ("/v1/x?api_key=a.b&model=m", "/v1/x?api_key=[redacted]&model=m"),
        ("/v1/x?model=m&key=a%2Fb", "/v1/x?model=m&key=[redacted]"),
        ("password=a+b&prompt=hi", "password=[redacted]&prompt=hi"),
        # What only sounds so.
        ("a key=value store and ?monkey=1", "a key=value store and ?monkey=1"),
        (
            "/v1/chat/completions?api_key=a1&key=b2&n=3",
            "/v1/chat/completions?api_key=[redacted]&key=[redacted]&n=3",
        ),
        (
            "get https://u:pw@host/x?a=1&X-Amz-Signature=ab#c",
            "get https://u:[redacted]@host/x?a=1&X-Amz-Signature=[redacted]#c",
        ),
        (
            r'{"url": "https://host/?q=1\u0026token=abc"}',
            r'{"url": "https://host/?q=1\u0026token=[redacted]"}',
        ),
        ("client_secret=abc&model=m", "client_secret=[redacted]&model=m"),
        # What only sounds so.
        ("https://host:80/a@b?tokens=3&monkey=1", "https://host:80/a@b?tokens=3&monkey=1"),
        ('{"token": "Hello", "max_tokens": 9}', '{"token": "Hello", "max_tokens": 9}'),
        ("task-force-of-many-words-here", "task-force-of-many-words-here"),
        ("the secret of a good password", "the secret of a good password"),
    ],
)
def test_keys_are_taken_out(text: str, shown: str) -> None:
    assert redacted(text) == shown
    assert redacted(shown) == shown


@given(st.text(), st.sampled_from(["api_key", "x-api-key", "Authorization", "access_token"]))
def test_no_value_of_a_secret_key_is_left(value: str, name: str) -> None:
    for whole in (json.dumps({name: value, "b": 2}), json.dumps({"a": json.dumps({name: value})})):
        shown = json.loads(redacted(whole))
        assert shown in ({name: REDACTED, "b": 2}, {"a": json.dumps({name: REDACTED})})


def stream(*pieces: str, index: int = 0) -> str:
    """As Server-sent events in the form of OpenAI's chat completions."""
    choices = [{"index": index, "delta": {"content": piece}} for piece in pieces]
    told = [json.dumps({"id": "chatcmpl-1", "choices": [choice]}) for choice in choices]
    return "".join(f"data: {each}\n\n" for each in told)


def told(shown: str) -> list[str]:
    """The pieces of such a stream."""
    lines = [
        line.removeprefix("data: ") for line in shown.split("\n") if line.startswith("data: {")
    ]
    return [json.loads(line)["choices"][0]["delta"]["content"] for line in lines]


@given(st.lists(st.integers(0, len(f"it is {KEY}, isn't it")), max_size=6))
def test_a_key_in_several_pieces_is_taken_out_of_all(cuts: list[int]) -> None:
    text, edges = f"it is {KEY}, isn't it", sorted({0, *cuts})
    pieces = [text[low:high] for low, high in zip(edges, [*edges[1:], len(text)], strict=True)]
    shown = redacted_stream(f": a comment\n\n{stream(*pieces)}data: [DONE]\n\n")
    assert "".join(told(shown)) == f"it is {REDACTED}, isn't it"
    assert len(told(shown)) == len(pieces)
    assert shown.startswith(": a comment\n\n")
    assert shown.endswith("data: [DONE]\n\n")


@given(st.lists(st.integers(0, 200), max_size=30), st.integers(1, 5))
def test_several_keys_in_pieces_are_taken_out_as_of_the_whole(cuts: list[int], keys: int) -> None:
    text = ", ".join(f"{n} is {KEY}" for n in range(keys)) + "."
    edges = sorted({0, *cuts})
    pieces = [text[low:high] for low, high in zip(edges, [*edges[1:], len(text)], strict=True)]
    assert "".join(told(redacted_stream(stream(*pieces)))) == redacted(text)


def test_a_stream_is_one_however_its_type_is_written() -> None:
    recording = Recording(Request("POST", b"/x", b"", []), 4096)
    recording.begun(200, [(b"content-type", b"Text/Event-Stream; charset=utf-8")])
    recording.answered(stream("my key: sk-abcdefgh", "ijklmnopqrst").encode())
    assert "ijklmnopqrst" not in recording.shown(1).answer.text


@given(st.lists(st.text()), st.text())
def test_a_stream_without_keys_is_as_it_was(pieces: list[str], other: str) -> None:
    for said in (stream(*pieces), other, f"data: {other}"):
        if redacted(said) == said and REDACTED not in redacted("".join(pieces)):
            assert redacted_stream(said) == said


def test_pieces_of_one_choice_call_or_line_belong_together() -> None:
    other = stream("abcdefgh", "ijklmnopqrst", index=1)
    first, second = stream("sk-"), stream("abcdefghijklmnopqrst")
    assert told(redacted_stream(first + other + second)) == [
        REDACTED,
        "abcdefgh",
        "ijklmnopqrst",
        "",
    ]
    ollama = [
        {"model": "m", "message": {"content": piece}} for piece in ("hf_abcdefgh", "12345678")
    ]
    shown = redacted_stream("\n".join(map(json.dumps, ollama)))
    assert [json.loads(line)["message"]["content"] for line in shown.split("\n")] == [REDACTED, ""]
    call = [{"arguments": '{"api_key": "ab'}, {"arguments": 'cd", "n": 1}'}]
    shown = redacted_stream("\n".join(map(json.dumps, call)))
    said = "".join(json.loads(line)["arguments"] for line in shown.split("\n"))
    assert json.loads(said) == {"api_key": REDACTED, "n": 1}


def test_headers_that_carry_keys_are_empty() -> None:
    headers = [(b"authorization", b"Basic eDp5"), (b"cookie", b"a=b"), (b"x-note", KEY.encode())]
    assert dict(redacted_headers(headers)) == {
        "authorization": REDACTED,
        "cookie": REDACTED,
        "x-note": REDACTED,
    }


@pytest.mark.parametrize(
    ("name", "is_secret"),
    [
        ("X-Custom-Token", True),
        ("ocp-apim-subscription-key", True),
        ("apikey", True),
        ("cf-access-client-secret", True),
        ("set-cookie", True),
        ("x-amz-security-token", True),
        ("idempotency-key", False),
        ("x-ratelimit-remaining-tokens", False),
        ("x-request-id", False),
    ],
)
def test_whose_names_say_that_they_carry_one(name: str, is_secret: bool) -> None:
    ((_, shown),) = redacted_headers([(name.encode(), b"v")])
    assert (shown == REDACTED) == is_secret


def recorded(
    capture: Capture, body: bytes, answer: list[bytes], *more: tuple[bytes, bytes]
) -> Recording:
    headers = [JSON_TYPE, (b"host", b"x"), (b"x-modelpool-resolved", b"m"), *more]
    headers.append((OWNER_HEADER, b"a digest of the client's key"))
    recording = capture.begin(Request("POST", b"/v1/chat/completions", b"", headers))
    assert recording is not None
    recording.asked(body)
    recording.begun(200, [JSON_TYPE])
    for piece in answer:
        recording.answered(piece)
    return recording


def test_it_is_off_until_told_and_ends_by_itself() -> None:
    now = [100.0]
    capture = Capture(lambda: now[0])
    request = Request("POST", b"/", b"", [])
    assert not capture.is_on
    assert capture.begin(request) is None
    capture.obey(CaptureOrder(60, 1000))
    assert capture.is_on
    recording = recorded(capture, b"{}", [b"1"])
    now[0] += 60
    assert capture.begin(request) is None
    capture.add(1, recording)  # it began in time
    assert [each.number for each in capture.report()] == [1]
    capture.obey(CaptureOrder())
    assert capture.report() == ()
    capture.add(2, recording)
    assert capture.report() == ()


def test_what_is_told_is_kept_until_the_manager_has_it() -> None:
    capture = Capture(lambda: 0.0)
    capture.obey(CaptureOrder(60, 1000))
    for number in (1, 2, 3):
        capture.add(number, recorded(capture, b'{"a": 1}', [b"[", b"2]"]))
    first, *_ = capture.report()
    assert (first.method, first.target) == ("POST", "/v1/chat/completions")
    assert first.request.headers == (("content-type", "application/json"),)
    assert (first.request.text, first.request.is_whole) == ('{"a": 1}', True)
    assert (first.answer.text, first.answer.size) == ("[2]", 3)
    capture.told(2)
    assert [each.number for each in capture.report()] == [3]


@given(st.lists(st.integers(256, 65_536), max_size=60), st.integers(256, 65_536))
def test_it_is_bounded(sizes: list[int], limit: int) -> None:
    capture = Capture(lambda: 0.0)
    capture.obey(CaptureOrder(60, limit))
    for number, size in enumerate(sizes, 1):
        capture.add(number, recorded(capture, b"x y " * (size // 4), [b"z " * 1000] * 20))
    told = capture.report()
    assert sum(len(each.request.text) + len(each.answer.text) for each in told) <= WAITING_BYTES
    for each in told:
        assert len(each.request.text) <= limit
        assert len(each.answer.text) <= limit
        assert each.answer.size == 40_000
        assert each.answer.is_whole == (limit >= 40_000)
    assert [each.number for each in told] == list(range(len(sizes) - len(told) + 1, len(sizes) + 1))


def test_short_ones_leave_room_for_many() -> None:
    capture = Capture(lambda: 0.0)
    capture.obey(CaptureOrder(60, 16_384))
    is_urgent = [capture.add(n, recorded(capture, b"{}" * 50, [b"[]"])) for n in range(1, 101)]
    assert len(capture.report()) == 100
    assert not any(is_urgent)
    capture.told(100)
    long = [capture.add(n, recorded(capture, b"x" * 20_000, [b"x" * 20_000])) for n in range(20)]
    assert any(long)
    assert 10 < len(capture.report()) < 20


@given(st.binary(max_size=300))
def test_what_is_shown_is_no_longer_than_was_reckoned(body: bytes) -> None:
    capture = Capture(lambda: 0.0)
    capture.obey(CaptureOrder(60, 16_384))
    recording = recorded(capture, body, [body])
    shown = recording.shown(1)
    texts = (shown.request.text, shown.answer.text)
    assert sum(len(text.encode()) for text in texts) <= recording.bytes_held


def test_a_key_at_the_edge_is_no_key_that_is_cut() -> None:
    capture = Capture(lambda: 0.0)
    capture.obey(CaptureOrder(60, 256))
    capture.add(1, recorded(capture, b"w" * 246 + b" " + KEY.encode() + b" more", []))
    (told,) = capture.report()
    assert "sk-" not in told.request.text
    assert not told.request.is_whole


def test_an_address_has_no_key() -> None:
    capture = Capture(lambda: 0.0)
    capture.obey(CaptureOrder(60, 256))
    request = Request("POST", b"/v1/chat/completions", b"api_key=abc&n=1", [])
    recording = capture.begin(request)
    assert recording is not None
    assert recording.shown(1).target == "/v1/chat/completions?api_key=[redacted]&n=1"


def test_what_is_no_text_is_named() -> None:
    capture = Capture(lambda: 0.0)
    capture.obey(CaptureOrder(60, 4096))
    picture = json.dumps({"url": "data:image/png;base64," + "QUJD" * 500}).encode()
    capture.add(1, recorded(capture, picture, []))
    sound = Recording(Request("POST", b"/", b"", [(b"content-type", b"audio/wav")]), 4096)
    sound.asked(b"\0\xff" * 600)
    capture.add(2, sound)
    first, second = capture.report()
    assert first.request.text == '{"url": "data:image/png;base64,[2,000 characters of data]"}'
    assert second.request.text == "[1,200 bytes of audio/wav]"
    assert not first.request.is_whole
    assert not second.request.is_whole
