"""What is hosted beside text: vectors, scores, classes, tensors, sounds, pictures."""

from __future__ import annotations

import base64
import io
import json
import struct
import wave
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from e2e.helpers import until
from modelpool_client.errors import InvalidRequest
from modelpool_worker.hosting.audio import read_wav, wav
from modelpool_worker.hosting.contract import (
    Heard,
    Hosted,
    ImageRequest,
    Segment,
    SpeechRequest,
    Tensor,
    TensorSpec,
    TranscriptionRequest,
    Word,
)
from support.toy_models import Gate, leaving, noticed


class Vectors:
    """Of a text its length and its first byte; a score is how often the query is in a document."""

    context_length = 20
    vocabulary_size = 300
    labels = ("short", "long")

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.gate = Gate()

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def encode_pair(self, query: str, document: str) -> list[int]:
        return [document.count(query), *document.encode()]

    def embed(self, batch: Sequence[Sequence[int]]) -> list[list[float]]:
        self.sizes.append(len(batch))
        self.gate.step()
        return [[float(len(tokens)), float(tokens[0])] for tokens in batch]

    def score(self, batch: Sequence[Sequence[int]]) -> list[float]:
        return [float(tokens[0]) for tokens in batch]

    def classify(self, batch: Sequence[Sequence[int]]) -> list[list[float]]:
        return [[0.1, 0.9] if len(tokens) > 5 else [0.9, 0.1] for tokens in batch]


