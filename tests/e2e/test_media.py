"""Sound, pictures and classes by OpenAI's own package: uploads and answers that are no JSON."""

from __future__ import annotations

import base64
import io
import wave
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from e2e.helpers import fake, until
from e2e.support import PoolProcess

pytestmark = pytest.mark.e2e
RECORDING = b"RIFF" + bytes(range(256)) * 2000  # more than a piece, and anything but text
WAYS = ("gateway", "worker", "cold")


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PoolProcess]:
    entries = [
        fake("studio", aliases=["ears"]),
        fake("slow", options={"first_token_seconds": 60}),
        fake("pondering", options={"first_token_seconds": 1, "load_seconds": 1}),
        {**fake("writer"), "capabilities": ["chat"]},
        fake("cold"),
    ]
    with PoolProcess(tmp_path_factory.mktemp("media"), entries, stream_ping_seconds=0.1) as pool:
        yield pool
        pool.assert_no_bugs()


@pytest.fixture
def client(pool: PoolProcess, request: pytest.FixtureRequest) -> Iterator[openai.OpenAI]:
    way, url = getattr(request, "param", "gateway"), f"{pool.url}/v1"
    if way == "worker":
        found = pool.http.get("/models/studio/endpoint?wait=60").json()["endpoint"]
        url = f"{found}/v1"
    elif way == "cold":
        pool.http.post("/models/studio/unload", json={"force": True})
        pool.wait_for("studio", "COLD")
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=60) as made:
        yield made


@pytest.mark.parametrize("client", WAYS, indirect=True)
def test_a_recording_is_heard(client: openai.OpenAI) -> None:
    heard = client.audio.transcriptions.create(
        model="studio", file=("a b.wav", RECORDING, "audio/wav")
    )
    assert heard.text == f"{len(RECORDING)} bytes"
    text = client.audio.transcriptions.create(model="ears", file=RECORDING, response_format="text")
    assert text == f"{len(RECORDING)} bytes"
    with pytest.deprecated_call():  # by OpenAI
        assert client.audio.translations.create(model="studio", file=b"abc").text == "3 bytes"


@pytest.mark.parametrize("client", WAYS, indirect=True)
def test_a_text_is_said(client: openai.OpenAI) -> None:
    said = client.audio.speech.create(model="studio", voice="alloy", input="one two " * 200)
    assert said.response.headers["content-type"] == "audio/wav"
    with wave.open(io.BytesIO(said.content)) as sound:
        assert sound.getnframes() == 400 * 800


@pytest.mark.parametrize("client", WAYS, indirect=True)
def test_pictures_are_made_and_changed(client: openai.OpenAI) -> None:
    made = client.images.generate(model="studio", prompt="a grey pixel", n=2)
    pictures = [base64.b64decode(p.b64_json or "") for p in made.data or ()]
    assert len(pictures) == 2
    assert pictures[0].startswith(b"\x89PNG")
    changed = client.images.edit(
        model="studio", prompt="greyer", image=[pictures[0], pictures[1]], n=1
    )
    assert len(changed.data or ()) == 1


@pytest.mark.parametrize("client", WAYS, indirect=True)
def test_texts_are_told_apart(client: openai.OpenAI) -> None:
    body = {"model": "studio", "input": ["short", "one that is rather long"]}
    answer: Any = client.post("/classify", body=body, cast_to=object)
    assert [found["label"] for found in answer["data"]] == ["short", "long"]


def test_what_is_not_honoured_is_refused_or_named(client: openai.OpenAI) -> None:
    raw = client.audio.transcriptions.with_raw_response.create(
        model="studio", file=b"abc", language="en", extra_body={"n_ctx": "9"}
    )
    assert raw.headers["x-modelpool-ignored"] == "language, n_ctx"
    with pytest.raises(openai.BadRequestError, match="timestamp_granularities"):
        client.audio.transcriptions.create(
            model="studio", file=b"abc", timestamp_granularities=["word"]
        )
    with pytest.raises(openai.BadRequestError, match="response_format"):
        client.audio.speech.create(model="studio", voice="x", input="y", response_format="mp3")


FILE = {"file": ("a.wav", b"abc", "audio/wav")}


@pytest.mark.parametrize(
    ("files", "data", "status", "param"),
    [
        (FILE, {}, 400, "model"),
        (FILE, {"model": "nobody"}, 404, "model"),
        (FILE, {"model": "writer"}, 400, "model"),
        (FILE, {"model": "cold", "temperature": "hot"}, 400, "temperature"),
        (FILE, {"model": "cold", "response_format": "mp3"}, 400, "response_format"),
        ({"file": ("a.wav", b"")}, {"model": "cold"}, 400, "file.size"),
        ({"other": ("a.wav", b"abc")}, {"model": "cold"}, 400, "file"),
    ],
)
def test_what_is_wrong_loads_nothing(
    pool: PoolProcess, files: Any, data: dict[str, str], status: int, param: str
) -> None:
    answer = pool.http.post("/v1/audio/transcriptions", files=files, data=data)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["param"] == param
    assert pool.model("cold")["state"] == "COLD"


@pytest.mark.parametrize(
    "body", [b"", b"--x\r\n", b"--x\r\n\r\nabc", b"--y\r\n\r\n--y--\r\n", b"\xff" * 100]
)
def test_what_is_no_form_is_refused(pool: PoolProcess, body: bytes) -> None:
    headers = {"content-type": "multipart/form-data; boundary=x"}
    answer = pool.http.post("/v1/audio/transcriptions", content=body, headers=headers)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "body"), answer.text


@pytest.mark.parametrize("way", ["cold", "hot", "worker"])
@pytest.mark.parametrize("path", ["/v1/audio/speech", "/v1/classify"])
def test_a_stream_that_no_engine_gives_is_begun_by_nobody(
    pool: PoolProcess, path: str, way: str
) -> None:
    """However long the engine ponders: its answer has one head."""
    url = pool.url
    if way == "cold":
        pool.http.post("/models/pondering/unload", json={"force": True})
        pool.wait_for("pondering", "COLD")
    else:
        view = pool.load("pondering")
        url = view["endpoint"] if way == "worker" else url
    body = {"model": "pondering", "input": "hello there", "stream": True}
    with httpx.Client(base_url=url, trust_env=False, timeout=60, verify=False) as http:
        answer = http.post(path, json=body)
        assert answer.headers["content-type"] in ("audio/wav", "application/json")
        assert answer.headers["x-modelpool-ignored"] == "stream"
        assert http.post(path, json={**body, "stream": False}).status_code == 200


def test_who_leaves_ends_the_work(pool: PoolProcess) -> None:
    body = {"model": "slow", "input": "hello"}
    pool.load("slow")
    with pytest.raises(httpx.ReadTimeout):
        pool.http.post("/v1/audio/speech", json=body, timeout=0.3)
    until(lambda: pool.model("slow")["in_flight"] == 0, "it is idle")
