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
from modelpool_worker.redact import REDACTED, redacted, redacted_headers

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