def test_embeddings(serve: Any) -> None:
    client = serve(Hosted(embeddings=Vectors()))
    body: dict[str, Any] = {"input": ["ab", "c"]}
    answer = client.post("/v1/embeddings", json=body).json()
    assert [d["embedding"] for d in answer["data"]] == [[2.0, 97.0], [1.0, 99.0]]
    assert answer["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    one = client.post("/v1/embeddings", json={"input": [5, 6, 7], "encoding_format": "base64"})
    coded = base64.b64decode(one.json()["data"][0]["embedding"])
    assert struct.unpack("<2f", coded) == (3.0, 5.0)
    refused = client.post("/v1/embeddings", json={"input": ["ok", "x" * 21]})
    assert refused.status_code == 400
    assert refused.json()["error"]["type"] == "exceed_context_size_error"


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/classify"])
def test_tokens_that_the_model_has_not_are_refused(path: str, serve: Any) -> None:
    model = Vectors()
    client = serve(Hosted(embeddings=model, classify=model))
    assert client.post(path, json={"input": [[1, 299]]}).status_code == 200
    answer = client.post(path, json={"input": [[1], [1, 300]]})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "input"


class Noted(Vectors):
    """Remembers which texts it has seen, and in which order they were computed."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.computed: list[str] = []

    def encode(self, text: str) -> list[int]:
        self.seen.append(text)
        return super().encode(text)

    def embed(self, batch: Sequence[Sequence[int]]) -> list[list[float]]:
        self.computed += [bytes(tokens).decode() for tokens in batch]
        return super().embed(batch)


def test_who_is_urgent_is_in_the_next_batch(serve: Any) -> None:
    """By the header, in any case, which wins over the body."""
    model = Noted()
    model.gate.allow(0)
    client = serve(Hosted(embeddings=model), max_batch_size=1)

    def ask(text: str, said: str | None = None, header: str | None = None) -> None:
        body = {"input": text} | ({"priority": said} if said else {})
        headers = {"x-priority": header} if header else {}
        client.post("/v1/embeddings", json=body, headers=headers).raise_for_status()

    asked = [("low", "high", "Low"), ("none",), ("body", "high"), ("header", "low", "HIGH")]
    with ThreadPoolExecutor(5) as threads:
        waiting = [threads.submit(ask, "first")]
        until(lambda: model.computed, "the first batch")
        for given in asked:
            waiting.append(threads.submit(ask, *given))
            until(lambda text=given[0]: text in model.seen, "the request")
            noticed(client)
        model.gate.allow(float("inf"))
        for one in waiting:
            one.result(60)
    assert model.computed == ["first", "body", "header", "none", "low"]


def test_who_comes_while_a_batch_is_computed_is_in_the_next(serve: Any) -> None:
    model = Noted()
    model.gate.allow(0)
    client = serve(Hosted(embeddings=model), max_batch_size=8)

    def ask(text: str) -> Any:
        return client.post("/v1/embeddings", json={"input": text}).json()

    with ThreadPoolExecutor(16) as threads:
        answers = [threads.submit(ask, "x" * i) for i in range(1, 17)]
        until(lambda: model.sizes and len(model.seen) == 16, "all of them and the first batch")
        with leaving(client, "/v1/embeddings", {"input": "nobody waits"}):
            until(lambda: "nobody waits" in model.seen, "the one of which nobody hears")
        noticed(client)
        model.gate.allow(float("inf"))
        for i, answer in enumerate(answers, 1):
            assert answer.result()["data"][0]["embedding"][0] == i
    assert sum(model.sizes) == 16
    assert len(model.sizes) <= 4
    assert max(model.sizes) <= 8


def test_ranks_and_classes(serve: Any) -> None:
    client = serve(Hosted(rerank=Vectors(), classify=Vectors()))
    body = {"query": "a", "documents": ["b", "aa", "a"], "top_n": 2}
    results = client.post("/v1/rerank", json=body).json()["results"]
    assert [(r["index"], r["relevance_score"]) for r in results] == [(1, 2.0), (2, 1.0)]
    tei = {"query": "a", "texts": ["b", "aa"], "return_text": True}
    ranked = client.post("/v1/rerank", json=tei).json()
    assert ranked[0] == {"index": 1, "score": 2.0, "text": "aa"}
    classes = client.post("/v1/classify", json={"input": ["short", "much longer"]}).json()
    assert [d["label"] for d in classes["data"]] == ["short", "long"]


class Doubler:
    """Twice each number, and each text twice."""

    inputs = (TensorSpec("x", "FP32", (-1, 2)), TensorSpec("s", "BYTES", (-1,)))
    outputs = (TensorSpec("y", "FP32", (-1, 2)), TensorSpec("t", "BYTES", (-1,)))
    is_batched = True

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.gate = Gate()

    def infer(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        x, s = inputs["x"], inputs["s"]
        self.rows.append(x.shape[0])
        self.gate.step()
        assert isinstance(x.data, bytes)
        numbers = struct.unpack(f"<{2 * x.shape[0]}f", x.data)
        y = struct.pack(f"<{len(numbers)}f", *(2 * n for n in numbers))
        texts = [bytes(item) * 2 for item in s.data if isinstance(item, bytes)]
        found = {"y": Tensor("y", "FP32", x.shape, y), "t": Tensor("t", "BYTES", s.shape, texts)}
        return [found[name] for name in outputs]


def asked(*rows: float, **more: Any) -> dict[str, Any]:
    n = len(rows)
    x = {"name": "x", "datatype": "FP32", "shape": [n, 2], "data": [[r, r] for r in rows]}
    s = {"name": "s", "datatype": "BYTES", "shape": [n], "data": ["é"] * n}
    return {"inputs": [x, s], **more}


def test_tensors(serve: Any) -> None:
    client = serve(Hosted(tensors=Doubler()))
    told = client.post("/v2/models/m/infer", json=asked(1.5, 2, id="me")).json()
    assert told["id"] == "me"
    y, t = told["outputs"]
    assert y == {"name": "y", "datatype": "FP32", "shape": [2, 2], "data": [3.0, 3.0, 4.0, 4.0]}
    assert t["data"] == ["éé", "éé"]
    wrong = asked(1)
    wrong["inputs"][0]["shape"] = [1, 3]
    assert client.post("/v2/models/m/infer", json=wrong).status_code == 400
    assert client.get("/v2/models").json()["inputs"][1] == {
        "name": "s",
        "datatype": "BYTES",
        "shape": [-1],
    }


def test_raw_tensors(serve: Any) -> None:
    client = serve(Hosted(tensors=Doubler()))
    body = asked(1, outputs=[{"name": "y", "parameters": {"binary_data": True}}])
    x = body["inputs"][0]
    del x["data"]
    x["parameters"] = {"binary_data_size": 8}
    head = json.dumps(body).encode()
    headers = {"inference-header-content-length": str(len(head))}
    data = head + struct.pack("<2f", 1.0, -2.0)
    answer = client.post("/v2/models/m/infer", content=data, headers=headers)
    size = int(answer.headers["inference-header-content-length"])
    assert struct.unpack("<2f", answer.content[size:]) == (2.0, -4.0)


def test_tensors_of_several_requests_go_together(serve: Any) -> None:
    model = Doubler()
    model.gate.allow(0)
    client = serve(Hosted(tensors=model))

    def ask(i: int) -> Any:
        return client.post("/v2/models/m/infer", json=asked(*[i] * i)).json()

    with ThreadPoolExecutor(6) as threads:
        answers = [threads.submit(ask, i) for i in range(1, 7)]
        until(lambda: model.rows, "the first batch")
        model.gate.allow(float("inf"))
        for i, answer in enumerate(answers, 1):
            y, t = answer.result()["outputs"]
            assert y["data"] == [2.0 * i] * 2 * i
            assert t["data"] == ["éé"] * i
    assert sum(model.rows) == 21


class Parrot:
    """Says as many samples as there are letters, and hears them."""

    sample_rate = 8000
    can_edit = True

    def speak(self, request: SpeechRequest) -> Iterator[bytes]:
        for letter in request.text:
            yield struct.pack("<h", ord(letter))

    def transcribe(self, request: TranscriptionRequest) -> Iterator[Segment | Heard]:
        samples = read_wav(request.audio, self.sample_rate)
        yield Heard("en", len(samples) / 2 / self.sample_rate)
        text = "".join(map(chr, struct.unpack(f"<{len(samples) // 2}h", samples)))
        words = [Word(text, 0, 1)] if request.wants_words else []
        yield Segment(text, 0, 3661.5, words)

    def draw(self, request: ImageRequest) -> bytes:
        return f"{request.prompt} {request.width} {len(request.image)}".encode()


def test_speech_and_back(serve: Any) -> None:
    client = serve(Hosted(speech=Parrot(), transcription=Parrot()))
    spoken = client.post("/v1/audio/speech", json={"input": "hello"})
    assert spoken.headers["content-type"] == "audio/wav"
    files = {"file": ("a.wav", spoken.content)}
    path = "/v1/audio/transcriptions"
    assert client.post(path, files=files).json()["text"] == "hello"
    srt = client.post(path, files=files, data={"response_format": "srt"}).text
    assert srt == "1\n00:00:00,000 --> 01:01:01,500\nhello\n"
    form = {"response_format": "verbose_json", "timestamp_granularities[]": "word"}
    told = client.post("/v1/audio/translations", files=files, data=form).json()
    assert told["task"] == "translate"
    told = client.post(path, files=files, data=form).json()
    assert told["words"] == [{"word": "hello", "start": 0, "end": 1}]
    pcm = client.post("/v1/audio/speech", json={"input": "hi", "response_format": "pcm"})
    assert pcm.content == struct.pack("<2h", *b"hi")
    assert client.post(path, files={"file": ("a.wav", b"noise")}).status_code == 400


def test_pictures(serve: Any) -> None:
    client = serve(Hosted(images=Parrot()))
    body = {"prompt": "cat", "n": 2, "size": "64x32"}
    data = client.post("/v1/images/generations", json=body).json()["data"]
    assert [base64.b64decode(d["b64_json"]) for d in data] == [b"cat 64 0"] * 2
    files = {"image": ("i.png", b"12345")}
    edited = client.post("/v1/images/edits", files=files, data={"prompt": "dog"}).json()["data"]
    assert base64.b64decode(edited[0]["b64_json"]) == b"dog 0 5"


@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("channels", [1, 2])
def test_any_wav_file_of_integers_is_read(width: int, channels: int) -> None:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(16000)
        loud = b"\x7f" if width == 1 else bytes(width - 1) + b"\x40"
        file.writeframes(loud * channels * 100)
    samples = read_wav(out.getvalue(), 8000)
    assert len(samples) == 2 * 50
    assert struct.unpack("<h", samples[:2])[0] == (-256 if width == 1 else 0x4000)


def test_a_wav_file_that_is_none_is_refused() -> None:
    assert read_wav(wav(b"\1\0\2\0", 8000), 8000) == b"\1\0\2\0"
    with pytest.raises(InvalidRequest):
        read_wav(b"RIFF", 8000)


@pytest.mark.parametrize("rate", [0, 1])
def test_a_wav_file_that_says_it_is_endless_is_refused(rate: int) -> None:
    """One of a megabyte would be sixteen gigabytes of samples."""
    whole = bytearray(wav(bytes(1 << 20), 16000))
    whole[24:28] = rate.to_bytes(4, "little")
    with pytest.raises(InvalidRequest, match="hours"):
        read_wav(bytes(whole), 16000)
